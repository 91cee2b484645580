"""A state service with a journal over real connections: what its memory let go of comes from its disk."""

import asyncio
from contextlib import asynccontextmanager, suppress

import grpc
import pytest

from bridge.core.errors import JournalError
from bridge.core.position import Position
from bridge.ops import deep
from bridge.ops.deep import TRIES, PageLoader, from_disk
from bridge.store.journal import Declared, Journal, JournalLimits, Record, StoredPage, Sync
from generated.theblock.state.v1 import account_pb2, service_pb2, stream_pb2, view_pb2
from generated.theblock.state.v1.service_pb2 import StreamStart
from tests.edges.test_grpc import BLOCKS, gaps, last, position, seqs, since
from tests.state_service import Client, Service, error_of, stub_of, until

KEPT = 20
"""How many updates memory holds."""


class Kept(Service):
    """A state service with a journal."""

    def __init__(self, folder, *, segment: int = 64, kept: int = 1_000_000, newest=None, **settings) -> None:
        super().__init__(count=KEPT, **settings)
        limits = JournalLimits(count=kept, segment_count=segment)
        self.journal = Journal.open(
            folder, limits=limits, sync=Sync.OFF, new_epoch=lambda: self.origin.epoch, clock_ms=lambda: 0
        )
        self.problems: list[Exception] = []
        self.wait: asyncio.Event | None = None
        self.loop = asyncio.get_running_loop()
        self.loader = PageLoader(from_disk(self.read), self.hub, newest=newest, random=lambda: 0.0)
        for stream in self.hub.catalogue:
            self.journal.declare(Declared(stream.name, stream.type, keyed=stream.keyed, custom=False))
        self.ordinal = 0

    def read(self, *asked) -> StoredPage:
        """Read the journal, in a thread."""
        if self.problems:
            raise self.problems.pop(0)
        return self.journal.read(*asked)

    def keep(self, *updates) -> None:
        """Write what was published to the journal."""
        for update in updates:
            self.ordinal += 1
            record = Record(update.seq, self.ordinal, update.time_ms, update.key, update.raw)
            self.journal.append(update.stream.name, record)
            self.hub.extend(update.stream.name, self.journal.oldest(update.stream.name))

    def publish(self, first: int, end: int, size: int = 32) -> None:
        """Publish blocks and keep them."""
        for height in range(first, end):
            self.keep(self.block(height, size))

    def trim(self) -> None:
        self.journal.trim(0)
        for name, history in self.hub.histories.items():
            if history.head:
                self.hub.extend(name, self.journal.oldest(name))


@asynccontextmanager
async def keeping(folder, **settings):
    service = Kept(folder, **settings)
    await service.start()
    task = asyncio.create_task(service.loader.run())
    try:
        yield service
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await service.stop()
        service.journal.close()


async def test_a_position_behind_memory_is_resumed_from(tmp_path):
    async with keeping(tmp_path) as service, stub_of(service) as stub:
        service.publish(1, 1501)
        client = Client(stub, since(BLOCKS, 400))
        await client.read_updates(1100)
        started = client.started[BLOCKS]
        assert (started.seq, started.recovered, started.replayed) == (400, True, 1100)
        assert (started.info.oldest, started.info.newest) == (1, 1500)
        assert client.heights == list(range(401, 1501))
        assert (gaps(client), client.parts("snapshots")) == ([], [])
        service.publish(1501, 1503)
        await client.read_updates(1102)


@pytest.mark.parametrize(("count", "begins", "value"), [(1000, 500, [500]), (988, 512, [512]), (5000, 0, [])])
async def test_last_goes_back_behind_memory_with_the_value_before(tmp_path, count, begins, value):
    async with keeping(tmp_path) as service, stub_of(service) as stub:
        service.publish(1, 1501)
        client = Client(stub, last(BLOCKS, count))
        await client.read_updates(1500 - begins)
        assert client.started[BLOCKS].seq == begins
        assert seqs(client.parts("snapshots")) == value
        assert client.heights == list(range(begins + 1, 1501))


async def test_what_the_journal_let_go_of_is_a_gap_and_everything_behind_it_follows(tmp_path):
    async with keeping(tmp_path, kept=1000) as service, stub_of(service) as stub:
        service.publish(1, 1501)
        service.trim()
        oldest = service.journal.oldest(BLOCKS)
        assert 1 < oldest < 1500 - KEPT
        client = Client(stub, since(BLOCKS, 5))
        await client.read_updates(1501 - oldest)
        started = client.started[BLOCKS]
        assert (started.seq, started.recovered, started.reason) == (oldest - 1, False, stream_pb2.REASON_TRIMMED)
        assert gaps(client) == [(BLOCKS, 6, oldest - 1, stream_pb2.REASON_TRIMMED)]
        assert seqs(client.parts("snapshots")) == [oldest - 1]
        assert client.heights == list(range(oldest, 1501))
        earliest = Client(stub, last(BLOCKS, 5000))
        await earliest.read_updates(1501 - oldest)
        assert seqs(earliest.parts("snapshots")) == [oldest - 1]


