"""Server-Sent Events over real sockets: what is asked for and refused, and that nothing is lost or repeated."""

import asyncio
import json
import random
import socket
from contextlib import suppress
from dataclasses import replace

import pytest

from bridge.core.history import HistoryLimits
from bridge.core.hub import State
from bridge.core.limits import Limits
from bridge.core.update import Form, Format
from bridge.core.vector import Vector
from bridge.edges.events.edge import EVENT_STREAM, RETRY_MS
from bridge.edges.events.wire import DISCARD_BYTES, LEAST_RETRY_MS, EventWire
from bridge.edges.guard import EXPOSED, SERVER
from bridge.edges.patience import Patience
from generated.theblock.state.v1 import account_pb2
from tests.edges.listener import Listener
from tests.edges.rawclient import Hung
from tests.edges.rig import Options, Rig, serving, until, within

BLOCKS = "block_updates"
BUFFER_BYTES = 8192
ORIGIN = "http://localhost:3000"


def good(rig: Rig) -> None:
    verdict = rig.oracle.verdict()
    assert verdict.ok, verdict
    assert verdict.delivered


# What is sent


async def test_snapshots_come_first_and_then_every_update_as_it_is_published(rig, listener):
    await rig.blocks(3)
    client = listener(BLOCKS, "metrics", name="one")
    subscribed = await client.listen()
    assert [(row["stream"], row["seq"]) for row in subscribed["subscriptions"]] == [(BLOCKS, 3), ("metrics", 0)]
    assert [value.get("snapshot") for value in await client.read_until(BLOCKS, 3)] == [True]
    rig.block(4)
    rig.values(4)
    rig.block(5)
    await client.read_until(BLOCKS, 5)
    assert client.source.last_event_id == "epoch1;block_updates=5;metrics=1"
    good(rig)


async def test_the_json_is_byte_for_byte_that_of_a_websocket(rig, listener, connect):
    for query in ("", "&int64=string"):
        client = listener(BLOCKS, query=query)
        await client.listen()
        other = await connect(f"/ws?subscribe={BLOCKS}{query}")
        if query:
            await client.read()
            await other.read_json()
        await other.pong()
        rig.block(rig.hub.histories[BLOCKS].head + 1, tx_count=5)
        assert (await client.read()).data.encode() == (await other.read()).payload


async def test_headers(rig, listener):
    client = listener(BLOCKS)
    answer = await client.connect(Origin=ORIGIN)
    assert answer.headers | {"date": ""} == {
        "content-type": EVENT_STREAM,
        "cache-control": "no-store",
        "x-accel-buffering": "no",
        "server": SERVER,
        "vary": "Origin",
        "x-content-type-options": "nosniff",
        "access-control-allow-origin": ORIGIN,
        "access-control-expose-headers": EXPOSED,
        "transfer-encoding": "chunked",
        "connection": "close",
        "date": "",
    }


async def test_who_speaks_http_1_0_is_answered_to_the_end_of_the_connection(rig, listener):
    client = listener(BLOCKS, version="1.0")
    await client.listen()
    assert "transfer-encoding" not in client.answer.headers
    rig.block(1)
    assert (await client.read_value())["seq"] == 1


async def test_a_head_is_answered_without_events(rig, http):
    async with http.head(f"/events?stream={BLOCKS}") as response:
        assert (response.status, response.content_type) == (200, EVENT_STREAM)
    async with http.head("/events") as response:
        assert response.status == 400


async def test_one_key_and_a_whole_keyed_stream(rig, listener):
    client = listener("account/alice", BLOCKS)
    await client.listen()
    for address in ("bob", "alice"):
        rig.origin.publish(account_pb2.AccountUpdate(address=address))
    value = await client.read_value()
    assert (value["key"], client.source.last_event_id) == ("alice", "epoch1;account/alice=2;block_updates=0")
    whole = listener("account")
    await whole.listen()
    assert [(await whole.read_value())["key"] for _ in range(2)] == ["bob", "alice"]


async def test_a_stream_that_nobody_knows_begins_with_its_first_update(rig, listener):
    client = listener("ticks", name="early")
    (row,) = (await client.listen())["subscriptions"]
    assert row["declared"] is False
    rig.tick(1)
    assert (await client.read_value())["data"]["number"] == 1
    good(rig)


