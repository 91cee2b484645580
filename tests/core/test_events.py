"""Server-Sent Events: what a client that only listens is told, and that it may come back from anywhere."""

import json

import pytest

from bridge.core.cursor import Spec
from bridge.core.errors import RequestError
from bridge.core.events import COMMENT, EVENT_FORMATS, EventReader, with_retry
from bridge.core.history import HistoryLimits
from bridge.core.hub import State
from bridge.core.update import Form, Format, Missed, Update
from generated.theblock.state.v1 import account_pb2, update_pb2
from tests import frames
from tests.core.disk import Disk
from tests.core.event_clients import RETRY_MS, EventClient, outline
from tests.core.world import World, elsewhere, good, server_frames
from tests.eventsource import EventSource

BLOCKS = "block_updates"


@pytest.fixture
def world() -> World:
    world = World()
    world.hub.set_status(State.LIVE, "well")
    return world


@pytest.fixture
def small() -> World:
    """Return a world whose histories hold four updates."""
    world = World(limits=HistoryLimits(count=4))
    world.hub.set_status(State.LIVE, "well")
    return world


def filled(world: World, blocks: int = 10) -> World:
    for height in range(1, blocks + 1):
        world.block(height)
    world.run()
    return world


# What comes first


def test_first_comes_where_each_subscription_begins_then_the_current_values(world):
    filled(world)
    world.account("alice", 1)
    client = EventClient(world, [BLOCKS, "account/alice", "zzz"])
    assert outline(client.take()) == ["subscribed", f"{BLOCKS} 10 snapshot", "account 1 snapshot"]
    assert client.values[0]["subscriptions"] == [
        {"stream": BLOCKS, "declared": True, "epoch": "e1", "seq": 10},
        {"stream": "account", "key": "alice", "declared": True, "epoch": "e1", "seq": 1},
        {"stream": "zzz", "declared": False, "epoch": "e1", "seq": 0},
    ]
    assert client.source.retry_ms == RETRY_MS
    assert [event.last_event_id for event in client.events] == ["", "", "e1;block_updates=10;account/alice=1;zzz=0"]


def test_where_there_is_no_value_yet_the_first_event_has_the_id(world):
    client = EventClient(world, [BLOCKS])
    assert [(event.type, event.last_event_id) for event in client.take()] == [("subscribed", "e1;block_updates=0")]


def test_there_is_no_id_while_no_epoch_is_known():
    world = World()
    world.hub.epoch = ""
    world.hub.histories[BLOCKS].epoch = ""
    client = EventClient(world, [BLOCKS])
    assert [(event.type, event.last_event_id) for event in client.take()] == [("subscribed", ""), ("upstream", "")]


def test_who_comes_while_the_node_is_not_followed_is_told(world):
    world.hub.set_status(State.STALE, "the node stands still")
    world.block(1)
    client = EventClient(world, [BLOCKS])
    assert outline(client.take()) == ["subscribed", "upstream", f"{BLOCKS} 1 snapshot"]
    assert client.values[1] == {"type": "upstream", "state": "stale", "since": world.now_ms}


def test_a_name_like_another_is_told(world):
    client = EventClient(world, ["block_update"])
    client.take()
    assert client.values[0]["subscriptions"][0]["did_you_mean"] == BLOCKS


def test_a_key_of_a_stream_without_keys_is_refused_and_nothing_is_left(world):
    with pytest.raises(RequestError, match="has no keys"):
        EventClient(world, [f"{BLOCKS}/alice"])
    assert all(history.cursors == 0 for history in world.hub.histories.values())


# Live


def test_every_update_has_the_id_that_is_right_behind_it(world):
    client = EventClient(world, [BLOCKS, "metrics", "account/a"])
    world.run()
    client.take()
    world.block(1)
    world.metrics(1.5)
    world.account("b", 1)  # of another key
    world.block(2)
    world.account("a", 1)
    world.run()
    assert [event.last_event_id for event in client.take()] == [
        "e1;block_updates=1;metrics=0;account/a=0",
        "e1;block_updates=1;metrics=1;account/a=0",
        "e1;block_updates=2;metrics=1;account/a=0",
        "e1;block_updates=2;metrics=1;account/a=2",
    ]
    good(world)


