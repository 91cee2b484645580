"""Old history through a chain of processes: a state service with a journal, a relay, a sidecar behind it."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from bridge.core.cursor import Cursor, Spec, gather
from bridge.core.hub import Hub
from bridge.edges.grpc import StateServer, StateStreamService
from bridge.ops.deep import PageLoader, from_upstream
from bridge.sources.grpc import UpstreamSource
from generated.theblock.state.v1 import account_pb2, service_pb2, stream_pb2
from tests.edges.test_grpc_deep import Kept, keeping
from tests.state_service import ANY_PORT, Client, new_hub, stub_of, until

BLOCKS = "block_updates"


class Follower:
    """A sidecar that remembers little, and serves what it has as a relay."""

    def __init__(self, address) -> None:
        self.hub: Hub = new_hub(count=10)
        self.source = UpstreamSource([address], self.hub, history_count=10, random=lambda: 0.0)
        self.loader = PageLoader(from_upstream(self.source.list_updates, self.hub), self.hub, random=lambda: 0.0)

    def cursor(self, at: int, stream: str = BLOCKS, **options) -> Cursor:
        return Cursor(Spec(stream, **options), self.hub.histories[stream], at)

    async def read(self, one: Cursor) -> list:
        """Read a cursor to its end; a gap is given as its range."""
        found: list = []
        async with asyncio.timeout(20):
            while not one.at_head:
                if (place := one.needs) is not None:
                    came = asyncio.Event()
                    self.hub.pages.want(place, came.set)
                    await came.wait()
                if gap := one.pass_gap():
                    found.append((*gap.missed, [update.seq for update in gap.values]))
                found += [update.seq for update, _ in gather([one], 200)]
        return found

    async def until_head(self, seq: int, stream: str = BLOCKS) -> None:
        await until(lambda: self.hub.histories[stream].head == seq and self.hub.upstream_reached)


@asynccontextmanager
async def following(service):
    """Follow a service, and serve what comes."""
    follower = Follower(service.address)
    follower.state = StateStreamService(follower.hub)
    follower.server = StateServer(ANY_PORT, [follower.state])
    await follower.server.start()
    follower.address = follower.server.address
    tasks = [asyncio.create_task(run) for run in (follower.source.run(), follower.loader.run())]
    try:
        yield follower
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
        await follower.server.stop(0)


@asynccontextmanager
async def chain(folder, **settings):
    """Yield a state service, a relay behind it and a sidecar behind that."""
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(keeping(folder, **settings))
        relay = await stack.enter_async_context(following(service))
        sidecar = await stack.enter_async_context(following(relay))
        yield service, relay, sidecar


async def test_a_sidecar_behind_a_relay_reads_all_that_the_journal_has(tmp_path):
    async with chain(tmp_path) as (service, relay, sidecar):
        service.publish(1, 1301)
        await sidecar.until_head(1300)
        one = sidecar.cursor(200)
        assert await sidecar.read(one) == list(range(201, 1301))
        assert one.books()[2:] == (1100, 0, 0, 0, 0)
        raws = [update.raw for page in sidecar.hub.pages.held for update in page.updates]
        records = service.journal.read(BLOCKS, 0, 1301, 1300, 1 << 30).records
        assert set(raws) <= {record.raw for record in records}, "byte for byte"
        assert relay.hub.pages.loads >= 3


async def test_one_that_begins_late_reaches_as_far_back(tmp_path):
    async with keeping(tmp_path) as service:
        service.publish(1, 1301)
        async with following(service) as relay, following(relay) as sidecar:
            await sidecar.until_head(1300)
            assert (sidecar.hub.histories[BLOCKS].reach, sidecar.hub.histories[BLOCKS].oldest) == (1, 1291)
            assert await sidecar.read(sidecar.cursor(700)) == list(range(701, 1301))


async def test_what_the_journal_let_go_of_is_a_gap_at_the_end_of_the_chain(tmp_path):
    async with chain(tmp_path, kept=400) as (service, _, sidecar):
        service.publish(1, 1001)
        await sidecar.until_head(1000)
        service.trim()
        oldest = service.journal.oldest(BLOCKS)
        assert oldest > 512
        found = await sidecar.read(sidecar.cursor(3))
        assert found == [(4, oldest - 1, [oldest - 1]), *range(oldest, 1001)]


async def test_a_key_that_changed_before_the_sidecar_began_is_not_lost(tmp_path):
    async with keeping(tmp_path) as service:
        for nonce in range(1, 601):
            key = "b" if nonce in (100, 595) else "a"
            service.keep(service.origin.publish(account_pb2.AccountUpdate(address=key, nonce=nonce)))
        async with following(service) as sidecar:
            await sidecar.until_head(600, "account")
            assert await sidecar.read(sidecar.cursor(50, "account", key="b")) == [100, 595]


async def test_an_outage_in_the_middle_of_a_page_voids_nothing(tmp_path):
    async with chain(tmp_path) as (service, relay, sidecar):
        service.publish(1, 1301)
        await sidecar.until_head(1300)
        await service.server.stop(0)
        await until(lambda: not relay.hub.upstream_reached)
        reading = asyncio.create_task(sidecar.read(sidecar.cursor(200)))
        await until(lambda: sidecar.hub.pages.waiting)
        await service.start()
        async with asyncio.timeout(20):
            assert await reading == list(range(201, 1301))
        assert sidecar.hub.pages.failures == 0


async def test_a_page_is_asked_of_a_service_once_for_all_relays_clients(tmp_path):
    async with keeping(tmp_path) as service, following(service) as relay, stub_of(relay) as stub:
        service.publish(1, 601)
        await relay.until_head(600)
        start = service_pb2.StreamStart(stream=BLOCKS, since=stream_pb2.Position(epoch="e1", seq=5))
        clients = [Client(stub, start) for _ in range(4)]
        for client in clients:
            await client.read_updates(595)
            assert client.heights == list(range(6, 601))
        assert relay.hub.pages.loads == 2
        assert isinstance(service, Kept)
