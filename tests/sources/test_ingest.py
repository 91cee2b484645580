"""Publishers over real connections: each publication is acknowledged in order, and published once."""

import asyncio
import json

import grpc
import pytest

from bridge.core.position import Position
from bridge.sources import ingest
from bridge.sources.ingest import Publishers
from generated.theblock.state.v1 import (
    account_pb2,
    block_pb2,
    energy_pb2,
    ingest_pb2,
    metrics_pb2,
    update_pb2,
)
from tests.state_service import DEADLINE_SECONDS, Service, ingest_stub_of, serving

METHOD = "/theblock.state.v1.StateIngestService/Publish"


def custom(number: object, stream: str = "weather", type_: str = "reading", key: str = "") -> update_pb2.Update:
    value = update_pb2.CustomUpdate(type=type_, json=json.dumps({"n": number}).encode())
    return update_pb2.Update(stream=stream, key=key, custom=value)


def block(height: int, stream: str = "block_updates", **more) -> update_pb2.Update:
    return update_pb2.Update(stream=stream, block=block_pb2.BlockUpdate(height=height), **more)


class Publisher:
    """Publishes, and reads acknowledgements."""

    def __init__(self, stub, name: str = "p") -> None:
        self.call = stub.Publish()
        self.name = name

    async def publish(self, *updates: update_pb2.Update, first: int = 0) -> list[ingest_pb2.Acknowledgement]:
        """Publish in one request; numbered from `first` on if there is one."""
        publications = [
            ingest_pb2.Publication(publisher_seq=first + place if first else 0, update=update)
            for place, update in enumerate(updates)
        ]
        await self.call.write(ingest_pb2.PublishRequest(publisher=self.name, publications=publications))
        acknowledgements: list[ingest_pb2.Acknowledgement] = []
        async with asyncio.timeout(DEADLINE_SECONDS):
            while len(acknowledgements) < len(updates):
                response = await self.call.read()
                assert response is not grpc.aio.EOF
                acknowledgements += response.acknowledgements
        return acknowledgements


def positions(acknowledgements) -> list[tuple[str, int]]:
    return [(a.position.epoch, a.position.seq) for a in acknowledgements]


def held(service: Service, stream: str) -> list:
    return service.hub.history(stream).after(0, 1000)


async def test_publications_are_acknowledged_with_their_positions_in_order():
    async with serving() as service, ingest_stub_of(service) as stub:
        publisher = Publisher(stub)
        acknowledgements = await publisher.publish(custom(1), block(7), custom(2), custom(3), first=1)
        assert [a.publisher_seq for a in acknowledgements] == [1, 2, 3, 4]
        assert positions(acknowledgements) == [("e1", 1), ("e1", 1), ("e1", 2), ("e1", 3)]
        assert [update.data() for update in held(service, "weather")] == [{"n": 1}, {"n": 2}, {"n": 3}]
        assert [update.data()["height"] for update in held(service, "block_updates")] == [7]


async def test_a_request_of_many_publications_is_acknowledged_whole():
    async with serving() as service, ingest_stub_of(service) as stub:
        acknowledgements = await Publisher(stub).publish(*(custom(n) for n in range(550)), first=1)
        assert [a.publisher_seq for a in acknowledgements] == list(range(1, 551))
        assert [a.position.seq for a in acknowledgements] == list(range(1, 551))


async def test_keys_of_custom_and_of_declared_streams():
    async with serving() as service, ingest_stub_of(service) as stub:
        account = account_pb2.AccountUpdate(address="alice", balance="12345678901234567890")
        acknowledgements = await Publisher(stub).publish(
            custom(1, key="here"),
            update_pb2.Update(stream="account", account=account),
            update_pb2.Update(stream="account", key="alice", account=account),
        )
        assert positions(acknowledgements) == [("e1", 1), ("e1", 1), ("e1", 2)]
        assert [(u.key, u.prev) for u in held(service, "account")] == [("alice", 0), ("alice", 1)]
        assert [u.key for u in held(service, "weather")] == ["here"]


