"""theblock.v1.json: JSON-RPC 2.0 as its specification has it, and what only JSON can say."""

import json

import pytest

from bridge.core.frames import Frame, Opcode
from bridge.core.limits import Limits
from bridge.core.methods import METHODS
from bridge.core.update import Format
from generated.theblock.state.v1 import block_pb2
from tests.core.v1_clients import JsonClient
from tests.core.world import World

BLOCKS = "block_updates"
SUBSCRIBE = "state_stream.subscribe"
UNSUBSCRIBE = "state_stream.unsubscribe"
HISTORY = "state_stream.history"

ANY = object()


@pytest.fixture
def client(world: World) -> JsonClient:
    return JsonClient(world)


def refused(code: int, id_: object = None) -> dict:
    return {"jsonrpc": "2.0", "error": {"code": code, "message": ANY}, "id": id_}


def done(result: object, id_: object) -> dict:
    return {"jsonrpc": "2.0", "result": result, "id": id_}


def same(found: object, wanted: object) -> bool:
    """Whether a value is as wanted; any sentence will do, and more about an error may stand beside it."""
    if wanted is ANY:
        return isinstance(found, str) and len(found) > 10
    if isinstance(wanted, dict) and isinstance(found, dict):
        return found.keys() - {"data"} == wanted.keys() and all(same(found[name], wanted[name]) for name in wanted)
    if isinstance(wanted, list) and isinstance(found, list):
        return len(found) == len(wanted) and all(map(same, found, wanted))
    return type(found) is type(wanted) and found == wanted


STARTED = {"stream": "energy", "declared": True, "epoch": "e1", "seq": 0}

EXAMPLES = {
    "positional parameters": (
        '{"jsonrpc": "2.0", "method": "state_stream.subscribe", "params": ["energy"], "id": 1}',
        [done({"subscriptions": [STARTED]}, 1)],
    ),
    "positional parameters in another order": (
        '{"jsonrpc": "2.0", "method": "state_stream.unsubscribe", "params": ["network", "energy"], "id": 2}',
        [done({"unsubscribed": []}, 2)],
    ),
    "named parameters": (
        '{"jsonrpc": "2.0", "method": "state_stream.history", "params": {"stream": "energy", "limit": 1}, "id": 3}',
        [done({"updates": []}, 3)],
    ),
    "named parameters in another order": (
        '{"jsonrpc": "2.0", "method": "state_stream.history", "params": {"limit": 1, "stream": "energy"}, "id": 4}',
        [done({"updates": []}, 4)],
    ),
    "a notification": ('{"jsonrpc": "2.0", "method": "state_stream.subscribe", "params": ["energy", "network"]}', []),
    "a notification without parameters": ('{"jsonrpc": "2.0", "method": "foobar"}', []),
    "a method that does not exist": ('{"jsonrpc": "2.0", "method": "foobar", "id": "1"}', [refused(-32601, "1")]),
    "invalid JSON": ('{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]', [refused(-32700)]),
    "an invalid request": ('{"jsonrpc": "2.0", "method": 1, "params": "bar"}', [refused(-32600)]),
    "a batch of invalid JSON": (
        '[{"jsonrpc": "2.0", "method": "session.stats", "id": "1"}, {"jsonrpc": "2.0", "method"]',
        [refused(-32700)],
    ),
    "an empty array": ("[]", [refused(-32600)]),
    "an invalid batch that is not empty": ("[1]", [[refused(-32600)]]),
    "an invalid batch": ("[1,2,3]", [[refused(-32600), refused(-32600), refused(-32600)]]),
    "a batch": (
        """[
            {"jsonrpc": "2.0", "method": "state_stream.subscribe", "params": ["energy"], "id": "1"},
            {"jsonrpc": "2.0", "method": "state_stream.subscribe", "params": ["network"]},
            {"jsonrpc": "2.0", "method": "state_stream.unsubscribe", "params": ["energy", "trading"], "id": "2"},
            {"foo": "boo"},
            {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},
            {"jsonrpc": "2.0", "method": "state_stream.history", "params": {"stream": "energy"}, "id": "9"}
        ]""",
        [
            [
                done({"subscriptions": [STARTED]}, "1"),
                done({"unsubscribed": ["energy"]}, "2"),
                refused(-32600),
                refused(-32601, "5"),
                done({"updates": []}, "9"),
            ]
        ],
    ),
    "a batch of notifications": (
        """[
            {"jsonrpc": "2.0", "method": "state_stream.subscribe", "params": ["energy"]},
            {"jsonrpc": "2.0", "method": "state_stream.unsubscribe", "params": ["energy"]}
        ]""",
        [],
    ),
}
"""The examples of https://www.jsonrpc.org/specification, section 7, with our methods: what is sent, what comes back."""


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_of_the_specification(client, name):
    sent, wanted = EXAMPLES[name]
    answers = client.receive(sent.encode())
    assert same(answers, wanted), answers


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_classic_dialect_answers_them_the_same(world, name):
    """But for what is no request at all: there is no telling what it was meant to be."""
    sent, wanted = EXAMPLES[name]
    if wanted in ([refused(-32700)], [refused(-32600)]) and '"method": 1' not in sent:
        wanted = [{"type": "error", "error": wanted[0]["error"]}]
    client = world.client()
    before = len(client.frames)
    client.apply(client.session.receive(Frame(Opcode.TEXT, sent.encode())))
    assert same(client.frames[before:], wanted), client.frames


