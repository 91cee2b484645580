"""Retry budget: a position that makes a state service fail again and again is not asked for ever."""

from collections.abc import Mapping
from typing import Final

from bridge.core.position import Position

FAILURES: Final = 5
"""How often one address may fail at the same position."""


class RetryBudget:
    """Counts how often one address has failed at positions."""

    def __init__(self, failures: int = FAILURES) -> None:
        """Begin without a failure.

        Args:
            failures: how often it may fail at the same position.
        """
        self._limit = failures
        self._failures: dict[str, tuple[Position, int]] = {}  # by stream; at most one for each that is followed

    def fail(self, positions: Mapping[str, Position]) -> list[str]:
        """Count a failure; return the streams whose positions have now used up the budget.

        Args:
            positions: by stream, those that the failure may be about. What is counted of others is forgotten.
        """
        before, self._failures = self._failures, {}
        for stream, position in positions.items():
            place, count = before.get(stream, (position, 0))
            self._failures[stream] = (position, count + 1 if place == position else 1)
        return [stream for stream, (_, count) in self._failures.items() if count == self._limit]

    def is_spent(self, stream: str, position: Position) -> bool:
        """Whether the address has failed too often at that position of that stream."""
        place, count = self._failures.get(stream, (position, 0))
        return place == position and count >= self._limit

    def clear(self) -> None:
        """Forget every failure: the address has done what was asked."""
        self._failures.clear()
