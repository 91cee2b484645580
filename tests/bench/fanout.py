"""Processor time per delivery, beside the least there is (a C loop of bare `send`) and beside peers, in pairs.

Every round measures each server once, in an order of its own; a ratio is taken within a round, so that what else the
machine does hits both. There are two floors: one `send` for every update, and one for all updates that are pending.
`updates_per_read` says whether updates came joined. CLIENTS=100,1000 in the environment says how many clients there
are, PEERS=1000 with how many of these peers are measured too ("all", "none"). `python -m tests.bench.servers` installs
what the peers need.
"""

import os
import random
import statistics
from contextlib import ExitStack
from functools import partial
from typing import Any, Final, NamedTuple

from tests.bench.load import Load, loaded
from tests.bench.processes import raise_file_limit
from tests.bench.report import Report, Spread
from tests.bench.servers import Start, floor, ours, peers


class Mode(NamedTuple):
    """How updates are published.

    Attributes:
        title: in words.
        window: updates in flight, where the next one waits for the one before.
        burst: whether that many are published in one turn.
        rate: or so many a second.
    """

    title: str
    window: int = 1
    burst: bool = False
    rate: int = 0


CLIENTS: Final = tuple(int(number) for number in os.environ.get("CLIENTS", "100,1000,5000,10000").split(","))
PEERS: Final = os.environ.get("PEERS", "1000")
MODES: Final = (
    Mode("one in flight"),
    Mode("four in flight", 4),
    Mode("four pending, joined", 4, burst=True),
    Mode("10 updates/s", rate=10),
    Mode("100 updates/s", rate=100),
)
MOST_DELIVERIES: Final = 100_000
"""Deliveries a second that one core can be asked for."""

JOINED: Final = "joined floor"

ENVELOPE_BYTES: Final = 98
"""What the bridge puts around an update: type, stream, position and time. What is published through it is that much
shorter, as far as the load generator can, so that all servers send about 200 bytes."""

ONE, FOUR, PENDING = (mode.title for mode in MODES[:3])
MOST: Final = {
    (ONE, "floor"): 1.5, (ONE, "aiohttp"): 0.9, (ONE, "node ws"): 0.9, (ONE, "nchan"): 0.9, (ONE, "websockets"): 0.7,
    (ONE, "fastapi"): 0.6, (FOUR, "floor"): 1.4, (PENDING, JOINED): 1.35, (PENDING, "node ws"): 0.27,
    (PENDING, "nchan"): 0.27, (PENDING, "bun"): 1.3,
}  # fmt: skip
"""What the bridge may cost, of others, with 1,000 clients."""

FLOORS: Final = {"floor": partial(floor, "send"), JOINED: partial(floor, "batch")}
OTHER_FILES: Final = 256


def main() -> None:
    """Measure and print."""
    most = raise_file_limit() - OTHER_FILES
    with Report("fanout", rounds=7, seconds=0.5) as report:
        for clients in CLIENTS:
            if clients > most:
                print(f"  {clients:,} clients are left out: this machine allows {most + OTHER_FILES:,} open files")
                continue
            beside = peers() if PEERS in ("all", str(clients)) else {}
            compare(report, clients, {"bridge": ours, **FLOORS, **beside})


def compare(report: Report, clients: int, starts: dict[str, Start]) -> None:
    """Measure servers in every mode, all with their clients connected."""
    with ExitStack() as stack:
        servers = {name: stack.enter_context(start()) for name, start in starts.items()}
        loads = {
            name: stack.enter_context(loaded(server, clients, "-S", str(200 - ENVELOPE_BYTES * (name == "bridge"))))
            for name, server in servers.items()
        }
        for mode in MODES:
            if clients * mode.rate <= MOST_DELIVERIES:
                longer = max(2 if mode.rate else 1, clients / 2500)  # several updates in each measurement
                runs = rounds(loads, mode, report.rounds, report.seconds * longer)
                tell(report, clients, mode, runs)


def rounds(loads: dict[str, Load], mode: Mode, number: int, seconds: float) -> dict[str, list[dict[str, Any]]]:
    """Return what was measured, by server, one report a round."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in loads}
    for _ in range(number):
        for name in random.sample(list(loads), len(loads)):
            runs[name].append(loads[name].run(seconds, window=mode.window, burst=mode.burst, rate=mode.rate))
    return runs


def tell(report: Report, clients: int, mode: Mode, runs: dict[str, list[dict[str, Any]]]) -> None:
    """Print a row for each server."""
    costs = {name: [run["server_cpu_s_per_M"] for run in made] for name, made in runs.items()}
    base = JOINED if mode.burst else "floor"
    for name, values in costs.items():
        report.row(
            clients=clients, mode=mode.title, server=name, cost_us=Spread.of(values),
            of_floor=Spread.of_ratios(values, costs[base]), bridge_of_it=Spread.of_ratios(costs["bridge"], values),
            updates_per_read=statistics.mean(run["updates"] / max(run["recvs"], 1) for run in runs[name]),
            deliveries_per_s=round(statistics.mean(run["deliveries_per_s"] for run in runs[name])),
            bytes=round(statistics.mean(run["payload_bytes"] / max(run["updates"], 1) for run in runs[name])),
        )  # fmt: skip
    for (title, name), most in MOST.items():
        if clients == 1000 and title == mode.title and name in costs:
            ratio = Spread.of_ratios(costs["bridge"], costs[name]).median
            report.target(f"{title}: the bridge, of {name}", ratio, most)


if __name__ == "__main__":
    main()
