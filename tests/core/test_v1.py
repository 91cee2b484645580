"""What a v1 client is told without having asked, in both encodings, and how it recovers."""

import json

import pytest

from bridge.core import hub as hub_module
from bridge.core.codes import BAD_MESSAGES, WRONG_KIND
from bridge.core.frames import Frame, Opcode
from bridge.core.history import HistoryLimits
from bridge.core.hub import State
from bridge.core.limits import Limits
from bridge.core.session import Shut
from bridge.core.v1 import PROGRESS_MS
from generated.theblock.state.v1 import account_pb2, block_pb2
from tests.core.v1_clients import CLIENTS, GREETING, V1Client
from tests.core.world import NOW_MS, World, elsewhere

BLOCKS = "block_updates"
DECLARED = [BLOCKS, "metrics", "network", "trading", "energy", "account"]


def kinds(frames: list[dict]) -> list[str]:
    """Return what the frames are: types of events, `response`, `snapshot`, or seqs of updates."""
    found = []
    for frame in frames:
        if "jsonrpc" in frame:
            found.append("response")
        elif "data" in frame:
            found.append("snapshot" if frame.get("snapshot") else frame["seq"])
        else:
            found.append(frame["type"])
    return found


def since(seq: int, epoch: str = "e1") -> dict:
    return {"epoch": epoch, "seq": seq}


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
    monkeypatch.setattr(hub_module, "READ_UPDATES", 2)
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
    for height in range(1, hub_module.BEHIND_UPDATES):
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


# recovery


def filled(world: World, blocks: int = 10) -> World:
    for height in range(1, blocks + 1):
        world.now_ms = NOW_MS + 1000 * height
        world.block(height)
    world.run()
    return world


@pytest.mark.parametrize(
    ("start", "seq", "replayed"),
    [
        (since(4), 4, 6),
        (since(0), 0, 10),
        (since(10), 10, 0),
        ({"height": 8}, 7, 3),
        ({"height": 0}, 0, 10),
        ({"height": 99}, 10, 0),
        ({"time": NOW_MS + 9000}, 8, 2),
        ({"time": NOW_MS + 8500}, 8, 2),
        ({"time": 0}, 0, 10),
        ({"time": NOW_MS + 99_000}, 10, 0),
    ],
    ids=str,
)
def test_everything_behind_a_start_that_history_holds_follows_once_then_what_is_live(world, join, start, seq, replayed):
    filled(world)
    client = join()
    row = {"stream": BLOCKS, "declared": True, "epoch": "e1", "seq": seq, "recovered": True, "replayed": replayed}
    assert client.subscribe({"stream": BLOCKS, "since": start}) == [row]
    world.block(11)
    assert kinds(client.take()) == ["response", *range(seq + 1, 12)]


@pytest.mark.parametrize(("last", "seq", "replayed"), [(3, 7, 3), (10, 0, 10), (1000, 0, 10), (1, 9, 1)])
def test_last_replays_the_last_ones(world, join, last, seq, replayed):
    client = join()
    filled(world)
    (row,) = client.subscribe({"stream": BLOCKS, "last": last})
    assert (row["seq"], row["replayed"], "recovered" in row) == (seq, replayed, False)
    assert kinds(client.take()) == ["response", *range(seq + 1, 11)]


def test_last_0_is_the_snapshot(world, join):
    client = join()
    filled(world)
    (row,) = client.subscribe({"stream": BLOCKS, "last": 0})
    assert row["seq"] == 10
    assert kinds(client.take()) == ["response", "snapshot"]


def test_last_of_a_key_counts_its_own_updates(world, join):
    for nonce in range(1, 6):
        world.account("a", nonce)
        world.account("b", nonce)
    client = join()
    (row,) = client.subscribe({"stream": "account", "key": "a", "last": 2})
    assert row["replayed"] == 2
    assert kinds(client.take()) == ["response", 7, 9]


@pytest.mark.parametrize("start", [since(2), {"height": 2}, {"time": NOW_MS}], ids=str)
def test_replayed_counts_the_updates_of_the_key(world, join, start):
    for nonce in range(1, 4):
        world.note(world.origin.publish(account(nonce, "a")), {"address": "a", "nonce": nonce, "height": nonce})
        world.note(world.origin.publish(account(nonce, "b")), {"address": "b", "nonce": nonce, "height": nonce})
    client = join()
    (row,) = client.subscribe({"stream": "account", "key": "a", "since": start})
    frames = client.take()[1:]
    assert (row["recovered"], row["replayed"]) == (True, len(frames))
    assert {frame["key"] for frame in frames} == {"a"}


def account(nonce: int, address: str):
    return account_pb2.AccountUpdate(address=address, nonce=nonce, height=nonce)


@pytest.mark.parametrize(
    ("start", "first"),
    [(since(2), 3), ({"height": 3}, 1), ({"time": NOW_MS + 3000}, 1), ({"height": 6}, 1), ({"time": 0}, 1)],
    ids=str,
)
def test_a_start_that_history_let_go_of_is_told_and_the_range_is_named(small, encoding, start, first):
    """Behind a position the range is known; of a height or a time only that it lies within what is gone."""
    filled(small)  # 7 to 10 are held
    client = put(small, encoding)
    (row,) = client.subscribe({"stream": BLOCKS, "since": start})
    assert (row["recovered"], row["reason"], "replayed" in row) == (False, "trimmed", False)
    _, gap, stand_in, *rest = client.take()
    assert (gap["from"], gap["to"], gap["reason"]) == (first, 6, "trimmed")
    assert stand_in["missed"] == {"from": first, "to": 6}
    assert kinds(rest) == [7, 8, 9, 10]


