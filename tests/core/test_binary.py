"""theblock.v1.proto: requests and frames in protobuf, and whatever else may come in a binary frame."""

import math

import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.core.binary import METHOD_NAMES
from bridge.core.codes import BAD_MESSAGES
from bridge.core.errors import FrameError, RequestError
from bridge.core.frames import Frame, Opcode
from bridge.core.history import HistoryLimits
from bridge.core.limits import Limits
from bridge.core.methods import Methods
from bridge.core.session import Send, Shut
from bridge.core.update import Format, Update, varint
from generated.theblock.state.v1 import frames_pb2, update_pb2
from tests.core.v1_clients import ProtoClient, client_frame
from tests.core.world import CATALOGUE, World, server_frames

BLOCKS = "block_updates"
ClientFrame = frames_pb2.ClientFrame


@pytest.fixture
def client(world: World) -> ProtoClient:
    return ProtoClient(world)


def answers(client: ProtoClient, payload: bytes) -> list[frames_pb2.ServerFrame]:
    before = len(client.raw)
    client.receive(payload)
    return [frames_pb2.ServerFrame.FromString(raw) for raw in client.raw[before:]]


def error_of(client: ProtoClient, payload: bytes) -> frames_pb2.ResponseFrame:
    (frame,) = answers(client, payload)
    assert frame.response.HasField("error"), frame
    assert len(frame.response.error.message) > 10
    return frame.response


def field(number: int, payload: bytes) -> bytes:
    """Return a length-delimited field (https://protobuf.dev/programming-guides/encoding/)."""
    return bytes([number << 3 | 2]) + varint(len(payload)) + payload


# requests


def test_every_request_of_the_proto_calls_a_method():
    kinds = [one.name for one in ClientFrame.DESCRIPTOR.oneofs_by_name["request"].fields]
    assert list(METHOD_NAMES) == kinds


@pytest.mark.parametrize("id_", [0, 1, 2**53 + 1, 2**64 - 1])
def test_the_id_comes_back(client, id_):
    message = client_frame("session.stats")
    message.id = id_
    (frame,) = answers(client, message.SerializeToString())
    assert (frame.response.HasField("id"), frame.response.id) == (True, id_)
    assert frame.response.WhichOneof("outcome") == "stats"
    message = ClientFrame(id=id_, history=frames_pb2.HistoryFrame(stream="never_declared"))
    response = error_of(client, message.SerializeToString())
    assert (response.HasField("id"), response.id) == (True, id_)


def test_a_page_of_history_carries_the_id_too(world, client):
    world.block(1)
    message = ClientFrame(id=2**64 - 1, history=frames_pb2.HistoryFrame(stream=BLOCKS, limit=1))
    (frame,) = answers(client, message.SerializeToString())
    assert frame.response.id == 2**64 - 1
    message.ClearField("id")
    assert answers(client, message.SerializeToString()) == []


@pytest.mark.parametrize("timestamp", [0.0, 12.5, -1e300, math.inf, -math.inf, math.nan])
def test_a_ping_is_answered_with_its_timestamp(world, client, timestamp):
    (frame,) = answers(client, ClientFrame(ping=frames_pb2.PingFrame(timestamp=timestamp)).SerializeToString())
    assert frame.WhichOneof("frame") == "pong"
    assert frame.pong.server_time == world.now_ms
    assert frame.pong.timestamp == timestamp or (math.isnan(timestamp) and math.isnan(frame.pong.timestamp))


def test_the_pong_of_a_ping_is_no_response(client):
    (frame,) = answers(client, ClientFrame(id=5, ping=frames_pb2.PingFrame()).SerializeToString())
    assert frame.WhichOneof("frame") == "pong"


def test_methods_that_take_nothing_need_nothing(client):
    for kind in ("list", "stats"):
        message = ClientFrame(id=1)
        getattr(message, kind).SetInParent()
        (frame,) = answers(client, message.SerializeToString())
        assert not frame.response.HasField("error")


# filters


def subscribe_where(*terms: frames_pb2.WhereTerm) -> bytes:
    message = ClientFrame(id=1)
    message.subscribe.subscriptions.add(stream="notes", where=terms)
    return message.SerializeToString()


def term(test: str, *values: object, field: str = "n") -> frames_pb2.WhereTerm:
    kinds = {bool: "truth", int: "integer", float: "number", str: "text"}
    return frames_pb2.WhereTerm(
        field=field,
        test=test,
        values=[frames_pb2.WhereValue(**({} if value is None else {kinds[type(value)]: value})) for value in values],
    )


VALUES = [1, 2, 2.5, 3, True, False, None, "a", "ab", "b"]


