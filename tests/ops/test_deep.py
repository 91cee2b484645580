"""The loader: pages read from a disk or a state service that may be slow, gone or broken."""

import asyncio
from contextlib import asynccontextmanager, suppress

import pytest

from bridge.core.cursor import Cursor, Spec, gather
from bridge.core.deep import PAGE_UPDATES, Needed, Place
from bridge.core.errors import ErrorCode, JournalError, RequestError, UpstreamError
from bridge.core.hub import Hub
from bridge.ops.deep import LOADS, TRIES, Found, PageLoader, from_disk, from_upstream, when_there
from bridge.store.journal.types import Record, StoredPage
from generated.theblock.state.v1 import service_pb2, stream_pb2
from tests.state_service import Service, new_hub, until

BLOCKS = "block_updates"


class Shelf:
    """What is kept of a stream, read as a test wants."""

    def __init__(self, hub: Hub, raws: list[bytes]) -> None:
        self.hub = hub
        self.raws = raws  # update n at n - 1
        self.oldest = 1
        self.calls: list[tuple[str, int, int]] = []
        self.problems: list[Exception] = []  # raised first
        self.spoiled = 0  # answers that are not what was asked for, first
        self.open = asyncio.Event()
        self.open.set()
        self.reading = self.most = 0

    async def read(self, stream: str, since: int, until: int) -> Found:
        self.calls.append((stream, since, until))
        self.reading += 1
        self.most = max(self.most, self.reading)
        try:
            await self.open.wait()
            if self.problems:
                raise self.problems.pop(0)
        finally:
            self.reading -= 1
        if self.spoiled:
            self.spoiled -= 1
            return Found(self.oldest, self.raws[:5])
        first = max(since + 1, self.oldest)
        base = [self.raws[self.oldest - 2]] if since + 1 < self.oldest else []
        return Found(self.oldest, self.raws[first - 1 : until - 1][:PAGE_UPDATES], base)


@asynccontextmanager
async def loading(count: int = 3000, keep: int = 10):
    """Yield a hub that remembers little of the blocks that were published, and the shelf behind it."""
    service = Service(count=keep)
    raws = [service.block(height).raw for height in range(1, count + 1)]
    shelf = Shelf(service.hub, raws)
    loader = PageLoader(shelf.read, service.hub, random=lambda: 0.0)
    service.hub.extend(BLOCKS, 1)
    task = asyncio.create_task(loader.run())
    try:
        yield service.hub, shelf, loader
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def cursor(hub: Hub, at: int) -> Cursor:
    return Cursor(Spec(BLOCKS), hub.histories[BLOCKS], at)


async def read_on(hub: Hub, one: Cursor) -> list[int]:
    """Read a cursor to its end; return the seqs."""
    found: list[int] = []
    while not one.at_head:
        if (place := one.needs) is not None:
            came = asyncio.Event()
            hub.pages.want(place, came.set)
            async with asyncio.timeout(10):
                await came.wait()
        if gap := one.pass_gap():
            found.append(-gap.missed.last)
        found += [update.seq for update, _ in gather([one], 100)]
    return found


async def test_pages_are_read_and_supplied():
    async with loading() as (hub, shelf, _):
        assert await read_on(hub, cursor(hub, 700)) == list(range(701, 3001))
        assert shelf.calls == [(BLOCKS, start, start + PAGE_UPDATES + 1) for start in range(512, 3000, PAGE_UPDATES)]
        assert hub.pages.loads == 5


async def test_a_few_are_read_at_a_time_and_each_once_however_many_wait():
    async with loading() as (hub, shelf, _):
        shelf.open.clear()
        readers = [asyncio.create_task(read_on(hub, cursor(hub, at))) for at in (0, 5, 600, 1100, 1600, 2100, 2600)]
        await until(lambda: len(shelf.calls) == LOADS)
        shelf.open.set()
        lengths = [len(await reader) for reader in readers]
        assert lengths == [3000, 2995, 2400, 1900, 1400, 900, 400]
        assert shelf.most == LOADS
        assert len(shelf.calls) == len(set(shelf.calls)) == 6


@pytest.mark.parametrize(
    "problem", [UpstreamError("not now"), JournalError("the disk failed"), OSError("gone"), TimeoutError()], ids=repr
)
async def test_what_fails_is_tried_again_a_few_times_then_it_is_missing(problem, caplog):
    async with loading() as (hub, shelf, loader):
        shelf.problems = [problem] * (TRIES - 1)
        assert len(await read_on(hub, cursor(hub, 2500))) == 500
        assert (hub.pages.failures, loader.failures) == (0, TRIES - 1)
        shelf.problems = [problem] * TRIES
        assert await read_on(hub, cursor(hub, 1000)) == [-1025, *range(1026, 3001)], "a gap"
        assert hub.pages.failures == 1
        assert "updates of block_updates behind 512 cannot be read" in caplog.text


async def test_what_will_never_be_answered_is_asked_once():
    async with loading() as (hub, shelf, _):
        shelf.problems = [RequestError(ErrorCode.INVALID_PARAMS, "no such stream")]
        assert (await read_on(hub, cursor(hub, 2000)))[0] == -2049
        assert hub.pages.failures == 1


async def test_a_page_that_is_not_what_was_asked_for_is_read_again():
    async with loading() as (hub, shelf, loader):
        shelf.spoiled = 2
        assert await read_on(hub, cursor(hub, 2000)) == list(range(2001, 3001))
        assert loader.failures == 2


