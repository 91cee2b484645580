"""WebSocket frames: the examples of RFC 6455, what clients may send in pieces, and everything that is refused."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core import codes
from bridge.core.deflate import deflate
from bridge.core.errors import FrameError
from bridge.core.frames import (
    Decoder,
    Frame,
    Opcode,
    check_utf8,
    close_frame,
    close_reason,
    frame,
    parse_close,
    text_frame,
    unmask,
)

KEY = bytes.fromhex("37fa213d")
LIMIT = 100_000

HELLO = bytes.fromhex("818537fa213d7f9f4d5158")  # section 5.7: a single-frame masked text message
PONG_HELLO = bytes.fromhex("8a8537fa213d7f9f4d5158")  # section 5.7: masked pong


def client_frame(opcode: int, payload: bytes = b"", *, final: bool = True, key: bytes = KEY, size: int = 0) -> bytes:
    """Write a frame as a client does: masked; the length in `size` bytes, 0: as few as possible."""
    length = len(payload)
    size = size or (1 if length < 126 else 3 if length < 1 << 16 else 9)
    marks = {1: length, 3: 126, 9: 127}[size]
    head = bytes((final << 7 | opcode, 0x80 | marks)) + (length.to_bytes(size - 1, "big") if size > 1 else b"")
    return head + key + bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))


def decode(data: bytes, limit_bytes: int = LIMIT) -> list[Frame]:
    return Decoder(limit_bytes).feed(data)


# ---------------------------------------------------------------------- what we send


@pytest.mark.parametrize(
    ("opcode", "payload", "written"),
    [
        (Opcode.TEXT, b"Hello", bytes.fromhex("810548656c6c6f")),  # section 5.7
        (Opcode.PING, b"Hello", bytes.fromhex("890548656c6c6f")),  # section 5.7
        (Opcode.BINARY, bytes(256), bytes.fromhex("827e0100") + bytes(256)),  # section 5.7
        (Opcode.BINARY, bytes(65536), bytes.fromhex("827f0000000000010000") + bytes(65536)),  # section 5.7
        (Opcode.TEXT, b"", b"\x81\x00"),
        (Opcode.BINARY, bytes(125), b"\x82\x7d" + bytes(125)),
        (Opcode.BINARY, bytes(126), b"\x82\x7e\x00\x7e" + bytes(126)),
        (Opcode.BINARY, bytes(65535), b"\x82\x7e\xff\xff" + bytes(65535)),
    ],
)
def test_server_frames(opcode, payload, written):
    assert frame(opcode, payload) == written


def test_text_and_close_frames():
    assert text_frame(b"{}") == b"\x81\x02{}"
    assert close_frame(1001) == b"\x88\x02\x03\xe9"
    assert close_frame(1012, b'{"error":"x"}') == b'\x88\x0f\x03\xf4{"error":"x"}'


@pytest.mark.parametrize("close", codes.CLOSES)
def test_close_reasons_are_compact_json_that_fits(close):
    assert close_reason(close) == f'{{"error":"{close.name}"}}'.encode()
    assert json.loads(close_reason(close, retry_after_ms=1500)) == {"error": close.name, "retry_after_ms": 1500}
    reason = close_reason(close, retry_after_ms=1500, message="m" * 200)
    assert len(reason) < 123
    assert json.loads(reason) == {"error": close.name, "retry_after_ms": 1500}


@pytest.mark.parametrize("length", range(70, 100))
def test_the_close_reason_is_as_long_as_it_may_be(length):
    reason = close_reason(codes.STALLED, message="x" * length)
    assert len(reason) < 123
    assert ("message" in json.loads(reason)) is (len('{"error":"stalled","message":""}') + length < 123)


# ---------------------------------------------------------------------- what clients send


@pytest.mark.parametrize(
    ("data", "frames"),
    [
        (HELLO, [Frame(Opcode.TEXT, b"Hello")]),
        (PONG_HELLO, [Frame(Opcode.PONG, b"Hello")]),
        (HELLO + PONG_HELLO, [Frame(Opcode.TEXT, b"Hello"), Frame(Opcode.PONG, b"Hello")]),
        (client_frame(1, b"Hel", final=False) + client_frame(0, b"lo"), [Frame(Opcode.TEXT, b"Hello")]),  # section 5.7
        (client_frame(2, bytes(256)), [Frame(Opcode.BINARY, bytes(256))]),
        (client_frame(2, bytes(65536)), [Frame(Opcode.BINARY, bytes(65536))]),
        (client_frame(1), [Frame(Opcode.TEXT, b"")]),
        (client_frame(8), [Frame(Opcode.CLOSE, b"")]),
        (client_frame(9, bytes(125)), [Frame(Opcode.PING, bytes(125))]),
        (client_frame(1, b"a", key=bytes(4)), [Frame(Opcode.TEXT, b"a")]),
        (b"", []),
    ],
)
def test_frames_are_read(data, frames):
    assert decode(data) == frames


def test_control_frames_come_between_fragments():
    data = (
        client_frame(1, b"a", final=False)
        + client_frame(9, b"?")
        + client_frame(0, b"b", final=False)
        + client_frame(0, b"", final=False)
        + client_frame(10, b"!")
        + client_frame(0, b"c")
        + client_frame(2, b"d")
    )
    assert decode(data) == [
        Frame(Opcode.PING, b"?"),
        Frame(Opcode.PONG, b"!"),
        Frame(Opcode.TEXT, b"abc"),
        Frame(Opcode.BINARY, b"d"),
    ]


REFUSED = {
    "not masked": (b"\x81\x05Hello", codes.PROTOCOL_ERROR),
    "RSV1 without an extension": (client_frame(0x41, b"a"), codes.PROTOCOL_ERROR),
    "RSV2": (client_frame(0x21, b"a"), codes.PROTOCOL_ERROR),
    "RSV3": (client_frame(0x11, b"a"), codes.PROTOCOL_ERROR),
    "reserved data opcode": (client_frame(3), codes.PROTOCOL_ERROR),
    "reserved data opcode, the last": (client_frame(7), codes.PROTOCOL_ERROR),
    "reserved control opcode": (client_frame(0xB), codes.PROTOCOL_ERROR),
    "reserved control opcode, the last": (client_frame(0xF), codes.PROTOCOL_ERROR),
    "fragmented ping": (client_frame(9, final=False), codes.PROTOCOL_ERROR),
    "fragmented close": (client_frame(8, final=False), codes.PROTOCOL_ERROR),
    "long ping": (client_frame(9, bytes(126)), codes.PROTOCOL_ERROR),
    "very long ping": (client_frame(9, bytes(65536)), codes.PROTOCOL_ERROR),
    "continuation of nothing": (client_frame(0, b"a"), codes.PROTOCOL_ERROR),
    "continuation after the end": (
        client_frame(1, b"a", final=False) + client_frame(0, b"b") + client_frame(0, b"c"),
        codes.PROTOCOL_ERROR,
    ),
    "message within a message": (client_frame(1, b"a", final=False) + client_frame(1, b"b"), codes.PROTOCOL_ERROR),
    "highest bit of the length": (b"\x82\xff\x80" + bytes(7), codes.PROTOCOL_ERROR),
    "too big": (client_frame(2, bytes(LIMIT + 1)), codes.TOO_BIG),
    "too big, as its head tells": (b"\x82\xff" + (1 << 62).to_bytes(8, "big"), codes.TOO_BIG),
    "too big in pieces": (
        client_frame(2, bytes(60_000), final=False) + client_frame(0, bytes(40_001)),
        codes.TOO_BIG,
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_breaks_the_protocol_is_refused(name):
    data, close = REFUSED[name]
    with pytest.raises(FrameError) as error:
        decode(data)
    assert error.value.close is close
    assert str(error.value)


RSV1 = 0x40
HELLO_DEFLATED = bytes.fromhex("f248cdc9c90700")  # RFC 7692, section 7.2.3.1

REFUSED_THOUGH_AGREED = {
    "RSV1 on a continuation": client_frame(RSV1 | 1, b"a", final=False) + client_frame(RSV1 | 0, b"b"),
    "RSV1 on a continuation only": client_frame(1, b"a", final=False) + client_frame(RSV1 | 0, b"b"),
    "RSV1 on a ping": client_frame(RSV1 | 9),
    "RSV1 on a pong": client_frame(RSV1 | 10),
    "RSV1 on a close": client_frame(RSV1 | 8),
    "RSV2": client_frame(0x21, b"a"),
    "RSV1 and RSV3": client_frame(0x51, b"a"),
}


@pytest.mark.parametrize("name", REFUSED_THOUGH_AGREED)
def test_what_breaks_permessage_deflate_is_refused(name):
    with pytest.raises(FrameError) as error:
        Decoder(LIMIT, deflates=True).feed(REFUSED_THOUGH_AGREED[name])
    assert error.value.close is codes.PROTOCOL_ERROR


@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
def test_a_deflated_message_is_inflated_when_its_turn_comes(opcode):
    decoder = Decoder(LIMIT, deflates=True)
    whole = client_frame(RSV1 | opcode, HELLO_DEFLATED)
    parts = client_frame(RSV1 | opcode, HELLO_DEFLATED[:2], final=False) + client_frame(9, b"?")
    parts += client_frame(0, HELLO_DEFLATED[2:4], final=False) + client_frame(0, HELLO_DEFLATED[4:])
    plain = client_frame(opcode, b"Hello", final=False) + client_frame(0, b"!")
    received = decoder.feed(whole + parts + plain)
    deflated = Frame(opcode, HELLO_DEFLATED, deflated=True)
    assert received == [deflated, Frame(Opcode.PING, b"?"), deflated, Frame(opcode, b"Hello!")]
    said = [decoder.inflate(one) for one in received]
    assert said[0] == said[2] == Frame(opcode, b"Hello")
    assert said[1::2] == received[1::2], "what is not deflated is left as it is"


def test_the_limit_holds_for_what_comes_and_for_what_it_says():
    bomb = deflate(bytes(LIMIT + 1), 9)
    decoder = Decoder(LIMIT, deflates=True)
    (received,) = decoder.feed(client_frame(RSV1 | 2, bomb))
    assert len(received.payload) < 200, "nothing is inflated before its turn"
    with pytest.raises(FrameError) as error:
        decoder.inflate(received)
    assert error.value.close is codes.TOO_BIG
    with pytest.raises(FrameError) as error:
        decoder.feed(client_frame(RSV1 | 2, bytes(LIMIT + 1)))
    assert error.value.close is codes.TOO_BIG


def test_the_largest_message_is_taken():
    assert decode(client_frame(2, bytes(60_000), final=False) + client_frame(0, bytes(40_000)))[0].payload == bytes(
        LIMIT
    )
    assert decode(client_frame(9, b"x"), limit_bytes=0) == [Frame(Opcode.PING, b"x")]  # control frames do not count


messages = st.lists(
    st.tuples(
        st.sampled_from([Opcode.TEXT, Opcode.BINARY, Opcode.PING, Opcode.PONG, Opcode.CLOSE]),
        st.binary(max_size=125) | st.integers(126, 70_000).map(bytes),
        st.binary(min_size=4, max_size=4),
    ),
    max_size=5,
)


@given(messages, st.data())
def test_what_a_client_writes_is_read_however_it_is_split(messages, data):
    stream, expected = b"", []
    for opcode, payload, key in messages:
        payload = payload[:125] if opcode >= Opcode.CLOSE else payload
        expected.append(Frame(opcode, payload))
        cuts = data.draw(st.lists(st.integers(0, len(payload)), max_size=3)) if opcode < Opcode.CLOSE else []
        edges = [0, *sorted(cuts), len(payload)]
        for index, (start, end) in enumerate(pairwise(edges)):
            final = index == len(edges) - 2
            stream += client_frame(opcode if not index else 0, payload[start:end], final=final, key=key)
    places = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    decoder, got = Decoder(1 << 20), []
    for start, end in pairwise([0, *places, len(stream)]):
        got += decoder.feed(stream[start:end])
    assert got == expected


@given(st.binary(max_size=40), st.binary(max_size=200))
def test_a_byte_at_a_time_is_the_same(first, second):
    stream = client_frame(1, first, final=False) + client_frame(9, first) + client_frame(0, second, size=3)
    decoder, got = Decoder(LIMIT), []
    for byte in stream:
        got += decoder.feed(bytes((byte,)))
    assert got == decode(stream) == [Frame(Opcode.PING, first), Frame(Opcode.TEXT, first + second)]


@given(st.lists(st.binary(max_size=60) | st.binary(max_size=10).map(lambda data: b"\x81\x80" + data), max_size=8))
def test_arbitrary_bytes_are_frames_or_a_frame_error(chunks):
    decoder = Decoder(64)
    try:
        for chunk in chunks:
            for got in decoder.feed(chunk):
                assert isinstance(got.opcode, Opcode)
                assert len(got.payload) <= 125
    except FrameError as error:
        assert error.close in (codes.PROTOCOL_ERROR, codes.TOO_BIG)


@given(st.binary(max_size=300), st.binary(min_size=4, max_size=4))
def test_unmasking_is_what_the_standard_says(payload, key):
    assert unmask(payload, key) == bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))


# ---------------------------------------------------------------------- close frames and text


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", None),
        (b"\x03\xe8", 1000),
        (b"\x03\xe9bye", 1001),
        (b"\x03\xf6", 1014),
        (b"\x0b\xb8", 3000),
        (b"\x13\x87\xc3\xa4", 4999),
    ],
)
def test_close_codes_are_read(payload, code):
    assert parse_close(payload) == code


@pytest.mark.parametrize(
    "payload",
    [
        b"\x03",
        *(code.to_bytes(2, "big") for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)),
    ],
)
def test_close_codes_that_may_not_be_sent_are_refused(payload):
    with pytest.raises(FrameError) as error:
        parse_close(payload)
    assert error.value.close is codes.PROTOCOL_ERROR


@pytest.mark.parametrize("text", [b"\xff", b"ab\xc3", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80"])
def test_text_that_is_not_utf8_is_refused(text):
    for read in (check_utf8, lambda data: parse_close(b"\x03\xe8" + data)):
        with pytest.raises(FrameError, match="UTF-8") as error:
            read(text)
        assert error.value.close is codes.BAD_DATA
    assert check_utf8("κόσμε\0".encode()) == "κόσμε\0"
