"""Backoff: how long to wait before the next try."""

from collections.abc import Callable


class Backoff:
    """Exponential backoff with full jitter, so that many who lost the same peer do not come back at once.

    Source: "Exponential Backoff And Jitter", https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/.
    """

    def __init__(self, first: float, limit: float, random: Callable[[], float]) -> None:
        """Begin with the first pause.

        Args:
            first: upper end of the first pause, seconds.
            limit: upper end of every pause, seconds.
            random: returns a number in [0, 1).
        """
        self._first = first
        self._limit = limit
        self._random = random
        self._end = min(first, limit)

    def next(self) -> float:
        """Return the next pause, seconds: anything up to an upper end that doubles each time."""
        pause = self._random() * self._end
        self._end = min(self._end * 2, self._limit)
        return pause

    def reset(self) -> None:
        """Begin again with the first pause: the last try went well."""
        self._end = min(self._first, self._limit)
