"""Processor time per delivery, against the least there is (a C loop of bare `send`) and against peers, in pairs.

Every round measures each server once, in an order of its own; a ratio is taken within a round, so that what else the
machine does hits both. With peers: `python -m tests.bench.servers` first, which installs what they need.
"""

import os
import random
import statistics
from contextlib import ExitStack
from functools import partial
from typing import Any, Final, NamedTuple

from tests.bench.processes import result, wsload
from tests.bench.servers import Server, floor, ours, peers


class Case(NamedTuple):
    """What is measured.

    Attributes:
        clients: how many.
        window: updates in flight.
        floor: how the floor writes: one `send` an update, or one for all that is pending (batch).
        title: in words.
        burst: whether that many are published at once, and the next when all have them.
    """

    clients: int
    window: int
    floor: str
    title: str
    burst: bool = False


ROUNDS: Final = int(os.environ.get("ROUNDS", "7"))
SECONDS: Final = os.environ.get("SECONDS", "3")
CASES: Final = (
    Case(1000, 1, "send", "one in flight"),
    Case(1000, 4, "send", "four in flight"),
    Case(1000, 4, "batch", "four pending, joined", burst=True),
)


def main() -> None:
    """Measure and print."""
    starts: dict[str, Any] = {"bridge": ours, **peers()}
    for case in CASES:
        print(f"{case.clients} clients, {case.title}; {ROUNDS} rounds", flush=True)
        costs = measure({"floor": partial(floor, case.floor), **starts}, case)
        for name, values in costs.items():
            ratios = [value / base for value, base in zip(values, costs["floor"], strict=True)]
            ours_to = [mine / value for mine, value in zip(costs["bridge"], values, strict=True)]
            print(f"  {name:12} {statistics.median(values):6.2f} us a delivery, {show(ratios)} of the floor; "
                  f"the bridge is {show(ours_to)} of it", flush=True)  # fmt: skip


def measure(starts: dict[str, Any], case: Case) -> dict[str, list[float]]:
    """Return processor time per delivery, microseconds, by server, one value a round."""
    costs: dict[str, list[float]] = {name: [] for name in starts}
    with ExitStack() as stack:
        servers = {name: stack.enter_context(start()) for name, start in starts.items()}
        for _ in range(ROUNDS):
            for name in random.sample(list(servers), len(servers)):
                costs[name].append(cost(servers[name], case))
    return costs


def cost(server: Server, case: Case) -> float:
    """Return what a delivery costs a server now, microseconds of its processor time."""
    load = wsload(
        *server.arguments, "-n", str(case.clients), "-x", str(case.window), *(["-g"] if case.burst else []),
        "-w", "1", "-d", SECONDS, "-W", str(server.pid),
    )  # fmt: skip
    return float(result(load)["server_cpu_s_per_M"])


def show(ratios: list[float]) -> str:
    """Return a median and its spread."""
    low, high = min(ratios), max(ratios)
    return f"{statistics.median(ratios):.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main()
