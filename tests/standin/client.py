"""A bare client of a stand-in, for tests of the stand-in and of what other clients must put up with."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from .chain import Chain
from .node import StandinNode

DEADLINE_SECONDS = 5
MAX_MESSAGE_BYTES = 64 * 1024 * 1024


def post(body: str, extra: str = "", host: str = "localhost") -> bytes:
    """Return a ``POST /`` of ``body``; ``extra`` are further header lines, each with its line end."""
    data = body.encode()
    return f"POST / HTTP/1.1\r\nHost: {host}\r\n{extra}Content-Length: {len(data)}\r\n\r\n".encode() + data


def upgrade(path: str = "/state_stream", host: str = "localhost", version: int = 13) -> bytes:
    """Return a WebSocket handshake, with the key that ``ws.state_stream`` was recorded with."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: O8wsQZQr6qzeyUeXFl3Jgg==\r\nSec-WebSocket-Version: {version}\r\n\r\n"
    ).encode()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for ``condition``.

    Raises:
        TimeoutError: it did not come about within five seconds.
    """
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():
            await asyncio.sleep(0.001)


class Client:
    """A TCP connection to a stand-in. Every read has a deadline of five seconds (``TimeoutError``)."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: str | bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data.encode() if isinstance(data, str) else data)
        await self.writer.drain()

    async def response(self) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of the next answer."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.split(": ", 1) for line in head[1:-2])
            return int(head[0].split()[1]), headers, await self.reader.readexactly(int(headers["content-length"]))

    async def call(self, method: str, params: Any = None, token: str | None = None) -> Any:
        """Call a JSON-RPC method with id 1 and return the whole envelope."""
        extra = f"Authorization: Bearer {token}\r\n" if token else ""
        await self.send(post(json.dumps({"method": method, "params": params or {}, "id": 1}), extra))
        return json.loads((await self.response())[2])

    async def rest(self) -> bytes:
        """Return everything until the node ends the connection."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self.reader.read()

    async def message(self) -> Any:
        """Return the JSON of the next WebSocket frame.

        Raises:
            ValueError: it is anything but an unmasked, unfragmented text frame.
        """
        async with asyncio.timeout(DEADLINE_SECONDS):
            opcode, length = await self.reader.readexactly(2)
            if length in (126, 127):
                length = int.from_bytes(await self.reader.readexactly(2 if length == 126 else 8))
            payload = await self.reader.readexactly(length)
        if opcode != 0x81:
            raise ValueError(f"a frame that begins with {opcode:#x}")
        return json.loads(payload)


@contextlib.asynccontextmanager
async def connected(node: StandinNode, source: str = "127.0.0.1") -> AsyncIterator[Client]:
    """Connect to ``node`` from the address ``source``: any of 127.0.0.0/8 has a limiter of its own."""
    local = (source, 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port, local_addr=local, limit=MAX_MESSAGE_BYTES)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


@contextlib.asynccontextmanager
async def streaming(node: StandinNode) -> AsyncIterator[Client]:
    """Open ``/state_stream`` on ``node``."""
    async with connected(node) as client:
        await client.send(upgrade())
        status, _, _ = await client.response()
        if status != 101:
            raise ConnectionError(f"the handshake was answered with {status}")
        yield client


@contextlib.asynccontextmanager
async def served(chain: Chain | None = None, **options: Any) -> AsyncIterator[tuple[StandinNode, Client]]:
    """Run a stand-in with ``options`` and connect to it."""
    async with StandinNode(chain, **options) as node, connected(node) as client:
        yield node, client


async def ask(node: StandinNode, data: str | bytes, source: str = "127.0.0.1") -> tuple[int, dict[str, str], bytes]:
    """Send one request on a connection of its own and return status, headers and body; status 0: no answer."""
    async with connected(node, source) as client:
        await client.send(data)
        try:
            return await client.response()
        except asyncio.IncompleteReadError as ended:
            return 0, {}, ended.partial
