"""Transactions that wait for a block, in one fee lane."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence


def percentile(values: Sequence[int], share: float) -> int:
    """Return the node's percentile: element ``floor(n * share)`` of the sorted ``values``, 0 when there are none."""
    if not values:
        return 0
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


class Mempool:
    """A lane's waiting transactions: when each was admitted (clock seconds) and its tip (base units)."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[float, int]] = deque()
        self._used = False

    def __len__(self) -> int:
        return len(self._waiting)

    def admit(self, now: float, tip: int) -> None:
        """Add a transaction that pays ``tip`` base units, at ``now`` clock seconds."""
        self._waiting.append((now, tip))
        self._used = True

    def take(self) -> int:
        """Remove the oldest transaction and return its tip, base units.

        Raises:
            IndexError: none is waiting.
        """
        return self._waiting.popleft()[1]

    def stats(self, now: float) -> dict[str, int]:
        """Return the answer to ``mempool.stats``: ages in milliseconds, fees in base units, the floor per byte."""
        ages = [int((now - admitted_at) * 1000) for admitted_at, _ in self._waiting]
        tips = [tip for _, tip in self._waiting]
        return {
            "age_p50": percentile(ages, 0.5),
            "age_p95": percentile(ages, 0.95),
            "fee_floor": int(self._used),  # measured: 0 until the first transaction was ever seen, 1 from then on
            "fee_p50": percentile(tips, 0.5),
            "fee_p90": percentile(tips, 0.9),
            "size": len(self._waiting),
        }
