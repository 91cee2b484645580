"""Blocks: reads the chain page by page and publishes what is new."""

import asyncio
import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from bridge.core.backoff import Backoff
from bridge.core.errors import UpstreamError
from bridge.core.origin import Origin
from bridge.sources.node.chain import MEMORY_BLOCKS, Added, Ask, Block, Event, Follower, NewChain, Phase, Replaced
from bridge.sources.node.client import NodeBanned, NodeClient, NodeUnusable
from bridge.sources.node.health import Health, Verdict
from bridge.sources.node.settings import NodeSettings
from bridge.sources.node.transactions import Count
from generated.theblock.state.v1 import block_pb2

log = logging.getLogger("bridge.node")

HASH = re.compile(r"[0-9a-fA-F]{64}")

LONGEST_WAIT_SECONDS = 2.0
"""After many failures: a dashboard shows "offline" for good after about 5 s."""


class _Header(msgspec.Struct):
    height: int
    hash: str


_decode_headers = msgspec.json.Decoder(list[_Header]).decode


def read_headers(ask: Ask, result: bytes) -> list[Block]:
    """Read the result of `light.headers`.

    Args:
        ask: what was asked for.
        result: JSON.

    Raises:
        NodeUnusable: it is not a list of headers without a gap from `ask.start` on, or more than `ask.limit`.
    """
    try:
        headers = _decode_headers(result)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NodeUnusable(f"the answer to light.headers is not a list of headers: {error}") from error
    if len(headers) > ask.limit or any(header.height != ask.start + i for i, header in enumerate(headers)):
        raise NodeUnusable(f"the answer to light.headers is not the blocks from {ask.start} on that were asked for")
    if bad := next((header for header in headers if not HASH.fullmatch(header.hash)), None):
        raise NodeUnusable(f"the hash of block {bad.height} is not 64 hexadecimal digits: {bad.hash[:100]!r}")
    return [Block(header.height, bytes.fromhex(header.hash)) for header in headers]


