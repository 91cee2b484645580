"""The load generator with its connections kept, for several measurements of one server in turns with others."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.bench.processes import wsload
from tests.bench.servers import Server

WARM_UP_SECONDS = 0.2


class Load:
    """Clients of one server, all connected.

    Attributes:
        opened: what there is to say about the opening: `open`, `failed`, `open_s`, `rss_per_conn_kb`.
    """

    def __init__(self, process: subprocess.Popen[str], clients: int) -> None:
        self._process = process
        self._clients = clients
        self.opened = self._read()
        if self.opened["open"] != clients:
            raise SystemExit(f"only {self.opened['open']} of {clients} clients could connect")

    def run(
        self, seconds: float, *, window: int = 1, burst: bool = False, rate: float = 0, warm_up: float = WARM_UP_SECONDS
    ) -> dict[str, Any]:
        """Measure once.

        Args:
            seconds: for how long.
            window: how many updates are on their way at once.
            burst: whether so many are published in one turn, and the next when everybody has all of them.
            rate: updates a second instead; 0: the next when everybody has the one before.
            warm_up: seconds that come first and are not measured.

        Returns:
            What wsload prints; deliveries that are missing or out of order are said aloud, too.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds} {warm_up} {window} {burst:d} {rate}\n")
        self._process.stdin.flush()
        report = self._read()
        if report["open"] != self._clients or report["disorder"]:
            left, disorder = report["open"], report["disorder"]
            print(f"  MISSED: {left} of {self._clients} clients are left, {disorder} updates out of order", flush=True)
        return report

    def cost(self, seconds: float, **how: Any) -> float:
        """Measure once; return processor time of the server a delivery, microseconds."""
        return float(self.run(seconds, **how)["server_cpu_s_per_M"])

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the load generator has ended")
        report: dict[str, Any] = json.loads(line)
        return report


@contextmanager
def loaded(server: Server, clients: int, *flags: str) -> Iterator[Load]:
    """Have clients connect to a server until the block ends."""
    arguments = (*server.arguments, "-n", str(clients), "-W", str(server.pid), "--control", *flags)
    process = wsload(*arguments, stdin=subprocess.PIPE)
    try:
        yield Load(process, clients)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(30)
