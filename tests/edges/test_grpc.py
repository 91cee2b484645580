"""The gRPC edge over real connections: what a client in any language gets from StateStreamService."""

import asyncio
import json
import socket
import tracemalloc
from collections import Counter

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from bridge.core.errors import NodeCallError, StartError, UpstreamError
from bridge.core.hub import State
from bridge.core.update import Update
from bridge.edges.grpc import StateServer, StateStreamService
from bridge.ops.grpc_options import channel_options
from bridge.settings.address import Address
from generated.theblock.state.v1 import account_pb2, service_pb2, service_pb2_grpc, stream_pb2, view_pb2
from generated.theblock.state.v1.service_pb2 import StreamStart
from tests.state_service import ANY_PORT, DEADLINE_SECONDS, Client, Service, error_of, new_hub, serving, stub_of, until

BLOCKS = "block_updates"
MIB = 1 << 20


def position(seq: int, epoch: str = "e1") -> stream_pb2.Position:
    return stream_pb2.Position(epoch=epoch, seq=seq)


def since(stream: str, seq: int, epoch: str = "e1") -> StreamStart:
    return StreamStart(stream=stream, since=position(seq, epoch))


def last(stream: str, count: int) -> StreamStart:
    return StreamStart(stream=stream, last=count)


def account(service: Service, address: str, nonce: int):
    return service.origin.publish(account_pb2.AccountUpdate(address=address, nonce=nonce))


def seqs(updates) -> list[int]:
    return [update.seq for update in updates]


def gaps(client: Client) -> list[tuple[str, int, int, int]]:
    return [(gap.stream, getattr(gap, "from"), gap.to, gap.reason) for gap in client.parts("gaps")]


# Subscribe: where a stream begins


async def test_without_a_start_comes_the_current_value_then_what_is_new():
    async with serving() as service, stub_of(service) as stub:
        service.blocks(range(1, 6))
        client = Client(stub, StreamStart(stream=BLOCKS))
        await client.read_until(lambda: client.started)
        assert seqs(client.parts("snapshots")) == [5]
        assert client.started[BLOCKS].seq == 5
        service.blocks([6, 7])
        await client.read_updates(2)
        assert client.heights == [6, 7]


async def test_a_position_is_resumed_from():
    async with serving() as service, stub_of(service) as stub:
        service.blocks(range(1, 11))
        client = Client(stub, since(BLOCKS, 4))
        await client.read_updates(6)
        started = client.started[BLOCKS]
        assert (started.seq, started.recovered, started.replayed, started.reason) == (4, True, 6, 0)
        assert client.heights == [5, 6, 7, 8, 9, 10]
        assert client.parts("snapshots") == []


async def test_a_position_at_the_head_is_resumed_from_without_a_value():
    async with serving() as service, stub_of(service) as stub:
        service.blocks([1, 2])
        client = Client(stub, since(BLOCKS, 2))
        await client.read_until(lambda: client.started)
        assert (client.started[BLOCKS].recovered, client.started[BLOCKS].replayed) == (True, 0)
        service.block(3)
        await client.read_updates(1)
        assert (client.heights, client.parts("snapshots")) == ([3], [])


async def test_a_trimmed_position_names_the_gap_and_the_value_that_stands_in():
    async with serving(count=4) as service, stub_of(service) as stub:
        service.blocks(range(1, 11))
        client = Client(stub, since(BLOCKS, 2))
        await client.read_updates(4)
        started = client.started[BLOCKS]
        assert (started.seq, started.recovered, started.replayed) == (6, False, 4)
        assert started.reason == stream_pb2.REASON_TRIMMED
        assert gaps(client) == [(BLOCKS, 3, 6, stream_pb2.REASON_TRIMMED)]
        assert seqs(client.parts("snapshots")) == [6]
        assert client.heights == [7, 8, 9, 10]


@pytest.mark.parametrize(
    ("seq", "epoch", "reason"),
    [(3, "other", stream_pb2.REASON_EPOCH), (99, "e1", stream_pb2.REASON_AHEAD)],
)
async def test_a_position_of_elsewhere_gets_the_current_value(seq, epoch, reason):
    async with serving() as service, stub_of(service) as stub:
        service.blocks(range(1, 6))
        client = Client(stub, since(BLOCKS, seq, epoch))
        await client.read_until(lambda: client.started)
        started = client.started[BLOCKS]
        assert (started.seq, started.recovered, started.reason) == (5, False, reason)
        assert (seqs(client.parts("snapshots")), gaps(client)) == ([5], [])
        service.block(6)
        await client.read_updates(1)
        assert client.heights == [6]


