"""The session: what a client may send, how it is answered, and that nothing it sends is ever an exception."""

import json
from typing import Any

import pytest

from bridge.core import codes
from bridge.core.errors import FrameError
from bridge.core.frames import Frame, Opcode
from bridge.core.history import HistoryLimits
from bridge.core.hub import State
from bridge.core.limits import Limits
from bridge.core.methods import METHODS
from bridge.core.session import Shut
from tests.core.world import NOW_MS, Client, World

SUBSCRIBE, UNSUBSCRIBE = "state_stream.subscribe", "state_stream.unsubscribe"


@pytest.fixture
def client(world: World) -> Client:
    world.block(1)
    world.account("a", 1)
    return world.client()


def plain(method: str, *params: Any, **more: Any) -> dict[str, Any]:
    return {"method": method, "params": list(params), **more}


def rpc(method: str, *params: Any, **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, **plain(method, *params), **more}


# ---------------------------------------------------------------------- the dashboard's own protocol


def test_subscribing_is_answered_by_the_snapshot_alone(client):
    (frame,) = client.send({"method": SUBSCRIBE, "params": ["block_updates"], "id": 1})
    assert frame == {
        "type": "block_update",
        "stream": "block_updates",
        "epoch": "e1",
        "seq": 1,
        "time": NOW_MS,
        "snapshot": True,
        "data": {"height": 1, "hash": "0x00000001"},
    }


def test_one_id_may_come_many_times_and_nothing_comes_of_success(world, client):
    assert len(client.send(plain(SUBSCRIBE, "block_updates", "trading", id=1))) == 1
    assert len(client.send(plain(SUBSCRIBE, "block_updates", id=1))) == 1
    assert client.send(plain(UNSUBSCRIBE, "block_updates", id=1)) == []
    assert client.send(plain(UNSUBSCRIBE, "block_updates")) == []
    for method in ("state_stream.list", "session.stats"):
        assert client.send(plain(method)) == []
    world.block(2)
    world.run()
    assert world.oracle.verdict().ok


@pytest.mark.parametrize("timestamp", [0, 1707770400123, 1.5, "t", None, True, 2**70])
def test_a_ping_is_answered_with_its_timestamp(client, timestamp):
    assert client.send({"type": "ping", "timestamp": timestamp}) == [
        {"type": "pong", "timestamp": timestamp, "server_time": NOW_MS},
    ]


def test_a_ping_may_leave_out_its_timestamp_but_not_send_a_tree(client):
    assert client.send({"type": "ping"})[0]["timestamp"] is None
    (error,) = client.send({"type": "ping", "timestamp": {"a": 1}, "id": "x"})
    assert (error["type"], error["id"], error["error"]["code"]) == ("error", "x", -32600)


def test_streams_named_in_the_url_are_subscribed_to(world):
    client = world.client()
    world.block(1)
    client.apply(client.session.open(["block_updates", "metrics"]))
    assert client.snapshots == [("block_updates", 1)]
    other = world.client()
    assert other.session.open([]) == []
    other.apply(other.session.open(["Bad"]))
    assert other.frames[0]["error"]["code"] == -32602


# ---------------------------------------------------------------------- bad input

DEEP = 40 * "[" + 40 * "]"

