"""What a v1 client is told without having asked, in both encodings, and how it recovers."""

import json

import pytest

from bridge.core import catchup as catchup_module
from bridge.core.codes import BAD_MESSAGES, WRONG_KIND
from bridge.core.frames import Frame, Opcode
from bridge.core.history import HistoryLimits
from bridge.core.hub import State
from bridge.core.limits import Limits
from bridge.core.session import Shut
from bridge.core.v1 import PROGRESS_MS
from generated.theblock.state.v1 import block_pb2
from tests.core.v1_clients import CLIENTS, GREETING, V1Client, kinds, since
from tests.core.world import NOW_MS, World, elsewhere

BLOCKS = "block_updates"
DECLARED = [BLOCKS, "metrics", "network", "trading", "energy", "account"]


@pytest.fixture
def small() -> World:
    """Return a world whose histories hold four updates."""
    return World(limits=HistoryLimits(count=4))


def put(world: World, encoding: str, **options) -> V1Client:
    return CLIENTS[encoding](world, **options)


# welcome


def test_welcome_comes_first_and_says_all_that_a_client_needs(world, join):
    world.hub.set_status(State.LIVE, "well")
    world.custom("weather", {"t": 1})
    client = join(limits=Limits(message_bytes=4096))
    (welcome,) = client.open()
    assert welcome == {
        "type": "welcome",
        **GREETING._asdict(),
        "format": client.encoding,
        "max_message_bytes": 4096,
        "streams": [*DECLARED, "weather"],
    }


def test_streams_that_nothing_has_declared_are_not_in_the_welcome(world, join):
    join().subscribe("never_declared")
    assert join().open()[0]["streams"] == DECLARED


def test_streams_of_the_url_are_subscribed_to_without_a_response(world, join):
    world.hub.set_status(State.LIVE, "well")
    world.block(1)
    client = join()
    assert kinds(client.open(BLOCKS, "metrics")) == ["welcome", "snapshot"]
    world.block(2)
    assert kinds(client.take()) == ["welcome", "snapshot", 2]
    assert [row["stream"] for row in client.stats()] == [BLOCKS, "metrics"]


def test_streams_of_the_url_that_are_refused_are_told_so(world, join):
    world.hub.set_status(State.LIVE, "well")
    client = join(limits=Limits(undeclared=1))
    _, response = client.open(BLOCKS, "one", "two")
    assert (response["id"], response["error"]["code"]) == (None, -32602)
    assert client.stats() == []


# upstream


@pytest.mark.parametrize("state", [State.STALE, State.DOWN])
def test_a_state_that_is_not_live_is_told_at_the_beginning(world, join, state):
    world.now_ms = NOW_MS + 5
    world.hub.set_status(state, "it is so", since_ms=NOW_MS + 3)
    _, upstream = join().open()
    assert upstream == {"type": "upstream", "state": state.value, "since": NOW_MS + 3}


def test_live_is_taken_for_granted(world, join):
    world.hub.set_status(State.LIVE, "well")
    assert kinds(join().open()) == ["welcome"]


@pytest.mark.parametrize("state", list(State))
def test_a_change_of_state_is_told(world, join, state):
    client = join()
    world.hub.set_status(state, "so it is", since_ms=NOW_MS + 7)
    told = client.apply(client.session.tell_upstream(world.hub.status))
    assert told == [{"type": "upstream", "state": state.value, "since": NOW_MS + 7}]


def test_going_away_says_when_to_come_back(join):
    client = join()
    told = client.apply(client.session.tell_going_away(2500, "the sidecar restarts"))
    assert told == [{"type": "going_away", "retry_after_ms": 2500, "reason": "the sidecar restarts"}]


# gap


