"""picows: `send` for each client. Arguments: WebSocket port, port of the lines."""

import asyncio
import sys

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server

clients: set[WSTransport] = set()


class Client(WSListener):
    """A client."""

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Add it."""
        clients.add(transport)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Drop it."""
        clients.discard(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Ignore what it sends, but not that it goes."""
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()


async def publish(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Send every line to everybody."""
    while line := await reader.readline():
        for transport in clients:
            transport.send(WSMsgType.TEXT, line[:-1])


async def main() -> None:
    """Serve."""
    await ws_create_server(lambda _request: Client(), "127.0.0.1", int(sys.argv[1]), backlog=4096)
    await asyncio.start_server(publish, "127.0.0.1", int(sys.argv[2]), limit=1 << 20)
    print("ready", flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
