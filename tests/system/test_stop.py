"""How processes end: clients are told when to come back, and nothing is waited for longer than it should be."""

import asyncio
import signal
from contextlib import ExitStack

import grpc
import pytest

from generated.theblock.state.v1 import ingest_pb2_grpc, service_pb2, service_pb2_grpc
from tests.edges.rawclient import CLOSE, Hung, RawClient, frame
from tests.edges.rig import until
from tests.system.conftest import Clients
from tests.system.processes import ANY, Running, bridge, enter

FAST = ("--source", "simulated", "--blocks-per-second", "100")
DRAIN_MS = 3000
SECONDS = 5.0
"""Within this a process has to be gone."""


def up(*more: str):
    return bridge("up", *FAST, "--ingest", "--listen", ANY, "--grpc-listen", ANY, *more)


async def reader(clients: Clients, running: Running) -> RawClient:
    """Return a client that has had a block."""
    client = await clients.connect(running.port)
    await client.subscribe("block_updates")
    assert (await client.read_json())["stream"] == "block_updates"
    return client


async def non_reader(clients: Clients, running: Running) -> RawClient:
    """Return a client that was written to until its socket was full, and does not read."""
    client = await clients.connect(
        running.port, "/ws?subscribe=block_updates,account,trading", receive_buffer_bytes=4096
    )
    await until_full(clients, running, 1)
    return client


async def until_full(clients: Clients, running: Running, count: int) -> None:
    async with asyncio.timeout(20):
        while f"\ntheblock_bridge_readers_catching_up {count}.0\n" not in await metrics(clients, running):
            await asyncio.sleep(0.05)


async def metrics(clients: Clients, running: Running) -> str:
    client = await clients.dial(running.port)
    answer = await client.shake("/metrics", Connection="close", Upgrade=None)
    return answer.body.decode()


def complaints(running: Running) -> list[str]:
    """Return what a process has logged that is more than information."""
    return [line for line in running.stderr.splitlines() if line.split()[1:2] != ["info"]]


async def told_to_come_back(client: RawClient) -> int:
    """Read to the close frame, answer it, and return after how many milliseconds to come back."""
    code, reason = await client.read_close()
    assert code == 1012
    await client.send(frame(CLOSE, code.to_bytes(2, "big")))
    with pytest.raises(Hung):
        await client.read()
    return reason["retry_after_ms"]


class GrpcReader:
    """Reads a subscription to every stream until it ends."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.aio.insecure_channel(address)
        self.call = service_pb2_grpc.StateStreamServiceStub(self.channel).Subscribe(
            service_pb2.SubscribeRequest(all=True)
        )
        self.responses = 0
        self.task = asyncio.create_task(self.read())

    async def read(self) -> grpc.StatusCode:
        try:
            async for _ in self.call:
                self.responses += 1
        except grpc.aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    async def close(self) -> None:
        await self.channel.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
async def test_everybody_is_sent_away(number, clients: Clients):
    with up() as running:
        readers = [await reader(clients, running) for _ in range(20)]
        silent = await clients.connect(running.port)
        await non_reader(clients, running)
        idle = await clients.dial(running.port)  # HTTP, kept alive
        assert (await idle.shake("/livez", Upgrade=None)).status == 200
        begun = await clients.dial(running.port)
        await begun.send(b"GET /health HTTP/1.1\r\nHost: ")
        subscriber = GrpcReader(running.grpc)
        publisher = ingest_pb2_grpc.StateIngestServiceStub(subscriber.channel).Publish()
        await until(lambda: subscriber.responses, "the gRPC client reads")

        running.process.send_signal(number)
        waits = await asyncio.gather(*(told_to_come_back(client) for client in [*readers, silent]))
        assert await running.ended(seconds=SECONDS) == 0
        assert all(0 <= wait <= DRAIN_MS for wait in waits)
        assert len(set(waits)) > 10  # spread, so that not all come back at once
        assert await subscriber.task is grpc.StatusCode.UNAVAILABLE
        assert await publisher.code() is grpc.StatusCode.UNAVAILABLE
        assert (complaints(running), len(running.lines)) == ([], 1)
        await subscriber.close()


async def test_a_second_signal_while_clients_are_sent_away_changes_nothing(clients: Clients):
    with up() as running:
        await non_reader(clients, running)
        client = await reader(clients, running)
        running.process.send_signal(signal.SIGTERM)
        await told_to_come_back(client)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            running.process.send_signal(number)
        assert await running.ended(seconds=SECONDS) == 0
        assert complaints(running) == []


async def test_a_sidecar_ends_without_its_state_service(clients: Clients):
    with ExitStack() as stack:
        state = await enter(stack, "state", *FAST, "--listen", ANY)
        sidecar = await enter(stack, "sidecar", "--upstream", state.grpc, "--listen", ANY)
        client = await reader(clients, sidecar)
        state.process.kill()
        state.process.wait()
        await until(lambda: "cannot be reached" in sidecar.stderr, "the sidecar misses it")
        sidecar.process.send_signal(signal.SIGTERM)
        assert 0 <= await told_to_come_back(client) <= DRAIN_MS
        assert await sidecar.ended(seconds=SECONDS) == 0


async def test_a_state_service_ends_with_its_subscribers_and_publishers():
    with bridge("state", *FAST, "--ingest", "--listen", ANY) as state:
        subscribers = [GrpcReader(state.grpc) for _ in range(3)]
        publisher = ingest_pb2_grpc.StateIngestServiceStub(subscribers[0].channel).Publish()
        await until(lambda: all(one.responses for one in subscribers), "the gRPC clients read")
        unread = service_pb2_grpc.StateStreamServiceStub(subscribers[0].channel).Subscribe(
            service_pb2.SubscribeRequest(all=True, all_last=1000)
        )
        assert isinstance(await unread.read(), service_pb2.SubscribeResponse)  # and no further one
        assert await state.ended(signal.SIGTERM, SECONDS) == 0
        assert [await one.task for one in subscribers] == [grpc.StatusCode.UNAVAILABLE] * 3
        assert await publisher.code() is grpc.StatusCode.UNAVAILABLE
        assert complaints(state) == []
        unread.cancel()
        for one in subscribers:
            await one.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_nobody_there(number):
    with up() as running:
        assert running.end(number, SECONDS) == 0
        assert complaints(running) == []
