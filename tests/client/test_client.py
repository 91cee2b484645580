"""What a client reads and asks for, against a real sidecar over real sockets."""

import asyncio
import json

import pytest

from bridge.client import (
    Client,
    Connected,
    Disconnected,
    Position,
    RefusedError,
    Subscription,
    UnansweredError,
    Updated,
)
from generated.theblock.state.v1 import block_pb2
from tests.client.world import HASTY, listening, plain
from tests.edges.rig import Options, until, within

BIG = 2**60 + 1


async def test_both_formats_read_the_same(world):
    world.origin.publish_custom(
        "ticks", "tick", b'{ "n": 123456789012345678901234567890,\n "x": [1.5, null, "\xc3\xa9"] }'
    )
    world.account("a", 7)
    world.account("a", 8)
    world.block(1, finalized_height=BIG)
    world.values(1)
    heard = {}
    for format_ in ("json", "proto"):
        streams = [Subscription(stream, last=5) for stream in ("ticks", "account", "block_updates", "metrics")]
        async with listening(world, *streams, format=format_) as listener:
            heard[format_] = [await listener.next(Updated) for _ in range(5)]
    assert [plain(one) for one in heard["json"]] == [plain(one) for one in heard["proto"]]
    for one in heard["json"]:
        assert plain(one) == json.loads(one.raw)
    assert {one.stream: one.data for one in heard["proto"]}["block_updates"]["finalized_height"] == BIG
    assert [(one.key, one.prev) for one in heard["proto"] if one.stream == "account"] == [("a", 0), ("a", 1)]
    assert heard["json"][0].position == Position("epoch1", 1)


async def test_long_integers_as_strings(world, format_):
    world.origin.publish(block_pb2.BlockUpdate(height=BIG, hash=bytes(32)))
    world.origin.publish_custom("ticks", "tick", b'{"small":1,"large":%d}' % BIG)
    async with listening(world, "block_updates", "ticks", format=format_, int64_string=True) as listener:
        data = {update.stream: update.data for update in [await listener.next(Updated) for _ in range(2)]}
    assert data["block_updates"]["height"] == str(BIG)
    assert data["ticks"] == {"small": 1, "large": str(BIG)}


async def test_snapshot_then_live(world, format_):
    await world.blocks(3)
    async with listening(world, "block_updates", "nothing_yet", format=format_) as listener:
        welcome, rows = listener.of(Connected)[0].welcome, listener.of(Connected)[0].subscriptions
        assert (welcome.server, welcome.format, welcome.max_message_bytes) == ("theblock-bridge", format_, 65536)
        assert [(row.stream, row.declared, row.epoch, row.seq) for row in rows] == [
            ("block_updates", True, "epoch1", 3),
            ("nothing_yet", False, "epoch1", 0),
        ]
        assert (await listener.next(Updated)).snapshot
        world.block(4)
        update = await listener.next(Updated)
        assert (update.seq, update.snapshot, update.type, update.data["height"]) == (4, False, "block_update", 4)


async def test_name_that_is_nearly_one(world, format_):
    async with listening(world, "block_update", format=format_) as listener:
        assert listener.of(Connected)[0].subscriptions[0].did_you_mean == "block_updates"


async def test_every_stream(world, format_):
    await world.blocks(5)
    async with listening(world, last=2, format=format_) as listener:
        rows = listener.of(Connected)[0].subscriptions
        assert {row.stream for row in rows} == set(listener.of(Connected)[0].welcome.streams)
        assert [(await listener.next(Updated)).seq for _ in range(2)] == [4, 5]
        await listener.client.unsubscribe("metrics")
        world.tick(1)  # declares a stream
        world.cut()
        rows = (await listener.next(Connected)).subscriptions
        assert {row.stream for row in rows if row.recovered is None} == {"ticks"}
        assert "metrics" not in {row.stream for row in rows}


@pytest.mark.parametrize(
    ("asked", "heights"),
    [
        ({"last": 2}, [9, 10]),
        ({"since_height": 8}, [8, 9, 10]),
        ({"since_time_ms": 0, "where": {"height": {"gte": 3, "lt": 6}}}, [3, 4, 5]),
        ({"last": 10, "where": {"height": {"in": [2, 7]}}}, [2, 7]),
        ({"last": 10, "where": {"height": 7}}, [7]),
        ({"last": 10, "where": {"hash": {"prefix": "0x" + "0" * 63 + "a"}}}, [10]),
        ({"last": 10, "where": {"tx_count": None, "height": {"gt": 9.5}}}, [10]),
    ],
)
async def test_options_of_a_subscription(world, format_, asked, heights):
    await world.blocks(10)
    async with listening(world, Subscription("block_updates", **asked), format=format_) as listener:
        assert [(await listener.next(Updated)).data["height"] for _ in heights] == heights
        assert listener.client.counts.unexplained == 0