async def test_last_begins_with_the_value_that_each_key_had_there():
    async with serving(count=6) as service, stub_of(service) as stub:
        for nonce, key in enumerate("abcabcabba", 1):
            service.origin.publish(account_pb2.AccountUpdate(address=key, nonce=nonce))
        client = Client(stub, last("account", 4))
        await client.read_updates(4)
        assert client.started["account"].seq == 6
        assert [(value.key, value.seq) for value in client.parts("snapshots")] == [("a", 4), ("b", 5), ("c", 6)]
        assert [update.seq for update in client.updates] == [7, 8, 9, 10]


@pytest.mark.parametrize(
    ("count", "begins", "value"), [(3, 7, [7]), (10, 0, []), (1000, 0, []), (0, 10, [10])], ids=str
)
async def test_last_begins_that_many_updates_back_with_the_value_before_them(count, begins, value):
    async with serving() as service, stub_of(service) as stub:
        service.blocks(range(1, 11))
        client = Client(stub, last(BLOCKS, count))
        await client.read_until(lambda: client.started)
        service.block(11)
        await client.read_updates(11 - begins)
        assert client.started[BLOCKS].seq == begins
        assert seqs(client.parts("snapshots")) == value
        assert seqs(client.updates) == list(range(begins + 1, 12))


async def test_last_goes_as_far_back_as_history_and_the_value_before_it_is_known():
    async with serving(count=5) as service, stub_of(service) as stub:
        service.blocks(range(1, 11))
        client = Client(stub, last(BLOCKS, 100))
        await client.read_updates(5)
        assert client.started[BLOCKS].seq == 5
        assert (seqs(client.parts("snapshots")), gaps(client)) == ([5], [])
        assert seqs(client.updates) == [6, 7, 8, 9, 10]


async def test_last_replays_each_update_of_a_latest_stream():
    async with serving() as service, stub_of(service) as stub:
        for height in range(1, 6):
            service.metrics(height)
        client = Client(stub, last("metrics", 3))
        await client.read_updates(3)
        assert [update.metrics.block_height for update in client.updates] == [3, 4, 5]


async def test_a_position_on_a_latest_stream_gets_the_newest_only():
    async with serving(count=3) as service, stub_of(service) as stub:
        for height in range(1, 10):
            service.metrics(height)
        client = Client(stub, since("metrics", 2))
        await client.read_updates(1)
        started = client.started["metrics"]
        assert (started.recovered, started.replayed, gaps(client)) == (True, 1, [])
        assert seqs(client.updates) == [9]


async def test_keys_that_change_in_the_replay_come_with_the_value_before_too():
    async with serving() as service, stub_of(service) as stub:
        for address in ("a", "b", "c", "a"):
            account(service, address, 1)
        client = Client(stub, last("account", 2))
        await client.read_updates(2)
        assert [(value.key, value.seq) for value in client.parts("snapshots")] == [("a", 1), ("b", 2)]
        assert [(update.key, update.seq, update.prev) for update in client.updates] == [("c", 3, 0), ("a", 4, 1)]


async def test_a_large_beginning_comes_in_several_responses_and_ends_with_progress():
    async with serving() as service, stub_of(service) as stub:
        for number in range(12_000):
            account(service, f"{number:0100d}", 1)
        client = Client(stub, StreamStart(stream="account"))
        await client.read_until(lambda: client.parts("progress"))
        assert len([response for response in client.responses if response.snapshots]) > 1
        assert seqs(client.parts("snapshots")) == list(range(1, 12_001))
        assert max(response.ByteSize() for response in client.responses) < MIB
        assert [(p.stream, p.seq) for p in client.responses[-1].progress] == [("account", 12_000)]


