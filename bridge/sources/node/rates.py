"""Rates: figures made of counters and of samples. Time is an argument."""


class Rate:
    """How fast a counter grows, over spans of at least `span` seconds. A counter that went back began anew.

    Attributes:
        value: growth per second over the last complete span; None while none is.
    """

    def __init__(self, span: float) -> None:
        self.value: float | None = None
        self._span = span
        self._base: tuple[float, float] | None = None

    def observe(self, now: float, count: float) -> None:
        """Take in what the counter says at `now` (seconds)."""
        if self._base is None or count < self._base[1]:
            self.forget()
            self._base = (now, count)
            return
        since, before = self._base
        if now - since >= self._span and now > since:
            self.value = (count - before) / (now - since)
            self._base = (now, count)

    def forget(self) -> None:
        """Know nothing."""
        self.value = self._base = None


class Smoothed:
    """A mean of samples in which the newest counts `weight` and all before it the rest.

    Attributes:
        value: the mean; None before the first sample.
    """

    def __init__(self, weight: float = 0.125) -> None:
        self.value: float | None = None
        self._weight = weight

    def observe(self, sample: float) -> None:
        """Take in a sample."""
        self.value = sample if self.value is None else self.value + (sample - self.value) * self._weight