def test_what_history_let_go_of_is_named_then_stood_in_for(small, encoding):
    client = put(small, encoding, capacity=1)
    client.subscribe(BLOCKS)  # the response fills the socket
    for height in range(1, 11):
        small.block(height)
    small.run()
    client.capacity = None
    client.drain()
    _, gap, stand_in, *rest = client.take()
    assert gap == {"type": "gap", "stream": BLOCKS, "epoch": "e1", "from": 1, "to": 6, "reason": "trimmed"}
    assert (stand_in["snapshot"], stand_in["seq"], stand_in["missed"]) == (True, 6, {"from": 1, "to": 6})
    assert kinds(rest) == [7, 8, 9, 10]
    (books,) = client.stats()
    assert (books["missed"], books["delivered"], books["pending"]) == (6, 4, 0)


def test_the_gap_of_one_key_names_the_key(small, encoding):
    client = put(small, encoding, capacity=1)
    client.subscribe({"stream": "account", "key": "a"})
    for nonce in range(1, 4):
        small.account("a", nonce)
    for nonce in range(1, 6):
        small.account("b", nonce)
    small.run()
    client.capacity = None
    client.drain()
    _, gap, stand_in = client.take()
    assert gap == {
        "type": "gap", "stream": "account", "key": "a", "epoch": "e1", "from": 1, "to": 4, "reason": "trimmed",
    }  # fmt: skip
    assert (stand_in["key"], stand_in["seq"], stand_in["missed"]) == ("a", 3, {"from": 1, "to": 4})


def test_history_trimmed_while_a_replay_goes_on_is_a_gap_too(encoding, monkeypatch):
    monkeypatch.setattr(catchup_module, "READ_UPDATES", 2)
    world = World(limits=HistoryLimits(count=6))
    for height in range(1, 7):
        world.block(height)
    client = put(world, encoding, capacity=3)
    (row,) = client.subscribe({"stream": BLOCKS, "since": since(0)})
    assert (row["recovered"], row["replayed"]) == (True, 6)
    world.run()  # the response and two updates fill the socket
    for height in range(7, 11):
        world.block(height)
    client.capacity = None
    client.drain()
    frames = client.take()
    assert kinds(frames) == ["response", 1, 2, "gap", "snapshot", 5, 6, 7, 8, 9, 10]
    assert (frames[3]["from"], frames[3]["to"]) == (3, 4)


def test_a_latest_stream_has_no_gap(small, encoding):
    client = put(small, encoding, capacity=1)
    client.subscribe("metrics")
    for number in range(20):
        small.metrics(float(number))
    small.run()
    client.capacity = None
    client.drain()
    assert kinds(client.take()) == ["response", 20]


def test_a_new_epoch_is_a_gap_without_a_range(world, join):
    client = join()
    client.subscribe(BLOCKS, {"stream": "account", "key": "a"})
    world.block(1)
    client.take()
    world.begin_epoch()
    world.block(1)
    frames = client.take()
    place = {"type": "gap", "epoch": "e2", "from": 0, "to": 0, "reason": "epoch"}
    assert frames[:2] == [place | {"stream": BLOCKS}, place | {"stream": "account", "key": "a"}]
    assert [(frame["epoch"], frame["seq"]) for frame in frames[2:]] == [("e2", 1)]


def test_the_value_of_a_new_epoch_follows_its_gap(world, join):
    client = join()
    client.subscribe(BLOCKS)
    client.take()
    stream = world.hub.histories[BLOCKS].stream
    world.hub.histories[BLOCKS].epoch = "e9"  # as `elsewhere` is to write it
    value = elsewhere(world, stream, 7, block_pb2.BlockUpdate(height=7, hash=b"\7"), {"height": 7, "hash": "0x07"})
    world.hub.histories[BLOCKS].epoch = "e1"
    world.hub.begin(BLOCKS, "e9", 7, [value])
    gap, snapshot = client.take()
    assert (gap["epoch"], gap["reason"]) == ("e9", "epoch")
    assert (snapshot["epoch"], snapshot["seq"], snapshot["snapshot"]) == ("e9", 7, True)
    assert "missed" not in snapshot


# fell_behind, caught_up


