"""Chance: everything that is drawn, made of the two generator calls whose results Python keeps between versions."""

from random import Random


class Chance:
    """A seeded generator; the same seed draws the same, on every Python."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def share(self) -> float:
        """Return a number from 0 up to, not including, 1."""
        return self._random.random()

    def happens(self, probability: float) -> bool:
        """Return True with that probability."""
        return self._random.random() < probability

    def below(self, limit: int) -> int:
        """Return an integer from 0 up to, not including, `limit`."""
        return int(self._random.random() * limit)

    def skewed(self, limit: int) -> int:
        """Return an integer from 0 up to, not including, `limit`, a small one more often."""
        return int(self._random.random() ** 2 * limit)

    def bytes(self, count: int) -> bytes:
        """Return `count` bytes."""
        return self._random.getrandbits(8 * count).to_bytes(count, "big")

    def walk(self, value: int, low: int, high: int, step: int) -> int:
        """Return `value` moved by at most `step`, kept from `low` to `high`."""
        return min(high, max(low, value - step + self.below(2 * step + 1)))