async def test_a_thousand_clients_share_what_is_encoded(rig, listener):
    clients = [listener(BLOCKS, "metrics") for _ in range(1000)]
    for batch in range(0, 1000, 100):
        await asyncio.gather(*(client.listen() for client in clients[batch : batch + 100]))
    await until(lambda: rig.hub.catching_up == 0, "all are live")
    rig.block(1)
    rig.values(1)
    for client in clients:
        assert [(await client.read_value())["stream"] for _ in range(2)] == [BLOCKS, "metrics"]
    updates = [history.get(1) for history in (rig.hub.histories[BLOCKS], rig.hub.histories["metrics"])]
    for update in updates:
        before = update.size_bytes
        frame = update.frame(Form(Format.EVENT))
        assert update.size_bytes == before, "it was encoded, once"
        assert frame.endswith(b"\n\n")


async def test_clients_are_told_when_the_node_is_not_followed(rig, listener):
    client = listener(BLOCKS)
    await client.listen()
    rig.hub.set_status(State.STALE, "it stands still")
    event = await client.read()
    assert (event.type, json.loads(event.data)["state"]) == ("upstream", "stale")


# Coming back


async def test_the_last_id_resumes_and_goes_before_that_of_the_url(rig, listener):
    await rig.blocks(9)
    client = listener(BLOCKS, query="&last_event_id=epoch1;block_updates=7", name="from a websocket")
    client.judged.subscribed(BLOCKS, epoch="epoch1", seq=7)
    subscribed = await client.listen()
    (row,) = subscribed["subscriptions"]
    assert (row["seq"], row["recovered"], row["replayed"]) == (7, True, 2)
    await client.read_until(BLOCKS, 8)
    client.source.last_event_id = "epoch1;block_updates=8"
    (row,) = (await client.listen())["subscriptions"]
    assert row["seq"] == 8
    assert (await client.read_value())["seq"] == 9


async def test_while_a_position_cannot_be_decided_on_the_client_keeps_it(rig, listener):
    await rig.blocks(9)
    client = listener(BLOCKS)
    client.source.last_event_id = "epoch0;block_updates=3"
    rig.hub.upstream_reached = False
    answer = await client.connect()
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    error = answer.json()["error"]
    assert (error["code"], error["details"]) == ("UPSTREAM_UNAVAILABLE", {"retry_after_ms": 1000})
    await client.connect(Origin=ORIGIN)
    (event,) = client.source.feed(client.answer.body)
    assert json.loads(event.data)["error"]["code"] == "UPSTREAM_UNAVAILABLE"
    assert client.source.last_event_id == "epoch0;block_updates=3"
    assert rig.holds_nothing()
    rig.hub.upstream_reached = True
    (row,) = (await client.listen())["subscriptions"]
    assert (row["recovered"], row["reason"]) == (False, "epoch")
    assert (await client.read_value())["snapshot"] is True


@pytest.mark.parametrize("seed", range(3))
async def test_connections_that_are_cut_anywhere_lose_and_repeat_nothing(rig, listener, seed):
    """Within an event, a chunk or the head, at any speed; in the middle of it the epoch changes."""
    draw = random.Random(seed)
    wishes = [(BLOCKS,), (BLOCKS, "metrics"), ("ticks", BLOCKS, "metrics")]
    versions = ["1.0", "1.1", "1.1"]
    clients = [
        listener(
            *wishes[n % 3], name=f"client {n}", version=versions[n % 3], receive_buffer_bytes=BUFFER_BYTES * (n % 2)
        )
        for n in range(6)
    ]
    number = 0

    def publish() -> None:
        nonlocal number
        for _ in range(draw.randint(1, 40)):
            number += 1
            rig.block(rig.hub.histories[BLOCKS].head + 1)
            if number % 3 == 0:
                rig.tick(number, "x" * draw.randint(0, 2000))
            if number % 5 == 0:
                rig.values(number)

    async def live(client: Listener) -> None:
        await client.connect()
        for _ in range(draw.randint(0, 4)):
            publish()
            await client.raw.fill()
            client.take(draw.choice([None, None, draw.randint(0, len(client.raw.buffer))]))
        client.take(draw.randint(0, len(client.raw.buffer)))

    for turn in range(12):
        publish()
        if turn == 6:
            rig.origin.begin_epoch()
            rig.oracle.began(rig.origin.epoch)
        for client in draw.sample(clients, 4):
            await live(client)
    for client in clients:
        client.events.clear()
        await client.connect()
    publish()
    rig.block(rig.hub.histories[BLOCKS].head + 1)
    rig.tick(0)
    rig.values(0)
    heads = {name: rig.hub.histories[name].head for name in (BLOCKS, "metrics", "ticks")}
    for client in clients:
        wanted = {(name, heads[name]) for name in client.streams}
        while wanted:
            event = await client.read()
            value = json.loads(event.data)
            wanted.discard((value.get("stream"), value.get("seq")))
    good(rig)