@pytest.mark.parametrize("start", [since(6), {"height": 7}, {"time": NOW_MS + 7000}], ids=str)
def test_a_start_at_the_oldest_update_is_whole(small, encoding, start):
    client = put(filled(small), encoding)
    (row,) = client.subscribe({"stream": BLOCKS, "since": start})
    assert (row["recovered"], row["replayed"], row["seq"]) == (True, 4, 6)
    assert kinds(client.take()) == ["response", 7, 8, 9, 10]


def test_a_key_that_did_not_change_in_what_is_gone_is_recovered(small, encoding):
    small.account("a", 1)
    for nonce in range(1, 7):
        small.account("b", nonce)
    small.account("a", 2)
    client = put(small, encoding)
    (row,) = client.subscribe({"stream": "account", "key": "a", "since": since(1)})
    assert (row["recovered"], row["replayed"]) == (True, 1)
    assert kinds(client.take()) == ["response", 8]


@pytest.mark.parametrize(
    ("position", "reason"), [(since(3, "e0"), "epoch"), (since(11), "ahead"), (since(1, ""), "epoch")]
)
def test_a_position_of_elsewhere_gets_the_snapshot(world, join, position, reason):
    filled(world)
    client = join()
    (row,) = client.subscribe({"stream": BLOCKS, "since": position})
    assert row == {
        "stream": BLOCKS, "declared": True, "epoch": "e1", "seq": 10, "recovered": False, "reason": reason,
    }  # fmt: skip
    world.block(11)
    frames = client.take()
    assert kinds(frames) == ["response", "snapshot", 11]
    assert "missed" not in frames[1]


def test_on_a_latest_stream_the_newest_is_sent_if_it_is_newer(world, join):
    for number in range(1, 6):
        world.metrics(float(number))
    client = join()
    rows = client.subscribe({"stream": "metrics", "since": since(2)})
    assert (rows[0]["recovered"], rows[0]["replayed"]) == (True, 1)
    assert kinds(client.take()) == ["response", 5]
    rows = client.subscribe({"stream": "metrics", "since": since(5)})
    assert (rows[0]["recovered"], rows[0]["replayed"]) == (True, 0)
    assert kinds(client.take()) == ["response"]


def test_a_stream_without_an_update_has_a_position_too(world, join):
    client = join()
    (row,) = client.subscribe("energy")
    assert (row["epoch"], row["seq"]) == ("e1", 0)
    (row,) = client.subscribe({"stream": "energy", "since": since(0)})
    assert (row["recovered"], row["replayed"]) == (True, 0)


# an outage


UNDECIDED = {"code": -32010, "data": {"retry_after_ms": 1000}}


def undecided(error: dict) -> bool:
    return {"code": error["code"], "data": error.get("data")} == UNDECIDED


@pytest.mark.parametrize("position", [since(3, "e7"), since(99)], ids=str)
def test_an_outage_voids_no_position(world, join, position):
    filled(world)
    world.hub.upstream_reached = False
    client = join()
    assert undecided(client.error("state_stream.subscribe", "metrics", {"stream": BLOCKS, "since": position}))
    assert undecided(client.error("state_stream.history", {"stream": BLOCKS, "since": position}))
    assert client.stats() == []  # all or nothing
    world.hub.upstream_reached = True
    (row,) = client.subscribe({"stream": BLOCKS, "since": position})
    assert row["recovered"] is False


def test_a_position_that_can_be_decided_on_is_answered_during_an_outage(world, join):
    filled(world)
    world.hub.upstream_reached = False
    client = join()
    (row,) = client.subscribe({"stream": BLOCKS, "since": since(4)})
    assert (row["recovered"], row["replayed"]) == (True, 6)
    assert len(client.result("state_stream.history", {"stream": BLOCKS, "since": since(4)})["updates"]) == 6


@pytest.mark.parametrize("start", [since(4), {"height": 4}, {"time": NOW_MS}], ids=str)
def test_before_the_first_epoch_is_known_nothing_can_be_decided(encoding, start):
    world = World()
    world.hub.set_epoch("")  # as a sidecar is before it has reached the state service
    world.hub.upstream_reached = False
    client = put(world, encoding)
    assert undecided(client.error("state_stream.subscribe", {"stream": BLOCKS, "since": start}))
    assert undecided(client.error("state_stream.subscribe", {"stream": "a_custom_one", "since": start}))
    assert client.subscribe(BLOCKS)[0]["seq"] == 0  # without a position there is nothing to lose


def test_a_position_stays_valid_through_an_outage(world, join):
    filled(world)
    world.hub.upstream_reached = False
    client = join()
    assert undecided(client.error("state_stream.subscribe", {"stream": BLOCKS, "since": since(12)}))
    for height in range(11, 16):  # what this sidecar had not got before it lost the state service
        world.block(height)
    world.hub.upstream_reached = True
    (row,) = client.subscribe({"stream": BLOCKS, "since": since(12)})
    assert (row["recovered"], row["replayed"]) == (True, 3)
    assert kinds(client.take())[1:] == ["response", 13, 14, 15]


def test_an_outage_is_not_the_clients_doing(world, join):
    world.hub.upstream_reached = False
    client = join()
    for _ in range(30):
        assert undecided(client.error("state_stream.subscribe", {"stream": BLOCKS, "since": since(1, "gone")}))
    assert client.shut is None


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
