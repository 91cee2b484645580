"""A process: its parts, how they start and in which order they end."""

import asyncio
import logging
import os
from collections.abc import Coroutine, Iterator
from typing import Final

from aiohttp import hdrs, web

from bridge.app.listening import Listener
from bridge.app.parts import (
    Source,
    clock_ms,
    make_deflate,
    make_hub,
    make_node_calls,
    make_patience,
    make_relayed_calls,
    make_services,
    make_source,
    make_upstream,
    new_epoch,
    open_journal,
)
from bridge.app.rows import connection_rows, event_rows, journal_rows, rpc_rows, upstream_rows
from bridge.core.errors import JournalError
from bridge.core.hub import Hub, State
from bridge.core.origin import Origin
from bridge.edges.documents import DocumentsEdge, Rollout
from bridge.edges.events import EventsEdge
from bridge.edges.grpc.server import StateServer
from bridge.edges.guard import Guard
from bridge.edges.http import HttpEdge
from bridge.edges.rpc import RpcEdge
from bridge.edges.state import StateEdge
from bridge.edges.web import WebEdge
from bridge.edges.websocket import WebSocketEdge
from bridge.ops.call_cache import CallCache
from bridge.ops.deep import PageLoader, from_disk, from_upstream, newest_upstream
from bridge.ops.memory import Memory
from bridge.ops.metrics import Metrics, Row, hub_rows
from bridge.ops.systemd import passed_socket
from bridge.settings import SidecarSettings, StateSettings
from bridge.sources.grpc import UpstreamSource
from bridge.store.keeper import Keeper

log = logging.getLogger(__name__)

JOURNAL_PAUSE_SECONDS: Final = 1.0
"""How long a source rests when its updates could not be kept."""

TICK_SECONDS: Final = 1.0
"""How often histories let go of what has grown too old, and memory is given back that is not needed."""

CALL_SECONDS: Final = 0.4
"""How long gRPC calls and HTTP requests may go on when all streams have ended."""