@pytest.mark.parametrize("id_", [0, -5, 1.5, "", "a", None, 2**53 + 1, 2**70, -(2**80), "\u20ac\U0001f600"], ids=str)
def test_an_id_comes_back_as_it_was(client, id_):
    (answer,) = client.receive(json.dumps({"jsonrpc": "2.0", "method": "session.stats", "id": id_}).encode())
    assert answer["id"] == id_
    assert type(answer["id"]) is type(id_)
    (answer,) = client.receive(json.dumps({"jsonrpc": "2.0", "method": "nope", "id": id_}).encode())
    assert (answer["id"], answer["error"]["code"]) == (id_, -32601)


@pytest.mark.parametrize("id_", [True, False, [], [1], {}, {"a": 1}], ids=str)
def test_an_id_that_is_none_is_refused(client, id_):
    (answer,) = client.receive(json.dumps({"jsonrpc": "2.0", "method": "session.stats", "id": id_}).encode())
    assert (answer["id"], answer["error"]["code"]) == (None, -32600)


@pytest.mark.parametrize("version", [None, "1.0", 2.0, "2", 2, "2.00"], ids=repr)
def test_every_request_says_that_it_is_json_rpc(client, version):
    member = {} if version is None else {"jsonrpc": version}
    (answer,) = client.receive(json.dumps({"method": SUBSCRIBE, "params": [BLOCKS], "id": 1, **member}).encode())
    assert (answer["id"], answer["error"]["code"]) == (None, -32600)
    assert client.stats() == []


def test_responses_of_a_batch_come_first_then_what_follows_from_them(world, client):
    world.block(1)
    world.metrics(1.0)
    batch = [
        {"jsonrpc": "2.0", "method": SUBSCRIBE, "params": [BLOCKS], "id": 1},
        {"jsonrpc": "2.0", "method": SUBSCRIBE, "params": ["metrics"]},
        {"jsonrpc": "2.0", "method": "session.stats", "id": 2},
    ]
    responses, *rest = client.receive(json.dumps(batch).encode())
    assert [response["id"] for response in responses] == [1, 2]
    assert len(responses[1]["result"]["subscriptions"]) == 2  # requests are done in their order
    assert [(frame["stream"], frame["snapshot"]) for frame in rest] == [(BLOCKS, True), ("metrics", True)]


@pytest.mark.parametrize(("number", "refusal"), [(3, False), (4, True)])
def test_a_batch_has_a_largest_size(world, number, refusal):
    client = JsonClient(world, limits=Limits(batch=3))
    batch = [{"jsonrpc": "2.0", "method": "session.stats", "id": number} for number in range(number)]
    (answer,) = client.receive(json.dumps(batch).encode())
    assert same(answer, refused(-32600)) if refusal else len(answer) == 3


@pytest.mark.parametrize(
    "text",
    [
        '{"jsonrpc":"2.0","method":"session.stats","id":1,"id":2}',
        '{"jsonrpc":"2.0","method":"state_stream.subscribe","params":[{"stream":"energy","stream":"metrics"}],"id":1}',
        '[{"jsonrpc":"2.0","jsonrpc":"2.0","method":"session.stats","id":1}]',
        '{"jsonrpc":"2.0","method":"session.stats","id":1e999}',
        '{"jsonrpc":"2.0","method":"session.stats","id":"\\ud800"}',
        '{"jsonrpc":"2.0","method":"session.stats","params":' + "[" * 40 + "]" * 40 + "}",
    ],
    ids=lambda text: text[:70],
)
def test_json_that_two_readers_would_not_read_alike_is_refused(client, text):
    assert same(client.receive(text.encode()), [refused(-32700)])
    assert client.stats() == []


def test_an_unknown_method_is_told_the_known_ones(client):
    assert client.error("state_stream.unknown")["data"] == {"methods": list(METHODS)}


# params


