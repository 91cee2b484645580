"""Accounts: reads /state_stream, publishes the accounts that changed, and samples them for the transaction counts.

A message is held until a page of blocks that was asked for after it confirms that the chain is still followed: what
is seen of a chain that became shorter, was replaced, or forked is never published as if it were the next thing.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import aiohttp
import msgspec

from bridge.core.backoff import Backoff
from bridge.core.errors import PublishError, UpstreamError
from bridge.core.names import KEY
from bridge.core.origin import Origin
from bridge.sources.node.blocks import Blocks
from bridge.sources.node.client import NodeBanned, NodeClient, NodeSilent, NodeUnusable
from bridge.sources.node.rates import Rate
from bridge.sources.node.settings import Intervals, NodeSettings
from bridge.sources.node.state import Account, read
from bridge.sources.node.transactions import Counter, Sample
from generated.theblock.state.v1 import account_pb2

log = logging.getLogger("bridge.node")

SLICE_SECONDS = 0.004
"""How long the loop is held at most before others get their turn."""

STEP = 32
"""Accounts between two looks at the clock."""

TPS_SECONDS = 5.0
"""Shortest span over which transactions per second are measured."""

FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 10.0


class MessageTooBig(NodeUnusable):
    """A message of /state_stream is larger than the limit; the next one will be as well."""


@dataclass(frozen=True)
class Message:
    """A message of /state_stream: its bytes, when it came (monotonic seconds), and in which generation."""

    data: bytes
    seen_at: float
    generation: int


class Accounts:
    """Follows the accounts of a node, over one WebSocket.

    Attributes:
        tps: transactions per second that were included.
        skipped: how many accounts of the last message have an address that is no key.
        unfollowed: how many of them are beyond the limit.
        messages: how many messages were taken in.
    """

    def __init__(
        self,
        client: NodeClient,
        origin: Origin,
        blocks: Blocks,
        settings: NodeSettings,
        intervals: Intervals,
        *,
        monotonic: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        """Make a reader that has not begun.

        Args:
            client: opens the WebSocket.
            origin: gives updates their positions.
            blocks: confirm what is seen, and take the transaction counts.
            settings: of the node.
            intervals: the longest silence of the WebSocket.
            monotonic: returns seconds.
            random: returns a number in [0, 1).
        """
        self.tps = Rate(TPS_SECONDS)
        self.skipped = self.unfollowed = self.messages = 0
        self._client = client
        self._origin = origin
        self._blocks = blocks
        self._limit = settings.account_limit
        self._limit_bytes = settings.message_limit_bytes
        self._intervals = intervals
        self._monotonic = monotonic
        self._backoff = Backoff(FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS, random)
        self._known: dict[str, tuple[int, int]] = {}
        self._counter = Counter()
        self._rate_generation = -1
        self._message: Message | None = None
        self._arrived = asyncio.Event()
        self._told: set[str] = set()

    def forget(self) -> None:
        """Have every account published again, since a new epoch began."""
        self._known = {}

    # ------------------------------------------------------------------ the WebSocket

    async def run(self) -> None:
        """Read until cancelled; the newest message waits for `work`, older ones that still wait are dropped."""
        while True:
            try:
                await self._read_stream()
            except NodeBanned as error:
                await asyncio.sleep(error.retry_after)
            except MessageTooBig as error:
                self._tell(f"accounts are not followed: {error}")
                await asyncio.sleep(self._intervals.refused)
            except UpstreamError as error:
                log.info("/state_stream is opened again: %s", error)
                await asyncio.sleep(self._backoff.next())

    async def _read_stream(self) -> None:
        socket = await self._client.open_stream()
        try:
            while True:
                try:
                    async with asyncio.timeout(self._intervals.silence):
                        message = await socket.receive()
                except TimeoutError:
                    raise NodeSilent(f"no message came for {self._intervals.silence:g} s") from None
                if message.type is not aiohttp.WSMsgType.TEXT:
                    raise self._ended(message.data)
                self._backoff.reset()
                self._message = Message(message.data, self._monotonic(), self._blocks.generation)
                self._arrived.set()
        finally:
            await socket.close()

    def _ended(self, error: object) -> UpstreamError:
        if isinstance(error, aiohttp.WebSocketError) and error.code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG:
            return MessageTooBig(f"a message has more than {self._limit_bytes} bytes (account_message_limit_bytes)")
        return NodeUnusable("the node ended it")

    # ------------------------------------------------------------------ messages

    async def work(self) -> None:
        """Take in the messages until cancelled."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            message, self._message = self._message, None
            if message is None:
                continue
            try:
                await self._take_in(message)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                self._tell(f"a message of /state_stream is not as it must be: {error}")

    async def _take_in(self, message: Message) -> None:
        height, slices = read(message.data)
        accounts: list[list[Account]] = []
        number = transactions = 0
        for some in slices:
            accounts.append(some)
            number += len(some)
            transactions += sum(account.account_seq for account in some)
            await asyncio.sleep(0)
        self._sample(Sample(height, number, transactions, message.generation), message.seen_at)
        await self._blocks.confirmed(message.seen_at)
        if message.generation == self._blocks.generation:
            await self._publish(height, accounts, message.generation)
        self.messages += 1

    def _sample(self, sample: Sample, seen_at: float) -> None:
        if count := self._counter.observe(sample):
            self._blocks.count(count, seen_at)
        if self._rate_generation != sample.generation:
            self._rate_generation = sample.generation
            self.tps.forget()
        self.tps.observe(seen_at, sample.transactions)

    async def _publish(self, height: int, accounts: Iterable[list[Account]], generation: int) -> None:
        """Publish what changed; it ends early when a break in the chain comes between."""
        known, limit = self._known, self._limit
        shown = height if height > 0 or self._blocks.tip >= 0 else None
        skipped = unfollowed = 0
        until = time.perf_counter() + SLICE_SECONDS
        for number, account in enumerate(account for some in accounts for account in some):
            if number % STEP == 0 and time.perf_counter() >= until:
                await asyncio.sleep(0)
                if generation != self._blocks.generation:
                    return
                until = time.perf_counter() + SLICE_SECONDS
            value = (account.balance, account.account_seq)
            before = known.get(account.address) or self._published(account.address)
            if before == value:
                known[account.address] = value
                continue
            if before is None and not KEY.fullmatch(account.address):
                skipped += 1
            elif before is None and len(known) >= limit:
                unfollowed += 1
            else:
                known[account.address] = value
                self._publish_account(account, shown)
        self.skipped, self.unfollowed = skipped, unfollowed
        if skipped:
            self._tell(f"{skipped} accounts are left out, since their addresses are no keys")
        if unfollowed:
            self._tell(f"{unfollowed} accounts are left out, since {limit} are followed (account_limit)")

    def _published(self, address: str) -> tuple[int, int] | None:
        """Return what a process before this one published last of an account in the epoch that goes on."""
        update = self._origin.hub.histories["account"].latest.get(address)
        if update is None:
            return None
        account = update.message().account
        return int(account.balance), account.nonce

    def _publish_account(self, account: Account, height: int | None) -> None:
        update = account_pb2.AccountUpdate(
            address=account.address, balance=str(account.balance), nonce=account.account_seq, height=height
        )
        try:
            self._origin.publish(update)
        except PublishError as error:
            self._tell(f"an account cannot be published: {error}")

    def _tell(self, sentence: str) -> None:
        """Log a sentence once a kind: figures in it aside."""
        kind = "".join(letter for letter in sentence if not letter.isdigit())[:60]
        if kind not in self._told:
            self._told.add(kind)
            log.warning("%s", sentence)