class Process:
    """The parts of one process.

    Attributes:
        hub: where sources and edges meet.
    """

    def __init__(self, state: StateSettings | None, sidecar: SidecarSettings | None) -> None:
        """Make the parts that the settings ask for; nothing runs yet."""
        self._state, self._sidecar = state, sidecar
        history = state.history if state is not None else (sidecar or SidecarSettings()).history
        self.hub = make_hub(history, (sidecar or SidecarSettings()).websocket)
        self._tasks: list[asyncio.Task[None]] = []
        self._server: StateServer | None = None
        self._websocket: WebSocketEdge | None = None
        self._http: HttpEdge | None = None
        self._calls: CallCache | None = None
        self._keeper: Keeper | None = None
        self._listener: Listener | None = None
        self._runner: web.AppRunner | None = None

    async def start(self) -> dict[str, str]:
        """Start the parts; return the addresses on which the process accepts connections.

        Raises:
            BridgeError: one could not start.
        """
        rows = hub_rows(self.hub)
        source = upstream = None
        if self._state is not None:
            source = make_source(self._state)
            self._keeper = open_journal(self._state)
            if self._keeper is not None:
                self._run(PageLoader(from_disk(self._keeper.journal.read), self.hub).run())
                self._keeper.fill(self.hub, new_epoch)
                rows += journal_rows(self._keeper.journal)
            self._calls = make_node_calls(source, self._state.node)
        elif self._sidecar is not None:
            upstream = make_upstream(self.hub, self._sidecar)
            read, newest = from_upstream(upstream.list_updates, self.hub), newest_upstream(upstream.list_updates)
            self._run(PageLoader(read, self.hub, newest=newest).run())
            self._calls = make_relayed_calls(upstream)
        if self._sidecar is not None:
            self._listener = await self._make_http(self._sidecar, rows, upstream)
            if not self._sidecar.reuse_port:
                await self._listener.start()
        self._run(tick(self.hub))
        addresses: dict[str, str] = {}
        if self._state is not None and source is not None:
            addresses = await self._start_state(self._state, source)
        elif upstream is not None:
            rows += upstream_rows(upstream)
            self._run(upstream.run())
        if self._listener is not None and self._sidecar is not None:
            if self._sidecar.reuse_port:
                await self._until_caught_up()
                await self._listener.start()
            url = self._listener.url
            addresses = {"http": url, "websocket": f"{url.replace('http', 'ws', 1)}/ws"} | addresses
        return addresses

    def _run(self, coroutine: Coroutine[None, None, None]) -> None:
        self._tasks.append(asyncio.create_task(coroutine))

    async def _start_state(self, settings: StateSettings, source: Source) -> dict[str, str]:
        origin = Origin(self.hub, new_epoch=new_epoch, store=self._keeper)
        origin.own(source.streams)
        address: dict[str, str] = {}
        if self._keeper is not None:
            self._run(self._keeper.run(origin))
        if settings.grpc_listen is not None:
            self._server = StateServer(
                settings.grpc_listen,
                make_services(self.hub, origin, self._calls, self._keeper, settings),
                keepalive_seconds=settings.grpc.keepalive_seconds,
            )
            await self._server.start()
            address["grpc"] = str(self._server.address)
        self._run(feed(source, origin))
        return address

    async def _until_caught_up(self) -> None:
        """Wait until everything is here that upstream has: before that, clients are better off with a predecessor."""
        caught_up = asyncio.Event()

        def look() -> None:
            if self.hub.epoch and self.hub.upstream_reached:
                caught_up.set()

        self.hub.listen(look)
        look()
        if not caught_up.is_set():
            log.info("with reuse_port the sidecar listens as soon as it has caught up with its upstream")
        try:
            await caught_up.wait()
        finally:
            self.hub.unlisten(look)

    async def _make_http(self, settings: SidecarSettings, rows: list[Row], upstream: UpstreamSource | None) -> Listener:
        limits = settings.websocket
        edge = self._websocket = WebSocketEdge(
            self.hub,
            limits=settings.limits,
            patience=make_patience(limits),
            connection_limit=limits.connection_limit,
            accept_rate=limits.accept_rate,
            deflate=make_deflate(limits),
        )
        events = EventsEdge(self.hub, edge, limits=settings.limits, patience=make_patience(limits))
        rows += connection_rows(edge, events)
        rows += event_rows(events)
        self._http = HttpEdge(
            self.hub,
            Metrics(rows),
            lambda: {"connections": len(edge.wires) - events.open},
            upstream_address=None if upstream is None else lambda: str(upstream.upstreams.in_use.address),
        )
        state = StateEdge(self.hub, settings.limits)
        documents = DocumentsEdge(
            self.hub.catalogue,
            poll_interval_ms=settings.dashboard_poll_interval_ms,
            ping_interval_seconds=limits.ping_interval_seconds,
            rollout=Rollout(settings.websockets_percent, settings.websockets_percent_file),
        )
        rpc = RpcEdge(self.hub, self._calls, settings.limits)
        rows += rpc_rows(rpc, self._calls)
        guard = Guard(settings.allowed_hosts, settings.allowed_origins)
        application = web.Application(middlewares=[guard.middleware])
        application.add_routes(
            [
                *self._http.routes(),
                *state.routes(),
                *documents.routes(),
                *WebEdge().routes(),
                *rpc.routes(),
                *events.routes(),
                web.get("/ws", edge.handle),
            ]
        )
        application.on_response_prepare.append(self._let_go)
        self._runner = web.AppRunner(
            application,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=CALL_SECONDS,
            auto_decompress=False,  # a damaged body would fill the log, and a bomb the processor; /rpc refuses both
        )
        await self._runner.setup()
        assert self._runner.server is not None
        self._run(edge.check_forever())
        return Listener(
            self._runner.server, settings.listen, reuse_port=settings.reuse_port, passed=passed_socket(os.environ)
        )

    async def _let_go(self, _request: web.Request, response: web.StreamResponse) -> None:
        """Close connections after their next answer once the process is going away: a successor is asked next."""
        if self._http is not None and not self._http.ready and response.status != 101:
            response.headers[hdrs.CONNECTION] = "close"
            response.force_close()

    async def run_until(self, stop: asyncio.Event) -> None:
        """Wait for the signal to stop.

        Raises:
            Exception: a part failed that never should; it is that part's own.
        """
        stopped = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait([stopped, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopped}:
                task.result()
        finally:
            stopped.cancel()

    async def stop(self) -> None:
        """End the parts: clients are sent away first, sources end last. At most a second more than drain_seconds.

        Where somebody else takes new connections, that is left to them at once. Else they are accepted to the end and
        told when to come back, which is better than nothing: those who wait to be told that they should not be sent
        here, too.
        """
        if self._http is not None:
            self._http.ready = False
        shared = self._listener is not None and self._listener.shared
        if self._listener is not None and shared:
            await self._listener.stop()
        if self._websocket is not None and self._sidecar is not None:
            await self._websocket.drain(self._sidecar.drain_seconds, successor=shared)
        if self._listener is not None:
            await self._listener.stop()
        await asyncio.gather(self._stop_http(), self._stop_grpc())
        if self._calls is not None:
            await self._calls.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._keeper is not None:
            self._keeper.journal.close()

    async def _stop_http(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _stop_grpc(self) -> None:
        if self._server is not None:
            await self._server.stop(CALL_SECONDS)


async def feed(source: Source, origin: Origin) -> None:
    """Run a source; where its updates cannot be kept, run it again from the last that were. Runs until cancelled."""
    while True:
        try:
            await source.run(origin)
        except* JournalError as group:
            sentence = str(next(leaves(group)))
            log.error("%s", sentence)
            origin.hub.set_status(State.STALE, sentence)
        await asyncio.sleep(JOURNAL_PAUSE_SECONDS)


def leaves(group: BaseExceptionGroup[JournalError]) -> Iterator[JournalError]:
    """Iterate over the exceptions in a group, those of groups in it among them."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from leaves(error)
        else:
            yield error


async def tick(hub: Hub) -> None:
    """Let histories let go of what has grown too old, and the system have what readers have left. Never returns."""
    memory = Memory()
    while True:
        await asyncio.sleep(TICK_SECONDS)
        memory.note(len(hub.readers))
        now_ms = clock_ms()
        for history in list(hub.histories.values()):
            history.trim(now_ms)