def test_the_next_sweep_knows_how_far_the_others_have_come(world):
    client = EventClient(world, [BLOCKS, "account/a"])
    world.run()
    client.take()
    world.account("b", 1)  # nothing for this client
    world.run()
    world.block(1)
    world.run()
    (event,) = client.take()
    assert event.last_event_id == "e1;block_updates=1;account/a=1"


def test_a_latest_stream_gives_the_newest_of_a_sweep(world):
    client = EventClient(world, ["metrics", BLOCKS])
    world.run()
    client.take()
    for number in range(3):
        world.metrics(number)
        world.block(number + 1)
    world.run()
    assert [(outline([event])[0], event.last_event_id) for event in client.take()] == [
        (f"{BLOCKS} 1", "e1;metrics=0;block_updates=1"),
        (f"{BLOCKS} 2", "e1;metrics=0;block_updates=2"),
        ("metrics 3", "e1;metrics=3;block_updates=2"),
        (f"{BLOCKS} 3", "e1;metrics=3;block_updates=3"),
    ]
    good(world)


def test_a_thousand_readers_are_written_the_same_buffer(world):
    written: list[bytes] = []
    for _ in range(1000):
        reader = EventReader(written.append, Format.EVENT)
        world.hub.attach(reader)
        for stream in (BLOCKS, "metrics"):
            world.hub.subscribe(reader, Spec(stream))
    world.run()
    written.clear()
    world.block(1)
    world.metrics(2)
    world.run()
    assert len(written) == 1000
    assert len({id(data) for data in written}) == 1


@pytest.mark.parametrize("format_", EVENT_FORMATS)
@pytest.mark.parametrize("missed", [None, Missed(2, 6)])
def test_the_json_is_that_of_the_text_frame(world, format_, missed):
    updates = [
        world.block(1 << 31),
        world.account("alice", 1 << 60),
        world.custom("ticks", {"n": 1 << 60, "text": "a\nb\r"}),
    ]
    for update in updates:
        event, text = (
            (update.standing_in(Form(f), missed) if missed else update.frame(Form(f)))
            for f in (EVENT_FORMATS[format_], format_)
        )
        (got,) = EventSource().feed(event)
        ((_, payload),) = server_frames(text)
        assert got == ("message", payload.decode(), "")


def test_what_stands_on_several_lines_is_put_on_one(world):
    """A publisher's JSON is kept on one line by us, but the state service may be somebody else's."""
    stream = world.custom("ticks", {"n": 1}).stream
    raw = update_pb2.Update(
        stream="ticks", epoch="e1", seq=2, custom=update_pb2.CustomUpdate(type="t", json=b'{"n":\r\n2,\n\n"m":3}')
    )
    update = Update(stream, "e1", 2, 0, raw.SerializeToString())
    (event,) = EventSource().feed(update.frame(Form(Format.EVENT)))
    assert json.loads(event.data)["data"] == {"n": 2, "m": 3}


def test_64_bit_integers_as_strings(world):
    client = EventClient(world, [BLOCKS], format_=Format.JSON_INT64_STRING)
    world.run()
    world.block(1)
    world.run()
    client.take()
    assert client.values[-1]["data"]["height"] == "1"
    good(world)


# Reading slowly


def test_who_is_slow_reads_on_from_history_with_the_ids_of_each_update(world):
    client = EventClient(world, [BLOCKS, "account/a"], capacity=1)
    world.run()
    for height in range(1, 6):
        world.block(height)
        world.account("ab"[height % 2], height)
    world.run()
    assert world.hub.catching_up == 1
    got = []
    while events := client.take():
        got += events
        world.run()
    assert [event.last_event_id for event in got][1:] == [
        "e1;block_updates=1;account/a=0",
        "e1;block_updates=2;account/a=0",
        "e1;block_updates=2;account/a=2",
        "e1;block_updates=3;account/a=2",
        "e1;block_updates=4;account/a=2",
        "e1;block_updates=4;account/a=4",
        "e1;block_updates=5;account/a=4",
    ]
    world.run()
    assert world.hub.catching_up == 0
    good(world)