async def test_a_name_that_nothing_declared_begins_with_its_first_update():
    async with serving() as service, stub_of(service) as stub:
        client = Client(stub, StreamStart(stream="weather"), StreamStart(stream=BLOCKS))
        await client.read_until(lambda: client.started)
        assert set(client.started) == {BLOCKS}
        service.custom("weather", 1)
        service.custom("weather", 2)
        await client.read_updates(2)
        started = client.started["weather"]
        assert (started.info.type, started.info.message) == ("thing", "theblock.state.v1.CustomUpdate")
        assert (started.seq, seqs(client.updates)) == (0, [1, 2])


async def test_all_adds_the_streams_that_are_not_named_and_those_declared_later():
    async with serving() as service, stub_of(service) as stub:
        service.blocks(range(1, 6))
        service.metrics(5)
        client = Client(stub, since(BLOCKS, 3), every=True, all_last=1)
        await client.read_updates(3)
        assert set(client.started) == {stream.name for stream in service.hub.catalogue}
        assert sorted((u.stream, u.seq) for u in client.updates) == [(BLOCKS, 4), (BLOCKS, 5), ("metrics", 1)]
        service.custom("weather", 1)
        await client.read_updates(4)
        assert client.started["weather"].seq == 0
        assert (client.updates[-1].stream, client.updates[-1].seq) == ("weather", 1)


@pytest.mark.parametrize(
    ("starts", "sentence"),
    [
        ([StreamStart(stream="Bad-Name")], "must match [a-z][a-z0-9_]{0,63}"),
        ([StreamStart(stream="")], "must match"),
        ([StreamStart(stream=BLOCKS), last(BLOCKS, 2)], "twice"),
        ([], "names no stream"),
        ([StreamStart(stream=f"s{number}") for number in range(2001)], "at most 2000"),
    ],
    ids=["name", "empty", "twice", "none", "many"],
)
async def test_a_bad_subscription_is_refused_with_a_sentence(starts, sentence):
    async with serving() as service, stub_of(service) as stub:
        error = await error_of(Client(stub, *starts).call)
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert sentence in error.details()


# Subscribe: what follows


async def test_updates_of_all_streams_come_in_the_order_of_publication():
    async with serving() as service, stub_of(service) as stub:
        published = []
        for height in range(1, 401):
            published.append(service.custom("ticks", height))
            published.append(service.block(height))
            if height % 3 == 0:
                published.append(account(service, f"a{height % 7}", height))
        client = Client(stub, every=True, all_last=1000)
        await client.read_updates(len(published))
        for height in range(401, 501):
            published.append(service.block(height))
            published.append(service.custom("ticks", height))
            if height % 10 == 0:
                await asyncio.sleep(0)
        await client.read_updates(len(published))
        assert [(u.stream, u.seq) for u in client.updates] == [(u.stream.name, u.seq) for u in published]


async def test_updates_arrive_byte_for_byte_and_are_encoded_once_for_ten_clients(monkeypatch):
    encodings, encode = Counter(), Update._encode

    def counted(update: Update, *form) -> bytes:
        encodings[update.position] += 1
        return encode(update, *form)

    monkeypatch.setattr(Update, "_encode", counted)
    async with serving() as service, grpc.aio.insecure_channel(str(service.address)) as channel:
        published = service.blocks(range(1, 51))
        subscribe = channel.unary_stream("/theblock.state.v1.StateStreamService/Subscribe")
        request = service_pb2.SubscribeRequest(streams=[last(BLOCKS, 1000)]).SerializeToString()
        calls = [(subscribe(request), []) for _ in range(10)]
        for count in (50, 100):  # replayed, then live
            for call, raw in calls:
                async with asyncio.timeout(DEADLINE_SECONDS):
                    while len(raw) < count:
                        raw += view_pb2.SubscribeResponseView.FromString(await call.read()).updates
            published += service.blocks(range(count + 1, count + 51))
        assert all(raw == [update.raw for update in published[:100]] for _, raw in calls)
        assert {encodings[update.position] for update in published[:100]} == {1}
        for call, _ in calls:
            call.cancel()


async def test_a_client_that_keeps_up_gets_only_the_newest_of_a_latest_stream():
    async with serving() as service, stub_of(service) as stub:
        client = Client(stub, StreamStart(stream="metrics"))
        await client.read_until(lambda: client.started)
        for height in range(1, 51):
            service.metrics(height)
        await client.read_updates(1)
        assert seqs(client.updates) == [50]