# Reading slowly

SMALL = Patience(send_buffer_bytes=8192, write_buffer_bytes=8192, stall_timeout_seconds=0.4)


class TestSlow:
    @pytest.fixture
    def options(self) -> Options:
        return Options(history=HistoryLimits(count=50_000, bytes=1 << 30))

    async def test_who_stops_for_5000_updates_gets_each_of_them(self, rig, listener, witness):
        client = listener(BLOCKS, receive_buffer_bytes=BUFFER_BYTES)
        await client.listen()
        await until(lambda: rig.hub.catching_up == 0, "it is live")
        await rig.blocks(5000)
        assert rig.hub.catching_up == 1
        events = []
        while client.source.last_event_id != "epoch1;block_updates=5000":
            events.append(await client.read())
        events += client.events
        seqs = [json.loads(event.data)["seq"] for event in events if event.type == "message"]
        assert seqs == list(range(1, 5001))
        client.events.clear()
        rig.block(5001)
        await client.read_until(BLOCKS, 5001)
        await until(lambda: rig.hub.catching_up == 0, "it is live again")


class TestSlowAndForgotten:
    @pytest.fixture
    def options(self) -> Options:
        return Options(history=HistoryLimits(count=100))

    async def test_what_history_let_go_of_is_named(self, rig, listener, witness):
        client = listener(BLOCKS, name="slow", receive_buffer_bytes=BUFFER_BYTES)
        await client.listen()
        await until(lambda: rig.hub.catching_up == 0, "it is live")
        await rig.blocks(5000)
        events = []
        while client.source.last_event_id != "epoch1;block_updates=5000":
            events.append(await client.read())
        kinds = [event.type for event in events if event.type != "message"]
        assert kinds.count("gap") == 1
        assert kinds[-1] == "caught_up" or "caught_up" not in kinds
        good(rig)


class TestStalled:
    @pytest.fixture
    def options(self) -> Options:
        return Options(patience=SMALL)

    async def test_who_never_reads_is_dropped_and_leaves_no_memory(self, rig, listener, witness):
        client = listener(BLOCKS, receive_buffer_bytes=BUFFER_BYTES)
        await client.connect()
        await rig.blocks(3000)
        await until(lambda: rig.events.open == 0, "it is dropped")
        assert len(rig.hub.readers) == 1

    async def test_a_connection_whose_peer_acknowledges_nothing_has_a_deadline(self, rig, listener):
        """The kernel keeps it: a peer that has vanished answers no segment."""
        client = listener(BLOCKS)
        await client.listen()
        (wire,) = rig.edge.wires
        sock = wire._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 400


async def test_whose_socket_takes_nothing_is_dropped_at_its_time(rig, listener):
    """By the clock that it is given: the kernel's own deadline is a minute away."""
    client = listener(BLOCKS, receive_buffer_bytes=BUFFER_BYTES)
    await client.connect()
    await rig.blocks(2000)
    assert rig.hub.catching_up == 1
    (wire,) = rig.edge.wires
    now, timeout = asyncio.get_running_loop().time(), Patience().stall_timeout_seconds
    wire.check(now)
    wire.check(now + timeout - 5)
    assert rig.events.open == 1
    wire.check(now + timeout + 5)
    await until(lambda: rig.events.open == 0, "it is dropped")