async def test_a_client_that_reads_nothing_is_not_cut_off_from_what_memory_lets_go_of(tmp_path):
    async with keeping(tmp_path) as service, stub_of(service) as stub:
        client = Client(stub, StreamStart(stream=BLOCKS), since("account", 0))
        await client.read_until(lambda: client.started)
        for first in range(1, 2001, 100):
            service.publish(first, first + 100, 2048)
            await asyncio.sleep(0)
        await client.read_updates(2000)
        assert client.heights == list(range(1, 2001))
        assert gaps(client) == []


async def test_a_page_that_cannot_be_read_is_a_gap(tmp_path, monkeypatch):
    async with keeping(tmp_path) as service, stub_of(service) as stub:
        service.publish(1, 2001)
        service.problems = [JournalError("the disk failed")] * TRIES
        client = Client(stub, since(BLOCKS, 400))
        await client.read_until(lambda: client.updates and client.updates[-1].seq == 2000)
        assert gaps(client) == [(BLOCKS, 401, 513, stream_pb2.REASON_TRIMMED)]
        assert seqs(client.parts("snapshots")) == [513]
        assert client.heights == list(range(514, 2001))


async def test_a_new_epoch_while_a_page_is_read(tmp_path):
    async with keeping(tmp_path) as service, stub_of(service) as stub:
        service.publish(1, 1001)
        service.problems = [JournalError("not now")] * 2
        client = Client(stub, since(BLOCKS, 10))
        await client.read_until(lambda: client.started)
        service.origin.begin_epoch()
        service.block(1)
        await client.read_until(lambda: client.updates and client.updates[-1].epoch == "e2")
        assert [update.seq for update in client.updates if update.epoch == "e2"] == [1]


async def test_who_leaves_while_waiting_for_a_page_leaves_nothing(tmp_path):
    async with keeping(tmp_path) as service, stub_of(service) as stub:
        service.publish(1, 1001)
        service.hub.upstream_reached = False
        client = Client(stub, since(BLOCKS, 10))
        await until(lambda: service.hub.pages.waiting)
        client.call.cancel()
        await until(lambda: not service.hub.pages.waiting and not service.state.subscribers)


# ListUpdates


def listing(**options) -> service_pb2.ListUpdatesRequest:
    return service_pb2.ListUpdatesRequest(stream=BLOCKS, **options)


async def test_pages_come_from_disk(tmp_path):
    async with keeping(tmp_path) as service, stub_of(service) as stub:
        service.publish(1, 1501)
        response = await stub.ListUpdates(listing(since=position(300), limit=400))
        assert seqs(response.updates) == list(range(301, 701))
        assert (response.next.seq, response.info.oldest) == (700, 1)
        response = await stub.ListUpdates(listing(until=position(5), reverse=True))
        assert (seqs(response.updates), response.HasField("next")) == ([4, 3, 2, 1], False)
        response = await stub.ListUpdates(listing(since=position(1000), until=position(1003)))
        assert seqs(response.updates) == [1001, 1002]


async def test_a_page_is_byte_for_byte_what_was_published(tmp_path):
    async with keeping(tmp_path) as service, stub_of(service) as stub:
        published = [service.block(height) for height in range(1, 201)]
        service.keep(*published)
        raw = (await stub.ListUpdates(listing(limit=200))).SerializeToString()
        assert list(view_pb2.ListUpdatesResponseView.FromString(raw).updates) == [one.raw for one in published]


async def test_what_stands_in_for_what_is_gone(tmp_path):
    async with keeping(tmp_path, kept=200, segment=32) as service, stub_of(service) as stub:
        for nonce in range(1, 1001):
            key = "c" if nonce == 3 else "ab"[nonce % 2]
            service.keep(service.origin.publish(account_pb2.AccountUpdate(address=key, nonce=nonce)))
        service.trim()
        oldest = service.journal.oldest("account")
        request = service_pb2.ListUpdatesRequest(stream="account", limit=1)
        response = await stub.ListUpdates(request)
        assert [(update.key, update.seq) for update in response.base] == [
            ("c", 3), *sorted((("ab"[n % 2], n) for n in (oldest - 1, oldest - 2)), key=lambda row: row[1])
        ]  # fmt: skip
        assert seqs(response.updates) == [oldest]
        request.since.CopyFrom(position(oldest - 2))
        assert seqs((await stub.ListUpdates(request)).base) == [oldest - 1]
        request.since.CopyFrom(position(oldest - 1))
        assert seqs((await stub.ListUpdates(request)).base) == []
        request = service_pb2.ListUpdatesRequest(stream="account", key="c")
        response = await stub.ListUpdates(request)
        assert (seqs(response.base), seqs(response.updates)) == ([3], [])