@pytest.mark.parametrize(
    ("terms", "selected"),
    [
        ([term("", 2)], [2]),
        ([term("eq", 2)], [2]),
        ([term("", True)], [True]),
        ([term("", None)], [None]),
        ([term("", 2.0)], [2]),
        ([term("in", 1, "b", None)], [1, None, "b"]),
        ([term("in", "a")], ["a"]),
        ([term("prefix", "a")], ["a", "ab"]),
        ([term("gt", 1), term("lte", 3)], [2, 2.5, 3]),
        ([term("gte", 2.5)], [2.5, 3]),
        ([term("lt", "b")], ["a", "ab"]),
        ([term("gt", 1), term("eq", 7, field="m")], []),
    ],
    ids=lambda value: str(value).replace("\n", " ")[:60],
)
def test_a_filter_selects(world, client, terms, selected):
    (frame,) = answers(client, subscribe_where(*terms))
    assert not frame.response.HasField("error"), frame
    for value in VALUES:
        world.custom("notes", {"n": value})
    assert [frame["data"]["n"] for frame in client.take() if "data" in frame] == selected


@pytest.mark.parametrize(
    "terms",
    [
        [term("regex", "x")],
        [term("gt", 1), term("gt", 5)],  # one of them would be lost
        [term("eq", 1), term("gt", 0)],
        [term("gt", 0), term("eq", 1)],
        [term("eq", 1), term("eq", 1)],
        [term("in", 1), term("in", 2)],
        [term("gt", 1), term("lt", 5), term("gt", 2)],
        [term("eq", 1), term("eq", 1), term("gt", 1)],
        [term("eq", 1, 2)],
        [term("eq")],
        [term("gt")],
        [term("gt", 1, 2)],
        [term("in")],
        [term("prefix", 5)],
        [term("gt", None)],
        [term("gt", True)],
        [term("eq", number, field=f"f{number}") for number in range(17)],
    ],
    ids=lambda value: str(value).replace("\n", " ")[:60],
)
def test_a_filter_that_cannot_be_is_refused(client, terms):
    response = error_of(client, subscribe_where(*terms))
    assert (response.id, response.error.code) == (1, -32602)
    assert "where" in response.error.message
    assert client.stats() == []


def test_fields_are_refused(world, client):
    """A ClientFrame has no place for them; should one come from elsewhere, a binary frame cannot be trimmed."""
    assert "fields" not in frames_pb2.SubscriptionSpec.DESCRIPTOR.fields_by_name
    methods = Methods(world.hub, client.reader, Limits())
    with pytest.raises(RequestError, match="fields is for JSON") as refusal:
        methods.call("state_stream.subscribe", [{"stream": BLOCKS, "fields": ["height"]}])
    assert refusal.value.code == -32602
    assert client.stats() == []


# updates, byte for byte


def foreign(world: World, seq: int) -> Update:
    """Return an update as another implementation may write it: fields in another order, and some that we know not."""
    block = update_pb2.Update(stream=BLOCKS, epoch="e1", seq=seq, time_ms=world.now_ms)
    block.block.height = seq
    block.block.hash = b"\1"
    inner = block.block.SerializeToString()
    rest = update_pb2.Update(stream=BLOCKS, epoch="e1", seq=seq, time_ms=world.now_ms).SerializeToString()
    newer = field(9, b"from a later version")
    raw = newer + b"\x82\x01" + varint(len(inner)) + inner + rest
    assert update_pb2.Update.FromString(raw).block.height == seq
    assert update_pb2.Update.FromString(raw).SerializeToString() != raw
    return Update(CATALOGUE.get(BLOCKS), "e1", seq, world.now_ms, raw)


def test_every_update_is_inside_as_it_came_wherever_it_stands(encoding):
    world = World(limits=HistoryLimits(count=3))
    client = ProtoClient(world, capacity=2 if encoding == "json" else None)  # behind, and not
    updates = [foreign(world, seq) for seq in range(1, 7)]
    world.hub.admit(updates[0])
    client.call("state_stream.subscribe", BLOCKS)
    world.run()
    for update in updates[1:]:
        world.hub.admit(update)
    world.run()
    client.capacity = None
    client.drain()
    world.run()
    client.call("state_stream.history", {"stream": BLOCKS})
    bodies = {raw[:1]: raw for raw in client.raw}
    assert field(1, field(1, updates[0].raw))[2:] not in client.raw  # not a field of anything else
    assert client.raw[1] == field(2, field(1, updates[0].raw))  # the snapshot
    live = [raw for raw in client.raw if raw.startswith(b"\x0a")]
    assert live[-3:] == [field(1, update.raw) for update in updates[-3:]]
    page = b"".join(field(1, update.raw) for update in updates[-3:])
    assert bodies[b"\x1a"] == field(3, b"\x08\x02" + field(6, page))
    if encoding == "json":
        (stand_in,) = [raw for raw in client.raw if raw.startswith(b"\x12")][1:]
        assert stand_in == field(2, field(1, updates[2].raw) + field(2, b"\x08\x02\x10\x03"))


