"""FastAPI on uvicorn: `send_text` for each client. Arguments: WebSocket port, port of the lines."""

import asyncio
import sys
from contextlib import suppress

import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

application = FastAPI()
clients: set[WebSocket] = set()


@application.websocket("/")
async def connect(socket: WebSocket) -> None:
    """Serve a client."""
    await socket.accept()
    clients.add(socket)
    try:
        while True:
            await socket.receive_text()
    except WebSocketDisconnect:
        pass
    finally:
        clients.discard(socket)


async def publish(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Send every line to everybody."""
    while line := await reader.readline():
        text = line[:-1].decode()
        for socket in list(clients):
            with suppress(WebSocketDisconnect):
                await socket.send_text(text)


async def main() -> None:
    """Serve."""
    await asyncio.start_server(publish, "127.0.0.1", int(sys.argv[2]), limit=1 << 20)
    config = uvicorn.Config(
        application, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", backlog=4096, loop="asyncio",
        ws_per_message_deflate=False, ws_ping_interval=None,
    )  # fmt: skip
    print("ready", flush=True)
    await uvicorn.Server(config).serve()


asyncio.run(main())
