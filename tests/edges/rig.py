"""A small sidecar in this process: hub, origin, guard, WebSocket and HTTP edges on a free port."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import TypeVar

from aiohttp import web

from bridge.core.deflate import Deflate
from bridge.core.history import HistoryLimits
from bridge.core.hub import Hub, State
from bridge.core.limits import Limits
from bridge.core.origin import Origin
from bridge.core.streams import Catalogue
from bridge.core.update import Update
from bridge.edges.documents import DocumentsEdge
from bridge.edges.events import EventsEdge
from bridge.edges.guard import Guard
from bridge.edges.http import HttpEdge
from bridge.edges.patience import Patience
from bridge.edges.state import StateEdge
from bridge.edges.websocket import WebSocketEdge
from bridge.ops.metrics import Metrics, hub_rows
from bridge.verify.oracle import Oracle
from generated.theblock.state.v1 import block_pb2, metrics_pb2

T = TypeVar("T")

DEADLINE_SECONDS = 20.0
"""How long a test waits for what must come; nothing that goes right takes nearly as long."""

CHUNK = 200
"""Updates published in a row before the loop runs."""


@dataclass
class Options:
    """What a test wants otherwise than it is by default."""

    limits: Limits = field(default_factory=Limits)
    patience: Patience = field(default_factory=Patience)
    history: HistoryLimits = field(default_factory=HistoryLimits)
    guard: Guard = field(default_factory=Guard)
    connection_limit: int = 20_000
    accept_rate: float = 0.0
    deflate: Deflate | None = field(default_factory=Deflate)
    began: bool = True  # whether the first epoch is known
    describe: Callable[[], Mapping[str, object]] = dict
    clock_ms: Callable[[], int] = lambda: int(time.time() * 1000)


class Rig:
    """A sidecar that serves."""

    def __init__(self, options: Options) -> None:
        loop = asyncio.get_running_loop()
        self.hub = Hub(
            Catalogue(),
            clock_ms=options.clock_ms,
            schedule=lambda: loop.call_soon(self.hub.run),
            limits=options.history,
        )
        self.epochs = count(1)
        if options.began:
            self.begin()
        self.edge = WebSocketEdge(
            self.hub,
            limits=options.limits,
            patience=options.patience,
            connection_limit=options.connection_limit,
            accept_rate=options.accept_rate,
            deflate=options.deflate,
        )
        self.metrics = Metrics(hub_rows(self.hub))
        self.http = HttpEdge(self.hub, self.metrics, options.describe)
        self.app = web.Application(middlewares=[options.guard.middleware])
        state = StateEdge(self.hub, options.limits)
        documents = DocumentsEdge(self.hub.catalogue, poll_interval_ms=2000, ping_interval_seconds=25)
        self.events = EventsEdge(self.hub, self.edge, limits=options.limits, patience=options.patience)
        for edge in (self.http, state, documents, self.events):
            self.app.add_routes(edge.routes())
        self.app.add_routes([web.get("/ws", self.edge.handle)])
        self.port = 0
        self.oracle = Oracle()
        self.keep_up: list[Callable[[], int]] = []  # each returns the height that somebody has read

    def begin(self) -> None:
        """Be what a source is when it has reached the node."""
        self.origin = Origin(self.hub, new_epoch=lambda: f"epoch{next(self.epochs)}")
        self.hub.set_status(State.LIVE, "following the node")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def block(self, height: int, **members: object) -> None:
        """Publish a block."""
        update = self.origin.publish(block_pb2.BlockUpdate(height=height, hash=height.to_bytes(32, "big"), **members))
        self.log(update, "block_update", {"height": height, "hash": f"0x{height:064x}"} | members)

    async def blocks(self, number: int) -> None:
        """Publish blocks, each one higher than the last, no faster than who must keep up can read."""
        first = self.hub.histories["block_updates"].head
        for height in range(first + 1, first + number + 1):
            self.block(height)
            if height % CHUNK == 0:
                await asyncio.sleep(0)
                await until(lambda: all(height - read() < 5 * CHUNK for read in self.keep_up), "they keep up")  # noqa: B023

    def values(self, height: int) -> None:
        """Publish metrics."""
        update = self.origin.publish(metrics_pb2.MetricsUpdate(tps=1.5, block_height=height))
        unknown = dict.fromkeys(("fees", "latencyMs", "peers", "issuance"))
        self.log(update, "metrics_update", {"tps": 1.5, "blockHeight": height} | unknown)

    def tick(self, number: int, text: str = "") -> None:
        """Publish on a custom stream."""
        data = {"number": number, "text": text}
        self.log(self.origin.publish_custom("ticks", "tick", json.dumps(data).encode()), "tick", data)

    def log(self, update: Update, type_: str, data: Mapping[str, object]) -> None:
        """Have the oracle know what was published."""
        position = {"stream": update.stream.name, "epoch": update.epoch, "seq": update.seq, "time": update.time_ms}
        self.oracle.published({"type": type_, "data": data} | position)

    def holds_nothing(self) -> bool:
        """Whether no trace of any client is left."""
        return (
            not self.edge.wires
            and not self.hub.readers
            and all(history.cursors == 0 for history in self.hub.histories.values())
        )


@asynccontextmanager
async def serving(options: Options | None = None) -> AsyncIterator[Rig]:
    """Serve, and prove at the end that nothing of any client is left and nothing was raised where nobody catches it."""
    raised: list[dict] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: raised.append(context))
    rig = Rig(options or Options())
    runner = web.AppRunner(rig.app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    rig.port = runner.addresses[0][1]
    checks = asyncio.create_task(rig.edge.check_forever())
    try:
        yield rig
    finally:
        await rig.edge.drain(0)
        await runner.cleanup()
        checks.cancel()
        with suppress(asyncio.CancelledError):
            await checks
    assert rig.holds_nothing()
    assert raised == []


async def within(awaitable: Awaitable[T], seconds: float = DEADLINE_SECONDS) -> T:
    """Wait for something that must come."""
    async with asyncio.timeout(seconds):
        return await awaitable


async def until(condition: Callable[[], object], what: str) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"it never came to this: {what}"
        await asyncio.sleep(0.005)