BAD: dict[str, tuple[int, str]] = {
    "": (-32700, "the message is not JSON"),
    "hello": (-32700, "the message is not JSON"),
    '{"method":': (-32700, "the message is not JSON"),
    "{'method': 1}": (-32700, "the message is not JSON"),
    '{"method":"a","method":"b"}': (-32700, "the key 'method' stands twice"),
    '{"method":"session.stats","params":[{"a":1,"a":1}]}': (-32700, "the key 'a' stands twice"),
    '{"id":NaN}': (-32700, "NaN is not JSON"),
    '{"id":1e999}': (-32700, "a number is too large"),
    '{"id":' + "9" * 5000 + "}": (-32700, "a number has too many digits"),
    '{"id":"\\ud800"}': (-32700, "half of a surrogate pair"),
    DEEP: (-32700, "nested too deep: at most 32 levels are allowed"),
    "[" * 30_000: (-32700, "nested too deep"),
    '{"method":"session.stats","params":' + DEEP + "}": (-32700, "nested too deep"),
    "7": (-32600, "a request must be an object"),
    '"state_stream.subscribe"': (-32600, "a request must be an object"),
    "null": (-32600, "a request must be an object"),
    "true": (-32600, "a request must be an object"),
    "[]": (-32600, "a batch has 1 to 50 requests, not 0"),
    "[" + ",".join("{}" * 1 for _ in range(51)) + "]": (-32600, "a batch has 1 to 50 requests, not 51"),
    "{}": (-32600, 'a request has a "method", one of state_stream.subscribe'),
    '{"method":7}': (-32600, 'a request has a "method"'),
    '{"method":null,"id":1}': (-32600, 'a request has a "method"'),
    '{"type":"pong"}': (-32600, 'a request has a "method"'),
    '{"method":"session.stats","id":[1]}': (-32600, "an id is a string, a number or null"),
    '{"method":"session.stats","id":true}': (-32600, "an id is a string, a number or null"),
    '{"method":"session.stats","id":{}}': (-32600, "an id is a string, a number or null"),
    '{"method":"subscribe"}': (-32601, "there is no method 'subscribe'"),
    '{"method":"state_stream.Subscribe"}': (-32601, "there is no method"),
    '{"method":"' + "m" * 9000 + '"}': (-32601, "there is no method 'mmm"),
    '{"method":"state_stream.subscribe"}': (-32602, "params must be a list"),
    '{"method":"state_stream.subscribe","params":[]}': (-32602, "params must be a list"),
    '{"method":"state_stream.subscribe","params":["Blocks!"]}': (-32602, "stream must be a string that matches"),
    '{"method":"state_stream.subscribe","params":["block_updates",{"stream":7}]}': (-32602, "stream must be"),
    '{"method":"state_stream.subscribe","params":[{"stream":"metrics","rate":1}]}': (-32602, "'rate', which is not"),
    '{"method":"state_stream.subscribe","params":[{"stream":"metrics","key":"a"}]}': (-32602, "'metrics' has no keys"),
    '{"method":"state_stream.subscribe","params":[{"stream":"trading","max_rate":1}]}': (-32602, "delivered latest"),
    '{"method":"state_stream.history","params":["nothing_here"]}': (-32602, "stream 'nothing_here' is not declared"),
    '{"method":"state_stream.list","params":[1]}': (-32602, "params must be left out or empty"),
}


@pytest.mark.parametrize("text", BAD, ids=lambda text: text[:50])
def test_bad_input_gets_an_error_frame_and_does_nothing(world, client, text):
    code, told = BAD[text]
    (frame,) = client.send(text)
    assert frame["type"] == "error"
    assert frame["error"]["code"] == code
    assert told in frame["error"]["message"]
    assert len(frame["error"]["message"]) < 400
    assert client.shut is None
    assert not client.reader.cursors
    assert set(frame) <= {"type", "error", "id"}


@pytest.mark.parametrize(
    "text", [t for t in BAD if t.startswith('{"method":"s') and '"id"' not in t and BAD[t][0] > -32700]
)
def test_as_json_rpc_the_same_is_refused_with_the_id(client, text):
    code, told = BAD[text]
    (answer,) = client.send(json.dumps(json.loads(text) | {"jsonrpc": "2.0", "id": "x"}))
    assert (answer["jsonrpc"], answer["id"], answer["error"]["code"]) == ("2.0", "x", code)
    assert told in answer["error"]["message"]


def test_an_error_carries_the_id_if_there_was_one(client):
    assert client.send({"method": "nope", "id": 5})[0]["id"] == 5
    assert client.send({"method": "nope", "id": None})[0]["id"] is None
    assert "id" not in client.send({"method": "nope"})[0]
    assert "id" not in client.send({"method": "session.stats", "id": [1]})[0]
    assert client.send({"method": "nope"})[0]["error"]["data"]["methods"] == list(METHODS)


@pytest.mark.parametrize("payload", [b"\xff", b'{"a":"\xed\xa0\x80"}', b"\xc3"])
def test_bad_utf8_is_a_frame_error(client, payload):
    with pytest.raises(FrameError) as error:
        client.session.receive(Frame(Opcode.TEXT, payload))
    assert error.value.close is codes.BAD_DATA


def test_a_binary_frame_ends_the_connection_and_control_frames_do_nothing(client):
    assert client.session.receive(Frame(Opcode.BINARY, b"{}")) == [
        Shut(codes.WRONG_KIND, "this connection speaks JSON in text frames"),
    ]
    for opcode in (Opcode.PING, Opcode.PONG, Opcode.CLOSE):
        assert client.session.receive(Frame(opcode, b"")) == []


