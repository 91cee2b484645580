"""What becomes of a subscription or a call that ends with a gRPC status: every status, over real connections."""

import asyncio

import grpc
import pytest

from bridge.core.codes import ErrorCode
from bridge.core.errors import RequestError, UpstreamError
from bridge.core.hub import State
from bridge.edges.grpc import StateServer
from bridge.sources.patience import Patience
from bridge.sources.statuses import MEANINGS, PAGE_REFUSALS, Blame, Pace
from generated.theblock.state.v1 import service_pb2, stream_pb2
from tests.sources.upstream_rig import BLOCKS, PROGRESS, block, opening, response, scripted, sidecar_of
from tests.state_service import ANY_PORT, serving, until

FAILURES = [status for status in grpc.StatusCode if status is not grpc.StatusCode.OK]
SLOW = Patience(slow_pause=3600)
"""What is tried again slowly is not tried again within a test."""


def at_once() -> float:
    """Return the random number that makes every pause none."""
    return 0.0


def test_every_status_has_a_meaning():
    assert set(MEANINGS) == set(grpc.StatusCode)
    assert all(meaning.problem and not meaning.problem.endswith(".") for meaning in MEANINGS.values())


def test_which_statuses_are_tried_again_soon():
    soon = [status.name for status, meaning in MEANINGS.items() if meaning.pace is Pace.SOON]
    names = ("OK", "CANCELLED", "UNKNOWN", "DEADLINE_EXCEEDED", "ABORTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
    assert sorted(soon) == sorted(names)


@pytest.mark.parametrize("status", FAILURES, ids=lambda status: status.name)
async def test_a_subscription_that_is_refused_is_tried_again_soon_or_slowly_and_told_clearly(status):
    meaning = MEANINGS[status]
    async with scripted([status], [opening(0), PROGRESS], patience=SLOW) as (service, sidecar):
        told = f"{meaning.problem} ({status.name}: because of a reason)"
        await until(lambda: any(told in detail for _, detail in sidecar.states) or told in sidecar.hub.status.detail)
        if meaning.pace is Pace.SOON:
            await until(lambda: sidecar.live)
            assert len(service.requests) == 2
        else:
            # It fails as soon as it has subscribed, so one that is tried again soon would have been by now.
            async with scripted([grpc.StatusCode.UNAVAILABLE]) as (other, _):
                await until(lambda: len(other.requests) == 5)
            assert len(service.requests) == 1
            assert sidecar.hub.status.state is State.DOWN


@pytest.mark.parametrize("status", FAILURES, ids=lambda status: status.name)
async def test_a_subscription_that_had_been_answered_is_made_anew_soon(status):
    beginning = [opening(2), response(block(1), block(2)), status]
    going_on = [opening(3, seq=2, recovered=True), response(block(3))]
    async with scripted(beginning, going_on, patience=SLOW) as (service, sidecar):
        await until(lambda: sidecar.taken() == [1, 2, 3])
        assert [start.since.seq for start in service.requests[1].streams] == [2]


# A position at which the service fails again and again


def failing(status: grpc.StatusCode, *, answered: bool = True) -> list:
    return [opening(5, seq=2, recovered=True), status] if answered else [status]


BEGINNING = [opening(2), response(block(1), block(2)), grpc.StatusCode.UNAVAILABLE]
FROM_HEAD = [
    opening(7, seq=7),
    response(snapshots=[block(7)], progress=[service_pb2.StreamPosition(stream=BLOCKS, epoch="e", seq=7)]),
    response(block(8)),
]
BLAMED = [status for status in FAILURES if MEANINGS[status].blame is not Blame.NO]


def since(request: service_pb2.SubscribeRequest) -> int | None:
    (start,) = request.streams
    return start.since.seq if start.HasField("since") else None


async def given_up(scripts: list, caplog) -> None:
    """Check that a position is asked for five times, and then gone on from without it."""
    async with scripted(BEGINNING, *scripts * 5, FROM_HEAD, random=at_once) as (service, sidecar):
        await until(lambda: sidecar.taken() == [1, 2, 8])
        assert [since(request) for request in service.requests[1:]] == [2] * 5 + [None]
        (start,) = service.requests[-1].streams
        assert (start.stream, start.WhichOneof("start")) == (BLOCKS, None)
        history = sidecar.hub.history(BLOCKS)
        assert (history.base[""].seq, history.oldest, history.head) == (7, 8, 8)
        assert sidecar.source.subscriptions.given_up == 1
        assert [text for text in caplog.messages if f"behind e-2 of {BLOCKS}: followed on from the head" in text]


@pytest.mark.parametrize("status", BLAMED, ids=lambda status: status.name)
async def test_a_position_at_which_the_service_fails_five_times_is_given_up(status, caplog):
    await given_up([failing(status)], caplog)


async def test_a_service_that_has_lost_data_says_so_before_it_answers(caplog):
    await given_up([failing(grpc.StatusCode.DATA_LOSS, answered=False)], caplog)


async def test_a_position_at_which_the_service_breaks_the_protocol_five_times_is_given_up(caplog):
    await given_up([[opening(5, seq=2, recovered=True), response(block(5))]], caplog)
    await given_up([[opening(5, seq=2, recovered=True), b"\xff\xff"]], caplog)


@pytest.mark.parametrize(
    ("status", "answered"),
    [(status, True) for status in FAILURES if status not in BLAMED]
    + [(grpc.StatusCode.INTERNAL, False), (grpc.StatusCode.UNKNOWN, False)],
    ids=str,
)
async def test_no_position_is_given_up_for_what_it_cannot_be_blamed_for(status, answered):
    failures = [failing(status, answered=answered)] * 7
    going_on = [opening(3, seq=2, recovered=True), response(block(3))]
    async with scripted(BEGINNING, *failures, going_on, random=at_once) as (service, sidecar):
        await until(lambda: sidecar.taken() == [1, 2, 3])
        assert [since(request) for request in service.requests[1:]] == [2] * 8
        assert sidecar.source.subscriptions.given_up == 0


async def test_a_position_that_moves_on_between_failures_is_not_given_up():
    scripts = [
        [opening(99, seq=seq, recovered=True), response(block(seq + 1)), grpc.StatusCode.INTERNAL]
        for seq in range(2, 9)
    ]
    going_on = [opening(9, seq=9, recovered=True), PROGRESS]
    async with scripted(BEGINNING, *scripts, going_on, random=at_once) as (service, sidecar):
        await until(lambda: sidecar.live)
        assert sidecar.taken() == list(range(1, 10))
        assert [since(request) for request in service.requests[1:]] == list(range(2, 10))


async def test_failures_count_anew_once_the_service_has_done_what_was_asked():
    failures = [failing(grpc.StatusCode.DATA_LOSS)] * 4
    quiet = [opening(2, seq=2, recovered=True), PROGRESS, grpc.StatusCode.UNAVAILABLE]
    going_on = [opening(3, seq=2, recovered=True), response(block(3))]
    async with scripted(BEGINNING, *failures, quiet, *failures, going_on, random=at_once) as (service, sidecar):
        await until(lambda: sidecar.taken() == [1, 2, 3])
        assert [since(request) for request in service.requests[1:]] == [2] * 10


async def test_a_stream_that_has_nothing_to_come_loses_nothing_when_its_position_is_given_up():
    from_head = [opening(2, seq=2), PROGRESS, response(block(3))]
    failures = [failing(grpc.StatusCode.DATA_LOSS, answered=False)] * 5
    async with scripted(BEGINNING, *failures, from_head, random=at_once) as (_, sidecar):
        await until(lambda: sidecar.taken() == [1, 2, 3])
        assert sidecar.hub.history(BLOCKS).oldest == 1


async def test_the_next_address_is_asked_for_a_position_before_it_is_given_up():
    async with serving(epoch="e") as service, scripted(*[failing(grpc.StatusCode.INTERNAL)]) as (bad, _):
        service.origin.epoch = "e"  # as the script has it
        service.hub.set_epoch("e")
        service.blocks(range(1, 3))
        async with StateServer(ANY_PORT, [bad], drain_seconds=0) as server:
            bad.scripts = [BEGINNING, failing(grpc.StatusCode.INTERNAL)]
            async with sidecar_of(server.address, service.address) as sidecar:
                await until(lambda: sidecar.taken() == [1, 2] and sidecar.live)
                service.blocks(range(3, 6))
                await until(lambda: sidecar.taken() == [1, 2, 3, 4, 5])
                assert sidecar.source.subscriptions.given_up == 0


# Another epoch that does not come to be


async def test_positions_are_kept_until_another_epoch_has_begun():
    other = opening(7, seq=7, reason=stream_pb2.REASON_EPOCH)
    other.started[0].info.epoch = "other"
    going_on = [opening(3, seq=2, recovered=True), response(block(3))]
    async with scripted(BEGINNING, [other], [grpc.StatusCode.UNAVAILABLE], going_on) as (service, sidecar):
        await until(lambda: sidecar.taken() == [1, 2, 3])
        assert [len(request.streams) for request in service.requests] == [0, 1, 0, 1]
        assert since(service.requests[-1]) == 2


# A backup that was restored and has got ahead again


async def test_a_head_that_went_back_and_got_ahead_again_is_not_taken_for_a_gap():
    ahead = [opening(1, seq=1, reason=stream_pb2.REASON_AHEAD)]
    anew = [opening(9, seq=8), response(snapshots=[block(8)]), response(block(9))]
    async with scripted(BEGINNING, ahead, ahead, anew, patience=Patience(doubt=0.01)) as (service, sidecar):
        began: list[tuple] = []
        begin = sidecar.hub.begin
        sidecar.hub.begin = lambda *place: (began.append(place[:3]), begin(*place))  # a witness, nothing else
        await until(lambda: sidecar.taken()[2:] == [9])
        assert [place[1:] for place in began if place[0] == BLOCKS] == [("e", 0), ("e", 0), ("e", 8)]
        assert not service.requests[-1].streams


# Pages of history


class Answering:
    """A state service whose ListUpdates ends with a status, or never."""

    name = "theblock.state.v1.StateStreamService"

    def __init__(self, status: grpc.StatusCode | None) -> None:
        self.status = status

    def handler(self):
        method = grpc.unary_unary_rpc_method_handler(self._list_updates)
        return grpc.method_handlers_generic_handler(self.name, {"ListUpdates": method})

    def close(self) -> None:
        """Nothing to end."""

    async def _list_updates(self, _request, context) -> None:
        if self.status is None:
            await asyncio.Event().wait()
        await context.abort(self.status, "because of a reason")


PAGE = service_pb2.ListUpdatesRequest(stream=BLOCKS, limit=2)


async def test_a_page_of_history_comes_as_the_service_sent_it():
    async with serving() as service, sidecar_of(service.address) as sidecar:
        published = service.blocks(range(1, 6))
        raw = await sidecar.source.list_updates(PAGE)
        page = service_pb2.ListUpdatesResponse.FromString(raw)
        assert [update.SerializeToString() for update in page.updates] == [update.raw for update in published[:2]]
        assert (page.next.seq, page.info.oldest) == (2, 1)


@pytest.mark.parametrize("status", FAILURES, ids=lambda status: status.name)
async def test_a_page_that_will_never_be_had_is_told_from_one_that_cannot_be_had_now(status):
    never = {grpc.StatusCode[name] for name in ("INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "OUT_OF_RANGE")}
    assert set(PAGE_REFUSALS) == never
    expected = RequestError if status in never else UpstreamError
    async with (
        StateServer(ANY_PORT, [Answering(status)], drain_seconds=0) as server,
        sidecar_of(server.address) as sidecar,
    ):
        with pytest.raises(expected) as caught:
            await sidecar.source.list_updates(PAGE)
        if expected is RequestError:
            assert (caught.value.code, str(caught.value)) == (ErrorCode.INVALID_PARAMS, "because of a reason")


async def test_a_page_of_another_epoch_will_never_be_had():
    async with serving() as service, sidecar_of(service.address) as sidecar:
        request = service_pb2.ListUpdatesRequest(stream=BLOCKS, since=stream_pb2.Position(epoch="gone", seq=1))
        with pytest.raises(RequestError, match="another epoch"):
            await sidecar.source.list_updates(request)


async def test_a_page_is_not_waited_for_for_ever():
    async with (
        StateServer(ANY_PORT, [Answering(None)], drain_seconds=0) as server,
        sidecar_of(server.address, patience=Patience(call=0.2)) as sidecar,
    ):
        with pytest.raises(UpstreamError, match="did not answer within 0.2 s"):
            await sidecar.source.list_updates(PAGE)
    with pytest.raises(UpstreamError, match="going away"):
        await sidecar.source.list_updates(PAGE)