def test_who_fell_far_behind_is_told_so_and_that_it_has_caught_up(world):
    client = EventClient(world, [BLOCKS], capacity=1)
    world.run()
    client.take()
    world.run()
    filled(world, 1)  # its socket is full of that
    for height in range(2, 302):
        world.block(height)
    while client.take():
        world.run()
    told = [value for value in client.values if value["type"] in ("fell_behind", "caught_up")]
    assert told == [
        {"type": "fell_behind", "stream": BLOCKS, "seq": 1, "head": 301},
        {"type": "caught_up", "stream": BLOCKS, "seq": 301},
    ]
    assert client.source.last_event_id == "e1;block_updates=301"
    good(world)


def test_what_history_let_go_of_is_named_and_stood_in_for(small):
    client = EventClient(small, [BLOCKS, "account/a"], capacity=1)
    small.run()
    client.take()
    small.run()
    small.block(1)
    small.run()  # its socket is full of that
    for height in range(2, 11):
        small.block(height)
    small.account("a", 1)
    small.run()
    client.take()
    small.run()
    events = client.take()
    assert outline(events) == ["gap", f"{BLOCKS} 6 snapshot", *(f"{BLOCKS} {seq}" for seq in range(7, 11)), "account 1"]
    assert json.loads(events[0].data) == {
        "type": "gap", "stream": BLOCKS, "epoch": "e1", "from": 2, "to": 6, "reason": "trimmed"
    }  # fmt: skip
    assert [event.last_event_id for event in events[:3]] == [
        "e1;block_updates=1;account/a=0",  # of the event before
        "e1;block_updates=6;account/a=0",
        "e1;block_updates=7;account/a=0",
    ]
    good(small)


# Epochs


def test_a_new_epoch_is_told_and_its_ids_are_valid_before_the_first_update(world):
    filled(world, 3)
    client = EventClient(world, [BLOCKS, "metrics"])
    world.run()
    client.take()
    world.begin_epoch()
    world.run()
    events = client.take()
    assert [(event.type, event.last_event_id) for event in events] == [
        ("gap", "e2;block_updates=0;e1;metrics=0"),
        ("gap", "e2;block_updates=0;metrics=0"),
    ]
    client.cut()
    world.block(1)
    client.connect()
    world.run()
    assert outline(client.take()) == ["subscribed", f"{BLOCKS} 1"]
    good(world)


def test_streams_that_come_to_an_epoch_one_by_one_leave_the_others_where_they_are(world):
    filled(world, 3)
    client = EventClient(world, [BLOCKS, "account"])
    world.account("a", 1)
    world.run()
    client.take()
    account = world.hub.histories["account"].stream
    world.hub.begin("account", "e2", 8, [])
    update = elsewhere(world, account, 9, account_pb2.AccountUpdate(address="a"), {"address": "a"}, key="a", prev=1)
    world.hub.admit(update)
    world.run()
    assert client.take()[-1].last_event_id == "e1;block_updates=3;e2;account=9"


# Coming back


def test_who_comes_back_gets_what_follows_without_a_snapshot(world):
    filled(world)
    client = EventClient(world, [BLOCKS], last_event_id="e1;block_updates=7")
    world.run()
    assert outline(client.take()) == ["subscribed", f"{BLOCKS} 8", f"{BLOCKS} 9", f"{BLOCKS} 10"]
    assert client.values[0]["subscriptions"] == [
        {"stream": BLOCKS, "declared": True, "epoch": "e1", "seq": 7, "recovered": True, "replayed": 3}
    ]
    assert client.events[0].last_event_id == "e1;block_updates=7"
    good(world)


def test_a_stream_that_is_new_to_a_client_begins_with_its_value_and_the_others_keep_their_place(world):
    filled(world)
    world.metrics(1.5)
    client = EventClient(world, ["metrics", BLOCKS], last_event_id="e1;block_updates=7;gone=4")
    first, snapshot = client.take()
    assert first.last_event_id == "e1;block_updates=7;gone=4", "cut here it comes back as it came"
    assert (outline([snapshot]), snapshot.last_event_id) == (["metrics 1 snapshot"], "e1;metrics=1;block_updates=7")
    world.run()
    assert outline(client.take()) == [f"{BLOCKS} {seq}" for seq in (8, 9, 10)]
    good(world)


