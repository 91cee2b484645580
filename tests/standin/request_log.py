"""What the stand-in was asked, and when: how a test proves that a client stays within the node's limits."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

MAX_KEPT = 100_000


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """One request that arrived.

    Attributes:
        at: clock seconds.
        method: the JSON-RPC method; ``<VERB> <path>`` for other requests; ``?`` if the body was not a request.
        params: the JSON-RPC params as they came.
        ip: who asked.
    """

    at: float
    method: str
    params: Any
    ip: str


@dataclass(slots=True)
class RequestLog:
    """Every request since the last ``clear``; the newest 100,000 with their details.

    Attributes:
        total: how many requests arrived, answered or not.
        by_method: how many of each method.
        refused: how many the general limiter refused (HTTP 429).
        energy_refused: how many an energy limiter refused.
        entries: the newest requests, oldest first.
    """

    total: int = 0
    by_method: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    energy_refused: int = 0
    entries: deque[LoggedRequest] = field(default_factory=lambda: deque(maxlen=MAX_KEPT))

    def add(self, entry: LoggedRequest) -> None:
        """Write a request down."""
        self.total += 1
        self.by_method[entry.method] += 1
        self.entries.append(entry)

    def count(self, method: str | None = None, since: float = float("-inf")) -> int:
        """Return how many kept requests of ``method`` (None: of any) came at ``since`` clock seconds or later."""
        return sum(1 for _ in self._times(method, since))

    def times(self, method: str | None = None) -> list[float]:
        """Return when each kept request of ``method`` (None: of any) came, clock seconds."""
        return list(self._times(method, float("-inf")))

    def busiest(self, window_seconds: float = 1.0, method: str | None = None) -> int:
        """Return the most requests that came within any ``window_seconds``: compare it with the limit per second."""
        window: deque[float] = deque()
        most = 0
        for at in self._times(method, float("-inf")):
            window.append(at)
            while window[0] <= at - window_seconds:
                window.popleft()
            most = max(most, len(window))
        return most

    def clear(self) -> None:
        """Begin to count anew."""
        self.total = self.refused = self.energy_refused = 0
        self.by_method.clear()
        self.entries.clear()

    def _times(self, method: str | None, since: float) -> Iterable[float]:
        return (entry.at for entry in self.entries if method in (None, entry.method) and entry.at >= since)