class TestHeartbeat:
    @pytest.fixture
    def options(self) -> Options:
        return Options(patience=replace(Patience(), ping_interval_seconds=0.1))

    async def test_a_quiet_connection_shows_life(self, rig, listener):
        client = listener(BLOCKS)
        await client.listen()
        while client.source.comments < 3:
            await client.fill()
        assert client.events == []
        assert client.source.last_event_id == "epoch1;block_updates=0"


async def test_who_hangs_up_leaves_nothing(rig, listener):
    for way in ("close", "reset", "half"):
        client = listener(BLOCKS)
        await client.listen()
        if way == "reset":
            client.raw.reset()
        elif way == "half":
            client.raw.sock.shutdown(socket.SHUT_WR)
        else:
            client.hang_up()
        rig.block(rig.hub.histories[BLOCKS].head + 1)
        await until(rig.holds_nothing, f"it is gone after {way}")


async def test_who_talks_though_it_has_nothing_to_say_is_dropped(rig, listener):
    client = listener(BLOCKS)
    await client.listen()
    await client.raw.send(b"GET / HTTP/1.1\r\n\r\n")
    rig.block(1)
    assert (await client.read_value())["seq"] == 1
    with suppress(ConnectionError):
        await client.raw.send(b"x" * (DISCARD_BYTES + 1))
    await until(rig.holds_nothing, "it is gone")


# Going away


async def test_a_drain_tells_when_to_come_back_and_ends_in_good_order():
    async with serving() as rig:
        clients = [Listener(rig.port, [BLOCKS], version=version) for version in ("1.0", "1.1", "1.1")]
        for client in clients:
            subscribed = await client.listen()
            assert subscribed["type"] == "subscribed"
            assert RETRY_MS[0] <= client.source.retry_ms <= RETRY_MS[1]
        drain = asyncio.create_task(rig.edge.drain(0.6))
        await asyncio.sleep(0)  # it has begun
        rig.block(1)
        for client in clients:
            events = await client.read_to_end()
            assert [event.type for event in events][:1] == ["going_away"]
            assert 0 <= json.loads(events[0].data)["retry_after_ms"] <= 600
            assert client.source.retry_ms >= LEAST_RETRY_MS
            assert client.source.last_event_id == "epoch1;block_updates=1", "it was served until then"
            client.hang_up()
        await within(drain)
        client = Listener(rig.port, [BLOCKS])
        answer = await client.connect()
        assert (answer.status, answer.json()["error"]["code"]) == (503, "OVERLOADED")
        client.hang_up()


async def test_who_does_not_read_does_not_delay_the_end():
    async with serving(Options(patience=replace(SMALL, stall_timeout_seconds=60))) as rig:
        client = Listener(rig.port, [BLOCKS], receive_buffer_bytes=BUFFER_BYTES)
        await client.connect()
        await rig.blocks(3000)
        await within(rig.edge.drain(0.1), 5)
        await until(rig.holds_nothing, "it is gone")
        client.hang_up()


async def test_nobody_is_missed_who_comes_while_the_hub_publishes(rig, listener):
    """Subscribing and taking the position is one step, though the head of the answer is still to be written."""
    publishing = asyncio.create_task(rig.blocks(3000))
    clients = [listener(BLOCKS, name=f"client {number}") for number in range(20)]
    for client in clients:
        await client.connect()
    await publishing
    for client in clients:
        while client.source.last_event_id != "epoch1;block_updates=3000":
            await client.read()
    good(rig)


async def test_what_is_published_before_the_head_of_the_answer_waits_in_history(rig):
    wire = EventWire(rig.hub, Limits(), Patience(), Format.EVENT)
    wire.open([(BLOCKS, None)], Vector({}), 1000)
    (reader,) = rig.hub.readers
    await rig.blocks(100)
    assert (reader.blocked, reader.cursors[BLOCKS, None].at) == (True, 0)
    wire.let_go()


async def test_a_client_that_is_gone_before_its_answer_leaves_nothing(rig, listener):
    for _ in range(20):
        client = listener(BLOCKS)
        with suppress(TimeoutError, Hung):
            await asyncio.wait_for(client.connect(), 0)
        client.hang_up()
    await until(rig.holds_nothing, "nothing is left")