@pytest.mark.parametrize(("id_", "reason"), [("e0;block_updates=7", "epoch"), ("e1;block_updates=11", "ahead")])
def test_a_position_that_is_no_more_is_told_and_the_value_follows(world, id_, reason):
    filled(world)
    client = EventClient(world, [BLOCKS])
    client.source.last_event_id = id_
    client.cut()
    client.connect()
    events = client.take()
    assert outline(events) == ["subscribed", f"{BLOCKS} 10 snapshot"]
    (row,) = client.values[-2]["subscriptions"]
    assert (row["recovered"], row["reason"]) == (False, reason)
    assert [event.last_event_id for event in events] == [id_, "e1;block_updates=10"]


def test_a_position_that_was_trimmed_is_told_and_what_is_missed_is_named(small):
    filled(small)
    client = EventClient(small, [BLOCKS], last_event_id="e1;block_updates=2")
    small.run()
    events = client.take()
    after = [f"{BLOCKS} {seq}" for seq in range(7, 11)]
    assert outline(events) == ["subscribed", "gap", f"{BLOCKS} 6 snapshot", *after]
    assert client.values[0]["subscriptions"][0]["reason"] == "trimmed"
    assert client.values[2]["missed"] == {"from": 3, "to": 6}
    good(small)


def test_while_a_position_cannot_be_decided_on_it_is_refused_and_nothing_is_done(world):
    filled(world)
    world.hub.upstream_reached = False
    with pytest.raises(RequestError, match="keep it and ask again") as raised:
        EventClient(world, [BLOCKS], last_event_id="e0;block_updates=7")
    assert raised.value.data == {"retry_after_ms": 1000}
    assert all(history.cursors == 0 for history in world.hub.histories.values())


def test_what_is_read_from_disk_has_its_ids_too(small):
    """Of a stream and one of its keys, each from its own place."""
    disk = small.disk = Disk(small.hub)
    for nonce in range(1, 101):
        small.account("ab"[nonce % 2], nonce)
    small.run()
    client = EventClient(small, ["account", "account/a"], last_event_id="e1;account=98;account/a=2")
    small.run()
    assert outline(client.take()) == ["subscribed"]
    while disk.answer_all():
        small.run()
    events = client.take()
    assert outline(events) == [f"account {seq}" for seq in (*range(4, 99, 2), 99, 100)]
    assert [event.last_event_id for event in events] == [
        *(f"e1;account=98;account/a={seq}" for seq in range(4, 99, 2)),
        "e1;account=99;account/a=98",
        "e1;account=100;account/a=100",
    ]


# Notices


def test_notices_that_are_for_everybody(world):
    client = EventClient(world, [BLOCKS])
    source = EventSource()
    (event,) = source.feed(client.session.upstream(world.hub.status))
    assert json.loads(event.data) == {"type": "upstream", "state": "live", "since": world.now_ms}
    (event,) = source.feed(with_retry(700, client.session.going_away(700, "it restarts")))
    assert json.loads(event.data) == {"type": "going_away", "retry_after_ms": 700, "reason": "it restarts"}
    assert source.retry_ms == 700
    assert source.feed(COMMENT) == []
    assert source.comments == 1


def test_notices_are_those_of_v1(small):
    """Each is the frame that a v1 client would get, as documented."""
    client = EventClient(small, [BLOCKS], capacity=1)
    small.run()
    client.take()
    small.run()
    filled(small, 1)
    filled(small, 200)
    for _ in range(4):
        client.take()
        small.run()
    small.begin_epoch()
    for _ in range(4):
        client.take()
        small.run()
    client.note(EventSource().feed(client.session.upstream(small.hub.status))[0])
    client.note(EventSource().feed(client.session.going_away(1, "it restarts"))[0])
    seen = [value for value in client.values if "data" not in value and value["type"] != "subscribed"]
    assert {value["type"] for value in seen} == {"gap", "fell_behind", "caught_up", "upstream", "going_away"}
    for value in seen:
        frames.refuse_faults(value["type"], value)
