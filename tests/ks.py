"""The test of Kolmogorov and Smirnov: are numbers spread evenly?"""

from collections.abc import Iterable
from math import exp, sqrt


def ks_uniform(values: Iterable[float], first: float, last: float) -> tuple[float, float]:
    """Hold numbers against the uniform distribution from `first` to `last`.

    Returns:
        The statistic, which is the largest difference between the share of the numbers below a place and the share that
        should be there; and the probability of one as large if they were drawn from that distribution one by one, in
        the approximation of M. Stephens (1970) that serves from five numbers on.
    """
    places = [(value - first) / (last - first) for value in sorted(values)]
    count = len(places)
    largest = max(max((index + 1) / count - place, place - index / count) for index, place in enumerate(places))
    scaled = (sqrt(count) + 0.12 + 0.11 / sqrt(count)) * largest
    tail = 2 * sum((-1) ** (term - 1) * exp(-2 * (term * scaled) ** 2) for term in range(1, 101))
    return largest, min(1.0, max(0.0, tail)) if scaled > 0.2 else 1.0