async def test_the_state_of_the_source_comes_first_and_on_every_change():
    async with serving() as service, stub_of(service) as stub:
        client = Client(stub, StreamStart(stream=BLOCKS))
        first = await client.read()
        assert (first.source.state, first.source.detail) == (stream_pb2.SOURCE_STATE_LIVE, "as it should be")
        await client.read_until(lambda: client.started)
        for state, number in ((State.STALE, stream_pb2.SOURCE_STATE_STALE), (State.DOWN, stream_pb2.SOURCE_STATE_DOWN)):
            service.hub.set_status(state, f"it is {state}", since_ms=77)
            response = await client.read()
            assert response.source == stream_pb2.SourceStatus(state=number, since_ms=77, detail=f"it is {state}")


async def test_progress_comes_again_and_again_while_nothing_else_does():
    async with serving(progress_seconds=0.05) as service, stub_of(service) as stub:
        service.blocks([1, 2, 3])
        client = Client(stub, StreamStart(stream=BLOCKS))
        await client.read_until(lambda: len(client.parts("progress")) >= 4)
        assert {(p.stream, p.epoch, p.seq) for p in client.parts("progress")} == {(BLOCKS, "e1", 3)}


async def test_nothing_begins_before_the_epoch_is_known():
    hub = new_hub()  # as that of a relay whose own service has not been reached
    state = StateStreamService(hub, progress_seconds=0.02)
    async with (
        StateServer(ANY_PORT, [state]) as server,
        grpc.aio.insecure_channel(str(server.address)) as channel,
    ):
        client = Client(service_pb2_grpc.StateStreamServiceStub(channel), StreamStart(stream=BLOCKS))
        await client.read_until(lambda: len(client.responses) == 3)
        assert client.responses[0].source.state == stream_pb2.SOURCE_STATE_DOWN
        assert client.started == {}
        hub.begin(BLOCKS, "e7", 40)
        hub.set_epoch("e7")
        await client.read_until(lambda: client.started)
        started = client.started[BLOCKS]
        assert (started.info.epoch, started.seq, started.reason) == ("e7", 40, stream_pb2.REASON_UNSPECIFIED)


async def test_a_new_epoch_starts_every_stream_anew():
    async with serving() as service, stub_of(service) as stub:
        service.blocks([1, 2, 3])
        client = Client(stub, StreamStart(stream=BLOCKS), StreamStart(stream="metrics"))
        await client.read_until(lambda: len(client.started) == 2)
        before = len(client.responses)
        service.origin.begin_epoch()
        service.blocks([1, 2])
        await client.read_updates(2)
        started = [s for response in client.responses[before:] for s in response.started]
        assert {(s.info.stream, s.info.epoch, s.seq, s.reason) for s in started} == {
            (BLOCKS, "e2", 0, stream_pb2.REASON_EPOCH),
            ("metrics", "e2", 0, stream_pb2.REASON_EPOCH),
        }
        assert [(u.epoch, u.seq) for u in client.updates] == [("e2", 1), ("e2", 2)]


async def test_a_client_that_does_not_read_costs_nothing_and_is_told_what_it_missed():
    async with (
        serving(count=1000) as service,
        grpc.aio.insecure_channel(str(service.address), options=channel_options(30)) as channel,
    ):
        stub = service_pb2_grpc.StateStreamServiceStub(channel)
        client = Client(stub, StreamStart(stream=BLOCKS), StreamStart(stream="account"))
        await client.read_until(lambda: client.parts("progress"))
        service.blocks(range(1, 2001), size=512)
        await asyncio.sleep(0)
        tracemalloc.start()
        held = tracemalloc.get_traced_memory()[0]
        for height in range(2001, 50_001):
            service.block(height, size=512)
            if height % 50 == 0:
                await asyncio.sleep(0)
        grown = tracemalloc.get_traced_memory()[0] - held
        tracemalloc.stop()
        # What is held are the 1,000 updates of history, new ones by now, and one round of 256.
        assert grown < 5 * MIB
        service.block(50_001, size=512)
        await client.read_until(lambda: client.updates and client.updates[-1].seq == 50_001)
        got, missing = seqs(client.updates), [range(first, to + 1) for _, first, to, _ in gaps(client)]
        assert sum(len(gap) for gap in missing) > 45_000  # gRPC took in next to nothing for it
        assert sorted([*got, *(seq for gap in missing for seq in gap)]) == list(range(1, 50_002))
        assert got == sorted(got)
        assert seqs(client.parts("snapshots")) == [gap[-1] for gap in missing]