# bad input


@pytest.mark.parametrize(
    "payload", [b"\xff\xff", b"\x12\x7f", b"{}", field(2, field(1, field(1, b"\xff\xfe")))], ids=repr
)
def test_what_is_no_client_frame_is_a_parse_error(client, payload):
    response = error_of(client, payload)
    assert (response.error.code, response.HasField("id")) == (-32700, False)
    assert client.shut is None


@pytest.mark.parametrize("payload", [b"", field(15, b"a request of a later version")], ids=["empty", "unknown"])
@pytest.mark.parametrize("id_", [None, 0, 77])
def test_a_frame_without_a_request_that_is_known_is_invalid_and_told_so(client, payload, id_):
    message = ClientFrame() if id_ is None else ClientFrame(id=id_)
    response = error_of(client, message.SerializeToString() + payload)
    assert response.error.code == -32600
    assert response.HasField("id") == (id_ is not None)
    assert response.id == (id_ or 0)


def test_of_two_requests_in_one_frame_the_last_one_counts(client):
    """So protobuf has it: the last member of a oneof wins."""
    both = client_frame("session.stats").SerializeToString() + client_frame("state_stream.list").SerializeToString()
    (frame,) = answers(client, ClientFrame(id=1).SerializeToString() + both)
    assert frame.response.WhichOneof("outcome") == "streams"


def test_the_data_of_an_error_is_json(client):
    response = error_of(
        client, ClientFrame(id=1, authenticate=frames_pb2.AuthenticateFrame(token="x")).SerializeToString()
    )
    assert response.error.code == -32601
    assert response.error.data_json.startswith(b'{"methods":["state_stream.subscribe"')


def test_empty_frames_are_bad_messages_like_others(client):
    for _ in range(19):
        error_of(client, b"")
    assert client.shut is None
    error_of(client, b"")
    assert client.shut == Shut(BAD_MESSAGES, "20 bad messages in a row")


def messages(descriptor) -> st.SearchStrategy[bytes]:
    """Serialized messages of a type, with values that its fields may have and often should not."""

    def one(field: FieldDescriptor) -> st.SearchStrategy[object]:
        match field.type:
            case FieldDescriptor.TYPE_MESSAGE:
                return built(field.message_type)
            case FieldDescriptor.TYPE_STRING:
                return st.text(max_size=5) | st.sampled_from(
                    [BLOCKS, "account", "metrics", "notes", "gt", "in", "prefix", "e1"]
                )
            case FieldDescriptor.TYPE_DOUBLE:
                return st.floats()
            case FieldDescriptor.TYPE_BOOL:
                return st.booleans()
            case FieldDescriptor.TYPE_UINT32:
                return st.integers(0, 5) | st.integers(0, 2**32 - 1)
            case FieldDescriptor.TYPE_INT64:
                return st.integers(-(2**63), 2**63 - 1)
            case _:
                return st.integers(0, 12) | st.integers(0, 2**64 - 1)

    def built(descriptor) -> st.SearchStrategy[object]:
        fields = {}
        for field in descriptor.fields:
            value = one(field)
            fields[field.name] = st.lists(value, max_size=3) if field.is_repeated else value
        return st.fixed_dictionaries({}, optional=fields).map(lambda members: descriptor._concrete_class(**members))

    return built(descriptor).map(lambda message: message.SerializeToString())


def check_any(payload: bytes) -> None:
    """Have a client send bytes, and see that nothing is raised but what may be."""
    world = World(limits=HistoryLimits(count=4))
    for nonce in range(6):
        world.block(nonce)
        world.account("a", nonce)
        world.metrics(1.0)
        world.custom("notes", {"n": nonce, "text": "a"})
    client = ProtoClient(world)
    for opcode in (Opcode.BINARY, Opcode.TEXT):
        try:
            effects = client.session.receive(Frame(opcode, payload))
        except FrameError:
            continue
        for effect in effects:
            if isinstance(effect, Send):
                for first, sent in server_frames(effect.frame):
                    assert first == 0x82
                    assert frames_pb2.ServerFrame.FromString(sent).WhichOneof("frame")
            else:
                assert isinstance(effect, Shut)
    world.block(6)
    world.run()
    client.stats()
    assert client.reader.format is Format.PROTO


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_bytes_at_all(payload):
    check_any(payload)


@given(messages(ClientFrame.DESCRIPTOR))
@settings(max_examples=300, deadline=None)
def test_any_client_frame(payload):
    check_any(payload)


@given(messages(ClientFrame.DESCRIPTOR), st.integers(0, 200), st.binary(min_size=1, max_size=3))
@settings(max_examples=300, deadline=None)
def test_any_client_frame_with_a_few_bytes_changed(payload, place, change):
    at = place % (len(payload) + 1)
    check_any(payload[:at] + change + payload[at + len(change) :])
