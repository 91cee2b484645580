"""Clients that are there and do nothing: processes that are stopped, sockets that nobody reads.

They are dropped at their deadline, and delay no end.
"""

import asyncio
import signal
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.edges.rig import until
from tests.system.conftest import Clients
from tests.system.processes import ANY, Running, bridge, started

BUSY = ("--source", "simulated", "--blocks-per-second", "500", "--data-dir", "off")
QUIET = ("--source", "none", "--data-dir", "off")
HASTY = ("--ping-interval-seconds", "0.5", "--pong-timeout-seconds", "0.5", "--stall-timeout-seconds", "1")
SMALL = ("--send-buffer-bytes", "8192", "--write-buffer-bytes", "8192")
DRAIN_SECONDS = 2


def up(*arguments: str):
    return bridge(
        "up", *arguments, *SMALL, "--listen", ANY, "--grpc-listen", "off", "--drain-seconds", str(DRAIN_SECONDS)
    )


def metric(running: Running, name: str) -> float:
    with urllib.request.urlopen(f"{running.http}/metrics", timeout=5) as response:
        for line in response.read().decode().splitlines():
            if line.startswith(f"theblock_bridge_{name} "):
                return float(line.split()[1])
    raise AssertionError(name)


async def connections(running: Running, count: int) -> None:
    """Wait until so many WebSocket connections are open."""
    async with asyncio.timeout(20):
        while await asyncio.to_thread(metric, running, "connections") != count:
            await asyncio.sleep(0.02)


@contextmanager
def stopped_client(running: Running, format_: str, *streams: str) -> Iterator[Running]:
    """Run a client until it is connected, and stop its process; the kernel goes on acknowledging what it gets."""
    with started("watch", running.http, *streams, "--json", "--format", format_) as client:
        try:
            yield client
        finally:
            client.process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("source", [BUSY, QUIET], ids=["busy", "quiet"])
@pytest.mark.parametrize("format_", ["json", "proto"])
async def test_a_client_whose_process_is_stopped_is_dropped(source, format_):
    """Busy: its socket fills, and takes nothing for a second. Quiet: it answers no ping."""
    with up(*source, *HASTY) as running, stopped_client(running, format_, "block_updates", "account") as client:
        await connections(running, 1)
        client.process.send_signal(signal.SIGSTOP)
        await connections(running, 0)
        assert await asyncio.to_thread(metric, running, "readers") == 0
        client.process.send_signal(signal.SIGCONT)
        await connections(running, 1)  # it comes back by itself


async def test_a_client_that_never_reads_is_dropped(clients: Clients):
    with up(*BUSY, *HASTY) as running:
        await clients.connect(running.port, "/ws?subscribe=block_updates,account,trading", receive_buffer_bytes=4096)
        await connections(running, 1)
        await connections(running, 0)
        assert await asyncio.to_thread(metric, running, "readers") == 0


@pytest.mark.parametrize("format_", ["json", "proto"])
async def test_nobody_who_is_stalled_delays_the_end(clients: Clients, format_):
    with up(*BUSY) as running, stopped_client(running, format_, "block_updates", "account") as client:
        await connections(running, 1)
        client.process.send_signal(signal.SIGSTOP)
        for _ in range(3):
            await clients.connect(running.port, "/ws?subscribe=block_updates,account", receive_buffer_bytes=4096)
        half_open = await clients.dial(running.port)
        await half_open.send(b"GET /ws HTTP/1.1\r\nHost: localhost\r\n")
        async with asyncio.timeout(60):
            while await asyncio.to_thread(metric, running, "readers_catching_up") < 4:
                await asyncio.sleep(0.02)
        began = time.monotonic()
        assert await running.ended(signal.SIGTERM, DRAIN_SECONDS + 10) == 0
        assert DRAIN_SECONDS <= time.monotonic() - began < DRAIN_SECONDS + 5  # it is 1 on a machine with time to spare
        await until(lambda: running.process.poll() == 0, "it has ended")
