"""permessage-deflate: the examples of RFC 7692, round trips, bombs and damage; one deflated frame for all of a form."""

import json
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core import codes
from bridge.core.deflate import Deflate, deflate, inflate
from bridge.core.errors import FrameError
from bridge.core.frames import Opcode
from bridge.core.update import Form, Format, Missed
from tests import frames
from tests.core.test_update import block, custom
from tests.core.world import World, good

LIMIT = 65_536
ALWAYS = Deflate(minimum_bytes=1)

EXAMPLES = {
    "one block (7.2.3.1)": "f248cdc9c90700",
    "no compression (7.2.3.3)": "000500faff48656c6c6f00",
    "a last block (7.2.3.4)": "f348cdc9c9070000",
    "two blocks (7.2.3.5)": "f24805000000ffffcac9c90700",
}
"""Payloads of RFC 7692 that say Hello."""


def packed(message: bytes) -> bytes:
    """Return the payload of a deflated message as another implementation makes it."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (compressor.compress(message) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_of_rfc_7692(example):
    assert inflate(bytes.fromhex(EXAMPLES[example]), 5) == b"Hello"


def test_hello_is_deflated_as_in_rfc_7692():
    assert deflate(b"Hello", 1).hex() == EXAMPLES["one block (7.2.3.1)"]
    assert deflate(b"", 1) == b"\x00"  # section 7.2.3.6
    assert inflate(b"\x00", 0) == b""


@given(st.binary(max_size=3000) | st.text(max_size=3000).map(str.encode), st.integers(1, 9), st.integers(1, 50))
def test_what_is_deflated_is_inflated_by_anyone(message, level, times):
    message *= times
    payload = deflate(message, level)
    assert frames.inflate(payload) == message
    assert inflate(payload, len(message)) == message
    assert inflate(packed(message), len(message)) == message


@given(st.binary(min_size=1, max_size=2000), st.integers(1, 200))
def test_no_byte_more_than_is_allowed(message, times):
    message *= times
    with pytest.raises(FrameError) as error:
        inflate(packed(message), len(message) - 1)
    assert error.value.close is codes.TOO_BIG
    assert str(len(message) - 1) in str(error.value)


@given(st.binary(max_size=300))
def test_anything_is_inflated_or_refused(payload):
    try:
        assert len(inflate(payload, LIMIT)) <= LIMIT
    except FrameError as error:
        assert error.close in (codes.BAD_DATA, codes.TOO_BIG)


def test_a_message_that_was_cut_off_is_noticed_wherever_it_was():
    noise = random.Random(1).randbytes(200)
    payload = packed(b"a" * 5000 + noise + b"theblock" * 40)
    for length in range(len(payload)):
        with pytest.raises(FrameError) as error:
            inflate(payload[:length], LIMIT)
        assert error.value.close is codes.BAD_DATA


@pytest.mark.parametrize("more", ["01", "00000000ffff0000", "f248cdc9c90700"])
def test_nothing_may_come_behind_the_last_block(more):
    with pytest.raises(FrameError) as error:
        inflate(bytes.fromhex(EXAMPLES["a last block (7.2.3.4)"][:-2] + more), LIMIT)
    assert error.value.close is codes.BAD_DATA


def test_a_reference_to_an_earlier_message_is_damage():
    """A client that keeps its context after it was told not to cannot be understood."""
    compressor = zlib.compressobj(wbits=-15)
    text = b"the same text, twice, in two messages"
    first, second = (compressor.compress(text) + compressor.flush(zlib.Z_SYNC_FLUSH) for _ in range(2))
    assert inflate(first[:-4], LIMIT) == text
    with pytest.raises(FrameError) as error:
        inflate(second[:-4], LIMIT)
    assert error.value.close is codes.BAD_DATA


# ---------------------------------------------------------------------- frames that are sent


def test_short_messages_and_those_that_would_grow_are_left_as_they_are():
    policy = Deflate(minimum_bytes=100)
    assert policy.pack(b"a" * 99) is None
    assert frames.inflate(policy.pack(b"a" * 100)) == b"a" * 100
    assert policy.pack(random.Random(1).randbytes(5000)) is None


@pytest.mark.parametrize("format_", [Format.JSON, Format.JSON_INT64_STRING, Format.PROTO])
@pytest.mark.parametrize("snapshot", [False, True])
def test_a_deflated_frame_says_what_the_plain_one_says(format_, snapshot):
    update = custom(json.dumps({"orders": [{"id": number, "price": 5} for number in range(50)]}).encode())
    plain, form = Form(format_, snapshot=snapshot), Form(format_, snapshot=snapshot, deflate=ALWAYS)
    data = update.frame(form)
    opcode = Opcode.BINARY if format_ is Format.PROTO else Opcode.TEXT
    assert data[0] == 0xC0 | opcode
    assert len(data) < len(update.frame(plain)) / 2
    assert list(frames.server_frames(data, deflates=True)) == list(frames.server_frames(update.frame(plain)))


@pytest.mark.parametrize("format_", [Format.RESPONSE, Format.EVENT])
def test_what_is_no_websocket_frame_is_never_deflated(format_):
    assert block().frame(Form(format_, deflate=ALWAYS)) == block().frame(Form(format_))


def test_a_frame_that_stands_in_is_plain_since_it_is_for_one_client():
    update, missed = block(), Missed(1, 41)
    assert update.standing_in(Form(deflate=ALWAYS), missed) == update.standing_in(Form(), missed)


def test_an_update_is_deflated_once_and_its_memory_counted():
    update, form = custom(b'{"text":"%b"}' % (b"a" * 1000)), Form(deflate=ALWAYS)
    before = update.size_bytes
    data = update.frame(form)
    assert update.frame(Form(deflate=Deflate(1))) is data, "an equal form is the same one"
    assert update.size_bytes == before + len(data)


# ---------------------------------------------------------------------- clients of a hub


def publish(world: World, number: int, size: int = 2000) -> None:
    data = {"number": number, "text": "ab" * (size // 2)}
    world.note(world.origin.publish_custom("ticks", "tick", json.dumps(data).encode()), data)


def test_deflating_and_plain_clients_get_the_same_each_in_one_buffer_for_all():
    world = World()
    plain = [world.client(f"plain {number}") for number in range(3)]
    deflating = [world.client(f"deflating {number}", deflate=ALWAYS) for number in range(3)]
    for client in (*plain, *deflating):
        client.subscribe("ticks")
    world.run()
    for number in range(5):
        publish(world, number)
    world.run()
    for group in (plain, deflating):
        assert all(client.written[-1] is group[0].written[-1] for client in group), "one buffer for all"
    assert plain[0].updates == deflating[0].updates == [("ticks", seq) for seq in range(1, 6)]
    assert len(deflating[0].written[-1]) < len(plain[0].written[-1]) / 10
    good(world)


def test_who_catches_up_gets_the_frames_that_live_readers_got():
    world = World()
    live, late = world.client("live", deflate=ALWAYS), world.client("late", deflate=ALWAYS)
    live.subscribe("ticks")
    world.run()
    for number in range(5):
        publish(world, number)
    world.run()
    late.subscribe({"stream": "ticks", "last": 5})
    world.run()
    assert late.written[-1] == live.written[-1]
    assert late.updates == live.updates
    good(world)


def test_answers_are_plain():
    world = World()
    client = world.client(deflate=ALWAYS)
    client.subscribe("ticks")
    publish(world, 1)
    world.run()
    history = client.call("state_stream.history", {"stream": "ticks"})
    assert len(history["result"]["updates"]) == 1
    assert client.written[-1][0] == 0x81
