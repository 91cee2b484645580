"""Whatever a client sends, in every dialect, is answered in a shape of the protocol and is never an exception."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.core import codes
from bridge.core.audience import Reader
from bridge.core.errors import FrameError
from bridge.core.frames import Frame, Opcode
from bridge.core.history import HistoryLimits
from bridge.core.limits import Limits
from bridge.core.methods import METHODS
from bridge.core.session import Send, Session, Shut
from bridge.core.update import Format
from bridge.core.v1 import Greeting, V1ProtoSession, V1Session
from generated.theblock.state.v1 import frames_pb2
from tests.core.schema import messages
from tests.core.world import World, server_frames

LIMITS = Limits(subscriptions=5, undeclared=2, last=10, page=5, batch=4, depth=8, bad_messages=1000)
GREETING = Greeting("5e551010", "theblock-bridge", "1.2.3", 25_000)

names = st.sampled_from(["block_updates", "metrics", "account", "notes", "rooms", "unheard_of", "Bad", ""])
keys = st.sampled_from(["a", "b", "", "a b"])
numbers = st.integers(-1, 12) | st.sampled_from([2**53, 2**63, 2**64, -(2**70), 1.5, 1e308, 5e-324])
scalars = st.none() | st.booleans() | numbers | st.text(max_size=5) | keys
wheres = st.dictionaries(
    st.sampled_from(["height", "nonce", "tps", "hash", "text"]),
    scalars
    | st.dictionaries(st.sampled_from(["in", "prefix", "gt", "lte", "eq"]), scalars | st.lists(scalars, max_size=3)),
    max_size=3,
)
positions = st.fixed_dictionaries({"epoch": st.sampled_from(["e1", "e2", "", "x"]), "seq": numbers})
sinces = positions | st.fixed_dictionaries({"height": numbers}) | st.fixed_dictionaries({"time": numbers}) | scalars
optional = {
    "key": keys | scalars,
    "since": sinces,
    "last": numbers | scalars,
    "where": wheres | scalars,
    "fields": st.lists(st.sampled_from(["height", "nonce"]) | scalars, max_size=3) | scalars,
    "max_rate": numbers,
    "until": positions | scalars,
    "limit": numbers,
    "reverse": st.booleans() | scalars,
    "x": scalars,
}
entries = names | st.fixed_dictionaries({"stream": names | scalars}, optional=optional) | scalars
requests = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.sampled_from(["2.0", "2.0", "2.0", "1.0", 2]),
        "id": scalars,
        "method": st.sampled_from([*METHODS, *METHODS, "nope"]) | scalars,
        "params": st.lists(entries, max_size=3) | entries,
        "type": st.sampled_from(["ping", "pong"]),
        "timestamp": scalars,
    },
)
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
)
texts = (
    st.text()
    | st.binary()
    | json_values.map(json.dumps)
    | requests.map(json.dumps)
    | st.lists(requests | json_values, max_size=5).map(json.dumps)
)


def busy() -> World:
    """Return a world where something has been published on every kind of stream, and some of it let go of."""
    world = World(limits=HistoryLimits(count=3))
    for number in range(6):
        world.block(number)
        world.metrics(float(number))
        world.account("ab"[number % 2], number)
        world.custom("notes", {"text": "x", "height": number})
        world.custom("rooms", {"text": "y"}, "ab"[number % 2])
    return world


def check_frame(first: int, payload: bytes) -> None:
    """Check that what is sent is JSON in one of the shapes of the protocol."""
    assert first == 0x81
    assert b"\n" not in payload
    value = json.loads(payload.decode(), parse_constant=pytest.fail)
    if isinstance(value, dict) and "jsonrpc" not in value:
        kind = value["type"]
        if kind == "error":
            assert set(value) <= {"type", "id", "error"}
            assert isinstance(value["error"]["code"], int)
            assert value["error"]["message"]
        elif kind == "pong":
            assert set(value) == {"type", "timestamp", "server_time"}
        elif kind not in ("welcome", "upstream", "gap"):
            assert {"stream", "epoch", "seq", "time", "data"} <= set(value)
            assert isinstance(value["data"], dict)
        return
    for answer in value if isinstance(value, list) else [value]:
        assert answer["jsonrpc"] == "2.0"
        assert set(answer) in ({"jsonrpc", "id", "result"}, {"jsonrpc", "id", "error"})


def converse(session: Session, reader: Reader, world: World, opcode: Opcode, sent: list[bytes], check: Any) -> None:
    """Send everything, while updates come; check every answer."""
    for number, payload in enumerate(sent):
        try:
            effects = session.receive(Frame(opcode, payload))
        except FrameError as error:
            assert error.close is codes.BAD_DATA
            continue
        for effect in effects:
            assert isinstance(effect, Send | Shut)
            if isinstance(effect, Send):
                for first, got in server_frames(effect.frame):
                    check(first, got)
        world.block(100 + number)
        world.metrics(1.0)
        world.account("a", number)
        world.run()
        world.wait(400)
        world.run()
    session.tick(world.now_ms + 60_000)
    world.begin_epoch()
    world.run()
    assert len(reader.cursors) <= LIMITS.subscriptions
    for cursor in reader.cursors.values():
        books = cursor.books()
        assert books.head - books.start == sum(books[2:])
    world.hub.detach(reader)
    assert all(not history.cursors for history in world.hub.histories.values())


@pytest.mark.parametrize("dialect", ["classic", "v1"])
@settings(max_examples=150)
@given(sent=st.lists(texts, min_size=1, max_size=6), format_=st.sampled_from([Format.JSON, Format.JSON_INT64_STRING]))
def test_whatever_a_client_sends_is_answered(dialect, sent, format_):
    world = busy()
    reader = Reader(lambda data: [check_frame(*frame) for frame in server_frames(data)], format_)
    world.hub.attach(reader)
    session = (
        Session(world.hub, reader, LIMITS) if dialect == "classic" else V1Session(world.hub, reader, LIMITS, GREETING)
    )
    payloads = [text if isinstance(text, bytes) else text.encode("utf-8", "replace") for text in sent]
    converse(session, reader, world, Opcode.TEXT, payloads, check_frame)


@settings(max_examples=150)
@given(
    sent=st.lists(
        st.binary() | messages(frames_pb2.ClientFrame.DESCRIPTOR).map(lambda m: m.SerializeToString()), max_size=6
    )
)
def test_whatever_a_binary_client_sends_is_answered(sent):
    def check(first: int, payload: bytes) -> None:
        assert first == 0x82
        assert frames_pb2.ServerFrame.FromString(payload).WhichOneof("frame")

    world = busy()
    reader = Reader(lambda data: [check(*frame) for frame in server_frames(data)], Format.PROTO)
    world.hub.attach(reader)
    session = V1ProtoSession(world.hub, reader, LIMITS, GREETING)
    for effect in session.open(["block_updates"]):
        check(*next(server_frames(effect.frame)))
    converse(session, reader, world, Opcode.BINARY, sent, check)
