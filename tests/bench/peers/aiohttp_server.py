"""aiohttp: `send_str` for each client, one after the other. Arguments: WebSocket port, port of the lines."""

import asyncio
import sys
from contextlib import suppress

from aiohttp import web

clients: set[web.WebSocketResponse] = set()


async def connect(request: web.Request) -> web.WebSocketResponse:
    """Serve a client."""
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    clients.add(socket)
    try:
        async for _ in socket:
            pass
    finally:
        clients.discard(socket)
    return socket


async def publish(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Send every line to everybody."""
    while line := await reader.readline():
        text = line[:-1].decode()
        for socket in list(clients):
            with suppress(ConnectionError):
                await socket.send_str(text)


async def main() -> None:
    """Serve."""
    application = web.Application()
    application.add_routes([web.get("/", connect)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(sys.argv[1]), backlog=4096).start()
    await asyncio.start_server(publish, "127.0.0.1", int(sys.argv[2]), limit=1 << 20)
    print("ready", flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