def test_a_slow_reader_is_told_once_that_it_fell_behind_and_once_that_it_caught_up(world, join):
    client = join(capacity=3)
    client.subscribe(BLOCKS)
    client.drain()
    client.take()
    for height in range(1, 301):
        world.block(height)
        world.run()
    frames = []
    for _ in range(400):  # it reads three frames at a time
        client.drain()
        frames += client.take()
        if frames and frames[-1].get("type") == "caught_up":
            break
    told = [frame for frame in frames if frame["type"] in ("fell_behind", "caught_up")]
    seq = told[0]["seq"]
    assert told == [
        {"type": "fell_behind", "stream": BLOCKS, "seq": seq, "head": 300},
        {"type": "caught_up", "stream": BLOCKS, "seq": 300},
    ]
    assert [frame["seq"] for frame in frames if "data" in frame] == list(range(1, 301))
    before = [frame["seq"] for frame in frames[: frames.index(told[0])]]
    assert seq == (before or [0])[-1]
    assert frames[-1] == told[1]


def test_a_reader_that_is_a_little_behind_is_told_nothing(world, join):
    client = join(capacity=3)
    client.subscribe(BLOCKS)
    client.drain()
    client.take()
    for height in range(1, catchup_module.BEHIND_UPDATES):
        world.block(height)
        world.run()
    client.capacity = None
    client.drain()
    assert all("data" in frame for frame in client.take())


def test_a_replay_is_not_falling_behind(world, join):
    for height in range(1, 500):
        world.block(height)
    client = join()
    client.subscribe({"stream": BLOCKS, "since": since(0)})
    assert kinds(client.take()) == ["response", *range(1, 500)]


def test_the_stream_that_is_furthest_behind_is_named(world, join):
    client = join(capacity=1)
    client.subscribe("metrics", BLOCKS)
    client.capacity = None
    client.drain()
    client.take()
    client.capacity = 1
    world.metrics(1.0)
    world.run()
    for height in range(1, 201):
        world.block(height)
    world.run()
    client.capacity = None
    client.drain()
    frames = client.take()
    assert [f["stream"] for f in frames if f["type"] in ("fell_behind", "caught_up")] == [BLOCKS, BLOCKS]


# progress


def tick_after(world: World, client, ms: int = PROGRESS_MS) -> list[dict]:
    world.run()
    world.now_ms += ms
    return client.tick()


def test_progress_tells_of_streams_that_moved_without_a_delivery(world, join):
    client = join()
    client.subscribe({"stream": BLOCKS, "where": {"height": 1000}}, "metrics", {"stream": "account", "key": "a"})
    for height in range(1, 4):
        world.block(height)
    world.metrics(1.0)
    world.account("b", 1)
    world.account("b", 2)
    (progress,) = tick_after(world, client)
    assert progress == {
        "type": "progress",
        "positions": [
            {"stream": BLOCKS, "epoch": "e1", "seq": 3},
            {"stream": "account", "epoch": "e1", "seq": 2},
        ],
    }


def test_progress_is_told_every_15_seconds_and_only_when_there_is_any(world, join):
    client = join()
    client.subscribe({"stream": BLOCKS, "where": {"height": 1000}})
    world.block(1)
    assert tick_after(world, client, PROGRESS_MS - 1) == []
    assert kinds(tick_after(world, client, 1)) == ["progress"]
    assert tick_after(world, client) == []  # it has not moved
    world.block(2)
    assert tick_after(world, client, PROGRESS_MS - 1) == []
    (progress,) = tick_after(world, client, 1)
    assert progress["positions"] == [{"stream": BLOCKS, "epoch": "e1", "seq": 2}]


def test_a_delivery_tells_the_position_so_that_progress_need_not(world, join):
    client = join()
    client.subscribe({"stream": BLOCKS, "where": {"height": {"gte": 2}}})
    world.block(1)
    world.block(2)
    world.block(1)
    assert tick_after(world, client) == []  # the client knows 2, and the next time it is told of 3
    assert tick_after(world, client) == []
    world.block(1)
    assert [row["seq"] for row in tick_after(world, client)[0]["positions"]] == [4]