async def test_a_gap_of_a_keyed_stream_has_the_values_of_every_key_in_it():
    async with serving(count=2) as service, stub_of(service) as stub:
        for address in ("known", "b", "c", "a", "d", "e"):
            account(service, address, 1)
        client = Client(stub, since("account", 1))
        await client.read_updates(2)
        assert gaps(client) == [("account", 2, 4, stream_pb2.REASON_TRIMMED)]
        assert [(value.key, value.seq) for value in client.parts("snapshots")] == [("b", 2), ("c", 3), ("a", 4)]
        assert [(update.key, update.seq) for update in client.updates] == [("d", 5), ("e", 6)]


async def test_responses_stay_below_a_mebibyte_but_for_a_single_large_update():
    async with serving() as service, stub_of(service) as stub:
        service.blocks(range(1, 31), size=200_000)
        service.block(31, size=3 << 20)
        service.block(32)
        client = Client(stub, last(BLOCKS, 100))
        await client.read_updates(32)
        sizes = [(response.ByteSize(), len(response.updates)) for response in client.responses]
        assert [count for size, count in sizes if size >= MIB] == [1]
        assert max(count for size, count in sizes if size < MIB) == 5
        assert client.heights == list(range(1, 33))


async def test_parts_of_a_response_stand_in_the_order_of_their_numbers():
    async with serving(count=4) as service, grpc.aio.insecure_channel(str(service.address)) as channel:
        service.blocks(range(1, 11))
        subscribe = channel.unary_stream("/theblock.state.v1.StateStreamService/Subscribe")
        request = service_pb2.SubscribeRequest(streams=[since(BLOCKS, 2)], all=True, all_last=9)
        call = subscribe(request.SerializeToString())
        raw = b""
        while not view_pb2.SubscribeResponseView.FromString(raw).updates:
            raw = await call.read()
        response = service_pb2.SubscribeResponse.FromString(raw)
        assert response.started
        assert response.gaps
        assert response.snapshots
        assert raw == response.SerializeToString()  # which writes fields in the order of their numbers


async def test_more_subscriptions_than_allowed_are_refused_and_a_cancelled_one_makes_room():
    async with serving(subscriber_limit=2) as service, stub_of(service) as stub:
        first, second = Client(stub, every=True), Client(stub, every=True)
        await first.read()
        await second.read()
        error = await error_of(Client(stub, every=True).call)
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "2 subscriptions" in error.details()
        assert "subscriber_limit" in error.details()
        first.call.cancel()
        await until(lambda: service.state.subscribers == 1)
        await Client(stub, every=True).read()


async def test_a_client_that_goes_away_while_it_does_not_read_leaves_nothing():
    async with serving() as service:
        async with stub_of(service) as stub:
            client = Client(stub, StreamStart(stream=BLOCKS))
            await client.read_until(lambda: client.started)
            for height in range(1, 3000):
                service.block(height, size=1024)
                await asyncio.sleep(0)
            assert service.state.subscribers == 1
        await until(lambda: service.state.subscribers == 0)


async def test_stopping_ends_subscriptions_at_once():
    async with serving() as service, stub_of(service) as stub:
        client = Client(stub, every=True)
        await client.read()
        async with asyncio.timeout(5):
            await service.server.stop(3600)
        error = await error_of(client.call)
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "going away" in error.details()


async def test_a_request_that_is_no_message_is_refused_and_the_server_lives():
    async with serving() as service, grpc.aio.insecure_channel(str(service.address)) as channel:
        for method in ("GetSnapshot", "ListUpdates", "ListStreams", "CallNode"):
            call = channel.unary_unary(f"/theblock.state.v1.StateStreamService/{method}")(b"\xff\xff\xff")
            error = await error_of(call)
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "not a serialized theblock.state.v1." in error.details()
        error = await error_of(channel.unary_stream("/theblock.state.v1.StateStreamService/Subscribe")(b"\xff"))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


# GetSnapshot, ListUpdates, ListStreams


