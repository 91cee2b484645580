"""The transport: asyncio's own, or a package that may not be installed."""

import asyncio
import sys

import pytest

from bridge.app.transport import loop_factory
from bridge.core.errors import StartError


def test_asyncio_is_as_it_comes():
    assert loop_factory("asyncio") is None


def test_aiofastnet_moves_the_bytes():
    with asyncio.Runner(loop_factory=loop_factory("aiofastnet")) as runner:
        assert runner.run(transport_module()).startswith("aiofastnet")


async def transport_module() -> str:
    """Return the module of what serves a connection."""
    accepted: asyncio.Future[asyncio.BaseTransport] = asyncio.get_running_loop().create_future()

    class Server(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            accepted.set_result(transport)

    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
    async with server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        name = type(await accepted).__module__
        writer.close()
        (await accepted).close()
    return name


def test_a_package_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "aiofastnet", None)
    with pytest.raises(StartError, match=r"^transport aiofastnet needs the package aiofastnet: pip install .*\[fast\]"):
        loop_factory("aiofastnet")
