"""Processor time per delivery over the number of clients, and over updates a second: what it should be is a line.

Each number of clients has a bridge of its own, all of them run at the same time, and each round measures all.
"""

import random
import statistics
from contextlib import ExitStack
from typing import Any

from tests.bench.fanout import CLIENTS, OTHER_FILES
from tests.bench.load import loaded
from tests.bench.processes import raise_file_limit
from tests.bench.report import Report, Spread
from tests.bench.servers import ours

RATE = 10
RATES = (10, 20, 50, 100)
AT = 1000
"""Clients with which rates are measured, and to which other numbers of them are compared."""

MOST = 1.2


def main() -> None:
    """Measure and print."""
    most = raise_file_limit() - OTHER_FILES
    with Report("growth", rounds=7, seconds=2) as report, ExitStack() as stack:
        counts = sorted({AT, *(number for number in CLIENTS if number <= most)})
        loads = {number: stack.enter_context(loaded(stack.enter_context(ours()), number)) for number in counts}
        cases = [(number, RATE) for number in counts] + [(AT, rate) for rate in RATES if rate != RATE]
        runs: dict[tuple[int, int], list[dict[str, Any]]] = {case: [] for case in cases}
        for _ in range(report.rounds):
            for number, rate in random.sample(cases, len(cases)):
                runs[number, rate].append(loads[number].run(report.seconds, rate=rate))
        costs = {case: [run["server_cpu_s_per_M"] for run in made] for case, made in runs.items()}
        ratios = {case: Spread.of_ratios(values, costs[AT, RATE]) for case, values in costs.items()}
        for case, values in costs.items():
            report.row(
                clients=case[0], updates_per_s=case[1], cost_us=Spread.of(values), to_first=ratios[case],
                deliveries_per_s=round(statistics.mean(run["deliveries_per_s"] for run in runs[case])),
                core_percent=Spread.of(run["server_util"] * 100 for run in runs[case]),
            )  # fmt: skip
        base = f"to one to {AT:,} clients at {RATE} updates/s"
        report.target(
            f"a delivery to {counts[-1]:,} clients at {RATE} updates/s, {base}", ratios[counts[-1], RATE].median, MOST,
            "times",
        )  # fmt: skip
        report.target(
            f"a delivery to {AT:,} clients at {RATES[-1]} updates/s, {base}", ratios[AT, RATES[-1]].median, MOST,
            "times",
        )  # fmt: skip


if __name__ == "__main__":
    main()
