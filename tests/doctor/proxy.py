"""What may stand between: servers on a free port that are no part of the bridge, and proxies that spoil something."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

Change = Callable[[bytes], bytes]
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

HANG = b"-"
"""An answer that never comes."""

HEAD_END = b"\r\n\r\n"


def unchanged(head: bytes) -> bytes:
    return head


def without(*names: str) -> Change:
    """Return what takes headers out of the head of a message."""

    def change(head: bytes) -> bytes:
        lines = head.split(b"\r\n")
        return b"\r\n".join(line for line in lines if line.partition(b":")[0].decode().lower() not in names)

    return change


def response(status: str, body: bytes = b"", *headers: str) -> bytes:
    """Return an answer of HTTP, after which the connection is closed."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + HEAD_END + body


@dataclass
class Proxy:
    """A proxy before a server on this machine; what it does to a connection is decided by its first request.

    Attributes:
        target: port of the server.
        answer: returns what it answers itself to the head of a request, HANG, or None: the request is passed on.
        request: changes the head of a request that is passed on.
        response: changes the head of the response to it.
        hold: whether frames of WebSockets are held back.
        idle_seconds: quiet from the server after which a connection is cut.
    """

    target: int
    answer: Callable[[bytes], bytes | None] = lambda _head: None
    request: Change = unchanged
    response: Change = unchanged
    hold: bool = False
    idle_seconds: float | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        head = await reader.readuntil(HEAD_END)
        own = self.answer(head)
        if own == HANG:
            await reader.read()
        elif own is not None:
            writer.write(own)
            await writer.drain()
        else:
            await self._pass_on(head, reader, writer)

    async def _pass_on(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.target)
        up = asyncio.create_task(pump(reader, server_writer, None))
        try:
            server_writer.write(self.request(head))
            writer.write(self.response(await server_reader.readuntil(HEAD_END)))
            if self.hold and b"\r\nUpgrade:" in head:
                await server_reader.read()
            else:
                await pump(server_reader, writer, self.idle_seconds)
        finally:
            up.cancel()
            server_writer.close()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, idle_seconds: float | None) -> None:
    """Pass bytes on until there are no more, or none for too long."""
    while True:
        try:
            async with asyncio.timeout(idle_seconds):
                data = await reader.read(65536)
        except TimeoutError:
            return
        if not data:
            return
        writer.write(data)
        await writer.drain()


@asynccontextmanager
async def listening(handle: Handler) -> AsyncIterator[int]:
    """Serve TCP; yield the port. Connections are closed when their handler ends, at the latest with the block."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await handle(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


@asynccontextmanager
async def web_server(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[int]:
    """Serve HTTP, every path by one handler; yield the port."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Say nothing, on a connection that stays open."""
    await reader.read()


async def chatty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Speak neither HTTP nor gRPC, as a mail server does."""
    writer.write(b"220 mail.example.org ESMTP\r\n")
    await writer.drain()
    await reader.read()


async def curt(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Hang up."""
