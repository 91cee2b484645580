"""The source of a sidecar over real connections: whatever happens to the service, each update comes once, in order."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from bridge.core.cursor import Cursor, Spec
from bridge.core.errors import NodeCallError, RequestError, UpstreamError
from bridge.core.hub import State
from bridge.core.update import field
from bridge.edges.grpc import StateServer, StateStreamService
from bridge.settings.address import Address
from bridge.sources.patience import Patience
from generated.theblock.state.v1 import account_pb2, service_pb2, stream_pb2, update_pb2
from tests.sources.upstream_rig import (
    BLOCKS,
    LIVE,
    PROGRESS,
    Sidecar,
    block,
    metrics,
    opening,
    response,
    scripted,
    sidecar_of,
    started,
)
from tests.state_service import ANY_PORT, Service, serving, until


def account(service: Service, address: str, nonce: int):
    return service.origin.publish(account_pb2.AccountUpdate(address=address, nonce=nonce))


def same(update, other) -> bool:
    return (update.stream.name, update.epoch, update.seq, update.time_ms, update.key, update.prev, update.raw) == (
        other.stream.name,
        other.epoch,
        other.seq,
        other.time_ms,
        other.key,
        other.prev,
        other.raw,
    )


# Following


async def test_everything_arrives_once_in_order_and_byte_for_byte():
    async with serving() as service:
        published = service.blocks(range(1, 301))
        published += [service.custom("ticks", number) for number in range(200)]
        async with sidecar_of(service.address) as sidecar:
            await until(lambda: sidecar.live)
            for number in range(300):
                published += [service.block(1000 + number), account(service, f"a{number % 5}", number)]
                published.append(service.custom("weather", number, key="here"))
                if number % 7 == 0:
                    await asyncio.sleep(0)
            await until(lambda: len(sidecar.admitted) == len(published))
            assert all(same(got, sent) for got, sent in zip(sidecar.admitted, published, strict=True))
            counts = sidecar.source.subscriptions
            assert (counts.calls, counts.updates, counts.repeats, counts.faults) == (1, len(published), 0, 0)


async def test_the_hub_holds_the_history_and_the_current_values_of_the_service():
    async with serving(count=50) as service:
        service.blocks(range(1, 101))
        for height in range(1, 11):
            service.metrics(height)
        for number in range(100):
            account(service, f"a{number % 80}", number)
        service.custom("weather", 7)
        async with sidecar_of(service.address, count=50) as sidecar:
            await until(lambda: sidecar.live)
            for name, theirs in service.hub.histories.items():
                ours = sidecar.hub.history(name)
                assert (ours.epoch, ours.head, ours.oldest) == (theirs.epoch, theirs.head, theirs.oldest), name
                assert [u.raw for u in ours.after(0, 1000)] == [u.raw for u in theirs.after(0, 1000)]
                assert {key: u.raw for key, u in ours.latest.items()} == {
                    key: u.raw for key, u in theirs.latest.items()
                }
            assert sidecar.hub.history(BLOCKS).base[""].seq == 50
            assert sidecar.hub.epoch == "e1"


async def test_one_subscription_whatever_the_number_of_clients():
    async with serving() as service, sidecar_of(service.address) as sidecar:
        await until(lambda: sidecar.live)
        for number in range(50):
            sidecar.hub.history(f"undeclared{number}")
        service.block(1)
        await until(lambda: sidecar.taken() == [1])
        assert service.state.subscribers == 1
        assert sidecar.source.subscriptions.calls == 1


async def test_many_values_are_all_there_when_the_streams_begin():
    async with serving() as service:
        for number in range(15_000):
            account(service, f"{number:0100d}", 1)
        async with sidecar_of(service.address, history_count=10) as sidecar:
            await until(lambda: sidecar.live)
            assert sidecar.taken("account") == list(range(14_991, 15_001))
            assert len(sidecar.hub.history("account").latest) == 15_000


async def test_a_stream_that_is_declared_later_is_followed_from_its_first_update():
    async with serving() as service, sidecar_of(service.address) as sidecar:
        await until(lambda: sidecar.live)
        cursor = Cursor(Spec("weather"), sidecar.hub.history("weather"), 0)
        for number in range(3):
            service.custom("weather", number)
        await until(lambda: sidecar.taken("weather") == [1, 2, 3])
        assert [update.data() for update in cursor.peek(10).updates] == [{"n": 0}, {"n": 1}, {"n": 2}]


async def test_a_relay_passes_everything_on_byte_for_byte_and_begins_when_it_knows_the_epoch(tmp_path):
    address = Address(path=str(tmp_path / "state.sock"))
    async with sidecar_of(address) as relay:
        state = StateStreamService(relay.hub)
        async with (
            StateServer(ANY_PORT, [state], drain_seconds=0) as server,
            sidecar_of(server.address) as sidecar,
        ):
            await until(lambda: state.subscribers == 1)
            async with serving(address) as service:
                published = service.blocks(range(1, 51))
                service.metrics(50)
                published += [service.custom("weather", number, key="here") for number in range(5)]
                await until(lambda: sidecar.live and len(sidecar.admitted) == 56)
                published.append(service.block(51))
                await until(lambda: len(sidecar.admitted) == 57)
                got = [update for update in sidecar.admitted if update.stream.name != "metrics"]
                assert all(same(update, sent) for update, sent in zip(got, published, strict=True))
                assert sidecar.hub.epoch == "e1"
                assert sidecar.source.subscriptions.faults == 0


# Losing the service


async def test_a_cut_loses_nothing_and_repeats_nothing():
    async with serving() as service, sidecar_of(service.address) as sidecar:
        heights = itertools.count(1)
        for _ in range(4):
            service.blocks(itertools.islice(heights, 20))
            service.custom("weather", 1)
            await until(lambda: sidecar.live and len(sidecar.taken()) == service.hub.history(BLOCKS).head)
            await service.stop()
            await until(lambda: sidecar.hub.status.state is State.DOWN)
            service.blocks(itertools.islice(heights, 30))
            service.custom("weather", 2)
            await service.start()
        await until(lambda: sidecar.live)
        assert sidecar.taken() == list(range(1, 201))
        assert sidecar.taken("weather") == list(range(1, 9))
        counts = sidecar.source.subscriptions
        assert (counts.reconnects, counts.repeats, counts.faults) == (4, 0, 0)
        assert "cannot be reached" in next(detail for state, detail in sidecar.states[2:] if state is State.DOWN)


async def test_a_cut_in_the_middle_of_a_replay_loses_nothing():
    async with serving() as service:
        service.blocks(range(1, 3001), size=4000)
        async with sidecar_of(service.address) as sidecar:
            await until(lambda: len(sidecar.admitted) > 200)
            assert len(sidecar.admitted) < 3000
            await service.stop()
            await service.start()
            await until(lambda: sidecar.live)
            assert sidecar.taken() == list(range(1, 3001))


async def test_what_was_trimmed_in_an_outage_is_a_gap_in_the_hub_too():
    async with serving(count=10) as service, sidecar_of(service.address, count=1000) as sidecar:
        service.blocks(range(1, 6))
        await until(lambda: sidecar.live and sidecar.taken() == [1, 2, 3, 4, 5])
        history = sidecar.hub.history(BLOCKS)
        cursor = Cursor(Spec(BLOCKS), history, history.head)
        await service.stop()
        service.blocks(range(6, 31))
        await service.start()
        await until(lambda: history.head == 30)
        assert sidecar.taken() == [1, 2, 3, 4, 5, *range(21, 31)]
        assert cursor.pass_gap().missed == (6, 20)
        assert history.base[""].data()["height"] == 20
        assert sidecar.source.subscriptions.faults == 0


async def test_a_new_epoch_begins_every_stream_anew():
    async with serving() as service, sidecar_of(service.address) as sidecar:
        service.blocks(range(1, 6))
        account(service, "a", 1)
        await until(lambda: sidecar.live and sidecar.taken("account") == [1])
        service.origin.begin_epoch()
        service.blocks(range(1, 4))
        await until(lambda: sidecar.taken() == [1, 2, 3, 4, 5, 1, 2, 3])
        assert sidecar.hub.epoch == "e2"
        assert {history.epoch for history in sidecar.hub.histories.values()} == {"e2"}
        assert sidecar.hub.history("account").latest == {}
        assert sidecar.source.subscriptions.calls == 1


async def test_a_service_that_lost_its_journal_is_followed_with_all_that_it_has():
    async with serving(epoch="a") as old, sidecar_of(old.address) as sidecar:
        old.blocks(range(1, 21))
        await until(lambda: sidecar.live and len(sidecar.taken()) == 20)
        await old.stop()
        async with serving(old.address, epoch="b") as new:
            new.blocks(range(1, 8))
            await until(lambda: sidecar.live and sidecar.taken()[20:] == [1, 2, 3, 4, 5, 6, 7])
            assert {history.epoch for history in sidecar.hub.histories.values()} == {"b1"}
            new.block(8)
            await until(lambda: sidecar.taken()[20:] == [1, 2, 3, 4, 5, 6, 7, 8])
        await old.start()


async def test_a_service_whose_head_went_back_is_followed_from_what_it_has():
    patience = Patience(doubt=0.2)
    async with serving(epoch="a") as old, sidecar_of(old.address, patience=patience) as sidecar:
        old.blocks(range(1, 21))
        await until(lambda: sidecar.live and len(sidecar.taken()) == 20)
        await old.stop()
        async with serving(old.address, epoch="a") as restored:
            restored.blocks(range(1, 8))
            await until(lambda: sidecar.live and sidecar.taken()[20:] == [1, 2, 3, 4, 5, 6, 7])
            assert sidecar.hub.history(BLOCKS).head == 7
        await old.start()


# What state it is in


async def test_it_is_live_only_when_everything_has_come():
    async with serving() as service:
        service.blocks(range(1, 2001), size=4000)
        async with sidecar_of(service.address) as sidecar:
            await until(lambda: sidecar.admitted)
            assert not sidecar.live
            await until(lambda: sidecar.live)
            assert len(sidecar.taken()) == 2000


@pytest.mark.parametrize("state", [State.STALE, State.DOWN])
async def test_what_the_service_says_of_its_source_is_passed_on(state):
    async with serving() as service, sidecar_of(service.address) as sidecar:
        await until(lambda: sidecar.live)
        assert sidecar.hub.status == (State.LIVE, 1_700_000_000_000, "as it should be")
        service.hub.set_status(state, "the node is quiet", since_ms=1234)
        await until(lambda: not sidecar.live)
        assert sidecar.hub.status == (state, 1234, "the node is quiet")


async def test_a_service_that_is_not_there_yet_is_waited_for(tmp_path):
    address = Address(path=str(tmp_path / "state.sock"))
    async with sidecar_of(address) as sidecar:
        await until(lambda: "cannot be reached" in sidecar.hub.status.detail)
        assert f"the state service at unix:{address.path}" in sidecar.hub.status.detail
        async with serving(address) as service:
            service.block(1)
            await until(lambda: sidecar.live and sidecar.taken() == [1])
            assert sidecar.source.subscriptions.reconnects == 0


# Services that do not do as they should


async def test_repeats_are_dropped_and_counted():
    script = [opening(3), response(block(1), block(2), block(3)), response(block(2), block(3), block(4))]
    async with scripted(script) as (service, sidecar):
        await until(lambda: sidecar.taken() == [1, 2, 3, 4])
        assert sidecar.source.subscriptions.repeats == 2
        assert len(service.requests) == 1


def gap(first: int, to: int) -> service_pb2.Gap:
    return service_pb2.Gap(stream=BLOCKS, epoch="e", to=to, reason=stream_pb2.REASON_TRIMMED, **{"from": first})


async def test_a_gap_under_way_is_a_gap_in_the_hub_too():
    beginning = [opening(2), response(block(1), block(2))]
    script = [*beginning, response(gaps=[gap(3, 5)], snapshots=[block(5)]), response(block(6))]
    async with scripted(script) as (_, sidecar):
        await until(lambda: sidecar.taken() == [1, 2, 6])
        history = sidecar.hub.history(BLOCKS)
        assert (history.base[""].seq, history.oldest) == (5, 6)
        assert sidecar.source.subscriptions.faults == 0


async def test_a_gap_that_is_cut_off_before_its_end_counts_for_nothing():
    beginning = [opening(2), response(block(1), block(2)), response(gaps=[gap(3, 5)]), grpc.StatusCode.UNAVAILABLE]
    going_on = [opening(4, seq=2, recovered=True, replayed=2), response(block(3), block(4))]
    async with scripted(beginning, going_on) as (_, sidecar):
        await until(lambda: sidecar.taken() == [1, 2, 3, 4])


FAULTS = {
    "hole": (response(block(4)), "it left out updates 3 to 3 of stream 'block_updates'"),
    "epoch": (response(block(3, epoch="x")), "it went over to epoch 'x' on stream 'block_updates' without a word"),
    "not started": (response(metrics(1)), "an update of stream 'metrics', which it had not started"),
    "gap not started": (
        response(gaps=[service_pb2.Gap(stream="metrics", epoch="e", to=4)]),
        "a gap in stream 'metrics', which it had not started",
    ),
    "no message": (b"\xff\xff\xff", "none of its own"),
}


@pytest.mark.parametrize("case", FAULTS)
async def test_a_service_that_breaks_the_protocol_is_asked_again_from_the_head(case):
    bad, sentence = FAULTS[case]
    beginning = [opening(2), response(block(1), block(2))]
    going_on = [opening(4, seq=2, recovered=True, replayed=2), response(block(3), block(4))]
    async with scripted([*beginning, bad], going_on) as (service, sidecar):
        await until(lambda: sidecar.taken() == [1, 2, 3, 4])
        assert sidecar.source.subscriptions.faults == 1
        (again,) = service.requests[1].streams
        assert (again.stream, again.since) == (BLOCKS, stream_pb2.Position(epoch="e", seq=2))
        assert (service.requests[1].all, service.requests[1].all_last) == (True, sidecar.hub.limits.count)
        details = [detail for _, detail in sidecar.states]
        assert any(sentence in detail and "broke the protocol" in detail for detail in details), details


async def test_streams_that_this_version_does_not_know_are_left_out(caplog):
    script = [
        response(
            started=[
                started(BLOCKS, 1, "BlockUpdate"),
                started("weather", 0, "WeatherUpdate"),
                started("energy", 0, "EnergyUpdate2"),
            ],
            source=LIVE,
        ),
        response(block(1), update_pb2.Update(stream="weather", epoch="e", seq=1)),
        response(
            gaps=[service_pb2.Gap(stream="weather", epoch="e", to=9)],
            started=[started("weather", 9, "WeatherUpdate", reason=stream_pb2.REASON_EPOCH)],
        ),
        response(block(2)),
    ]
    async with scripted(script) as (service, sidecar):
        await until(lambda: sidecar.taken() == [1, 2])
        assert sidecar.live
        assert "weather" not in sidecar.hub.histories
        assert len(service.requests) == 1
        told = [record.getMessage() for record in caplog.records if "does not know" in record.getMessage()]
        assert len(told) == 2
        assert "'weather' carries theblock.state.v1.WeatherUpdate" in told[0]


async def test_superseded_updates_of_a_latest_stream_are_left_out():
    beginning = response(
        started=[started("metrics", 2, "MetricsUpdate"), started(BLOCKS, 0, "BlockUpdate")], source=LIVE
    )
    live = [metrics(3), block(1), metrics(4), metrics(5), block(2)]
    async with scripted([beginning, response(metrics(1), metrics(2)), response(*live)]) as (_, sidecar):
        await until(lambda: sidecar.taken() == [1, 2])
        assert sidecar.taken("metrics") == [1, 2, 5]  # what is replayed is wanted, all of it
        assert sidecar.source.subscriptions.conflated == 2
        assert [(u.stream.name, u.seq) for u in sidecar.admitted[2:]] == [(BLOCKS, 1), ("metrics", 5), (BLOCKS, 2)]


async def test_what_is_superseded_is_not_read_and_fields_may_come_in_any_order():
    beginning = response(started=[started("metrics", 0, "MetricsUpdate")], source=LIVE)
    reordered = (
        update_pb2.Update(epoch="e", seq=2).SerializeToString()
        + update_pb2.Update(stream="metrics").SerializeToString()
    )
    unreadable = update_pb2.Update(stream="metrics").SerializeToString() + b"\xff"
    raws = [metrics(1).SerializeToString(), reordered, unreadable, metrics(4).SerializeToString()]
    live = b"".join(field(4, raw) for raw in raws)
    async with scripted([beginning, PROGRESS, live]) as (service, sidecar):
        await until(lambda: sidecar.taken("metrics") == [2, 4])
        assert sidecar.source.subscriptions.conflated == 2
        assert len(service.requests) == 1


async def test_a_silent_service_is_left_and_asked_again():
    silent = [opening(1), response(block(1))]
    going_on = [opening(2, seq=1, recovered=True), response(block(2))]
    async with scripted(silent, going_on, patience=Patience(silence=0.3)) as (_, sidecar):
        await until(lambda: sidecar.taken() == [1, 2])
        assert any("has said nothing for 0.3 s" in detail for _, detail in sidecar.states)


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (grpc.StatusCode.UNIMPLEMENTED, "is no state service (UNIMPLEMENTED: because of a reason)"),
        (grpc.StatusCode.INVALID_ARGUMENT, "does not understand the subscription"),
        (grpc.StatusCode.PERMISSION_DENIED, "does not allow the subscription"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "is at a limit"),
    ],
    ids=str,
)
async def test_a_refusal_is_told_clearly_and_tried_again_slowly(code, sentence):
    async with scripted([code]) as (refusing, sidecar), scripted([grpc.StatusCode.UNAVAILABLE]) as (failing, _):
        await until(lambda: sentence in sidecar.hub.status.detail)
        await until(lambda: len(failing.requests) == 5)
        assert len(refusing.requests) == 1  # its next try is half a minute away
    async with scripted([code], [opening(0), PROGRESS], patience=Patience(slow_pause=0.05)) as (service, sidecar):
        await until(lambda: sidecar.live)
        assert len(service.requests) == 2


async def test_a_server_that_is_something_else_is_told_clearly():
    async with StateServer(ANY_PORT, [], drain_seconds=0) as server, sidecar_of(server.address) as sidecar:
        await until(lambda: "is no state service" in sidecar.hub.status.detail)


# Calling the node


@asynccontextmanager
async def calling(answer, **settings) -> AsyncIterator[Sidecar]:
    async def call(method: str, params: dict) -> bytes:
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            await asyncio.Event().wait()
        return json.dumps([method, params, answer]).encode()

    async with (
        serving(call_node=call, node_methods=["governor.status"]) as service,
        sidecar_of(service.address, **settings) as sidecar,
    ):
        yield sidecar


async def test_the_node_is_called_through_the_service():
    async with calling("yes") as sidecar:
        result = await sidecar.source.call_node("governor.status", {"name": "ä", "height": 2**60})
        assert json.loads(result) == ["governor.status", {"name": "ä", "height": 2**60}, "yes"]


async def test_an_error_of_the_node_keeps_its_code():
    async with calling(NodeCallError(-32007, "no such job")) as sidecar:
        with pytest.raises(NodeCallError, match="no such job") as caught:
            await sidecar.source.call_node("governor.status", {})
        assert caught.value.code == -32007


async def test_what_the_service_refuses_is_the_callers_mistake():
    async with calling("yes") as sidecar:
        with pytest.raises(RequestError, match="node_methods") as caught:
            await sidecar.source.call_node("node.stop", {})
        assert caught.value.code == -32003
    async with serving() as service, sidecar_of(service.address) as sidecar:
        with pytest.raises(RequestError, match="no node") as caught:
            await sidecar.source.call_node("governor.status", {})
        assert caught.value.code == -32601


async def test_a_call_that_gets_no_answer_ends():
    async with calling(None, patience=Patience(call=0.2)) as sidecar:
        with pytest.raises(UpstreamError, match="did not answer within 0.2 s"):
            await sidecar.source.call_node("governor.status", {})
    async with calling(UpstreamError("the node is not asked for 40 s")) as sidecar:
        with pytest.raises(UpstreamError, match="not asked for 40 s"):
            await sidecar.source.call_node("governor.status", {})
    with pytest.raises(UpstreamError, match="going away"):
        await sidecar.source.call_node("governor.status", {})


async def test_a_call_to_a_service_that_is_not_there_fails():
    async with serving() as service, sidecar_of(service.address) as sidecar:
        await until(lambda: sidecar.live)
        await service.stop()
        with pytest.raises(UpstreamError):
            await sidecar.source.call_node("governor.status", {})
        await service.start()