@pytest.mark.parametrize(
    "request_",
    [
        {"jsonrpc": "1.0", "method": "session.stats", "id": 1},
        {"jsonrpc": 2.0, "method": "session.stats", "id": 1},
        {"jsonrpc": "2.0", "method": "session.stats", "id": {}},
        {"jsonrpc": "2.0", "method": "session.stats", "id": False},
    ],
)
def test_what_is_no_json_rpc_request_is_refused_without_an_id(client, request_):
    (answer,) = client.send(request_)
    assert (answer["id"], answer["error"]["code"]) == (None, -32600)


# ---------------------------------------------------------------------- twenty in a row


@pytest.mark.parametrize(
    "bad", ["{", "7", '{"method":"nope"}', '{"method":"nope","jsonrpc":"2.0"}', '{"jsonrpc":"2.0"}', "[]"]
)
def test_twenty_bad_messages_in_a_row_end_the_connection(client, bad):
    for _ in range(19):
        client.send(bad)
    assert client.shut is None
    client.send(bad)
    assert client.shut == Shut(codes.BAD_MESSAGES, "20 bad messages in a row")


@pytest.mark.parametrize(
    "good",
    [
        '{"type":"ping"}',
        '{"method":"session.stats"}',
        '{"method":"session.stats","jsonrpc":"2.0"}',
        '[{"method":"session.stats","jsonrpc":"2.0"}]',
    ],
)
def test_one_good_message_between_them_begins_the_count_anew(client, good):
    for _ in range(3):
        for _ in range(19):
            client.send("{")
        client.send(good)
    assert client.shut is None


def test_requests_of_a_batch_count_one_by_one_and_are_answered_first(client):
    frames = client.send(json.dumps([7] * 25))
    assert len(frames[0]) == 25
    assert client.shut == Shut(codes.BAD_MESSAGES, "25 bad messages in a row")


def test_what_is_not_the_clients_doing_does_not_count(world, client):
    world.hub.upstream_reached = False
    for _ in range(30):
        (frame,) = client.send(plain(SUBSCRIBE, {"stream": "block_updates", "since": {"epoch": "other", "seq": 1}}))
        assert frame["error"]["code"] == -32010
        assert frame["error"]["data"]["retry_after_ms"] > 0
        client.send(rpc(SUBSCRIBE, {"stream": "block_updates", "since": {"epoch": "other", "seq": 1}}))
    assert client.shut is None
    assert not client.reader.cursors


# ---------------------------------------------------------------------- batches


def test_a_batch_is_answered_by_one_frame_then_come_the_snapshots(client):
    frames = client.send(
        [rpc(SUBSCRIBE, "block_updates"), rpc(SUBSCRIBE, "account", id=2), rpc("session.stats", id="s")]
    )
    assert [answer["id"] for answer in frames[0]] == [1, 2, "s"]
    assert [frame["stream"] for frame in frames[1:]] == ["block_updates", "account"]
    assert len(frames[0][2]["result"]["subscriptions"]) == 2


def test_notifications_are_done_without_an_answer(client):
    notification = {"jsonrpc": "2.0", "method": SUBSCRIBE, "params": ["block_updates"]}
    assert [frame["stream"] for frame in client.send(notification)] == ["block_updates"]
    assert [frame["stream"] for frame in client.send([notification, notification])] == ["block_updates"] * 2
    assert client.send({"jsonrpc": "2.0", "method": "nope"}) == []
    assert client.send({"jsonrpc": "2.0", "method": 7})[0]["error"]["code"] == -32600


def test_a_batch_is_bounded(world):
    client = world.client(limits=Limits(batch=2))
    assert len(client.send([rpc("session.stats")] * 2)[0]) == 2
    (frame,) = client.send([rpc("session.stats")] * 3)
    assert frame["error"]["message"] == "a batch has 1 to 2 requests, not 3"


# ---------------------------------------------------------------------- subscriptions


def test_all_or_nothing(world, client):
    client.subscribe("block_updates")
    world.run()
    answer = client.call(SUBSCRIBE, "metrics", {"stream": "block_updates", "where": {"height": 5}}, "Bad")
    assert answer["error"]["code"] == -32602
    assert list(client.reader.cursors) == [("block_updates", None)]
    world.block(2)
    world.run()
    assert client.updates == [("block_updates", 2)], "and its options are as they were"


