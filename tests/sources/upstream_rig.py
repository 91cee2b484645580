"""A hub fed by state services at one or more addresses, and state services that answer what a test has written."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from bridge.core.hub import Hub, State
from bridge.edges.grpc import StateServer, StateStreamService
from bridge.settings.address import Address
from bridge.sources.grpc import UpstreamSource
from generated.theblock.state.v1 import block_pb2, metrics_pb2, service_pb2, stream_pb2, update_pb2
from tests.state_service import ANY_PORT, new_hub

BLOCKS = "block_updates"


class Sidecar:
    """A hub that is fed by a state service; keeps what it admits."""

    def __init__(self, *addresses: Address, **settings) -> None:
        limits = {name: settings.pop(name) for name in ("count", "keys") if name in settings}
        self.hub: Hub = new_hub(**limits)
        self.source = UpstreamSource(addresses, self.hub, **{"random": lambda: 0.3, **settings})
        self.admitted: list = []
        self.states: list[tuple[State, str]] = []
        admit = self.hub.admit
        self.hub.admit = lambda update: (self.admitted.append(update), admit(update))  # a witness, nothing else
        set_status = self.hub.set_status
        self.hub.set_status = lambda *status: (set_status(*status), self._note_state())
        self._note_state()

    def _note_state(self) -> None:
        if not self.states or self.states[-1][0] is not self.hub.status.state:
            self.states.append((self.hub.status.state, self.hub.status.detail))

    def taken(self, stream: str = BLOCKS) -> list[int]:
        return [update.seq for update in self.admitted if update.stream.name == stream]

    @property
    def live(self) -> bool:
        return self.hub.status.state is State.LIVE

    @property
    def head(self) -> int:
        return self.hub.history(BLOCKS).head

    @property
    def in_use(self) -> Address:
        return self.source.upstreams.in_use.address

    @property
    def never_down(self) -> bool:
        """Whether clients have been told nothing since it became live."""
        return [state for state, _ in self.states] == [State.DOWN, State.LIVE]


@asynccontextmanager
async def sidecar_of(*addresses: Address, **settings) -> AsyncIterator[Sidecar]:
    sidecar = Sidecar(*addresses, **settings)
    task = asyncio.create_task(sidecar.source.run())
    try:
        yield sidecar
        assert not task.done(), "the source ended"
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def relay_of(*addresses: Address, **settings) -> AsyncIterator[tuple[Address, Sidecar]]:
    """A sidecar that serves gRPC too; yields where it does."""
    async with (
        sidecar_of(*addresses, **settings) as relay,
        StateServer(ANY_PORT, [StateStreamService(relay.hub, progress_seconds=0.2)], drain_seconds=0) as server,
    ):
        yield server.address, relay


class Proxy:
    """Stands before a service, and may stop to pass anything on, or cut every connection and turn new ones away."""

    def __init__(self, target: Address) -> None:
        self.target = target
        self.passing = asyncio.Event()
        self.passing.set()
        self.refusing = False
        self._pumps: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = Address("127.0.0.1", self._server.sockets[0].getsockname()[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        try:
            service = await asyncio.open_connection(self.target.host, self.target.port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, service[1]}
        for source, sink in ((reader, service[1]), (service[0], writer)):
            pump = asyncio.create_task(self._pump(source, sink))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                await self.passing.wait()
                writer.write(data)
                await writer.drain()
        writer.transport.abort()

    def cut(self) -> None:
        """Reset every connection."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def refuse(self) -> None:
        """Cut, and turn away who comes back."""
        self.refusing = True
        self.cut()

    def accept(self) -> None:
        """Turn nobody away any more."""
        self.refusing = False

    async def stop(self) -> None:
        self._server.close()
        self.refuse()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)


@asynccontextmanager
async def before(target: Address) -> AsyncIterator[Proxy]:
    """A proxy before a service."""
    proxy = Proxy(target)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()


class Scripted:
    """A state service that answers each subscription with the next of its scripts."""

    name = "theblock.state.v1.StateStreamService"

    def __init__(self, *scripts) -> None:
        self.scripts = list(scripts)
        self.requests: list[service_pb2.SubscribeRequest] = []

    def handler(self):
        method = grpc.unary_stream_rpc_method_handler(self._subscribe, service_pb2.SubscribeRequest.FromString)
        return grpc.method_handlers_generic_handler(self.name, {"Subscribe": method})

    def close(self) -> None:
        """Nothing to end."""

    async def _subscribe(self, request, context) -> None:
        self.requests.append(request)
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        for item in script:
            if isinstance(item, grpc.StatusCode):
                await context.abort(item, "because of a reason")
            await context.write(item if isinstance(item, bytes) else item.SerializeToString())
        await asyncio.Event().wait()


@asynccontextmanager
async def scripted(*scripts, **settings) -> AsyncIterator[tuple[Scripted, Sidecar]]:
    service = Scripted(*scripts)
    async with (
        StateServer(ANY_PORT, [service], drain_seconds=0) as server,
        sidecar_of(server.address, **settings) as sidecar,
    ):
        yield service, sidecar


LIVE = stream_pb2.SourceStatus(state=stream_pb2.SOURCE_STATE_LIVE, detail="fine")


def started(stream: str, newest: int, message: str, seq: int = 0, **more) -> service_pb2.StreamStarted:
    info = stream_pb2.StreamInfo(stream=stream, message=f"theblock.state.v1.{message}", epoch="e", newest=newest)
    info.type = "thing"
    return service_pb2.StreamStarted(info=info, seq=seq, **more)


def block(seq: int, epoch: str = "e") -> update_pb2.Update:
    return update_pb2.Update(stream=BLOCKS, epoch=epoch, seq=seq, block=block_pb2.BlockUpdate(height=seq))


def metrics(seq: int) -> update_pb2.Update:
    return update_pb2.Update(stream="metrics", epoch="e", seq=seq, metrics=metrics_pb2.MetricsUpdate(block_height=seq))


def response(*updates: update_pb2.Update, **parts) -> service_pb2.SubscribeResponse:
    return service_pb2.SubscribeResponse(updates=updates, **parts)


def opening(newest: int, seq: int = 0, **more) -> service_pb2.SubscribeResponse:
    return response(started=[started(BLOCKS, newest, "BlockUpdate", seq, **more)], source=LIVE)


PROGRESS = response(progress=[service_pb2.StreamPosition(stream=BLOCKS, epoch="e")])
