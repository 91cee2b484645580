"""Thousands of clients that come back at once: processor time until each is subscribed and painted.

Paired with a bare aiohttp server that upgrades as many and sends each one prepared frame. Clients that were there
before get updates meanwhile: how long these take is measured, too.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any, Final, NamedTuple

from aiohttp import web

from bridge.core.frames import text_frame
from tests.bench.processes import Bridge, Probe, bridge, build, probed, result, verdict, wsload
from tests.bench.servers import free_port, running

CLIENTS: Final = int(os.environ.get("CLIENTS", "5000"))
ROUNDS: Final = int(os.environ.get("ROUNDS", "3"))
WANTED_RATIO: Final = 1.5
WANTED_P99_MS: Final = 100
RATE: Final = 5
"""Updates a second meanwhile; those who have come get them, too."""

STREAM: Final = "bench"
FRAME: Final = text_frame(
    b'{"type":"bench_update","stream":"bench","epoch":"lq3x8f2a","seq":42,"time":1707770400123,"snapshot":true,'
    b'"data":{"height":12345,"hash":"%064x","pad":"%0100x"}}' % (1, 2)
)
"""What the bare server sends: as much as a snapshot of ours."""

SUBSCRIBE: Final = f'{{"jsonrpc":"2.0","id":1,"method":"state_stream.subscribe","params":["{STREAM}"]}}'


class Way(NamedTuple):
    """How clients come.

    Attributes:
        title: in words.
        target: of the request.
        more: subprotocol, and what they send.
    """

    title: str
    target: str
    more: tuple[str, ...] = ()


BARE: Final = Way("bare aiohttp", "/")
WAYS: Final = (
    Way("classic, subscribed by the URL", f"/ws?subscribe={STREAM}"),
    Way("v1, subscribed by a message", "/ws", ("theblock.v1.json", SUBSCRIBE)),
)


def main() -> None:
    """Measure and print."""
    with bare() as floor, service() as (state, sidecar), feeding(state) as lines:
        publish_once(lines)
        floors: list[dict[str, Any]] = []
        costs: dict[Way, list[dict[str, Any]]] = {way: [] for way in WAYS}
        for _ in range(ROUNDS):
            floors.append(storm(*floor, BARE))
            for way, reports in costs.items():
                reports.append(storm(sidecar.port, sidecar.pid, way))
        print(f"{CLIENTS} clients at once; bare aiohttp: {show(floors)}")
        for way, reports in costs.items():
            pairs = list(zip(reports, floors, strict=True))
            cpu, wall = (median(mine[name] / its[name] for mine, its in pairs) for name in ("server_cpu_s", "seconds"))
            verdict(cpu <= WANTED_RATIO,
                    f"{way.title}: {show(reports)}; {cpu:.2f} of the processor time (at most {WANTED_RATIO}) and "
                    f"{wall:.2f} of the time")  # fmt: skip
        arguments = ("sidecar", "--upstream", state.addresses["grpc"], "--listen", "127.0.0.1:0")
        for way in WAYS:
            with probed(*arguments) as (watched, probe):
                meanwhile(watched, probe, lines, way)


def show(reports: list[dict[str, Any]]) -> str:
    """Return the medians of what storms cost."""
    cpu, took = (median(report[name] for report in reports) for name in ("server_cpu_s", "seconds"))
    return f"{cpu / CLIENTS * 1e6:.0f} us of processor time a client, all painted in {took:.2f} s"


def start(port: str, pid: int, way: Way) -> subprocess.Popen[str]:
    """Have clients come at once."""
    command = [build("storm"), port, way.target, str(CLIENTS), str(pid), "bench_update", *way.more]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def storm(port: str, pid: int, way: Way) -> dict[str, Any]:
    """Have clients come at once, and return what it took."""
    return result(start(port, pid, way))


def meanwhile(sidecar: Bridge, probe: Probe, lines: str, way: Way) -> None:
    """Print within how many milliseconds clients that were there before get updates during a storm: 99 of 100."""
    load = wsload(
        "-p", sidecar.port, "-P", f"/ws?subscribe={STREAM}", "-n", "100", "-t", lines, "-r", str(RATE), "-w", "1",
        "-d", "4",
    )  # fmt: skip
    try:
        time.sleep(2)
        probe.read()
        comers = start(sidecar.port, sidecar.pid, way)
        assert comers.stdout is not None
        comers.stdout.readline()
        slices = probe.read()
        comers.communicate()
    finally:
        report = result(load)
    p50_ms, p99_ms = (report["lat_us"][name] / 1000 for name in ("p50", "p99"))
    verdict(p99_ms < WANTED_P99_MS,
            f"{way.title}: those who were there before get updates within {p50_ms:.0f} ms (p50), {p99_ms:.0f} ms "
            f"(p99); longest slice of the loop: {slices}")  # fmt: skip


@contextmanager
def bare() -> Iterator[tuple[str, int]]:
    """Run the bare server; yield its port and its process."""
    port = free_port()
    with running([sys.executable, "-m", "tests.bench.storm", port]) as process:
        yield port, process.pid


@contextmanager
def service() -> Iterator[tuple[Bridge, Bridge]]:
    """Run a state service and a sidecar."""
    with (
        bridge("state", "--source", "none", "--ingest", "--grpc-listen", "127.0.0.1:0", "--data-dir", "off") as state,
        bridge("sidecar", "--upstream", state.addresses["grpc"], "--listen", "127.0.0.1:0") as sidecar,
    ):
        yield state, sidecar


@contextmanager
def feeding(state: Bridge) -> Iterator[str]:
    """Run what takes lines and publishes them; yield its port."""
    lines = free_port()
    with running([sys.executable, "-m", "tests.bench.feeder", lines, state.addresses["grpc"], STREAM]):
        yield lines


def publish_once(lines: str) -> None:
    """Publish a value, so that the stream has one to paint."""

    async def publish() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", int(lines))
        writer.write(b'{"height":12345,"hash":"%064x","pad":"%0100x"}\n' % (1, 2))
        await writer.drain()
        await asyncio.sleep(1)
        writer.close()

    asyncio.run(publish())


async def serve(port: int) -> None:
    """Upgrade, send a prepared frame, and wait for the client to go."""

    async def connect(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        assert request.transport is not None
        request.transport.write(FRAME)
        async for _ in socket:
            pass
        return socket

    application = web.Application()
    application.add_routes([web.get("/", connect)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
