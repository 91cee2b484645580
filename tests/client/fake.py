"""A server that does as it is told, also what no sidecar of ours does."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from bridge.core.codes import Close
from tests.edges.rig import within

WELCOME = {
    "type": "welcome", "session": "s", "server": "fake", "version": "1", "format": "json",
    "ping_interval_ms": 25000, "max_message_bytes": 65536, "streams": ["block_updates"],
}  # fmt: skip


class Peer:
    """One connection, from the server's side."""

    def __init__(self, request: web.Request, socket: web.WebSocketResponse) -> None:
        self.request = request
        self.socket = socket

    async def send(self, **members: object) -> None:
        await self.socket.send_str(json.dumps(members))

    async def receive(self) -> dict:
        """Return the next request."""
        message = await within(self.socket.receive())
        assert message.type is aiohttp.WSMsgType.TEXT, message
        return json.loads(message.data)

    async def answer(self, request: dict, **members: object) -> None:
        await self.send(jsonrpc="2.0", id=request["id"], **members)

    async def begin(self, *, epoch: str = "e", seq: int = 0, **row: object) -> list[dict]:
        """Say welcome, and acknowledge what is asked for; return that."""
        await self.send(**WELCOME)
        request = await self.receive()
        assert request["method"] == "state_stream.subscribe"
        rows = [
            {name: asked[name] for name in ("stream", "key") if name in asked}
            | {"declared": True, "epoch": epoch, "seq": seq}
            | row
            for asked in request["params"]
        ]
        await self.answer(request, result={"subscriptions": rows})
        return request["params"]

    async def settle(self) -> None:
        """Answer the ping behind the request."""
        ping = await self.receive()
        assert ping["type"] == "ping"
        await self.send(type="pong", timestamp=ping["timestamp"], server_time=1)

    async def update(self, seq: int, *, epoch: str = "e", stream: str = "block_updates", **members: object) -> None:
        await self.send(type="t", stream=stream, epoch=epoch, seq=seq, time=1, data={"n": seq}, **members)

    async def close(self, close: Close | int, reason: str = "") -> None:
        code = close if isinstance(close, int) else close.code
        await self.socket.close(code=code, message=reason.encode())

    def abort(self) -> None:
        """Drop the connection."""
        transport = self.request.transport
        assert transport is not None
        transport.abort()

    async def stay(self) -> None:
        """Stay until the client leaves."""
        async for _ in self.socket:
            pass


Script = Callable[[Peer], Awaitable[object]]


@asynccontextmanager
async def fake(*scripts: Script, protocol: str | None = "theblock.v1.json") -> AsyncIterator[str]:
    """Serve each connection with the next script, the last one again and again; yield the URL."""
    waiting = list(scripts)

    async def handle(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=[protocol] if protocol else (), max_msg_size=0)
        await socket.prepare(request)
        await (waiting.pop(0) if len(waiting) > 1 else waiting[0])(Peer(request, socket))
        return socket

    async with answering(handle) as url:
        yield url


@asynccontextmanager
async def answering(handle: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """Serve GET /ws; yield the URL."""
    app = web.Application()
    app.router.add_get("/ws", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
