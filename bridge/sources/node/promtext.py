"""Prometheus text, as far as the source needs it: the values of a few families."""

import math
from collections.abc import Collection


def parse(text: str, names: Collection[str]) -> dict[str, float]:
    """Read the values of some families from Prometheus text.

    Args:
        text: exposition format 0.0.4; what is not (the node says "telemetry disabled" without telemetry) has none.
        names: of the families.

    Returns:
        The value of each family found; of one with labels the sum over them. Values that are no finite numbers are
        left out.
    """
    values: dict[str, float] = {}
    for line in text.splitlines():
        name, value = _sample(line)
        if name in names and value is not None:
            values[name] = values.get(name, 0.0) + value
    return values


def _sample(line: str) -> tuple[str, float | None]:
    head, brace, tail = line.partition("{")
    if brace and " " not in head:
        name, words = head, tail.rpartition("}")[2].split()
    else:
        name, _, rest = line.partition(" ")
        words = rest.split()
    try:
        value = float(words[0])
    except (IndexError, ValueError):
        return name, None
    return name, value if math.isfinite(value) else None