async def test_streams_are_listed_declared_ones_first():
    async with serving(count=3) as service, stub_of(service) as stub:
        service.custom("weather", 1, key="here")
        service.blocks(range(1, 6))
        response = await stub.ListStreams(service_pb2.ListStreamsRequest())
        infos = {info.stream: info for info in response.streams}
        assert [info.stream for info in response.streams] == [*(s.name for s in service.hub.catalogue), "weather"]
        assert infos[BLOCKS] == stream_pb2.StreamInfo(
            stream=BLOCKS,
            type="block_update",
            delivery=1,
            message="theblock.state.v1.BlockUpdate",
            epoch="e1",
            oldest=3,
            newest=5,
        )
        assert (infos["metrics"].oldest, infos["metrics"].newest, infos["metrics"].delivery) == (0, 0, 2)
        assert (infos["weather"].keyed, infos["account"].keyed, infos["energy"].keyed) == (True, True, False)
        assert response.source.state == stream_pb2.SOURCE_STATE_LIVE


async def test_a_snapshot_holds_the_current_value_also_of_one_key():
    async with serving() as service, stub_of(service) as stub:
        service.blocks([1, 2])
        for address, nonce in (("a", 1), ("b", 2), ("a", 3)):
            account(service, address, nonce)
        blocks = await stub.GetSnapshot(service_pb2.GetSnapshotRequest(stream=BLOCKS))
        assert (blocks.info.newest, [u.block.height for u in blocks.updates], blocks.next_page_token) == (2, [2], "")
        accounts = await stub.GetSnapshot(service_pb2.GetSnapshotRequest(stream="account"))
        assert [(u.key, u.account.nonce) for u in accounts.updates] == [("b", 2), ("a", 3)]
        one = await stub.GetSnapshot(service_pb2.GetSnapshotRequest(stream="account", key="b"))
        assert [(u.key, u.account.nonce) for u in one.updates] == [("b", 2)]
        nobody = await stub.GetSnapshot(service_pb2.GetSnapshotRequest(stream="account", key="z"))
        assert list(nobody.updates) == []


async def test_snapshots_are_paged_and_a_key_that_changes_meanwhile_comes_again():
    async with serving() as service, stub_of(service) as stub:
        for number in range(10):
            account(service, f"a{number}", 1)
        request = service_pb2.GetSnapshotRequest(stream="account", page_size=4)
        pages = []
        while not pages or request.page_token:
            page = await stub.GetSnapshot(request)
            pages.append([(u.key, u.account.nonce) for u in page.updates])
            request.page_token = page.next_page_token
            if len(pages) == 1:
                account(service, "a1", 2)
        assert [len(page) for page in pages] == [4, 4, 3]
        assert dict(pair for page in pages for pair in page) == {
            f"a{number}": 2 if number == 1 else 1 for number in range(10)
        }


async def test_pages_are_cut_below_a_mebibyte():
    async with serving() as service, stub_of(service) as stub:
        service.blocks(range(1, 11), size=300_000)
        request = service_pb2.ListUpdatesRequest(stream=BLOCKS)
        pages, more = [], True
        while more:
            page = await stub.ListUpdates(request)
            assert page.ByteSize() < MIB
            pages.append([u.block.height for u in page.updates])
            request.since.CopyFrom(page.next)
            more = page.HasField("next")
        assert pages == [[1, 2, 3], [4, 5, 6], [7, 8, 9], [10]]


@pytest.mark.parametrize(
    ("asked", "expected", "following"),
    [
        ({}, [3, 4, 5, 6, 7, 8, 9, 10], None),
        ({"limit": 3}, [3, 4, 5], 5),
        ({"limit": 8}, [3, 4, 5, 6, 7, 8, 9, 10], None),
        ({"since": position(5), "limit": 2}, [6, 7], 7),
        ({"since": position(5), "until": position(8)}, [6, 7], None),
        ({"since": position(0), "limit": 1}, [3], 3),
        ({"since": position(10)}, [], None),
        ({"reverse": True, "limit": 1}, [10], 10),
        ({"reverse": True, "limit": 3, "until": position(6)}, [5, 4, 3], None),
        ({"reverse": True, "since": position(7)}, [10, 9, 8], None),
        ({"reverse": True, "since": position(4), "until": position(8), "limit": 2}, [7, 6], 6),
        ({"until": position(99), "since": position(8)}, [9, 10], None),
    ],
    ids=str,
)
async def test_pages_of_history(asked, expected, following):
    async with serving(count=8) as service, stub_of(service) as stub:
        service.blocks(range(1, 11))
        page = await stub.ListUpdates(service_pb2.ListUpdatesRequest(stream=BLOCKS, **asked))
        assert seqs(page.updates) == expected
        assert (page.next.seq if page.HasField("next") else None) == following
        assert (page.info.oldest, page.info.newest) == (3, 10)


