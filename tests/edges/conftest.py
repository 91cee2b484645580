"""What tests of the WebSocket and HTTP edges share."""

from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest

from tests.edges.listener import Listener
from tests.edges.rawclient import RawClient
from tests.edges.rig import Options, Rig, serving
from tests.edges.witness import Witness


@pytest.fixture
def options() -> Options:
    """Return what the rig is made with; a test module has its own where it wants something else."""
    return Options()


@pytest.fixture
async def rig(options: Options, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Rig]:
    """Serve; no handler may raise what it should not, which aiohttp only logs."""
    async with serving(options) as rig:
        yield rig
    assert [record.getMessage() for record in caplog.records if "nhandled" in record.getMessage()] == []


@pytest.fixture
async def connect(rig: Rig) -> AsyncIterator[Callable[..., Awaitable[RawClient]]]:
    """Return a function that opens a WebSocket and closes it at the end; the oracle judges those with a name."""
    clients = []

    async def open_one(*args: object, name: str = "", **options: object) -> RawClient:
        clients.append(await RawClient.connect(rig.port, *args, **options))
        clients[-1].judged = rig.oracle.client(name) if name else None
        return clients[-1]

    yield open_one
    for client in clients:
        client.hang_up()


@pytest.fixture
async def dial(rig: Rig) -> AsyncIterator[Callable[..., Awaitable[RawClient]]]:
    """Return a function that opens a TCP connection and closes it at the end."""
    clients = []

    async def open_one(**options: object) -> RawClient:
        clients.append(await RawClient.dial(rig.port, **options))
        return clients[-1]

    yield open_one
    for client in clients:
        client.hang_up()


@pytest.fixture
async def listener(rig: Rig) -> AsyncIterator[Callable[..., Listener]]:
    """Return a function that makes a client of Server-Sent Events; the oracle judges those with a name."""
    listeners: list[Listener] = []

    def make(*streams: str, name: str = "", **options: object) -> Listener:
        judged = rig.oracle.client(name, announced=True) if name else None
        listeners.append(Listener(rig.port, streams, judged=judged, **options))
        return listeners[-1]

    yield make
    for one in listeners:
        one.hang_up()


@pytest.fixture
async def http(rig: Rig) -> AsyncIterator[aiohttp.ClientSession]:
    """Return what sends HTTP requests."""
    async with aiohttp.ClientSession(rig.url) as session:
        yield session


@pytest.fixture
async def witness(rig: Rig) -> AsyncIterator[Witness]:
    """Have another client read every block all the while, and judge at the end what it got."""
    witness = Witness(rig)
    await witness.begin()
    yield witness
    try:
        await witness.judge()
    finally:
        witness.end()
