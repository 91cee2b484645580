"""Network: the node's peers, how many of them are active, and what is sent to them."""

from collections.abc import Callable

import msgspec

from bridge.sources.node.client import NodeClient, NodeUnusable, Unsigned
from bridge.sources.node.outlet import Outlet
from generated.theblock.state.v1 import network_pb2

PAGE_PEERS = 100
"""Peers that one call asks for."""

MAX_PEERS = 10_000
"""Peers that are looked at; more are not counted, so their number is then unknown."""

ACTIVE_SECONDS = 30.0
"""A peer heard of within this time is active."""


class Counters(msgspec.Struct):
    """What a peer counts: bytes_sent to it, and last_updated, Unix seconds of the node's clock."""

    bytes_sent: Unsigned
    last_updated: Unsigned


class Peer(msgspec.Struct):
    """A peer as the node shows it."""

    peer_id: str
    metrics: Counters


_decode_peers = msgspec.json.Decoder(list[Peer]).decode


class _Seen(msgspec.Struct):
    """What is remembered of a peer; times are monotonic seconds."""

    bytes_sent: int
    counted_at: float
    last_updated: int
    heard_at: float


class PeerTable:
    """Makes figures of what the node shows of its peers, look after look.

    Attributes:
        peers: how many there are.
        active: how many were heard of within ACTIVE_SECONDS.
        outbound: bytes per second sent to them, since the look before; None where no peer was seen twice.
    """

    def __init__(self) -> None:
        self.peers = self.active = 0
        self.outbound: float | None = None
        self._seen: dict[str, _Seen] = {}

    def observe(self, peers: list[tuple[Peer, float]], now: float, unix_seconds: float) -> None:
        """Take in a look.

        The node's clock may differ from ours, so a peer counts as heard of when its time changes; only at the first
        look is the age taken from the clocks, of which the node's is never behind the newest time it shows.

        Args:
            peers: each peer, and when it was read, monotonic seconds.
            now: monotonic seconds.
            unix_seconds: our time of day.
        """
        newest = max((peer.metrics.last_updated for peer, _ in peers), default=0)
        node_clock = max(unix_seconds, float(newest))
        seen: dict[str, _Seen] = {}
        rates: list[float] = []
        for peer, read_at in peers:
            counters = peer.metrics
            before = self._seen.get(peer.peer_id)
            if before is None:
                heard_at = read_at - (node_clock - counters.last_updated)
            else:
                heard_at = before.heard_at if counters.last_updated == before.last_updated else read_at
                if counters.bytes_sent >= before.bytes_sent and read_at > before.counted_at:
                    rates.append((counters.bytes_sent - before.bytes_sent) / (read_at - before.counted_at))
            seen[peer.peer_id] = _Seen(counters.bytes_sent, read_at, counters.last_updated, heard_at)
        self._seen = seen
        self.peers = len(seen)
        self.active = sum(now - peer.heard_at <= ACTIVE_SECONDS for peer in seen.values())
        self.outbound = sum(rates) if rates else None


class Network:
    """Asks for the peers and publishes what follows, on change.

    Args:
        client: asks the node.
        outlet: publishes.
        set_peers: called with the number of peers, None when it is unknown.
        monotonic: returns seconds.
        clock_ms: returns Unix milliseconds.
    """

    def __init__(
        self,
        client: NodeClient,
        outlet: Outlet,
        set_peers: Callable[[int | None], object],
        *,
        monotonic: Callable[[], float],
        clock_ms: Callable[[], int],
    ) -> None:
        self._client = client
        self._outlet = outlet
        self._set_peers = set_peers
        self._monotonic = monotonic
        self._clock_ms = clock_ms
        self._table = PeerTable()
        self._read: dict[str, tuple[Peer, float]] = {}
        self._offset = 0

    def begin_chain(self) -> None:
        """Publish anew, since a new epoch begins."""
        self._outlet.forget()

    async def read(self) -> None:
        """Ask for one page of peers; with the last page, publish.

        Raises:
            UpstreamError: the node does not do what was asked.
        """
        params: dict[str, object] = {"offset": self._offset, "limit": PAGE_PEERS}
        result = await self._client.ask("net.peer_stats_all", params)
        try:
            page = _decode_peers(result)
        except msgspec.DecodeError as error:
            raise NodeUnusable(f"the answer to net.peer_stats_all is not as it must be: {error}") from error
        now = self._monotonic()
        self._read.update((peer.peer_id, (peer, now)) for peer in page)
        self._offset += PAGE_PEERS
        if len(page) < PAGE_PEERS:
            self._conclude(now)
        elif self._offset >= MAX_PEERS:
            self.forget()

    def _conclude(self, now: float) -> None:
        self._table.observe(list(self._read.values()), now, self._clock_ms() / 1000)
        self._read, self._offset = {}, 0
        self._set_peers(self._table.peers)
        update = network_pb2.NetworkUpdate(peers=self._table.peers, active_connections=self._table.active)
        if self._table.outbound is not None:
            update.bandwidth.outbound = round(self._table.outbound, 1)
        self._outlet.put(update)

    def forget(self) -> None:
        """Know nothing of the peers."""
        self._read, self._offset = {}, 0
        self._table = PeerTable()
        self._set_peers(None)