def test_resubscribing_in_place_goes_on_without_a_gap_or_a_repeat(world, client):
    client.subscribe("block_updates")
    for height in range(2, 12):
        world.block(height)
        if height == 5:
            client.subscribe({"stream": "block_updates", "where": {"height": {"gte": 7}}})
        if height == 9:
            client.subscribe("block_updates")
        world.slice()
    world.run()
    (row,) = client.stats()
    assert row["start"] == 1
    assert row["filtered"] == row["head"] - row["start"] - row["delivered"] > 0
    verdict = world.oracle.verdict()
    assert verdict.ok, verdict


@pytest.mark.parametrize(
    ("limits", "params", "told"),
    [
        (Limits(subscriptions=2), ["metrics", "trading", "energy"], "3 subscriptions; a connection may have 2"),
        (
            Limits(undeclared=1),
            ["one", "metrics", "two"],
            "2 streams that nothing has declared; a connection may have 1",
        ),
        (Limits(last=5), [{"stream": "metrics", "last": 6}], "last must be an integer from 0 to 5"),
        (Limits(where_terms=1), [{"stream": "metrics", "where": {"a": 1, "b": 2}}], "at most 1 are allowed"),
        (Limits(fields=1), [{"stream": "metrics", "fields": ["a", "b"]}], "at most 1 are allowed"),
    ],
)
def test_limits_are_told(world, limits, params, told):
    client = world.client(limits=limits)
    answer = client.call(SUBSCRIBE, *params)
    assert answer["error"]["code"] == -32602
    assert told in answer["error"]["message"]
    assert not client.reader.cursors
    assert set(world.hub.histories) == {stream.name for stream in world.hub.catalogue}, "nothing is left behind"


def test_limits_count_what_is_subscribed_already(world):
    client = world.client(limits=Limits(subscriptions=2, undeclared=1))
    client.subscribe("metrics", "one")
    client.subscribe("metrics", "one")  # again: no more than before
    assert "error" in client.call(SUBSCRIBE, "trading")
    client.call(UNSUBSCRIBE, "one")
    client.subscribe("trading")
    assert "error" in client.call(SUBSCRIBE, "two")


def test_other_limits(world):
    world.block(1)
    client = world.client(limits=Limits(depth=4, page=1, bad_messages=2))
    assert client.send("[" * 5 + "]" * 5)[0]["error"]["message"].endswith("at most 4 levels are allowed")
    assert client.call("state_stream.history", {"stream": "block_updates", "limit": 2})["error"]["code"] == -32602
    client.send("{")
    assert client.shut.close is codes.BAD_MESSAGES


def test_a_resume_that_is_not_whole_is_told_and_the_gap_named():
    world = World(limits=HistoryLimits(count=3))
    for height in range(1, 9):
        world.block(height)
    client = world.client()
    (row,) = client.subscribe({"stream": "block_updates", "since": {"epoch": "e1", "seq": 2}})
    assert (row["recovered"], row["reason"], row["seq"]) == (False, "trimmed", 2)
    world.run()
    assert client.frames[-4]["missed"] == {"from": 3, "to": 5}
    (row,) = client.subscribe({"stream": "block_updates", "since": {"epoch": "e1", "seq": 5}})
    assert (row["recovered"], row["replayed"], row["seq"]) == (True, 3, 5)
    for since, reason in (({"epoch": "e0", "seq": 5}, "epoch"), ({"epoch": "e1", "seq": 9}, "ahead")):
        (row,) = client.subscribe({"stream": "block_updates", "since": since})
        assert (row["recovered"], row["reason"], row["seq"]) == (False, reason, 8)
        assert client.frames[-1]["snapshot"] is True
    world.run()
    verdict = world.oracle.verdict()
    assert verdict.ok, verdict


def test_the_classic_dialect_is_told_nothing_that_it_did_not_ask_for(world, client):
    client.subscribe("block_updates")
    before = len(client.frames)
    world.hub.set_status(State.STALE, "no news")
    assert client.session.tell_upstream(world.hub.status) == []
    assert client.session.tell_going_away(1000, "drain") == []
    assert client.session.tick(world.now_ms + 10**6) == []
    world.hub.block(client.reader)
    for height in range(2, 500):
        world.block(height)
    world.run()
    client.drain()
    world.run()
    world.begin_epoch()
    world.run()
    assert {frame["type"] for frame in client.frames[before:]} == {"block_update"}
