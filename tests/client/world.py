"""A hub with a sidecar before it that can go away and come back on the same port; clients that the oracle judges."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from bridge.client import Client, Connected, Event, Patience, Subscription, Updated
from bridge.edges.websocket import WebSocketEdge
from bridge.verify import oracle
from generated.theblock.state.v1 import account_pb2
from tests.edges.rig import Options, Rig, until, within

HASTY = Patience(first_retry_seconds=0.01, longest_retry_seconds=0.05, close_seconds=0.5)
"""For tests: the pauses between tries are short."""


class World(Rig):
    """A hub, and a sidecar that serves it while it is up.

    Attributes:
        edge: the WebSocket edge of the sidecar that is up.
        authorizations: the header of that name of every handshake, None where there was none.
    """

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.options = options
        self.runner: web.AppRunner | None = None
        self.authorizations: list[str | None] = []

    async def start(self) -> None:
        """Let a sidecar come up, on the port that the last one had."""
        self.edge = WebSocketEdge(
            self.hub,
            limits=self.options.limits,
            patience=self.options.patience,
            connection_limit=self.options.connection_limit,
        )
        app = web.Application()
        app.router.add_get("/ws", self.handle)
        self.runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = self.runner.addresses[0][1]
        self.checks = asyncio.create_task(self.edge.check_forever())

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.authorizations.append(request.headers.get("Authorization"))
        return await self.edge.handle(request)

    async def stop(self, drain_seconds: float | None = None) -> None:
        """Let it end: with a drain, or at once."""
        if self.runner is None:
            return
        runner, self.runner = self.runner, None
        for site in list(runner.sites):
            await site.stop()
        if drain_seconds is None:
            self.cut()
        else:
            await self.edge.drain(drain_seconds)
        await runner.cleanup()
        self.checks.cancel()
        await asyncio.wait([self.checks])

    def cut(self) -> list[asyncio.Future[None]]:
        """Drop every connection as a network would: what is not yet in the kernel is lost, in the middle of a frame.

        Returns:
            What is done when the sidecar has noticed.
        """
        wires = list(self.edge.wires)
        for wire in wires:
            wire.abort()
        return [wire.closed for wire in wires]

    @property
    def connected(self) -> bool:
        """Whether anybody is connected."""
        return any(not wire.closed.done() for wire in self.edge.wires)

    def account(self, address: str, balance: int) -> None:
        """Publish the state of an account."""
        message = account_pb2.AccountUpdate(address=address, balance=str(balance), nonce=1, height=balance)
        update = self.origin.publish(message)
        data = {"address": address, "balance": str(balance), "nonce": 1, "height": balance}
        position = {"stream": "account", "epoch": update.epoch, "seq": update.seq, "time": update.time_ms}
        self.oracle.published({"type": "account_update", "data": data, "key": address, "prev": update.prev} | position)


@asynccontextmanager
async def serving(options: Options | None = None) -> AsyncIterator[World]:
    """Serve, and prove at the end that nothing of any client is left and nothing was raised where nobody catches it."""
    raised: list[dict] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: raised.append(context))
    before = asyncio.all_tasks()
    world = World(options or Options())
    await world.start()
    try:
        yield world
    finally:
        await world.stop()
    assert world.holds_nothing()
    mine = {asyncio.current_task()}
    await until(lambda: asyncio.all_tasks() <= before | mine, "no task is left")
    assert raised == []


class Listener:
    """Takes what a client hears, and has the oracle judge it.

    Attributes:
        events: everything that was heard, in order.
    """

    def __init__(self, client: Client, judged: oracle.Client) -> None:
        self.client = client
        self.events: list[Event] = []
        self._judged = judged
        self._seen: set[tuple[str, str | None]] = set()

    async def take(self) -> Event:
        """Take what comes next."""
        event = await within(anext(self.client))
        self.events.append(event)
        if isinstance(event, Connected):
            for row in event.subscriptions:
                name = row.stream, row.key
                begins = row.recovered is not True
                assert name not in self._seen or row.recovered is not None, f"{name} began anew and lost its position"
                self._judged.subscribed(row.stream, key=row.key, epoch=row.epoch, seq=row.seq, restart=begins)
        elif isinstance(event, Updated):
            self._seen |= {(event.stream, None), (event.stream, event.key)}
            self._judged.received(event.to_json())
        return event

    async def take_until(self, condition: Callable[[Event], object]) -> Event:
        """Take what comes until one is as wanted; return that one."""
        while not condition(event := await self.take()):
            pass
        return event

    async def next(self, kind: type) -> Event:
        """Take what comes until one is of a kind; return that one."""
        return await self.take_until(lambda event: isinstance(event, kind))

    def updates(self, stream: str) -> list[Updated]:
        """Return the updates of a stream that came, snapshots left aside."""
        return [e for e in self.events if isinstance(e, Updated) and e.stream == stream and not e.snapshot]

    def of(self, kind: type) -> list[Event]:
        """Return what was heard of a kind."""
        return [event for event in self.events if isinstance(event, kind)]


@asynccontextmanager
async def listening(
    world: World, *subscriptions: Subscription | str, connected: bool = True, **options: object
) -> AsyncIterator[Listener]:
    """Have a client listen; by default, from its first Connected on."""
    asked = [Subscription(one) if isinstance(one, str) else one for one in subscriptions]
    judged = world.oracle.client("client", int64_string=bool(options.get("int64_string")))
    async with Client(world.url, asked, **{"patience": HASTY} | options) as client:
        listener = Listener(client, judged)
        if connected:
            await listener.next(Connected)
        yield listener
    judged.closed()


def plain(updated: Updated) -> dict:
    """Return what a JSON client gets as a frame."""
    return json.loads(updated.to_json())
