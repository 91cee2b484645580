"""A state service within the test: hub, origin and gRPC server on a real socket; and what tests ask of it."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

import grpc

from bridge.core.history import HistoryLimits
from bridge.core.hub import Hub, State
from bridge.core.origin import Origin
from bridge.core.streams import Catalogue
from bridge.edges.grpc import StateServer, StateStreamService
from bridge.settings.address import Address
from bridge.sources.ingest import IngestService
from generated.theblock.state.v1 import block_pb2, ingest_pb2_grpc, metrics_pb2, service_pb2, service_pb2_grpc

DEADLINE_SECONDS = 20
ANY_PORT = Address("127.0.0.1", 0)


def new_hub(*, epoch: str = "", **limits: int) -> Hub:
    """Return a hub that runs on the running loop."""
    loop = asyncio.get_running_loop()
    limits = {"age_ms": 0, **limits}
    hub = Hub(
        Catalogue(),
        clock_ms=lambda: 1_700_000_000_000,
        schedule=lambda: loop.call_soon(hub.run),
        epoch=epoch,
        limits=HistoryLimits(**limits),
    )
    return hub


class Service:
    """A hub with an origin, served by gRPC; the server may be stopped and started again on the same address."""

    def __init__(self, address: Address = ANY_PORT, *, epoch: str = "e", **settings) -> None:
        limits = {name: settings.pop(name) for name in ("count", "keys", "bytes") if name in settings}
        self.hub = new_hub(**limits)
        numbers = itertools.count(1)
        self.origin = Origin(self.hub, new_epoch=lambda: f"{epoch}{next(numbers)}")
        self.hub.set_status(State.LIVE, "as it should be")
        self.settings = settings
        self.address = address

    async def start(self) -> None:
        self.state = StateStreamService(self.hub, **self.settings)
        self.ingest = IngestService(self.origin)
        self.server = StateServer(self.address, [self.state, self.ingest])
        await self.server.start()
        self.address = self.server.address

    async def stop(self) -> None:
        await self.server.stop(0)

    def block(self, height: int, size: int = 32):
        return self.origin.publish(block_pb2.BlockUpdate(height=height, hash=height.to_bytes(4, "big") * (size // 4)))

    def blocks(self, heights: Iterable[int], size: int = 32):
        return [self.block(height, size) for height in heights]

    def metrics(self, height: int):
        return self.origin.publish(metrics_pb2.MetricsUpdate(block_height=height, tps=1.5))

    def custom(self, name: str, number: int, key: str = ""):
        return self.origin.publish_custom(name, "thing", b'{"n":%d}' % number, key=key)


@asynccontextmanager
async def serving(address: Address = ANY_PORT, **settings) -> AsyncIterator[Service]:
    service = Service(address, **settings)
    await service.start()
    try:
        yield service
    finally:
        await service.stop()


@asynccontextmanager
async def stub_of(service: Service) -> AsyncIterator[service_pb2_grpc.StateStreamServiceStub]:
    """A client made by the generator, as anybody would have it."""
    async with grpc.aio.insecure_channel(str(service.address)) as channel:
        yield service_pb2_grpc.StateStreamServiceStub(channel)


@asynccontextmanager
async def ingest_stub_of(service: Service) -> AsyncIterator[ingest_pb2_grpc.StateIngestServiceStub]:
    async with grpc.aio.insecure_channel(str(service.address)) as channel:
        yield ingest_pb2_grpc.StateIngestServiceStub(channel)


async def until(condition: Callable[[], object], what: str = "") -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


class Client:
    """Reads a subscription and keeps what it was sent."""

    def __init__(self, stub, *starts, every: bool = False, all_last: int = 0) -> None:
        self.call = stub.Subscribe(service_pb2.SubscribeRequest(streams=starts, all=every, all_last=all_last))
        self.responses: list[service_pb2.SubscribeResponse] = []

    async def read(self) -> service_pb2.SubscribeResponse:
        async with asyncio.timeout(DEADLINE_SECONDS):
            response = await self.call.read()
        assert response is not grpc.aio.EOF
        self.responses.append(response)
        return response

    async def read_until(self, condition: Callable[[], object]) -> None:
        while not condition():
            await self.read()

    async def read_updates(self, count: int) -> list:
        await self.read_until(lambda: len(self.updates) >= count)
        return self.updates

    def parts(self, name: str) -> list:
        return [part for response in self.responses for part in getattr(response, name)]

    @property
    def updates(self) -> list:
        return self.parts("updates")

    @property
    def heights(self) -> list[int]:
        return [update.block.height for update in self.updates]

    @property
    def started(self) -> dict[str, service_pb2.StreamStarted]:
        return {started.info.stream: started for started in self.parts("started")}


async def error_of(call) -> grpc.aio.AioRpcError:
    """Return the error that a call ends with."""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            if hasattr(call, "read"):
                while await call.read() is not grpc.aio.EOF:
                    pass
            else:
                await call
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError("the call did not fail")