async def test_a_page_that_cannot_be_read_in_time_is_unavailable(tmp_path, monkeypatch):
    monkeypatch.setattr(deep, "WAIT_SECONDS", 0.05)
    async with keeping(tmp_path) as service, stub_of(service) as stub:
        service.publish(1, 1001)
        service.hub.upstream_reached = False
        error = await error_of(stub.ListUpdates(listing(limit=1)))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        service.hub.upstream_reached = True
        assert seqs((await stub.ListUpdates(listing(limit=1))).updates) == [1]


async def test_what_is_gone_and_cannot_be_read_is_unavailable(tmp_path):
    async with keeping(tmp_path, kept=800) as service, stub_of(service) as stub:
        service.publish(1, 1501)
        service.trim()
        service.problems = [JournalError("the disk failed")] * TRIES
        error = await error_of(stub.ListUpdates(listing(limit=1)))
        assert error.code() is grpc.StatusCode.UNAVAILABLE


# A relay that has lost its own service


async def test_a_relay_that_cannot_decide_on_a_position_waits_until_it_can(tmp_path):
    async with keeping(tmp_path) as service, stub_of(service) as stub:
        service.publish(1, 31)
        service.hub.upstream_reached = False
        unknown, ahead = Client(stub, since(BLOCKS, 5, "other"), since("metrics", 0)), Client(stub, since(BLOCKS, 35))
        await unknown.read_until(lambda: "metrics" in unknown.started)
        assert (await ahead.read()).HasField("source")
        error = await error_of(stub.ListUpdates(listing(since=position(5, "other"))))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        service.publish(31, 41)
        service.hub.upstream_reached = True
        await ahead.read_updates(5)
        assert ahead.started[BLOCKS].recovered
        await unknown.read_until(lambda: BLOCKS in unknown.started)
        assert unknown.started[BLOCKS].reason == stream_pb2.REASON_EPOCH


# A relay that lags behind its own service


class Ahead:
    """What is followed, as far as it is asked how far it is."""

    def __init__(self) -> None:
        self.position = Position("e1", 35)
        self.asked = 0

    async def newest(self, _stream: str) -> Position:
        self.asked += 1
        return self.position


@pytest.fixture
def ahead(monkeypatch) -> Ahead:
    monkeypatch.setattr(deep, "LOOK_AGAIN_SECONDS", 0.005)
    return Ahead()


async def test_a_position_that_has_not_come_to_a_relay_is_resumed_from_when_it_has(tmp_path, ahead):
    async with keeping(tmp_path, newest=ahead.newest) as service, stub_of(service) as stub:
        service.publish(1, 31)
        client = Client(stub, since(BLOCKS, 35), since("metrics", 0))
        await client.read_until(lambda: "metrics" in client.started)
        await until(lambda: ahead.asked > 1)
        assert BLOCKS not in client.started
        service.publish(31, 38)
        await client.read_updates(2)
        assert (client.started[BLOCKS].seq, client.started[BLOCKS].recovered) == (35, True)
        assert (client.heights, client.parts("snapshots")) == ([36, 37], [])


@pytest.mark.parametrize(
    ("seq", "epoch", "reason"), [(36, "e1", stream_pb2.REASON_AHEAD), (3, "e0", stream_pb2.REASON_EPOCH)]
)
async def test_a_position_that_is_worth_nothing_there_is_worth_nothing(tmp_path, ahead, seq, epoch, reason):
    async with keeping(tmp_path, newest=ahead.newest) as service, stub_of(service) as stub:
        service.publish(1, 31)
        client = Client(stub, since(BLOCKS, seq, epoch))
        await client.read_until(lambda: client.started)
        assert ahead.asked
        assert (client.started[BLOCKS].seq, client.started[BLOCKS].reason) == (30, reason)
        assert seqs(client.parts("snapshots")) == [30]


async def test_a_relay_that_lags_for_long_says_that_it_is_to_be_asked_again(tmp_path, ahead):
    async with keeping(tmp_path, newest=ahead.newest, decide_seconds=0.1) as service, stub_of(service) as stub:
        service.publish(1, 31)
        call = stub.Subscribe(service_pb2.SubscribeRequest(streams=[since(BLOCKS, 35)]))
        assert (await call.read()).HasField("source")
        error = await error_of(call.read())
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "ask again" in error.details()


async def test_what_a_relay_holds_no_more_has_been_read_before_it_says_that_it_is_recovered(tmp_path, ahead):
    async with keeping(tmp_path, kept=1000, newest=ahead.newest) as service, stub_of(service) as stub:
        service.publish(1, 1501)
        service.journal.trim(0)
        oldest = service.journal.oldest(BLOCKS)
        assert oldest > 100
        service.hub.extend(BLOCKS, 1)  # it has not heard of that yet
        client = Client(stub, since(BLOCKS, 5))
        await client.read_updates(1501 - oldest)
        started = client.started[BLOCKS]
        assert (started.seq, started.recovered, started.reason) == (oldest - 1, False, stream_pb2.REASON_TRIMMED)
        assert client.heights == list(range(oldest, 1501))