async def test_while_upstream_is_lost_readers_wait_and_nothing_is_used_up():
    async with loading() as (hub, shelf, loader):
        hub.upstream_reached = False
        reader = asyncio.create_task(read_on(hub, cursor(hub, 2000)))
        await until(lambda: hub.pages.waiting)
        await asyncio.sleep(0)
        assert shelf.calls == []
        hub.upstream_reached = True
        assert await reader == list(range(2001, 3001))
        assert loader.failures == 0


async def test_what_fails_since_upstream_is_lost_uses_up_nothing():
    async with loading() as (hub, shelf, loader):
        shelf.open.clear()
        shelf.problems = [UpstreamError("lost")] * 3 * TRIES
        reader = asyncio.create_task(read_on(hub, cursor(hub, 2000)))
        for failures in range(1, 2 * TRIES):
            await until(lambda: shelf.reading)
            hub.upstream_reached = False
            shelf.open.set()
            await until(lambda: loader.failures == failures)  # noqa: B023
            shelf.open.clear()
            hub.upstream_reached = True
        shelf.problems.clear()
        shelf.open.set()
        assert await reader == list(range(2001, 3001))


async def test_a_page_that_nobody_waits_for_any_more_is_not_read():
    async with loading() as (hub, shelf, _):
        hub.upstream_reached = False
        place, came = Place(BLOCKS, "e1", 1024), asyncio.Event()
        hub.pages.want(place, came.set)
        hub.pages.forget(came.set)
        hub.upstream_reached = True
        await read_on(hub, cursor(hub, 2900))
        assert (BLOCKS, 1024, 1537) not in shelf.calls
        hub.pages.want(place, came.set)
        await until(came.is_set)


async def test_an_epoch_that_ends_while_a_page_is_read():
    async with loading() as (hub, shelf, _):
        shelf.open.clear()
        reader = asyncio.create_task(read_on(hub, cursor(hub, 2000)))
        await until(lambda: shelf.reading)
        hub.set_epoch("e2")
        shelf.open.set()
        async with asyncio.timeout(10):
            await reader
        assert hub.pages.held == []
        assert hub.pages.waiting == 0


@pytest.mark.parametrize("told", [True, False])
async def test_what_is_gone_comes_with_the_oldest_page_whether_it_was_known_or_not(told):
    async with loading() as (hub, shelf, _):
        shelf.oldest = 1500
        if told:
            hub.extend(BLOCKS, 1500)
        one = cursor(hub, 1024 if not told else 100)
        assert await read_on(hub, one) == [-1499, *range(1500, 3001)]
        assert all(since in (0, *range(512, 3000, 512)) for _, since, _ in shelf.calls)


async def test_more_than_was_thought_is_found():
    async with loading() as (hub, shelf, _):
        hub.extend(BLOCKS, 2000)
        history = hub.histories[BLOCKS]
        with pytest.raises(Needed):
            hub.pages.require(history, 1999)
        await when_there(hub, lambda: hub.pages.require(history, 1999))
        assert history.reach == 1
        assert shelf.calls == [(BLOCKS, 0, 2049), (BLOCKS, 1536, 2049)]


# ---------------------------------------------------------------------- waiting


async def test_an_attempt_is_made_again_when_pages_have_come():
    async with loading() as (hub, _, _):
        history = hub.histories[BLOCKS]
        attempts = []

        def attempt() -> int:
            attempts.append(1)
            return hub.pages.require(history, 100).end + hub.pages.require(history, 600).end

        assert await when_there(hub, attempt) == 512 + 1024
        assert len(attempts) == 3
        assert hub.pages.waiting == 0


async def test_an_attempt_ends_in_time():
    async with loading() as (hub, shelf, _):
        shelf.open.clear()
        with pytest.raises(RequestError, match="cannot be read") as refusal:
            await when_there(hub, lambda: hub.pages.require(hub.histories[BLOCKS], 100), 0.02)
        assert refusal.value.code == ErrorCode.UPSTREAM_UNAVAILABLE
        assert hub.pages.waiting == 0


# ---------------------------------------------------------------------- where pages are read from


async def test_reading_from_disk():
    calls = []

    def read(*asked: object) -> StoredPage:
        calls.append(asked)
        return StoredPage(3, [Record(3, 1, 0, "", b"raw")], [b"base"])

    assert await from_disk(read)("notes", 1, 9) == Found(3, [b"raw"], [b"base"])
    assert calls == [("notes", 1, 9, PAGE_UPDATES, 1 << 20)]


async def test_reading_from_a_state_service():
    hub = new_hub(epoch="e1")
    asked = []
    info = stream_pb2.StreamInfo(stream=BLOCKS, epoch="e1", oldest=0, newest=7)

    async def call(request: service_pb2.ListUpdatesRequest) -> bytes:
        asked.append(request)
        return service_pb2.ListUpdatesResponse(info=info).SerializeToString()

    read = from_upstream(call, hub)
    assert await read(BLOCKS, 5, 9) == Found(8, [], [])
    position = stream_pb2.Position
    (request,) = asked
    assert (request.stream, request.since, request.until) == (
        BLOCKS,
        position(epoch="e1", seq=5),
        position(epoch="e1", seq=9),
    )
    assert request.limit == PAGE_UPDATES
    info.oldest = 4
    assert (await read(BLOCKS, 5, 9)).oldest == 4
    info.epoch = "e2"
    with pytest.raises(UpstreamError, match="epoch 'e2'"):
        await read(BLOCKS, 5, 9)


async def test_a_page_that_is_no_message():
    async def call(request: service_pb2.ListUpdatesRequest) -> bytes:
        return b"\xff\xff"

    with pytest.raises(UpstreamError, match="none of its own"):
        await from_upstream(call, new_hub(epoch="e1"))(BLOCKS, 5, 9)