class Blocks:
    """Publishes the blocks of a chain, and says how the node does.

    Attributes:
        tip: height of the newest block published, -1 before the first.
        generation: goes up with every break in the chain: a fork, a chain that became shorter or passed itself again,
            another chain. What was seen in one generation says nothing about another.
    """

    def __init__(
        self,
        client: NodeClient,
        origin: Origin,
        settings: NodeSettings,
        *,
        monotonic: Callable[[], float],
        random: Callable[[], float],
        before_block: Callable[[int], object],
        begin_chain: Callable[[], object],
        set_verdict: Callable[[Verdict], object],
    ) -> None:
        """Make a reader that has not begun.

        Args:
            client: asks the node.
            origin: gives updates their positions.
            settings: of the node.
            monotonic: returns seconds.
            random: returns a number in [0, 1).
            before_block: called with the newest height before blocks up to it are published.
            begin_chain: called when the node has another chain, before anything of it is published.
            set_verdict: called with how the node does.
        """
        self.generation = 0
        self._client = client
        self._origin = origin
        self._settings = settings
        self._monotonic = monotonic
        self._before_block = before_block
        self._begin_chain = begin_chain
        self._set_verdict = set_verdict
        self._interval = settings.poll_interval_ms / 1000
        self._backoff = Backoff(self._interval, LONGEST_WAIT_SECONDS, random)
        self._follower = Follower(settings.backfill_blocks)
        self._resume()
        self._health = Health(client.node, settings.stale_after_seconds)
        self._newest: block_pb2.BlockUpdate | None = None  # published last
        self._count: tuple[Count, float] | None = None  # of a block, and when it was seen
        self._caught_up_at = float("-inf")
        self._confirmed_at = float("-inf")
        self._confirmation = asyncio.Event()

    @property
    def tip(self) -> int:
        """Height of the newest block published, -1 before the first."""
        return self._follower.tip

    def _resume(self) -> None:
        """Go on with the chain that a process before this one published, if the epoch goes on."""
        updates = self._origin.hub.histories["block_updates"].after(0, MEMORY_BLOCKS)
        blocks = [update.message().block for update in updates]
        self._follower.resume([Block(block.height, block.hash) for block in blocks], self._origin.chain)
        if blocks:
            log.info("going on behind block %d, %s", self.tip, blocks[-1].hash.hex()[:16])

    async def run(self) -> None:
        """Read and publish until cancelled."""
        while True:
            began = self._monotonic()
            try:
                await self._read_page(began)
            except NodeBanned as error:
                self._fail(error)
                await asyncio.sleep(error.retry_after)
            except UpstreamError as error:
                self._fail(error)
                await asyncio.sleep(self._backoff.next())
            else:
                self._backoff.reset()
                rest = began + self._interval - self._monotonic() if self._follower.caught_up else 0.0
                await asyncio.sleep(max(0.0, rest))

    async def watch(self) -> None:
        """Say it when the node has been silent for too long, until cancelled."""
        while True:
            await asyncio.sleep(min(1.0, self._settings.stale_after_seconds / 4))
            self._judge(self._health.check(self._monotonic()))

    async def confirmed(self, seen_at: float) -> None:
        """Wait until a page that was asked for at `seen_at` (monotonic seconds) or later shows the chain followed.

        Cancelling it changes nothing.
        """
        while self._confirmed_at < seen_at:
            await self._confirmation.wait()

    def count(self, count: Count, seen_at: float) -> None:
        """Publish the number of transactions of a block, as soon as a page confirms that it still is that block.

        Once a newer block was published it is too late: a block is never sent again below one that was sent.

        Args:
            count: of the block.
            seen_at: when it was seen, monotonic seconds.
        """
        self._count = (count, seen_at)
        if self._confirmed_at >= seen_at:
            self._settle_count()

    # ------------------------------------------------------------------ pages

    async def _read_page(self, began: float) -> None:
        ask = self._follower.ask()
        asked_at = self._monotonic()
        params: dict[str, object] = {"start": ask.start, "limit": ask.limit}
        # At the newest block the next page is asked for after an interval: people wait for what it brings.
        result = await self._client.ask("light.headers", params, first=self._follower.caught_up)
        blocks = read_headers(ask, result)
        phase = self._follower.phase
        recent = self._follower.caught_up and asked_at - self._caught_up_at <= self._patience
        live = recent and phase is not Phase.RESYNCING
        events = self._follower.apply(ask, blocks)
        if self._follower.genesis is not None and not any(isinstance(event, NewChain) for event in events):
            self._origin.set_chain(self._follower.genesis)
        if phase is not self._follower.phase and Phase.RESYNCING in (phase, self._follower.phase):
            self.generation += 1
        self._publish(events, live)
        self._conclude(asked_at)

    @property
    def _patience(self) -> float:
        """How long ago, seconds, the page before may have been for a new block to count as seen when it came."""
        return self._interval + self._settings.call_timeout_seconds

    def _publish(self, events: list[Event], live: bool) -> None:
        if not events:
            return
        if isinstance(events[0], NewChain):
            log.warning("the node at %s has another chain (%s): a new epoch begins", self._client.node,
                        events[0].sentence)  # fmt: skip
            self.generation += 1
            self._count = self._newest = None
            self._begin_chain()
            return
        if isinstance(events[0], Replaced):
            log.info("block %d was replaced, with %d blocks from it on", events[0].block.height, events[0].depth)
            self.generation += 1
        self._settle_count()
        self._before_block(self._follower.tip)
        for event in events:
            if not isinstance(event, NewChain):
                self._publish_block(event, live)

    def _publish_block(self, event: Added | Replaced, live: bool) -> None:
        """Publish a block; a count that waits for the one before it is published first, since the page shows both."""
        self._settle_count()
        update = block_pb2.BlockUpdate(height=event.block.height, hash=event.block.hash)
        if live:
            update.timestamp = self._origin.hub.clock_ms()
        self._newest = block_pb2.BlockUpdate()
        self._newest.CopyFrom(update)
        if isinstance(event, Replaced):
            replaced = block_pb2.ReplacedBlock(height=event.block.height, hash=event.hash, depth=event.depth)
            update.replaces.CopyFrom(replaced)
        self._origin.publish(update)

    def _settle_count(self) -> None:
        """Publish the newest block once more if its count is known; drop a count that has become useless."""
        if self._count is None:
            return
        count, _ = self._count
        height = -1 if self._newest is None else self._newest.height
        if count.generation != self.generation or count.height < height:
            self._count = None
        elif self._newest is not None and count.height == height:
            self._count = None
            self._newest.tx_count = count.transactions
            self._origin.publish(self._newest)

    # ------------------------------------------------------------------ how the node does

    def _conclude(self, asked_at: float) -> None:
        """Note what a page means beside its blocks."""
        now, follower = self._monotonic(), self._follower
        if follower.phase is Phase.RESYNCING:
            self._judge(self._health.resyncing(now, follower.at, follower.tip))
        elif not follower.caught_up:
            self._judge(self._health.reading(now))
        else:
            self._judge(self._health.following(now, follower.tip))
            self._caught_up_at = asked_at
            if self._count is not None and self._count[1] <= asked_at:
                self._settle_count()
            self._confirmed_at = asked_at
            self._confirmation.set()
            self._confirmation.clear()

    def _fail(self, error: UpstreamError) -> None:
        until = ""
        if isinstance(error, NodeBanned):
            ends = self._origin.hub.clock_ms() / 1000 + error.retry_after
            until = datetime.fromtimestamp(ends, UTC).strftime("%H:%M:%S UTC")
        self._follower.caught_up = False
        self._judge(self._health.failed(self._monotonic(), error, until))

    def _judge(self, verdict: Verdict | None) -> None:
        if verdict is not None:
            self._set_verdict(verdict)
