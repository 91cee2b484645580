"""Pace: how fast the node may be asked, and when it is left alone. Time is an argument."""


class Bucket:
    """A token bucket that says how long to wait: within any second at most `burst + rate` requests pass.

    Args:
        rate: requests a second in the long run.
        burst: requests that may follow one another at once.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self._period = 1 / rate
        self._tolerance = (burst - 1) / rate
        self._due = float("-inf")

    def take(self, now: float) -> float:
        """Take the next token.

        Args:
            now: monotonic seconds.

        Returns:
            Seconds until it may be used.
        """
        wait = max(0.0, self._due - self._tolerance - now)
        self._due = max(self._due, now) + self._period
        return wait


class Ban:
    """A time in which the node is left alone."""

    def __init__(self) -> None:
        self._until = float("-inf")

    def begin(self, now: float, seconds: float) -> None:
        """Leave the node alone for `seconds` from `now` on (monotonic seconds)."""
        self._until = max(self._until, now + seconds)

    def left(self, now: float) -> float:
        """Return how many seconds are left, 0 when there is no ban."""
        return max(0.0, self._until - now)
