"""What tests of the doctor share: parts of a bridge that run in this process, and one check of the report."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

from bridge.app.process import Process
from bridge.doctor import Found, Targets, examine
from bridge.settings import Address, NodeSettings, SidecarSettings, StateSettings

ANY = Address("127.0.0.1", 0)
SHORT_SECONDS = 0.4
"""How long an answer is waited for that is not going to come."""


async def look(name: str, **targets: Any) -> Found:
    """Return what a check finds in the report on `targets`."""
    async with aclosing(examine(Targets(**targets))) as report:
        async for check, found in report:
            if check.name == name:
                return found
    raise AssertionError(f"there is no check {name}")


async def report_on(**targets: Any) -> dict[str, Found]:
    """Return what every check finds, by its name."""
    return {check.name: found async for check, found in examine(Targets(**targets))}


def free_port() -> int:
    """Return a port at which nothing listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def at(port: int) -> str:
    """Return the URL of a port of this machine."""
    return f"http://127.0.0.1:{port}"


def node_at(port: int, **settings: Any) -> NodeSettings:
    """Return the settings of a node on this machine."""
    return NodeSettings(node_url=at(port), **settings)


@asynccontextmanager
async def running(state: StateSettings | None, **settings: Any) -> AsyncIterator[tuple[int, Process]]:
    """Run a sidecar within this process, with a source of its own or a state service's; yield its port too."""
    process = Process(state, SidecarSettings(**{"listen": ANY, "drain_seconds": 0, **settings}))
    try:
        addresses = await process.start()
        yield int(addresses["http"].rpartition(":")[2]), process
    finally:
        await process.stop()


@asynccontextmanager
async def sidecar(source: str = "none", **settings: Any) -> AsyncIterator[int]:
    """Run a sidecar with a source of its own; yield its port."""
    state = StateSettings(source=source, grpc_listen=None, blocks_per_second=20)
    async with running(state, **settings) as (port, _):
        yield port


async def hold_open(port: int) -> asyncio.StreamWriter:
    """Open a WebSocket on a sidecar and keep it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    key = "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg=="
    lines = ("GET /ws HTTP/1.1", "Host: localhost", "Connection: Upgrade", "Upgrade: websocket", key)
    writer.write("\r\n".join((*lines, "Sec-WebSocket-Version: 13", "", "")).encode())
    assert b" 101 " in await reader.readline()
    return writer
