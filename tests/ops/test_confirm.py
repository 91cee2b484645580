"""The loader asks the process that is followed about positions that are not known here: it may be ahead of us."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from bridge.core.audience import Reader
from bridge.core.errors import ErrorCode, RequestError, UpstreamError
from bridge.core.limits import Limits
from bridge.core.methods import Methods, Started, Subscribed
from bridge.core.position import Position
from bridge.core.update import Format
from bridge.ops import deep
from bridge.ops.deep import Found, PageLoader, from_upstream, newest_upstream, when_there
from bridge.sources.grpc import UpstreamSource
from generated.theblock.state.v1 import service_pb2, stream_pb2
from tests.sources.upstream_rig import Proxy, Sidecar, before
from tests.state_service import Service, serving, until

BLOCKS = "block_updates"


@pytest.fixture(autouse=True)
def often(monkeypatch) -> None:
    """Have it asked again soon."""
    monkeypatch.setattr(deep, "LOOK_AGAIN_SECONDS", 0.005)


class Upstream:
    """The process that is followed, as far as it is asked for positions."""

    def __init__(self) -> None:
        self.newest = {BLOCKS: Position("e1", 3)}
        self.problems: list[Exception] = []  # raised first
        self.asked: list[str] = []
        self.open = asyncio.Event()
        self.open.set()

    async def tell(self, stream: str) -> Position:
        self.asked.append(stream)
        await self.open.wait()
        if self.problems:
            raise self.problems.pop(0)
        return self.newest[stream]


async def nothing_to_read(stream: str, since: int, until: int) -> Found:
    raise AssertionError("nothing lies behind memory here")


class Here:
    """A hub with three blocks that follows an upstream, and clients that come to it."""

    def __init__(self, service: Service, upstream: Upstream) -> None:
        self.service = service
        self.hub = service.hub
        self.upstream = upstream
        self.waiting: list[asyncio.Task[Started]] = []

    async def resume(self, seq: int, epoch: str = "e1", stream: str = BLOCKS) -> Started:
        """Subscribe behind a position, as an edge does; return where that begins."""
        methods = Methods(self.hub, Reader(lambda _: None, Format.JSON), Limits())
        methods.late = False
        entry = {"stream": stream, "since": {"epoch": epoch, "seq": seq}}
        answer = await when_there(self.hub, lambda: methods.call("state_stream.subscribe", [entry]))
        assert isinstance(answer.result, Subscribed)
        return answer.result.rows[0]

    def come(self, seq: int, epoch: str = "e1", stream: str = BLOCKS) -> "asyncio.Task[Started]":
        """Have a client resume behind a position, for as long as that takes."""
        self.waiting.append(asyncio.create_task(self.resume(seq, epoch, stream)))
        return self.waiting[-1]

    async def asked(self, times: int) -> None:
        """Wait until the upstream was asked so many more times."""
        due = len(self.upstream.asked) + times
        await until(lambda: len(self.upstream.asked) >= due)


@asynccontextmanager
async def following() -> AsyncIterator[Here]:
    """Yield a hub, the upstream that it follows, and what clients are told."""
    service, upstream = Service(), Upstream()
    service.blocks(range(1, 4))
    here = Here(service, upstream)
    loader = PageLoader(nothing_to_read, service.hub, newest=upstream.tell, random=lambda: 0.0)
    task = asyncio.create_task(loader.run())
    try:
        yield here
        assert not task.done()
    finally:
        for one in (task, *here.waiting):
            one.cancel()
            with suppress(asyncio.CancelledError, RequestError):
                await one


@pytest.mark.parametrize(("epoch", "seq", "reason"), [("e1", 4, "ahead"), ("e1", 99, "ahead"), ("e0", 2, "epoch")])
async def test_a_position_that_the_upstream_does_not_know_either_is_worth_nothing(epoch, seq, reason):
    async with following() as here:
        row = await here.resume(seq, epoch)
        assert (row.recovered, row.reason, row.position) == (False, reason, Position("e1", 3))
        assert here.upstream.asked == [BLOCKS]
        assert (here.hub.pages.waiting, list(here.hub.pages.ahead)) == (0, [])


async def test_nobody_is_asked_about_positions_that_are_known():
    async with following() as here:
        assert [(await here.resume(seq)).replayed for seq in (0, 2, 3)] == [3, 1, 0]
        assert here.upstream.asked == []


async def test_one_that_has_come_there_is_waited_for_until_it_is_here():
    async with following() as here:
        here.upstream.newest[BLOCKS] = Position("e1", 5)
        one = here.come(4)
        await here.asked(3)
        assert not one.done(), "it may come any moment"
        here.service.blocks([4, 5])
        row = await one
        assert (row.recovered, row.replayed, row.position.seq) == (True, 1, 4)
        times = len(here.upstream.asked)
        assert (await here.resume(5)).recovered
        assert len(here.upstream.asked) == times, "and nobody is asked any more"


async def test_an_epoch_that_has_begun_there_is_waited_for_until_it_begins_here():
    async with following() as here:
        here.upstream.newest[BLOCKS] = Position("e2", 2)
        new, old = here.come(1, "e2"), here.come(9, "e1")
        await here.asked(3)
        assert not new.done()
        assert not old.done(), "what was worth nothing in our epoch says nothing while there is a newer one"
        here.service.origin.begin_epoch()
        here.service.blocks([10, 11])
        assert ((await new).recovered, (await new).replayed) == (True, 1)
        assert ((await old).recovered, (await old).reason) == (False, "epoch")


async def test_a_position_of_the_epoch_that_begins_next_is_not_decided_on_by_the_one_before():
    async with following() as here:
        here.service.origin.begin_epoch()  # we are in e2 while the answer, from before, says e1
        row = here.come(1, "e1")
        await here.asked(2)
        assert not row.done()
        here.upstream.newest[BLOCKS] = Position("e2", 0)
        assert (await row).reason == "epoch"


@pytest.mark.parametrize("problem", [UpstreamError("not now"), OSError("gone"), TimeoutError()], ids=repr)
async def test_while_it_cannot_be_asked_nothing_is_decided(problem):
    async with following() as here:
        here.upstream.problems = [problem] * 3
        one = here.come(9)
        await here.asked(3)
        assert not one.done()
        assert (await one).reason == "ahead"
        assert len(here.upstream.asked) == 4


async def test_what_cannot_be_known_in_time_is_refused(monkeypatch):
    monkeypatch.setattr(deep, "WAIT_SECONDS", 0.05)
    async with following() as here:
        here.upstream.open.clear()
        with pytest.raises(RequestError) as refusal:
            await here.resume(9)
        assert (refusal.value.code, refusal.value.data) == (ErrorCode.UPSTREAM_UNAVAILABLE, {"retry_after_ms": 1000})
        assert here.hub.pages.waiting == 0
        here.upstream.open.set()
        here.service.blocks([4])
        await until(lambda: not here.hub.pages.ahead)
        assert (await here.resume(4)).recovered, "its position is as good as before"


async def test_an_upstream_that_says_nothing_is_asked_again(monkeypatch):
    monkeypatch.setattr(deep, "READ_SECONDS", 0.02)
    async with following() as here:
        here.upstream.open.clear()
        one = here.come(9)
        await here.asked(2)
        here.upstream.open.set()
        assert (await one).reason == "ahead"


async def test_a_stream_that_is_not_known_there_has_no_positions():
    async with following() as here:
        here.hub.find_stream("ticks", "tick", keyed=False)
        here.upstream.problems = [RequestError(ErrorCode.INVALID_PARAMS, "no such stream")]
        assert (await here.resume(1, stream="ticks")).reason == "ahead"


async def test_all_positions_of_a_stream_are_decided_on_in_one_go():
    async with following() as here:
        here.upstream.newest["metrics"] = Position("e1", 7)
        here.upstream.open.clear()
        first = here.come(4)
        await here.asked(1)
        more = [here.come(seq) for seq in (5, 6, 6)]
        metrics = here.come(2, stream="metrics")
        await until(lambda: len(here.hub.pages.ahead) == 4)
        here.upstream.open.set()
        assert {(await row).reason for row in (first, *more)} == {"ahead"}
        assert here.upstream.asked.count(BLOCKS) == 2
        await here.asked(2)
        assert not metrics.done()
        here.upstream.newest["metrics"] = Position("e1", 0)
        assert (await metrics).reason == "ahead"


async def test_whoever_leaves_is_asked_for_no_longer_than_until_something_comes():
    async with following() as here:
        here.upstream.newest[BLOCKS] = Position("e1", 50)
        one = here.come(40)
        await here.asked(1)
        one.cancel()
        await until(lambda: not here.hub.pages.waiting)
        here.service.blocks([4])
        await until(lambda: not here.hub.pages.ahead)
        times = len(here.upstream.asked)
        assert (await here.resume(60)).reason == "ahead"
        assert len(here.upstream.asked) in (times + 1, times + 2), "one may have been on its way"


# ---------------------------------------------------------------------- how far a state service is


async def test_how_far_a_state_service_is():
    asked: list[service_pb2.ListUpdatesRequest] = []
    info = stream_pb2.StreamInfo(stream=BLOCKS, epoch="e7", newest=12, oldest=3)

    async def call(request: service_pb2.ListUpdatesRequest) -> bytes:
        asked.append(request)
        return service_pb2.ListUpdatesResponse(info=info).SerializeToString()

    assert await newest_upstream(call)(BLOCKS) == Position("e7", 12)
    assert asked == [service_pb2.ListUpdatesRequest(stream=BLOCKS, limit=1, reverse=True)]


async def test_an_answer_that_is_none():
    async def call(request: service_pb2.ListUpdatesRequest) -> bytes:
        return b"\xff\xff"

    with pytest.raises(UpstreamError, match="none of its own"):
        await newest_upstream(call)(BLOCKS)


# ---------------------------------------------------------------------- over real connections


class Follower(Here):
    """A sidecar of a state service, as it is wired; what it hears may be held back while it can still ask."""

    def __init__(self, service: Service, sidecar: Sidecar, direct: UpstreamSource) -> None:
        super().__init__(service, Upstream())
        self.hub = sidecar.hub
        calls = direct.list_updates
        read = from_upstream(sidecar.source.list_updates, self.hub)
        self.loader = PageLoader(read, self.hub, newest=newest_upstream(calls), random=lambda: 0.0)

    def has(self, seq: int, epoch: str = "e1") -> bool:
        history = self.hub.histories[BLOCKS]
        return self.hub.upstream_reached and (history.epoch, history.head) == (epoch, seq)


@asynccontextmanager
async def two_sidecars() -> AsyncIterator[tuple[Service, Follower, Follower, Proxy]]:
    """Yield a state service, a sidecar that hears everything, and one whose subscription goes through a proxy."""
    async with serving(progress_seconds=0.1) as service, before(service.address) as proxy:
        service.blocks(range(1, 4))
        first, second = Sidecar(service.address), Sidecar(proxy.address)
        near, far = Follower(service, first, first.source), Follower(service, second, first.source)
        runs = (first.source.run(), second.source.run(), near.loader.run(), far.loader.run())
        tasks = [asyncio.create_task(run) for run in runs]
        try:
            await until(lambda: near.has(3) and far.has(3))
            yield service, near, far, proxy
        finally:
            tasks += [*near.waiting, *far.waiting]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_client_that_goes_from_a_sidecar_to_one_that_lags_goes_on_there():
    async with two_sidecars() as (service, near, far, proxy):
        proxy.passing.clear()
        service.blocks(range(4, 9))
        await until(lambda: near.has(8))
        assert (await near.resume(3)).replayed == 5
        hopping = far.come(7)
        await until(lambda: far.hub.pages.ahead)
        assert not hopping.done()
        proxy.passing.set()
        row = await hopping
        assert (row.recovered, row.replayed, row.position) == (True, 1, Position("e1", 7))


async def test_a_client_that_comes_from_a_new_epoch_to_a_sidecar_that_has_not_heard_of_it_goes_on_there():
    async with two_sidecars() as (service, near, far, proxy):
        proxy.passing.clear()
        service.origin.begin_epoch()
        service.blocks([1, 2, 3])
        await until(lambda: near.has(3, "e2"))
        hopping, old = far.come(2, "e2"), far.come(3, "e1")
        assert (await old).recovered, "the epoch that it knows is the one that it serves"
        await until(lambda: far.hub.pages.ahead)
        assert not hopping.done()
        proxy.passing.set()
        row = await hopping
        assert (row.recovered, row.replayed, row.position) == (True, 1, Position("e2", 2))


async def test_a_restored_state_service_takes_a_position_for_worth_nothing_at_once():
    async with two_sidecars() as (_, _, far, _):
        row = await far.resume(500)
        assert (row.recovered, row.reason, row.position) == (False, "ahead", Position("e1", 3))
        row = await far.resume(1, "elsewhere")
        assert (row.recovered, row.reason) == (False, "epoch")


async def test_a_sidecar_that_is_cut_off_altogether_has_the_client_keep_its_position(monkeypatch):
    monkeypatch.setattr(deep, "WAIT_SECONDS", 0.2)
    async with serving(progress_seconds=0.1) as service, before(service.address) as proxy:
        service.blocks(range(1, 4))
        sidecar = Sidecar(proxy.address)
        far = Follower(service, sidecar, sidecar.source)
        tasks = [asyncio.create_task(run) for run in (sidecar.source.run(), far.loader.run())]
        try:
            await until(lambda: far.has(3))
            proxy.passing.clear()
            service.blocks([4, 5])
            with pytest.raises(RequestError) as refusal:
                await far.resume(5)
            assert refusal.value.code is ErrorCode.UPSTREAM_UNAVAILABLE
            proxy.passing.set()
            monkeypatch.undo()
            row = await far.resume(5)
            assert (row.recovered, row.position) == (True, Position("e1", 5))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
