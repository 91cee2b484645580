"""What /rpc answers by itself: a table of methods, from streams and history first, from the node where they end.

Nothing is made up: what is not known is null, and what cannot be without it is an error.
"""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import msgspec

from bridge.core.codes import ErrorCode
from bridge.core.errors import RequestError
from bridge.core.hub import Hub
from bridge.core.pages import Page, Since, read_page
from bridge.core.update import Update
from bridge.edges.rpc.blocks import Blocks
from bridge.edges.rpc.node import ABSENT, Node, unavailable
from bridge.edges.rpc.params import Members, Params, account, bad, height, page
from bridge.ops.deep import when_there

T = TypeVar("T")

NEAR_UPDATES: Final = 64
"""How many updates behind the first on a height are searched for later ones on it."""


class Header(msgspec.Struct):
    """A block as the node's light.headers gives it; the hash is hexadecimal, without 0x."""

    height: int
    hash: str
    difficulty: int | None = None


class Balance(msgspec.Struct):
    """Result of the node's balance, in base units."""

    amount: int


class Reputation(msgspec.Struct):
    """What the node thinks of a peer."""

    score: float | None = None


class PeerMetrics(msgspec.Struct):
    """What the node counts of a peer; last_updated is Unix seconds."""

    last_updated: int | None = None
    reputation: Reputation = msgspec.field(default_factory=Reputation)


class Peer(msgspec.Struct):
    """A peer as the node's net.peer_stats_all gives it."""

    peer_id: str
    metrics: PeerMetrics


decode_headers = msgspec.json.Decoder(list[Header]).decode
decode_balance = msgspec.json.Decoder(Balance).decode
decode_peers = msgspec.json.Decoder(list[Peer]).decode


class Answers:
    """Answers the methods of the tables below.

    Args:
        hub: whose streams are told.
        node: asked for what the streams do not have.
    """

    def __init__(self, hub: Hub, node: Node) -> None:
        self._hub = hub
        self._node = node
        self._blocks = Blocks(hub.history("block_updates"))

    # ------------------------------------------------------------------ from memory

    def block_height(self) -> Members:
        """Return the height of the newest block, and that of the newest final one where the node has such."""
        result = {"height": self._newest_height()}
        newest = self._blocks.newest()
        if newest is not None and newest.HasField("finalized_height"):
            result["finalized_height"] = newest.finalized_height
        return dict(result)

    def finality_status(self) -> Members:
        """Return the height of the newest final block; where there is no finality, there is no such method."""
        newest = self._blocks.newest()
        if newest is None or not newest.HasField("finalized_height"):
            raise RequestError(ErrorCode.METHOD_NOT_FOUND, "no final block is known of this chain")
        return {"finalized_height": newest.finalized_height}

    def stats(self) -> Members:
        """Return transactions per second and the average time between two blocks."""
        return {"tps": self._metric("tps"), "avg_block_time_ms": self._blocks.average_ms()}

    def tps(self) -> Members:
        """Return the same under other names."""
        return {"tps": self._metric("tps"), "avgBlockTime": self._blocks.average_ms()}

    def _newest_height(self) -> int:
        """Return the greater of both heights that clients are sent, so that what they show never goes back."""
        of_blocks, of_metrics = self._blocks.newest_height(), self._metric("blockHeight")
        heights = [value for value in (of_blocks, of_metrics) if isinstance(value, int)]
        if not heights:
            raise unavailable("no block is known yet")
        return max(heights)

    def _metric(self, name: str) -> object:
        metrics = self._hub.history("metrics").latest.get("")
        return None if metrics is None else metrics.data().get(name)

    # ------------------------------------------------------------------ from the node, where memory ends

    async def block(self, params: Params) -> Members:
        """Return a block: from history, or what the node still tells of it."""
        wanted, newest = height(params), self._newest_height()
        update = self._blocks.get(wanted)
        if update is None and wanted <= newest:
            update = await self._older_block(wanted)
        if update is not None:
            return update.data()
        if wanted > newest:
            raise bad(f"there is no block {wanted} yet; the newest is {newest}")
        headers = decoded(decode_headers, await self._ask("light.headers", {"start": wanted, "limit": 1}))
        if not headers or headers[0].height != wanted:
            raise bad(f"there is no block {wanted}; the newest is {newest}")
        return {"height": wanted, "hash": f"0x{headers[0].hash}", "difficulty": headers[0].difficulty}

    async def _older_block(self, wanted: int) -> Update | None:
        """Return the newest update on a block that is no longer in memory, None if it cannot be had."""
        history = self._hub.history("block_updates")
        if history.reach == history.oldest:
            return None

        def find() -> Page:
            return read_page(history, None, Since(height=wanted).seq(history), None, NEAR_UPDATES, reverse=False)

        try:
            found = await when_there(self._hub, find)
        except RequestError:
            return None  # the node may tell
        return next((update for update in reversed(found.updates) if update.message().block.height == wanted), None)

    async def balance(self, params: Params) -> Members:
        """Return the balance of an account, in base units: from its stream, or from the node."""
        address = account(params)
        update = self._hub.history("account").latest.get(address)
        data = {} if update is None else update.data()
        if "balance" in data:
            return {"account": address} | {name: data[name] for name in ("balance", "nonce", "height") if name in data}
        found = decoded(decode_balance, await self._ask("balance", {"address": address}))
        return {"account": address, "balance": str(found.amount)}

    async def peer_list(self, params: Params) -> list[Members]:
        """Return the node's peers, a page of them."""
        peers = decoded(decode_peers, await self._ask("net.peer_stats_all", page(params)))
        return [
            {
                "peer_id": peer.peer_id,
                "last_updated": peer.metrics.last_updated,
                "reputation": peer.metrics.reputation.score,
            }
            for peer in peers
        ]

    async def peer_stats(self, params: Params) -> msgspec.Raw:
        """Return all that the node counts of its peers, a page of them."""
        return msgspec.Raw(await self._ask("net.peer_stats_all", page(params)))

    async def _ask(self, method: str, params: Members) -> bytes:
        """Ask the node; that it may not be asked is not the fault of the method that the client called."""
        try:
            return await self._node.ask(method, params)
        except RequestError as error:
            if error.code not in ABSENT:
                raise
            sentence = f"the streams do not have it, and the node cannot be asked by {method}: {error}"
            raise bad(sentence) from error


FROM_MEMORY: Final[dict[str, Callable[[Answers], object]]] = {
    "consensus.block_height": Answers.block_height,
    "consensus.finality_status": Answers.finality_status,
    "consensus.stats": Answers.stats,
    "consensus.tps": Answers.tps,
}
"""Methods that are answered at once, whatever params they come with."""

FROM_NODE: Final[dict[str, Callable[[Answers, Params], Awaitable[object]]]] = {
    "consensus.block": Answers.block,
    "ledger.balance": Answers.balance,
    "peer.list": Answers.peer_list,
    "peer.stats": Answers.peer_stats,
}
"""Methods that the node may have to be asked for, under other names than its own."""


def decoded(decode: Callable[[bytes], T], result: bytes) -> T:
    """Return a result of the node decoded.

    Raises:
        RequestError: it is not as it must be.
    """
    try:
        return decode(result)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise unavailable(f"the node's answer is not as it must be: {error}") from error