async def test_fields_are_for_json(world):
    await world.blocks(1)
    asked = Subscription("block_updates", fields=["height"])
    async with listening(world, asked) as listener:
        assert (await listener.next(Updated)).data == {"height": 1}
    with pytest.raises(RefusedError, match="protobuf.*fields"):
        async with listening(world, asked, format="proto"):
            pass


async def test_limited_rate(world, format_):
    async with listening(world, Subscription("metrics", max_rate_hz=20), format=format_) as listener:
        for height in range(1, 50):
            world.values(height)
        update = await listener.take_until(lambda event: isinstance(event, Updated) and event.seq == 49)
        assert update.data["blockHeight"] == 49
        assert len(listener.updates("metrics")) < 49


# Requests


async def test_requests_while_updates_flow(world, format_):
    flowing = True

    async def publish() -> None:
        height = 0
        while flowing:
            height += 1
            world.block(height)
            await asyncio.sleep(0)

    async with listening(world, "block_updates", format=format_) as listener:
        publishing = asyncio.create_task(publish())
        await listener.take_until(lambda event: isinstance(event, Updated) and event.seq > 20)
        client = listener.client
        pages, since = [], Position("epoch1", 0)
        while len(pages) < 3:
            page = await client.history("block_updates", since=since, limit=5)
            pages += [page]
            since = page.next
        assert [update.seq for page in pages for update in page.updates] == list(range(1, 16))
        newest = (await client.history("block_updates", limit=1, reverse=True)).updates[0]
        assert newest.data["height"] == newest.seq > 20
        listed = {info.stream: info for info in await client.streams()}
        blocks = listed["block_updates"]
        assert (blocks.delivery, blocks.keyed, blocks.message) == ("every", False, "theblock.state.v1.BlockUpdate")
        assert (blocks.epoch, blocks.oldest) == ("epoch1", 1)
        assert blocks.newest > 20
        assert (listed["metrics"].delivery, listed["metrics"].oldest, listed["metrics"].newest) == ("latest", 0, 0)
        books = (await client.stats())[0]
        assert books.head - books.start == books.delivered + books.pending
        pong = await client.ping()
        assert pong.server_time_ms > 1_700_000_000_000
        assert 0 <= pong.round_trip_seconds < 10
        flowing = False
        await publishing
        head = world.hub.histories["block_updates"].head
        await listener.take_until(lambda event: isinstance(event, Updated) and event.seq == head)
        verdict = world.oracle.verdict()
        assert verdict.ok, verdict


async def test_history_of_a_key_and_what_is_no_longer_held(world, format_):
    for balance in range(1, 7):
        world.account("ab"[balance % 2], balance)
    async with listening(world, "metrics", format=format_) as listener:
        page = await listener.client.history("account", "a", since_height=3)
        assert ([update.seq for update in page.updates], page.next) == ([4, 6], None)
        page = await listener.client.history("account", until=Position("epoch1", 3))
        assert [update.seq for update in page.updates] == [1, 2]
        with pytest.raises(RefusedError, match="not of epoch epoch1") as caught:
            await listener.client.history("account", since=Position("other", 1))
        assert (caught.value.code, caught.value.data["reason"]) == (-32602, "epoch")


async def test_subscribe_and_unsubscribe_while_running(world, format_):
    await world.blocks(3)
    world.values(1)
    async with listening(world, "block_updates", format=format_) as listener:
        client = listener.client
        rows = await client.subscribe(Subscription("metrics"), Subscription("ticks"))
        assert [(row.stream, row.seq, row.declared) for row in rows] == [("metrics", 1, True), ("ticks", 0, False)]
        await client.unsubscribe("block_updates")
        await client.unsubscribe("energy")  # there is no such subscription
        world.cut()
        assert {row.stream for row in (await listener.next(Connected)).subscriptions} == {"metrics", "ticks"}
        world.block(4)
        world.tick(1)
        await listener.take_until(lambda event: isinstance(event, Updated) and event.stream == "ticks")
        assert listener.updates("block_updates") == []
        assert client.position("block_updates") is None


async def test_change_of_options_keeps_the_place(world, format_):
    """Asked for again without a place to begin at, a subscription goes on where it stands, over a cut too."""
    async with listening(world, "block_updates", format=format_) as listener:
        await world.blocks(3)
        await listener.take_until(lambda event: isinstance(event, Updated) and event.seq == 3)
        await listener.client.subscribe(Subscription("block_updates", where={"height": {"gt": 5}}))
        world.cut()
        await world.blocks(4)
        row = (await listener.next(Connected)).subscriptions[0]
        assert (row.recovered, row.seq) == (True, 3)
        await listener.take_until(lambda event: isinstance(event, Updated) and event.seq == 7)
        assert [update.seq for update in listener.updates("block_updates")] == [1, 2, 3, 6, 7]


