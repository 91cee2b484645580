"""Clients that want four different things, beside as many that all want the same: processor time per delivery.

A quarter each follows a whole stream, a stream through a filter (`where`) that lets every other update pass, a stream
of which it wants three fields (`fields`), and one key of a keyed stream. Every line that is published brings every
client one update, in both cases.
"""

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.bench.load import Load, loaded
from tests.bench.report import Report, Spread
from tests.bench.servers import ours

CLIENTS = 1000
RATE = 20
ENTRIES = (
    "whole",
    {"stream": "filtered", "where": {"final": True}},
    {"stream": "trimmed", "fields": ["height", "hash", "ts"]},
    {"stream": "account", "key": "followed"},
)
MODES: dict[str, dict[str, Any]] = {"one in flight": {"window": 1}, f"{RATE} updates/s": {"rate": RATE}}
MOST = 1.3


def main() -> None:
    """Measure and print."""
    with Report("mixed", rounds=7, seconds=2) as report, uniform() as same, mixture() as different:
        for title, how in MODES.items():
            costs: dict[str, list[float]] = {"uniform": [], "mixed": []}
            loads = {"uniform": same, "mixed": different}
            for _ in range(report.rounds):
                for name in random.sample(list(loads), len(loads)):
                    made = loads[name].run(report.seconds, **how)
                    costs[name].append(made["server_cpu_s_per_M"])
                    if "window" in how and made["per_conn_max"] - made["per_conn_min"] > 1:
                        print(f"  MISSED: clients got {made['per_conn_min']} to {made['per_conn_max']} updates")
            ratio = Spread.of_ratios(costs["mixed"], costs["uniform"])
            report.row(
                clients=CLIENTS, mode=title, uniform_us=Spread.of(costs["uniform"]), mixed_us=Spread.of(costs["mixed"]),
                ratio=ratio,
            )  # fmt: skip
            report.target(f"a delivery of four kinds, to one of one kind, {title}", ratio.median, MOST, "times")


@contextmanager
def uniform() -> Iterator[Load]:
    """Run a bridge all of whose clients want the same."""
    with ours() as server, loaded(server, CLIENTS) as load:
        yield load


@contextmanager
def mixture() -> Iterator[Load]:
    """Run a bridge whose clients want four different things."""
    requests = [json.dumps({"method": "state_stream.subscribe", "params": [entry], "id": 1}) for entry in ENTRIES]
    messages = [flag for request in requests for flag in ("-m", request)]
    with ours(streams=(), path="/ws") as server, loaded(server, CLIENTS, "--alternate", *messages) as load:
        yield load


if __name__ == "__main__":
    main()