def test_there_is_no_progress_while_a_client_catches_up(world, join):
    client = join(capacity=1)
    client.subscribe({"stream": BLOCKS, "where": {"height": 1000}})
    for height in range(1, 4):
        world.block(height)
    assert tick_after(world, client) == []
    client.capacity = None
    client.drain()
    assert [row["seq"] for row in tick_after(world, client)[0]["positions"]] == [3]


def test_progress_never_passes_a_value_that_a_limited_rate_holds_back(world, join):
    client = join()
    client.subscribe({"stream": "metrics", "max_rate": 0.01})
    world.metrics(1.0)
    world.run()
    tick_after(world, client)
    world.metrics(2.0)
    assert tick_after(world, client) == []
    assert client.stats()[0]["pending"] == 1


def test_a_subscription_that_ended_is_forgotten(world, join):
    client = join()
    for number in range(5):
        client.subscribe(f"stream{number}")
        tick_after(world, client)
        client.result("state_stream.unsubscribe", f"stream{number}")
    tick_after(world, client)
    assert client.session._told == {}


def test_progress_after_a_new_epoch_is_of_that_epoch(world, join):
    client = join()
    client.subscribe({"stream": BLOCKS, "where": {"height": 1000}})
    world.block(1)
    tick_after(world, client)
    world.begin_epoch()
    world.block(1)
    assert tick_after(world, client)[0]["positions"] == [{"stream": BLOCKS, "epoch": "e2", "seq": 1}]


# bad messages


def bad_message(encoding: str) -> bytes:
    return b"nonsense" if encoding == "json" else b"\xff\xff"


def test_twenty_bad_messages_in_a_row_close(join, encoding):
    client = join()
    for number in range(1, 21):
        (answer,) = client.receive(bad_message(encoding))
        assert (answer["id"], answer["error"]["code"]) == (None, -32700)
        assert (client.shut is not None) is (number == 20)
    assert client.shut == Shut(BAD_MESSAGES, "20 bad messages in a row")


def test_notifications_that_fail_count_though_nobody_is_told(join):
    client = join()
    for _ in range(20):
        assert client.notify("state_stream.history", {"stream": "never_declared", "limit": 1}) == []
    assert client.shut == Shut(BAD_MESSAGES, "20 bad messages in a row")


def test_a_good_message_begins_the_count_anew(join, encoding):
    client = join()
    for _ in range(3):
        for _ in range(19):
            client.receive(bad_message(encoding))
        client.stats()
    assert client.shut is None


def test_the_wrong_kind_of_frame_closes_with_1003(join, encoding):
    client = join()
    wrong = {"json": Opcode.BINARY, "proto": Opcode.TEXT}[encoding]
    assert client.apply(client.session.receive(Frame(wrong, b"{}"))) == []
    assert client.shut is not None
    assert client.shut.close == WRONG_KIND


# the classic dialect


def test_a_classic_client_gets_none_of_it(small):
    """The dashboard warns of every frame that it does not know."""
    client = small.client(capacity=1)
    small.hub.set_status(State.LIVE, "well")
    client.send({"method": "state_stream.subscribe", "params": [BLOCKS, "metrics"], "id": 1})
    small.block(1)
    for height in range(2, 200):
        small.block(height)
        small.run()
    small.hub.set_status(State.DOWN, "gone")
    client.apply(client.session.tell_upstream(small.hub.status))
    client.apply(client.session.tell_going_away(1, "it restarts"))
    client.capacity = None
    client.drain()
    small.run()
    small.now_ms += PROGRESS_MS
    client.apply(client.session.tick(small.now_ms))
    small.begin_epoch()
    small.block(1)
    small.run()
    assert {frame["type"] for frame in client.frames} == {"block_update"}
    assert json.dumps(client.frames).count('"missed"') == 1
