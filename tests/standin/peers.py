"""The peers that ``net.peer_stats_all`` lists, with counters that grow by themselves or by hand."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from .clock import Clock

BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
PEER_ID_LENGTH = 50


def peer_id_of(name: str) -> str:
    """Return a peer id (50 base58 characters, as recorded) that is always the same for ``name``."""
    number = int.from_bytes(hashlib.sha512(name.encode()).digest())
    digits = []
    for _ in range(PEER_ID_LENGTH):
        number, digit = divmod(number, len(BASE58))
        digits.append(BASE58[digit])
    return "".join(digits)


@dataclass(slots=True)
class Peer:
    """A peer and its counters, which grow by ``*_per_second`` and by ``Peers.exchange``.

    Attributes:
        since: clock seconds of the first contact.
        touched: clock seconds of the last contact by hand.
    """

    peer_id: str
    since: float
    touched: float
    requests: int = 0
    bytes_sent: int = 0
    requests_per_second: float = 0.0
    bytes_per_second: float = 0.0

    def metrics(self, clock: Clock) -> dict[str, Any]:
        """Return its counters as the node shows them now; ``last_updated`` is Unix seconds."""
        age = clock.now() - self.since
        requests = self.requests + int(self.requests_per_second * age)
        growing = self.requests_per_second > 0 or self.bytes_per_second > 0
        quiet_for = 0.0 if growing else clock.now() - self.touched
        last_updated = int(clock.unix_seconds() - quiet_for)
        return {
            "backoff_level": 0,
            "byte_avg": float(self.bytes_per_second),
            "bytes_sent": self.bytes_sent + int(self.bytes_per_second * age),
            "drops": {},
            "handshake_fail": {},
            "handshake_success": 1 + requests // 4,
            "last_handshake_ms": 0,
            "last_updated": last_updated,
            "reputation": {"score": 1.0},
            "req_avg": float(self.requests_per_second),
            "requests": requests,
            "sec_start": last_updated,
            "sends": requests,
            "throttle_reason": None,
            "throttled_until": 0,
            "tls_errors": 0,
        }


class Peers:
    """The known peers, in the order in which they were met.

    Args:
        clock: where time comes from.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._peers: dict[str, Peer] = {}

    def __len__(self) -> int:
        return len(self._peers)

    def add(self, name: str, *, requests_per_second: float = 0.0, bytes_per_second: float = 0.0) -> str:
        """Meet a peer and return its id."""
        now = self.clock.now()
        peer = Peer(
            peer_id_of(name),
            now,
            now,
            requests_per_second=requests_per_second,
            bytes_per_second=bytes_per_second,
        )
        self._peers[name] = peer
        return peer.peer_id

    def exchange(self, name: str, *, requests: int = 0, bytes_sent: int = 0) -> None:
        """Let ``requests`` messages come from a peer and ``bytes_sent`` bytes go to it, now."""
        peer = self._peers[name]
        peer.requests += requests
        peer.bytes_sent += bytes_sent
        peer.touched = self.clock.now()

    def remove(self, name: str) -> None:
        """Forget a peer, as the node does after seven days without a word."""
        del self._peers[name]

    def restart(self) -> None:
        """Begin every counter at 0 again."""
        for peer in self._peers.values():
            peer.requests = peer.bytes_sent = 0
            peer.since = self.clock.now()

    def metrics(self) -> dict[str, dict[str, Any]]:
        """Return the counters of every peer by its id."""
        return {peer.peer_id: peer.metrics(self.clock) for peer in self._peers.values()}

    def page(self, offset: int, limit: int) -> list[dict[str, Any]]:
        """Return the answer to ``net.peer_stats_all``."""
        rows = [{"metrics": metrics, "peer_id": peer_id} for peer_id, metrics in self.metrics().items()]
        return rows[offset : offset + limit]