@pytest.mark.parametrize("reverse", [False, True])
async def test_pages_of_one_key_join_without_a_seam(reverse):
    async with serving() as service, stub_of(service) as stub:
        for number in range(30):
            account(service, f"a{number % 3}", number)
        request = service_pb2.ListUpdatesRequest(stream="account", key="a1", limit=4, reverse=reverse)
        found = []
        while True:
            page = await stub.ListUpdates(request)
            found += [update.account.nonce for update in page.updates]
            if not page.HasField("next"):
                break
            (request.until if reverse else request.since).CopyFrom(page.next)
        assert found == sorted(range(1, 30, 3), reverse=reverse)


@pytest.mark.parametrize(
    ("method", "request_", "code", "sentence"),
    [
        ("GetSnapshot", {"stream": "nope"}, grpc.StatusCode.NOT_FOUND, "nothing has declared stream 'nope'"),
        ("GetSnapshot", {"stream": "No"}, grpc.StatusCode.INVALID_ARGUMENT, "must match"),
        ("GetSnapshot", {"stream": BLOCKS, "key": "a"}, grpc.StatusCode.INVALID_ARGUMENT, "has no keys"),
        ("GetSnapshot", {"stream": "account", "key": "ä"}, grpc.StatusCode.INVALID_ARGUMENT, "the key 'ä'"),
        ("GetSnapshot", {"stream": BLOCKS, "page_token": "?"}, grpc.StatusCode.INVALID_ARGUMENT, "page_token"),
        ("GetSnapshot", {"stream": BLOCKS, "page_token": "x-1"}, grpc.StatusCode.FAILED_PRECONDITION, "epoch"),
        ("ListUpdates", {"stream": "nope"}, grpc.StatusCode.NOT_FOUND, "ListStreams"),
        (
            "ListUpdates",
            {"stream": BLOCKS, "since": position(1, "x")},
            grpc.StatusCode.FAILED_PRECONDITION,
            "position 'x-1' is of another epoch than stream 'block_updates', which is in 'e1'",
        ),
    ],
    ids=str,
)
async def test_bad_questions_get_a_sentence(method, request_, code, sentence):
    async with serving() as service, stub_of(service) as stub:
        service.block(1)
        question = getattr(service_pb2, f"{method}Request")(**request_)
        error = await error_of(getattr(stub, method)(question))
        assert error.code() is code
        assert sentence in error.details()


# CallNode


def node_answering(answer):
    """Return a node that answers with bytes or raises."""

    async def call(method: str, params: dict) -> bytes:
        if isinstance(answer, Exception):
            raise answer
        return answer if answer is not None else json.dumps([method, params]).encode()

    return {"call_node": call, "node_methods": ["governor.status"]}


def call_node(stub, method: str = "governor.status", params: bytes = b""):
    return stub.CallNode(service_pb2.CallNodeRequest(method=method, params_json=params))


async def test_the_node_gets_method_and_params_and_its_result_comes_back():
    async with serving(**node_answering(None)) as service, stub_of(service) as stub:
        response = await call_node(stub, params=b'{"height": 7}')
        assert json.loads(response.result_json) == ["governor.status", {"height": 7}]
        assert json.loads((await call_node(stub)).result_json) == ["governor.status", {}]


async def test_an_error_of_the_node_is_an_answer():
    async with serving(**node_answering(NodeCallError(-32000, "no such job"))) as service, stub_of(service) as stub:
        response = await call_node(stub)
        assert response.WhichOneof("outcome") == "error"
        assert response.error == service_pb2.NodeError(code=-32000, message="no such job")