async def test_the_service_gives_the_position_whatever_the_publisher_wrote():
    async with serving() as service, ingest_stub_of(service) as stub:
        await Publisher(stub).publish(block(1, epoch="mine", seq=900, time_ms=5, prev=3))
        (update,) = held(service, "block_updates")
        message = update_pb2.Update.FromString(update.raw)
        assert (message.epoch, message.seq, message.prev) == ("e1", 1, 0)
        assert message.time_ms == service.hub.clock_ms()


REFUSED = {
    "owned": (
        update_pb2.Update(stream="metrics", metrics=metrics_pb2.MetricsUpdate(tps=1)),
        "stream 'metrics' is fed by the source of this state service; nobody else may publish on it",
    ),
    "no data": (update_pb2.Update(stream="weather"), "the update has no data"),
    "other stream": (block(1, stream="energy"), "BlockUpdate belongs on stream 'block_updates', not on 'energy'"),
    "no stream": (block(1, stream=""), "belongs on stream 'block_updates', not on ''"),
    "JSON on a declared stream": (custom(1, stream="energy"), "takes theblock.state.v1.EnergyUpdate, not JSON"),
    "JSON on an owned stream": (custom(1, stream="metrics"), "takes theblock.state.v1.MetricsUpdate, not JSON"),
    "stream name": (custom(1, stream="No!"), "the stream 'No!' is ill-formed"),
    "type": (custom(1, type_="No!"), "the type 'No!' is ill-formed"),
    "key": (custom(1, key="a b"), "the key 'a b' is ill-formed"),
    "other key": (
        update_pb2.Update(stream="account", key="bob", account=account_pb2.AccountUpdate(address="alice")),
        "the key 'bob' is wrong: on stream 'account' it must be address of its data, or nothing",
    ),
    "key where there are none": (
        block(1, key="a"),
        "the key 'a' is wrong: on stream 'block_updates' it must be nothing",
    ),
    "decimal": (
        update_pb2.Update(stream="account", account=account_pb2.AccountUpdate(address="a", balance="1.5")),
        "must be a decimal integer, not '1.5'",
    ),
    "JSON": (
        update_pb2.Update(stream="weather", custom=update_pb2.CustomUpdate(type="reading", json=b"[1]")),
        "not a JSON object",
    ),
    "size": (custom("x" * (256 << 10)), "at most 262144 are allowed"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_is_refused_gets_a_sentence_and_the_stream_goes_on(case):
    update, sentence = REFUSED[case]
    async with serving() as service, ingest_stub_of(service) as stub:
        service.origin.own({"metrics"})
        publisher = Publisher(stub)
        before, refused, after = await publisher.publish(custom(1), update, custom(2), first=1)
        assert refused.WhichOneof("outcome") == "refusal"
        assert sentence in refused.refusal
        assert refused.publisher_seq == 2
        assert positions([before, after]) == [("e1", 1), ("e1", 2)]
        (later,) = await publisher.publish(custom(3), first=4)
        assert later.position.seq == 3
        assert service.ingest.refused == 1


async def test_a_declared_stream_without_a_source_may_be_published_on():
    async with serving() as service, ingest_stub_of(service) as stub:
        service.origin.own({"metrics"})
        energy = update_pb2.Update(stream="energy", energy=energy_pb2.EnergyUpdate())
        assert positions(await Publisher(stub).publish(energy)) == [("e1", 1)]


async def test_a_message_that_cannot_be_read_is_refused_and_the_stream_goes_on():
    async with serving() as service, grpc.aio.insecure_channel(str(service.address)) as channel:
        call = channel.stream_stream(METHOD, None, ingest_pb2.PublishResponse.FromString)()
        await call.write(b"\xff\xff\xff")
        (acknowledgement,) = (await call.read()).acknowledgements
        assert "not a serialized theblock.state.v1.PublishRequest" in acknowledgement.refusal
        publication = ingest_pb2.Publication(update=custom(1))
        await call.write(ingest_pb2.PublishRequest(publications=[publication]).SerializeToString())
        assert positions((await call.read()).acknowledgements) == [("e1", 1)]
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK


async def test_a_message_that_is_too_large_ends_the_stream_and_not_the_server():
    async with serving() as service, ingest_stub_of(service) as stub:
        publisher = Publisher(stub)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await publisher.publish(custom("x" * (5 << 20)))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert positions(await Publisher(stub).publish(custom(1))) == [("e1", 1)]


# Sent again


async def test_what_is_sent_again_is_acknowledged_again_and_not_published_again():
    async with serving() as service, ingest_stub_of(service) as stub:
        first = await Publisher(stub).publish(custom(1), custom(2), custom(3), first=10)
        again = await Publisher(stub).publish(custom(2), custom(3), custom(4), first=11)  # on another connection
        assert positions(again) == [*positions(first)[1:], ("e1", 4)]
        assert [update.data()["n"] for update in held(service, "weather")] == [1, 2, 3, 4]
        assert (service.ingest.published, service.ingest.repeated) == (4, 2)


async def test_publishers_are_told_apart_and_without_a_number_nothing_is():
    async with serving() as service, ingest_stub_of(service) as stub:
        one, other = Publisher(stub, "one"), Publisher(stub, "other")
        assert positions(await one.publish(custom(1), first=1)) == [("e1", 1)]
        assert positions(await other.publish(custom(1), first=1)) == [("e1", 2)]
        assert positions(await one.publish(custom(1), custom(1))) == [("e1", 3), ("e1", 4)]
        assert positions(await Publisher(stub, "").publish(custom(1))) == [("e1", 5)]
        assert len(held(service, "weather")) == 5


@pytest.mark.parametrize("name", ["", "a b", "x" * 129], ids=["empty", "space", "long"])
async def test_a_numbered_publication_needs_a_publisher(name):
    async with serving() as service, ingest_stub_of(service) as stub:
        (refused,) = await Publisher(stub, name).publish(custom(1), first=1)
        assert "the publisher" in refused.refusal
        assert held(service, "weather") == []


async def test_what_was_refused_may_be_sent_again_with_the_same_number():
    async with serving() as service, ingest_stub_of(service) as stub:
        publisher = Publisher(stub)
        await publisher.publish(custom(1), custom(2, type_="No!"), custom(3), first=1)
        (mended,) = await publisher.publish(custom(2), first=2)
        assert mended.position.seq == 3
        assert [update.data()["n"] for update in held(service, "weather")] == [1, 3, 2]


async def test_what_is_so_old_that_its_position_is_forgotten_is_acknowledged_without_one():
    async with serving() as service, ingest_stub_of(service) as stub:
        publisher = Publisher(stub)
        await publisher.publish(*(custom(n) for n in range(1, 1006)), first=1)
        forgotten, known = await publisher.publish(custom(5), custom(6), first=5)
        assert (forgotten.WhichOneof("outcome"), forgotten.publisher_seq) == (None, 5)
        assert known.position.seq == 6
        assert service.hub.history("weather").head == 1005


async def test_what_was_refused_is_never_acknowledged_as_published_however_old():
    async with serving() as service, ingest_stub_of(service) as stub:
        publisher = Publisher(stub)
        bad, *_ = await publisher.publish(custom(1, type_="No!"), *(custom(n) for n in range(2, 1104)), first=1)
        (again,) = await publisher.publish(custom(1, type_="No!"), first=1)
        assert bad.refusal == again.refusal != ""
        (mended,) = await publisher.publish(custom(1), first=1)
        assert mended.position.seq == 1103
        (repeated,) = await publisher.publish(custom(1), first=1)
        assert repeated.position.seq == 1103, "it is published once"
        assert service.ingest.refused == 2


async def test_what_is_too_old_to_tell_is_refused(monkeypatch):
    monkeypatch.setattr(ingest, "Publishers", lambda: Publishers(positions=1, refusals=1))
    async with serving() as service, ingest_stub_of(service) as stub:
        publisher = Publisher(stub)
        await publisher.publish(custom(1), custom(2, type_="No!"), custom(3, type_="No!"), custom(4), first=1)
        await publisher.publish(custom(5), first=5)
        published, unsure, refused, older = await publisher.publish(custom(1), custom(2), custom(3), custom(4), first=1)
        assert "too old to tell" in published.refusal
        assert "too old to tell" in unsure.refusal
        assert refused.position.seq == 4
        assert older.WhichOneof("outcome") is None, "nothing was refused since"
        assert service.hub.history("weather").head == 4


async def test_a_new_epoch_takes_with_it_what_was_published_before_so_a_repeat_is_published_anew():
    async with serving() as service, ingest_stub_of(service) as stub:
        publisher = Publisher(stub)
        await publisher.publish(custom(1), first=1)
        service.origin.begin_epoch()
        again, new = await publisher.publish(custom(1), custom(2), first=1)
        assert positions([again, new]) == [("e2", 1), ("e2", 2)]


def test_what_is_remembered_is_bounded_by_publishers_and_by_positions():
    publishers = Publishers(publishers=2, positions=3, all_positions=5)

    def publish(name: str, seq: int) -> None:
        publishers.remember(publishers.get(name), seq, Position("e", seq))

    for seq in (1, 2, 3, 4):
        publish("a", seq)
    assert list(publishers.get("a").positions) == [2, 3, 4]
    assert publishers.get("a").forgotten == 1
    for seq in (1, 2, 3):
        publish("b", seq)  # the third is the sixth of all: the one heard of longest ago gives way
    assert (list(publishers.get("a").positions), publishers.get("a").forgotten) == ([3, 4], 2)
    assert list(publishers.get("b").positions) == [1, 2, 3]
    publish("c", 1)  # a third publisher: "a", not heard of for longest, is forgotten
    assert list(publishers.get("c").positions) == [1]
    assert (list(publishers.get("a").positions), publishers.get("a").forgotten) == ([], 0)


def test_what_is_remembered_of_refusals_is_bounded():
    publishers = Publishers(publishers=2, all_positions=3, refusals=2)

    def refuse(name: str, *seqs: int) -> None:
        for seq in seqs:
            publishers.refuse(publishers.get(name), seq)

    refuse("a", 1, 2, 2, 3)
    assert (list(publishers.get("a").refused), publishers.get("a").unsure) == ([2, 3], 1)
    refuse("b", 1, 2)  # the second is the fourth of all: the one heard of longest ago gives way
    assert (list(publishers.get("a").refused), publishers.get("a").unsure) == ([3], 2)
    publishers.remember(publishers.get("a"), 3, Position("e", 1))
    assert list(publishers.get("a").refused) == []
    refuse("c", 1, 2)  # a third publisher: "b" is forgotten, and makes room
    assert list(publishers.get("c").refused) == [1, 2]
    publishers.forget()
    refuse("c", 1, 2)
    refuse("d", 1)
    assert list(publishers.get("c").refused) == [1, 2]


# The end


async def test_a_publisher_that_goes_away_leaves_nothing_and_what_it_sent_is_published():
    async with serving() as service, ingest_stub_of(service) as stub:
        publisher = Publisher(stub)
        await publisher.publish(custom(1), first=1)
        publisher.call.cancel()
        assert positions(await Publisher(stub).publish(custom(1), custom(2), first=1)) == [("e1", 1), ("e1", 2)]


async def test_stopping_ends_a_quiet_publisher_at_once():
    async with serving() as service, ingest_stub_of(service) as stub:
        publisher = Publisher(stub)
        await publisher.publish(custom(1))
        async with asyncio.timeout(5):
            await service.server.stop(3600)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await publisher.call.read()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "going away" in caught.value.details()