def ask(client: JsonClient, method: str, params: object) -> dict:
    (answer, *_) = client.receive(json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": 1}).encode())
    return answer


@pytest.mark.parametrize(
    ("method", "params"),
    [
        (SUBSCRIBE, {"stream": "account", "key": "a", "last": 3}),
        (UNSUBSCRIBE, {"stream": "account", "key": "a"}),
        (HISTORY, {"stream": "account", "key": "a", "limit": 5, "reverse": True}),
    ],
)
def test_params_by_name_and_by_position_mean_the_same(world, method, params):
    answers = []
    for form in (params, [params]):
        client = JsonClient(world)
        client.subscribe({"stream": "account", "key": "a"})
        answers.append((ask(client, method, form), client.stats()))
    assert answers[0] == answers[1]
    assert "result" in answers[0][0]


@pytest.mark.parametrize("method", ["state_stream.list", "session.stats"])
@pytest.mark.parametrize("params", [[], {}, [{}], None])
def test_no_params_may_be_left_out_or_empty(client, method, params):
    assert "result" in ask(client, method, params)


@pytest.mark.parametrize("method", ["state_stream.list", "session.stats"])
@pytest.mark.parametrize("params", [[1], {"a": 1}, ["block_updates"], "", 5, False], ids=str)
def test_methods_without_params_take_none(client, method, params):
    assert ask(client, method, params)["error"]["code"] == -32602


BAD_PARAMS = [
    (SUBSCRIBE, BLOCKS, "list of stream names"),
    (SUBSCRIBE, 5, "list of stream names"),
    (SUBSCRIBE, None, "list of stream names"),
    (SUBSCRIBE, [5], "params[0]"),
    (SUBSCRIBE, [BLOCKS, None], "params[1]"),
    (SUBSCRIBE, [[BLOCKS]], "params[0]"),
    (SUBSCRIBE, {}, "stream must be"),
    (SUBSCRIBE, [{"strem": BLOCKS}], "'strem'"),
    (SUBSCRIBE, [{"stream": BLOCKS, "from": 5}], "'from'"),
    (SUBSCRIBE, [{"stream": 5}], "stream must be"),
    (SUBSCRIBE, [{"stream": "account", "key": 5}], "key must be"),
    (SUBSCRIBE, [{"stream": "account", "key": ""}], "key must be"),
    (SUBSCRIBE, [{"stream": BLOCKS, "last": "3"}], "last must be"),
    (SUBSCRIBE, [{"stream": BLOCKS, "last": -1}], "last must be"),
    (SUBSCRIBE, [{"stream": BLOCKS, "last": True}], "last must be"),
    (SUBSCRIBE, [{"stream": BLOCKS, "last": 1.0}], "last must be"),
    (SUBSCRIBE, [{"stream": BLOCKS, "last": 3, "since": {"height": 5}}], "exclude"),
    (SUBSCRIBE, [{"stream": BLOCKS, "since": "e1-5"}], "since must be"),
    (SUBSCRIBE, [{"stream": BLOCKS, "since": {}}], "since must be"),
    (SUBSCRIBE, [{"stream": BLOCKS, "since": {"epoch": "e1"}}], "since must be"),
    (SUBSCRIBE, [{"stream": BLOCKS, "since": {"seq": 1}}], "since must be"),
    (SUBSCRIBE, [{"stream": BLOCKS, "since": {"epoch": 1, "seq": 1}}], "since must be"),
    (SUBSCRIBE, [{"stream": BLOCKS, "since": {"epoch": "e1", "seq": -1}}], "seq must be"),
    (SUBSCRIBE, [{"stream": BLOCKS, "since": {"height": 1, "time": 1}}], "since must be"),
    (SUBSCRIBE, [{"stream": BLOCKS, "where": []}], "where must be"),
    (SUBSCRIBE, [{"stream": BLOCKS, "where": {}}], "where must be"),
    (SUBSCRIBE, [{"stream": BLOCKS, "where": {"height": []}}], "where.height"),
    (SUBSCRIBE, [{"stream": BLOCKS, "where": {"height": {}}}], "where.height"),
    (SUBSCRIBE, [{"stream": BLOCKS, "where": {"height": {"eq": 5}}}], "where.height"),
    (SUBSCRIBE, [{"stream": BLOCKS, "where": {"height": {"in": 5}}}], "where.height.in"),
    (SUBSCRIBE, [{"stream": BLOCKS, "where": {"height": {"in": [[]]}}}], "where.height"),
    (SUBSCRIBE, [{"stream": BLOCKS, "fields": "height"}], "fields must be"),
    (SUBSCRIBE, [{"stream": BLOCKS, "fields": []}], "fields must be"),
    (SUBSCRIBE, [{"stream": BLOCKS, "fields": [1]}], "fields must be"),
    (SUBSCRIBE, [{"stream": BLOCKS, "fields": [f"f{number}" for number in range(65)]}], "64"),
    (SUBSCRIBE, [{"stream": "metrics", "max_rate": "5"}], "max_rate must be"),
    (SUBSCRIBE, [{"stream": "metrics", "max_rate": True}], "max_rate must be"),
    (UNSUBSCRIBE, [], "list of stream names"),
    (UNSUBSCRIBE, [{"stream": BLOCKS, "last": 1}], "'last'"),
    (HISTORY, None, "params must be"),
    (HISTORY, [BLOCKS, BLOCKS], "one object"),
    (HISTORY, {"stream": BLOCKS, "limit": 0}, "limit must be"),
    (HISTORY, {"stream": BLOCKS, "limit": "5"}, "limit must be"),
    (HISTORY, {"stream": BLOCKS, "limit": None}, "limit must be"),
    (HISTORY, {"stream": BLOCKS, "reverse": 1}, "reverse must be"),
    (HISTORY, {"stream": BLOCKS, "until": {"height": 5}}, "until must be"),
    (HISTORY, {"stream": BLOCKS, "last": 5}, "'last'"),
]


@pytest.mark.parametrize(("method", "params", "told"), BAD_PARAMS, ids=lambda value: str(value)[:60])
def test_wrong_params_are_told_which_and_what_is_allowed(client, method, params, told):
    error = ask(client, method, params)["error"]
    assert error["code"] == -32602
    assert told in error["message"]
    assert len(error["message"]) < 400
    assert client.stats() == []


# ping


@pytest.mark.parametrize("timestamp", [0, 1707770400123, 1.5, "mine", None, 2**64, True], ids=repr)
def test_a_ping_is_answered_with_its_timestamp(world, client, timestamp):
    answer = client.receive(json.dumps({"type": "ping", "timestamp": timestamp}).encode())
    assert answer == [{"type": "pong", "timestamp": timestamp, "server_time": world.now_ms}]


def test_a_ping_without_a_timestamp_gets_null(client):
    assert client.receive(b'{"type":"ping"}')[0]["timestamp"] is None


@pytest.mark.parametrize("timestamp", [[], {}, [1]], ids=str)
def test_a_ping_with_more_than_a_timestamp_is_refused(client, timestamp):
    assert same(client.receive(json.dumps({"type": "ping", "timestamp": timestamp}).encode()), [refused(-32600)])


# what only JSON can say


def test_fields_trim_data_everywhere(world, client):
    world.block(1, timestamp=5)
    client.subscribe({"stream": BLOCKS, "fields": ["tx_count", "height", "nope"]})
    world.block(2, timestamp=6, tx_count=7)
    frames = client.take()[1:]
    assert [frame["data"] for frame in frames] == [{"height": 1}, {"height": 2, "tx_count": 7}]
    assert frames[1].keys() == {"type", "stream", "epoch", "seq", "time", "data"}


def test_fields_and_where_go_together_and_where_sees_all_fields(world, client):
    client.subscribe({"stream": BLOCKS, "fields": ["hash"], "where": {"height": {"gt": 1}}})
    world.block(1)
    world.block(2)
    assert [frame["data"] for frame in client.take()[1:]] == [{"hash": "0x00000002"}]


def test_64_bit_integers_as_strings(world):
    client = JsonClient(world, format_=Format.JSON_INT64_STRING)
    world.origin.publish(block_pb2.BlockUpdate(height=2**64 - 1, hash=b"\1", timestamp=-(2**63), tx_count=7))
    client.subscribe({"stream": BLOCKS, "where": {"height": {"gt": 2**63}}})  # filters see numbers
    world.origin.publish_custom(
        "weather", "weather_update", b'{"big":9007199254740993,"small":7,"list":[-9007199254740993]}'
    )
    (_, snapshot) = client.take()
    assert snapshot["data"] == {
        "height": "18446744073709551615", "hash": "0x01", "timestamp": "-9223372036854775808", "tx_count": 7,
    }  # fmt: skip
    assert snapshot["seq"] == 1  # positions are numbers
    page = client.result(HISTORY, {"stream": BLOCKS})
    assert page["updates"][0]["data"] == snapshot["data"]
    (custom,) = client.result(HISTORY, {"stream": "weather"})["updates"]
    assert custom["data"] == {"big": "9007199254740993", "small": 7, "list": ["-9007199254740993"]}
    assert client.open()[0]["format"] == "json"


def test_numbers_have_all_their_digits(world, client):
    world.origin.publish(block_pb2.BlockUpdate(height=2**64 - 1, hash=b"\1"))
    world.origin.publish_custom("weather", "weather_update", b'{"t":0.1,"n":123456789012345678901234567890}')
    client.subscribe(BLOCKS, "weather")
    client.world.run()
    assert b'"height":18446744073709551615' in client.raw[1]
    assert b'"data":{"t":0.1,"n":123456789012345678901234567890}' in client.raw[2]
