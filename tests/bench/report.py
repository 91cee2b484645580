"""What a benchmark measures: a table, a verdict on every target, and a file with all of it in build/bench.

ROUNDS and SECONDS in the environment say how often and for how long to measure; a benchmark has its own defaults.
"""

import json
import os
import platform
import statistics
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

RESULTS: Final = Path(__file__).parents[2] / "build" / "bench"

COLUMN, TEXT = 9, 22
"""Characters of a column at least: of numbers, of words and spreads."""


class Spread(NamedTuple):
    """What several rounds measured."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Return the median of some values, and their ends."""
        ordered = sorted(values)
        return cls(statistics.median(ordered), ordered[0], ordered[-1])

    @classmethod
    def of_ratios(cls, values: Iterable[float], to: Iterable[float]) -> "Spread":
        """Return what values are of others, taken round by round."""
        return cls.of(value / other if other else 0.0 for value, other in zip(values, to, strict=True))

    def __str__(self) -> str:
        return f"{figure(self.median)} ({figure(self.low)} to {figure(self.high)})"


Figure = str | int | float | Spread


class Report:
    """The report of one benchmark; as a context manager it is kept at the end.

    Args:
        name: of the benchmark, and of the file.
        rounds: how often everything is measured, unless ROUNDS is set.
        seconds: how long one measurement is, unless SECONDS is set.
    """

    def __init__(self, name: str, *, rounds: int = 1, seconds: float = 0) -> None:
        self.rounds = int(os.environ.get("ROUNDS", rounds))
        self.seconds = float(os.environ.get("SECONDS", seconds))
        self._name = name
        self._rows: list[dict[str, Figure]] = []
        self._targets: list[dict[str, object]] = []
        self._widths: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.save()

    def row(self, **figures: Figure) -> None:
        """Print a row of the table; names of columns say their unit."""
        if set(figures) != set(self._widths):
            self._widths = {
                name: max(len(name), TEXT if isinstance(value, str | Spread) else COLUMN)
                for name, value in figures.items()
            }
            print("  " + "  ".join(name.ljust(width) for name, width in self._widths.items()))
        self._rows.append(figures)
        print("  " + "  ".join(show(value).ljust(self._widths[name]) for name, value in figures.items()), flush=True)

    def target(self, what: str, value: float, most: float, unit: str = "") -> None:
        """Print whether a figure is within what it may be at most."""
        within = value <= most
        self._targets.append({"what": what, "value": value, "most": most, "unit": unit, "within": within})
        print(f"  {'within' if within else 'over'}: {what}: {figure(value)} of at most {most:g} {unit}".rstrip(),
              flush=True)  # fmt: skip

    def save(self) -> None:
        """Write the file."""
        rows = [
            {name: value._asdict() if isinstance(value, Spread) else value for name, value in row.items()}
            for row in self._rows
        ]
        machine = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / f"{self._name}.json").write_text(json.dumps({
            "name": self._name, "date": time.strftime("%Y-%m-%d"), "rounds": self.rounds, "seconds": self.seconds,
            "machine": machine, "rows": rows, "targets": self._targets,
        }, indent=1) + "\n")  # fmt: skip


def show(value: Figure) -> str:
    """Return a figure as it stands in a table."""
    return figure(value) if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def figure(value: float) -> str:
    """Return a number with three digits that count, or more."""
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 100 else f"{value:,.0f}"
