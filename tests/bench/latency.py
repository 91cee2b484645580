"""From publish at the state service to receipt by clients, through gRPC and the sidecar; and slices of its loop.

The publisher stamps each update with the monotonic clock, which all processes of a machine share; the load generator
subtracts. The state service keeps its journal. From the node's block to the client it is this plus the poll interval
(`chain` measures both). What other clients wait for at worst is the longest slice of the sidecar's loop.
"""

from typing import NamedTuple

from tests.bench.load import loaded
from tests.bench.processes import Bridge, Probe, bridge, probed, raise_file_limit
from tests.bench.publisher import publishing
from tests.bench.report import Report, Spread
from tests.bench.servers import Server

WARM_UP_SECONDS = 1.5
"""The publisher is a process that has to start first."""


class Case(NamedTuple):
    """What is measured.

    Attributes:
        clients: how many.
        rate: updates a second.
        most_ms: what the 99th percentile may be.
    """

    clients: int
    rate: int
    most_ms: float


CASES = (Case(100, 10, 3), Case(100, 100, 3), Case(1000, 10, 15), Case(1000, 50, 15), Case(1000, 100, 35))
MANY, MANY_RATE, SLICE_MS = 5000, 10, 10


def main() -> None:
    """Measure and print."""
    raise_file_limit()
    with (
        Report("latency", rounds=3, seconds=4) as report,
        bridge("state", "--source", "none", "--ingest", "--grpc-listen", "127.0.0.1:0") as state,
    ):
        address = state.addresses["grpc"]
        with bridge("sidecar", "--upstream", address, "--listen", "127.0.0.1:0") as sidecar:
            for case in CASES:
                measure(report, case, address, sidecar)
        with probed("sidecar", "--upstream", address, "--listen", "127.0.0.1:0") as (sidecar, probe):
            watch(report, address, sidecar, probe)


def served(sidecar: Bridge) -> Server:
    """Return a sidecar as what the load generator connects to."""
    return Server(sidecar.pid, ("-p", sidecar.port, "-P", "/ws?subscribe=bench"))


def measure(report: Report, case: Case, address: str, sidecar: Bridge) -> None:
    """Measure one case."""
    with loaded(served(sidecar), case.clients) as load, publishing(address, rate=case.rate):
        runs = [load.run(report.seconds, warm_up=WARM_UP_SECONDS) for _ in range(report.rounds)]
    p99 = Spread.of(run["lat_us"]["p99"] / 1000 for run in runs)
    report.row(
        clients=case.clients, updates_per_s=case.rate, p50_ms=Spread.of(run["lat_us"]["p50"] / 1000 for run in runs),
        p99_ms=p99, most_ms=case.most_ms, max_ms=Spread.of(run["lat_us"]["max"] / 1000 for run in runs),
        missing=sum(run["missing"] for run in runs),
    )  # fmt: skip
    report.target(f"p99 of {case.clients:,} clients at {case.rate} updates/s", p99.median, case.most_ms, "ms")


def watch(report: Report, address: str, sidecar: Bridge, probe: Probe) -> None:
    """Measure the slices of the loop that serves many clients."""
    with loaded(served(sidecar), MANY) as load, publishing(address, rate=MANY_RATE):
        load.run(0.1, warm_up=WARM_UP_SECONDS)
        longest = []
        for _ in range(report.rounds):
            probe.read()
            load.run(report.seconds)
            longest.append(probe.read())
    print(f"  {MANY:,} clients at {MANY_RATE} updates/s, {report.rounds} times; slices of the loop at the longest:")
    for slices in longest:
        print(f"    {slices}")
    slice_ms = Spread.of(slices.cpu_ms for slices in longest)
    report.target(f"slice of the loop, {MANY:,} clients at {MANY_RATE} updates/s", slice_ms.median, SLICE_MS, "ms")


if __name__ == "__main__":
    main()
