"""Connections of a test, which are closed however it ends."""

from collections.abc import Iterator

import pytest

from tests.edges.rawclient import RawClient


class Clients:
    """Opens connections."""

    def __init__(self) -> None:
        self._all: list[RawClient] = []

    async def connect(self, port: int, path: str = "/ws", *, receive_buffer_bytes: int = 0) -> RawClient:
        """Open a WebSocket."""
        client = await RawClient.connect(port, path, receive_buffer_bytes=receive_buffer_bytes)
        self._all.append(client)
        return client

    async def dial(self, port: int) -> RawClient:
        """Open a TCP connection."""
        client = await RawClient.dial(port)
        self._all.append(client)
        return client

    def hang_up(self) -> None:
        """Close all of them."""
        for client in self._all:
            client.hang_up()


@pytest.fixture
def clients() -> Iterator[Clients]:
    opened = Clients()
    yield opened
    opened.hang_up()
