"""Memory of a connection, after its client has subscribed, pinged, and got updates.

What the sidecar has grown by, divided by clients, from a first thousand on: what is there once is not counted.
"""

import contextlib

from tests.bench.load import loaded
from tests.bench.processes import memory_mb, raise_file_limit
from tests.bench.report import Report, Spread
from tests.bench.servers import ours

FIRST, MORE = 1000, 4000
SUBSCRIBE = '{"method":"state_stream.subscribe","params":["bench","block_updates","metrics"],"id":1}'
PING = '{"type":"ping","timestamp":1707770400123}'
CASES: dict[str, tuple[str, ...]] = {"plain": (), "offers permessage-deflate": ("--deflate-ctx",)}
"""What clients are like, and flags of the load generator that make them so."""

MOST_KB = 20


def main() -> None:
    """Measure and print."""
    raise_file_limit()
    with Report("memory", rounds=3) as report:
        for title, flags in CASES.items():
            grown = [measure(flags) for _ in range(report.rounds)]
            each = Spread.of(kb for kb, _ in grown)
            report.row(clients=MORE, kind=title, kb_a_connection=each, compressed=min(number for _, number in grown))
            report.target(f"a connection, {title}", each.median, MOST_KB, "KB")


def measure(flags: tuple[str, ...]) -> tuple[float, int]:
    """Return memory of a connection, KB, and how many connections are compressed."""
    talk = ("-m", SUBSCRIBE, "-m", PING, *flags)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(ours(path="/ws"))
        first = stack.enter_context(loaded(server, FIRST, *talk))
        first.run(1, rate=10)
        before = memory_mb(server.pid)
        more = stack.enter_context(loaded(server, MORE, *talk))
        made = more.run(1, rate=10)
        return (memory_mb(server.pid) - before) * 1000 / MORE, made["deflate_conns"]


if __name__ == "__main__":
    main()
