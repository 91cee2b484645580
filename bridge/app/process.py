"""A process: its parts, how they start and in which order they end."""

import asyncio
from collections.abc import Coroutine
from typing import Final

from aiohttp import web

from bridge.app.listening import site_url, start_site
from bridge.app.parts import (
    Source,
    clock_ms,
    make_hub,
    make_node_calls,
    make_patience,
    make_relayed_calls,
    make_services,
    make_source,
    make_upstream,
    new_epoch,
)
from bridge.core.hub import Hub
from bridge.core.origin import Origin
from bridge.edges.documents import DocumentsEdge
from bridge.edges.grpc.server import StateServer
from bridge.edges.guard import Guard
from bridge.edges.http import HttpEdge
from bridge.edges.rpc import RpcEdge
from bridge.edges.state import StateEdge
from bridge.edges.websocket import WebSocketEdge
from bridge.ops.call_cache import CallCache
from bridge.ops.metrics import Metrics, Row, counter, gauge, hub_rows
from bridge.settings import SidecarSettings, StateSettings
from bridge.sources.grpc import UpstreamSource

TICK_SECONDS: Final = 1.0
"""How often histories let go of what has grown too old."""

GRPC_STOP_SECONDS: Final = 1.0
"""How long gRPC clients may take to end their calls."""


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
        self._site: web.BaseSite | None = None
        self._runner: web.AppRunner | None = None

    async def start(self) -> dict[str, str]:
        """Start the parts; return the addresses on which the process accepts connections.

        Raises:
            BridgeError: one could not start.
        """
        addresses: dict[str, str] = {}
        rows = hub_rows(self.hub)
        source = upstream = None
        if self._state is not None:
            source = make_source(self._state)
            self._calls = make_node_calls(source, self._state.node)
        elif self._sidecar is not None:
            upstream = make_upstream(self.hub, self._sidecar)
            self._calls = make_relayed_calls(upstream)
        if self._sidecar is not None:
            url = await self._start_http(self._sidecar, rows)
            addresses = {"http": url, "websocket": f"{url.replace('http', 'ws', 1)}/ws"}
        self._run(tick(self.hub))
        if self._state is not None and source is not None:
            addresses |= await self._start_state(self._state, source)
        elif upstream is not None:
            rows += upstream_rows(upstream)
            self._run(upstream.run())
        return addresses

    def _run(self, coroutine: Coroutine[None, None, None]) -> None:
        self._tasks.append(asyncio.create_task(coroutine))

    async def _start_state(self, settings: StateSettings, source: Source) -> dict[str, str]:
        origin = Origin(self.hub, new_epoch=new_epoch)
        origin.own(source.streams)
        address: dict[str, str] = {}
        if settings.grpc_listen is not None:
            self._server = StateServer(
                settings.grpc_listen,
                make_services(self.hub, origin, self._calls, settings),
                keepalive_seconds=settings.grpc.keepalive_seconds,
            )
            await self._server.start()
            address["grpc"] = str(self._server.address)
        self._run(source.run(origin))
        return address

    async def _start_http(self, settings: SidecarSettings, rows: list[Row]) -> str:
        limits = settings.websocket
        edge = self._websocket = WebSocketEdge(
            self.hub, limits=settings.limits, patience=make_patience(limits), connection_limit=limits.connection_limit
        )
        rows += [
            gauge("connections", "WebSocket connections that are open.", lambda: len(edge.wires)),
            counter("connections_accepted", "WebSocket connections that were accepted.", lambda: edge.accepted),
            counter("connections_refused", "WebSocket handshakes that were refused.", lambda: edge.refused),
        ]
        self._http = HttpEdge(self.hub, Metrics(rows), lambda: {"connections": len(edge.wires)})
        state = StateEdge(self.hub, settings.limits)
        documents = DocumentsEdge(
            self.hub.catalogue,
            poll_interval_ms=settings.dashboard_poll_interval_ms,
            ping_interval_seconds=limits.ping_interval_seconds,
        )
        rpc = RpcEdge(self.hub, self._calls, settings.limits)
        rows += rpc_rows(rpc, self._calls)
        guard = Guard(settings.allowed_hosts, settings.allowed_origins)
        application = web.Application(middlewares=[guard.middleware])
        application.add_routes(
            [*self._http.routes(), *state.routes(), *documents.routes(), *rpc.routes(), web.get("/ws", edge.handle)]
        )
        self._runner = web.AppRunner(
            application,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=0.5,
            auto_decompress=False,  # a damaged body would fill the log, and a bomb the processor; /rpc refuses both
        )
        await self._runner.setup()
        self._site = await start_site(self._runner, settings.listen)
        self._run(edge.check_forever())
        return site_url(self._runner, settings.listen)

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
        """End the parts: clients are sent away first, sources end last. At most a second more than drain_seconds."""
        if self._http is not None:
            self._http.ready = False
        if self._site is not None:
            await self._site.stop()
        if self._websocket is not None and self._sidecar is not None:
            await self._websocket.drain(self._sidecar.drain_seconds)
        if self._server is not None:
            await self._server.stop(GRPC_STOP_SECONDS)
        if self._calls is not None:
            await self._calls.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()


def upstream_rows(upstream: UpstreamSource) -> list[Row]:
    """Return the metrics of a sidecar's subscription to its state service."""
    counts = upstream.subscriptions
    return [
        counter("upstream_subscribes", "Subscribe calls to the state service.", lambda: counts.calls),
        counter("upstream_reconnects", "Subscriptions that answered again.", lambda: counts.reconnects),
        counter("upstream_repeats", "Updates dropped because they had come before.", lambda: counts.repeats),
        counter("upstream_conflated", "Updates of latest streams dropped for a newer one.", lambda: counts.conflated),
        counter("upstream_faults", "Times that the state service broke the protocol.", lambda: counts.faults),
    ]


def rpc_rows(rpc: RpcEdge, calls: CallCache | None) -> list[Row]:
    """Return the metrics of /rpc and of the calls of the node that it makes."""
    rows = [counter("rpc_requests", "JSON-RPC requests at /rpc.", lambda: rpc.requests)]
    if calls is not None:
        rows += [
            counter("node_calls", "Calls of the node made for clients.", lambda: calls.made),
            counter("node_calls_shared", "Calls of clients answered by a call made for another.", lambda: calls.shared),
        ]
    return rows


async def tick(hub: Hub) -> None:
    """Let histories let go of what has grown too old. Runs until cancelled."""
    while True:
        await asyncio.sleep(TICK_SECONDS)
        now_ms = clock_ms()
        for history in list(hub.histories.values()):
            history.trim(now_ms)
