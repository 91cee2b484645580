"""A sidecar that can go away, and the browser client in Node.js before it, judged by the oracle."""

import asyncio
import json
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from bridge.edges.documents import DocumentsEdge
from bridge.edges.events import EventsEdge
from bridge.edges.guard import Handler
from bridge.edges.http import HttpEdge
from bridge.edges.state import StateEdge
from bridge.edges.websocket import WebSocketEdge
from bridge.ops.metrics import Metrics
from bridge.verify import oracle
from tests.client.world import World
from tests.edges.rig import Options, until, within
from tests.web.node import NODE, TESTS

HASTY: dict[str, Any] = {"reconnectDelay": 20, "reconnectCap": 50, "fallbackDelay": 100, "pollInterval": 30}
"""Options of a client in a test: the pauses are short."""

LINE_BYTES = 1 << 20


class Site(World):
    """A sidecar as a page finds it.

    Attributes:
        websockets_pass: whether WebSockets come through; a proxy may hold them up.
        events_pass: whether Server-Sent Events do.
    """

    websockets_pass = True
    events_pass = False

    async def start(self) -> None:
        """Let a sidecar come up, on the port that the last one had."""
        self.edge = WebSocketEdge(
            self.hub,
            limits=self.options.limits,
            patience=self.options.patience,
            connection_limit=self.options.connection_limit,
            deflate=self.options.deflate,
        )
        app = web.Application(middlewares=[self.options.guard.middleware])
        events = EventsEdge(self.hub, self.edge, limits=self.options.limits, patience=self.options.patience)
        for edge in (
            HttpEdge(self.hub, Metrics([]), dict),
            StateEdge(self.hub, self.options.limits),
            DocumentsEdge(self.hub.catalogue, poll_interval_ms=2000, ping_interval_seconds=25),
        ):
            app.add_routes(edge.routes())
        app.router.add_get("/ws", self.handle)
        app.router.add_get("/events", self.held_up(events.handle))
        self.runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = self.runner.addresses[0][1]
        self.checks = asyncio.create_task(self.edge.check_forever())

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if not self.websockets_pass:
            return web.Response(status=502)
        return await super().handle(request)

    def held_up(self, handler: Handler) -> Handler:
        """Return a handler of events that does not answer while they do not come through."""

        async def handle(request: web.Request) -> web.StreamResponse:
            return await handler(request) if self.events_pass else web.Response(status=502)

        return handle


@asynccontextmanager
async def serving(options: Options | None = None) -> AsyncIterator[Site]:
    """Serve."""
    site = Site(options or Options())
    await site.start()
    try:
        yield site
    finally:
        await site.stop()
    assert site.holds_nothing()


class Browser:
    """The client, running.

    Attributes:
        lines: everything that it has printed: kind, transport, body.
    """

    def __init__(self, process: Process, judged: oracle.Client) -> None:
        self._process = process
        self._judged = judged
        self._begun: set[tuple[str, str | None]] = set()
        self._known: set[tuple[str, str | None]] = set()
        self._newest: dict[str, int] = {}
        self.lines: list[dict[str, Any]] = []

    async def take(self) -> dict[str, Any]:
        """Take the next line, and let the oracle know."""
        assert self._process.stdout is not None
        text = await within(self._process.stdout.readline())
        assert text, await self._complaint()
        line: dict[str, Any] = json.loads(text)
        self.lines.append(line)
        body = line["body"]
        if line["kind"] == "subscribed":
            name = body["stream"], body.get("key")
            begins = body.get("recovered") is not True
            assert name not in self._known or "recovered" in body, f"{name} began anew and lost its position"
            place = {"key": body.get("key"), "epoch": body["epoch"], "seq": body["seq"]}
            self._judged.subscribed(body["stream"], **place, restart=begins)
            self._begun.add(name)
        elif line["kind"] == "update":
            name = body["stream"], body.get("key")
            if not self._begun & {name, (body["stream"], None)}:
                # What is shown first is not acknowledged: it says itself where it begins.
                self._judged.subscribed(body["stream"], epoch=body["epoch"], seq=body["seq"])
                self._begun.add((body["stream"], None))
            self._known |= {name, (body["stream"], None)}
            self._newest[body["stream"]] = body["seq"]
            self._judged.received(json.dumps(body))
        return line

    async def take_until(self, condition: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Take lines until one is as wanted; return that one."""
        while not condition(line := await self.take()):
            pass
        return line

    async def over(self, transport: str) -> None:
        """Take lines until the client is fed in a certain way."""
        await self.take_until(lambda line: line["transport"] == transport)

    async def subscribed(self, count: int) -> None:
        """Take lines until so many subscriptions were acknowledged since the beginning."""
        while len(self.of("subscribed")) < count:
            await self.take()

    async def caught_up(self, streams: Iterable[str], seq: int) -> None:
        """Take lines until the newest update of each of these streams has come."""
        while any(self._newest.get(stream) != seq for stream in streams):
            await self.take()

    def of(self, kind: str) -> list[Any]:
        """Return what was printed of a kind."""
        return [line["body"] for line in self.lines if line["kind"] == kind]

    def seqs(self, stream: str) -> list[int]:
        """Return the seqs of the updates of a stream, snapshots left aside."""
        return [one["seq"] for one in self.of("update") if one["stream"] == stream and "snapshot" not in one]

    async def run(self, script: str) -> Any:
        """Run JavaScript with the client at hand as `ws`; return what comes of it."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{script}\n".encode())
        return (await self.take_until(lambda line: line["kind"] == "answer"))["body"]

    async def end(self) -> dict[str, Any]:
        """Unmount it; return its metrics."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        metrics: dict[str, Any] = (await self.take_until(lambda line: line["kind"] == "metrics"))["body"]
        assert await within(self._process.wait()) == 0
        assert await self._complaint() == ""
        return metrics

    async def _complaint(self) -> str:
        assert self._process.stderr is not None
        return (await within(self._process.stderr.read())).decode()


@asynccontextmanager
async def browsing(site: Site, *streams: object, **options: object) -> AsyncIterator[Browser]:
    """Have the client run."""
    all_options = json.dumps({"streams": streams, **HASTY, **options})
    command = (str(NODE), str(TESTS / "live.js"), f"ws://127.0.0.1:{site.port}/ws", all_options)
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=PIPE, limit=LINE_BYTES)
    judged = site.oracle.client("browser", int64_string=options.get("int64") == "string")
    try:
        yield Browser(process, judged)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await until(lambda: not site.connected, "the sidecar has noticed")
    judged.closed()
