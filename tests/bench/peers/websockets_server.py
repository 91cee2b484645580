"""websockets: its own `broadcast`. Arguments: WebSocket port, port of the lines."""

import asyncio
import sys

from websockets.asyncio.server import ServerConnection, broadcast, serve

clients: set[ServerConnection] = set()


async def connect(socket: ServerConnection) -> None:
    """Serve a client."""
    clients.add(socket)
    try:
        await socket.wait_closed()
    finally:
        clients.discard(socket)


async def publish(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Send every line to everybody."""
    while line := await reader.readline():
        broadcast(clients, line[:-1].decode())


async def main() -> None:
    """Serve."""
    async with serve(connect, "127.0.0.1", int(sys.argv[1]), compression=None, backlog=4096, ping_interval=None):
        await asyncio.start_server(publish, "127.0.0.1", int(sys.argv[2]), limit=1 << 20)
        print("ready", flush=True)
        await asyncio.Event().wait()


asyncio.run(main())