@pytest.mark.parametrize(
    ("answer", "code", "sentence"),
    [
        (UpstreamError("the node is not asked for 40 s"), grpc.StatusCode.UNAVAILABLE, "not asked for 40 s"),
        (TimeoutError(), grpc.StatusCode.UNAVAILABLE, "did not answer 'governor.status'"),
        (ConnectionResetError(), grpc.StatusCode.UNAVAILABLE, "did not answer"),
        (b"x" * (17 << 20), grpc.StatusCode.RESOURCE_EXHAUSTED, "bytes"),
    ],
    ids=["unavailable", "timeout", "connection", "large"],
)
async def test_a_node_that_gives_no_answer_is_unavailable(answer, code, sentence):
    async with serving(**node_answering(answer)) as service, stub_of(service) as stub:
        error = await error_of(call_node(stub))
        assert error.code() is code
        assert sentence in error.details()


@pytest.mark.parametrize(
    ("method", "params", "code", "sentence"),
    [
        ("node.stop", b"{}", grpc.StatusCode.PERMISSION_DENIED, "node_methods"),
        ("governor.status", b"[1]", grpc.StatusCode.INVALID_ARGUMENT, "not a JSON object"),
        ("governor.status", b'{"a":1,"a":2}', grpc.StatusCode.INVALID_ARGUMENT, "'a' stands twice"),
        ("governor.status", b"\xff", grpc.StatusCode.INVALID_ARGUMENT, "params_json"),
    ],
    ids=["method", "array", "twice", "bytes"],
)
async def test_a_call_that_is_not_allowed_is_refused(method, params, code, sentence):
    async with serving(**node_answering(None)) as service, stub_of(service) as stub:
        error = await error_of(call_node(stub, method, params))
        assert error.code() is code
        assert sentence in error.details()


async def test_a_service_without_a_node_says_so():
    async with serving() as service, stub_of(service) as stub:
        error = await error_of(call_node(stub))
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "no node" in error.details()


# The server


async def test_health_says_serving_for_each_service():
    async with serving() as service, grpc.aio.insecure_channel(str(service.address)) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", "theblock.state.v1.StateStreamService", "theblock.state.v1.StateIngestService"):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        error = await error_of(stub.Check(health_pb2.HealthCheckRequest(service="other")))
        assert error.code() is grpc.StatusCode.NOT_FOUND


async def test_reflection_describes_the_services():
    async with serving() as service, grpc.aio.insecure_channel(str(service.address)) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = stub.ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        names = {entry.name for entry in (await call.read()).list_services_response.service}
        assert {"theblock.state.v1.StateStreamService", "theblock.state.v1.StateIngestService"} <= names
        symbol = "theblock.state.v1.StateStreamService"
        await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol))
        assert (await call.read()).file_descriptor_response.file_descriptor_proto
        await call.done_writing()


async def test_a_second_server_on_the_same_port_does_not_start():
    async with serving() as service:
        with pytest.raises(StartError, match=f"{service.address} is taken"):
            await StateServer(service.address, []).start()
        async with stub_of(service) as stub:
            assert (await stub.ListStreams(service_pb2.ListStreamsRequest())).streams


async def test_a_port_taken_on_one_address_of_a_name_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address("localhost", taken.getsockname()[1])
        with pytest.raises(StartError, match="is taken"):
            await StateServer(address, []).start()


async def test_an_address_that_is_not_ours_is_refused():
    with pytest.raises(StartError, match="cannot listen on 192.0.2.1:5"):
        await StateServer(Address("192.0.2.1", 50999), []).start()
    with pytest.raises(StartError, match="the host is not known"):
        await StateServer(Address("no-such-host.invalid", 50999), []).start()


async def test_a_unix_socket_serves_and_is_not_taken_from_a_living_process(tmp_path):
    address = Address(path=str(tmp_path / "state.sock"))
    async with serving(address) as service, stub_of(service) as stub:
        service.block(1)
        with pytest.raises(StartError, match="is taken"):
            await StateServer(address, []).start()
        client = Client(stub, last(BLOCKS, 1))
        await client.read_updates(1)


async def test_a_stale_unix_socket_is_replaced(tmp_path):
    path = tmp_path / "state.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.is_socket()
    async with serving(Address(path=str(path))) as service, stub_of(service) as stub:
        assert (await stub.ListStreams(service_pb2.ListStreamsRequest())).streams


async def test_a_file_that_is_no_socket_is_left_alone(tmp_path):
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(StartError, match="no socket"):
        await StateServer(Address(path=str(path)), []).start()
    assert path.read_text() == "data"