async def test_replay_of_what_came_before_is_no_repeat(world, format_):
    async with listening(world, "block_updates", format=format_) as listener:
        await world.blocks(5)
        await listener.take_until(lambda event: isinstance(event, Updated) and event.seq == 5)
        row = (await listener.client.subscribe(Subscription("block_updates", last=2)))[0]
        assert (row.seq, row.replayed) == (3, 2)
        assert [(await listener.next(Updated)).seq for _ in range(2)] == [4, 5]
        assert listener.client.counts.repeated == 0


async def test_refused_while_running(world, format_):
    async with listening(world, "block_updates", format=format_) as listener:
        for wrong in (Subscription("Upper"), Subscription("metrics", key="k"), Subscription("ticks", max_rate_hz=1)):
            with pytest.raises(RefusedError, match="the sidecar refuses state_stream.subscribe: ") as caught:
                await listener.client.subscribe(Subscription("energy"), wrong)
            assert caught.value.code == -32602
        assert [books.stream for books in await listener.client.stats()] == ["block_updates"]
        world.block(1)
        assert (await listener.next(Updated)).seq == 1


async def test_refused_at_first_ends_the_iteration(world, format_):
    async with Client(world.url, [Subscription("Upper")], format=format_) as client:
        for _ in range(2):
            with pytest.raises(RefusedError, match="stream must be a string that matches"):
                await within(anext(client))
        with pytest.raises(UnansweredError, match="the client has ended"):
            await client.ping()


async def test_a_request_that_is_cut_off_is_told(world, format_):
    async with listening(world, "block_updates", format=format_) as listener:
        asking = asyncio.create_task(listener.client.ping())
        await asyncio.sleep(0)
        world.cut()
        with pytest.raises(UnansweredError, match="the connection was lost before ping was answered"):
            await within(asking)
        assert (await within(listener.client.ping())).server_time_ms  # waits for the next connection


async def test_no_answer_in_time(world, format_):
    patience = type(HASTY)(first_retry_seconds=0.01, longest_retry_seconds=0.01, answer_seconds=0.05)
    await world.stop()
    async with listening(world, "metrics", format=format_, patience=patience, connected=False) as listener:
        with pytest.raises(UnansweredError, match=r"no answer to session.stats within 0.05 s"):
            await listener.client.stats()


# Life


async def test_leaving_closes_the_connection(world, format_):
    async with listening(world, "block_updates", format=format_) as listener:
        assert world.connected
    await until(lambda: not world.connected, "the sidecar knows")
    with pytest.raises(StopAsyncIteration):
        await anext(listener.client)


async def test_cancelled_while_waiting_loses_nothing(world, format_):
    async with listening(world, "block_updates", format=format_) as listener:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await anext(listener.client)
        world.block(1)
        assert (await listener.next(Updated)).seq == 1


async def test_a_cancelled_task_leaves_nothing(world, format_):
    async def read() -> None:
        async with Client(world.url, [Subscription("block_updates")], format=format_) as client:
            async for _ in client:
                pass

    task = asyncio.create_task(read())
    await until(lambda: world.connected, "it is connected")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(task)
    await until(lambda: world.holds_nothing(), "the sidecar knows")


async def test_a_client_that_never_got_through_can_be_left(world):
    await world.stop()
    async with listening(world, "metrics", connected=False) as listener:
        lost = await listener.next(Disconnected)
        assert lost.reason == f"cannot connect to 127.0.0.1:{world.port}: Connection refused"
        assert lost.code is None


async def test_token(world, format_):
    tokens = iter(["first", "second"])
    async with listening(world, "metrics", format=format_, token=lambda: next(tokens)) as listener:
        world.cut()
        await listener.next(Connected)
    async with listening(world, "metrics", format=format_, token="fixed"):
        pass
    async with listening(world, "metrics", format=format_):
        pass
    assert world.authorizations == ["Bearer first", "Bearer second", "Bearer fixed", None]


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "127.0.0.1:5000", "http://"])
async def test_what_is_no_url(url):
    with pytest.raises(ValueError, match="the URL of a sidecar is http://host:port"):
        Client(url)


async def test_what_is_no_format():
    with pytest.raises(ValueError, match="format must be one of json, proto, not 'xml'"):
        Client("http://127.0.0.1", format="xml")


class TestFull:
    """No room: the sidecar takes no more connections now, and says when to come back."""

    @pytest.fixture
    def options(self):
        return Options(connection_limit=1)

    async def test_comes_back_when_it_was_told(self, world, format_):
        async with listening(world, "metrics"), listening(world, "metrics", connected=False, format=format_) as second:
            lost = await second.next(Disconnected)
            assert lost.reason == (
                "the server answered the handshake with HTTP 503: no more connections are taken now; retry later"
            )
            assert 1.0 <= lost.retry_seconds <= 1.05
