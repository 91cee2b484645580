"""Updates: complete frames, made once for each form, and the bytes that arrived left as they are."""

import json

import pytest

from bridge.core.position import Position
from bridge.core.streams import custom_stream
from bridge.core.update import OVERHEAD_BYTES, Form, Format, Missed, Update, long_integers_as_strings, varint
from bridge.core.where import parse_where
from generated.theblock.state.v1 import account_pb2, block_pb2, frames_pb2, service_pb2, update_pb2
from tests.core.world import CATALOGUE, server_frames, texts

BIG = 2**53 + 1


def block() -> Update:
    payload = block_pb2.BlockUpdate(height=BIG, hash=b"\xab", tx_count=3)
    raw = update_pb2.Update(stream="block_updates", epoch="lq3x8f2a", seq=42, time_ms=1707770400123, block=payload)
    return Update(CATALOGUE.get("block_updates"), "lq3x8f2a", 42, 1707770400123, raw.SerializeToString())


def account() -> Update:
    payload = account_pb2.AccountUpdate(address="0xA", balance="123456789012345678901234567890")
    raw = update_pb2.Update(stream="account", epoch="e", seq=7, time_ms=5, key="0xA", prev=3, account=payload)
    return Update(CATALOGUE.get("account"), "e", 7, 5, raw.SerializeToString(), "0xA", 3)


def custom(json_: bytes) -> Update:
    raw = update_pb2.Update(stream="notes", epoch="e", seq=1, custom=update_pb2.CustomUpdate(type="note", json=json_))
    return Update(custom_stream("notes", "note", keyed=False), "e", 1, 0, raw.SerializeToString())


def text_of(update: Update, form: Form) -> str:
    ((first, payload),) = server_frames(update.frame(form))
    assert first == 0x81
    return payload.decode()


def test_the_envelope_of_the_protocol_to_the_byte():
    assert text_of(block(), Form()) == (
        '{"type":"block_update","stream":"block_updates","epoch":"lq3x8f2a","seq":42,"time":1707770400123,'
        '"data":{"height":9007199254740993,"hash":"0xab","tx_count":3}}'
    )
    assert text_of(account(), Form(snapshot=True)) == (
        '{"type":"account_update","stream":"account","epoch":"e","seq":7,"time":5,"key":"0xA","prev":3,"snapshot":true,'
        '"data":{"address":"0xA","balance":"123456789012345678901234567890"}}'
    )
    assert block().position == Position("lq3x8f2a", 42)


def test_a_frame_that_stands_in_names_the_range():
    (frame,) = texts(block().standing_in(Form(fields=("hash",)), Missed(40, 42)))
    assert frame["snapshot"] is True
    assert frame["missed"] == {"from": 40, "to": 42}
    assert frame["data"] == {"hash": "0xab"}


@pytest.mark.parametrize(
    ("form", "data"),
    [
        (Form(), {"height": BIG, "hash": "0xab", "tx_count": 3}),
        (Form(Format.JSON_INT64_STRING), {"height": str(BIG), "hash": "0xab", "tx_count": 3}),
        (Form(fields=("tx_count", "none")), {"tx_count": 3}),
        (Form(Format.JSON_INT64_STRING, ("height",)), {"height": str(BIG)}),
        (Form(fields=("none",)), {}),
    ],
)
def test_forms(form, data):
    assert json.loads(text_of(block(), form))["data"] == data


def test_a_form_is_made_once_and_counted():
    update = block()
    assert update.size_bytes == OVERHEAD_BYTES + len(update.raw)
    first = update.frame(Form())
    assert update.frame(Form()) is first
    assert update.size_bytes == OVERHEAD_BYTES + len(update.raw) + len(first)
    other = update.frame(Form(snapshot=True))
    assert other != first
    assert update.size_bytes == OVERHEAD_BYTES + len(update.raw) + len(first) + len(other)


@pytest.mark.parametrize("size", [1, 127, 128, 70_000])
def test_in_a_response_the_bytes_are_as_they_arrived(size):
    update = custom(b'{"a":"' + b"x" * size + b'"}')
    response = service_pb2.SubscribeResponse.FromString(update.frame(Form(Format.RESPONSE)) * 2)
    assert [one.SerializeToString() for one in response.updates] == [update.raw] * 2


@pytest.mark.parametrize(("snapshot", "missed"), [(False, None), (True, None), (True, Missed(3, 4))])
def test_in_a_binary_frame_the_bytes_are_as_they_arrived(snapshot, missed):
    update, form = account(), Form(Format.PROTO, snapshot=snapshot)
    ((first, payload),) = server_frames(update.standing_in(form, missed) if missed else update.frame(form))
    assert first == 0x82
    assert update.raw in payload
    frame = frames_pb2.ServerFrame.FromString(payload)
    got = frame.snapshot.update if snapshot else frame.update
    assert got.SerializeToString() == update.raw
    assert frame.snapshot.HasField("missed") is (missed is not None)
    if missed:
        assert (getattr(frame.snapshot.missed, "from"), frame.snapshot.missed.to) == missed


def test_custom_values_are_as_the_publisher_wrote_them():
    written = b'{"a": 1.00, "n": 123456789012345678901234567890, "a b":[ ] }'
    update = custom(written)
    assert written.decode() in text_of(update, Form())
    assert json.loads(text_of(update, Form()))["type"] == "note"
    assert update.data() == json.loads(written)
    assert json.loads(text_of(update, Form(fields=("n",))))["data"] == {"n": 123456789012345678901234567890}
    assert json.loads(text_of(update, Form(Format.JSON_INT64_STRING)))["data"] == {
        "a": 1.0,
        "n": "123456789012345678901234567890",
        "a b": [],
    }


def test_integers_that_a_double_cannot_hold_become_strings_wherever_they_stand():
    value = {"a": [2**53, -(2**53), 2**53 - 1, 1 - 2**53, True, 1.5, None, "x"], "b": {"c": 2**64}}
    assert long_integers_as_strings(value) == {
        "a": [str(2**53), str(-(2**53)), 2**53 - 1, 1 - 2**53, True, 1.5, None, "x"],
        "b": {"c": str(2**64)},
    }


def test_a_filter_is_evaluated_once():
    update = block()
    wanted, other = parse_where({"tx_count": 3}, 16), parse_where({"tx_count": 4}, 16)
    assert update.selected(wanted)
    update.raw = b""  # so that another evaluation would find nothing
    assert update.selected(wanted)
    assert update.selected(parse_where({"tx_count": 3}, 16)), "equal filters are evaluated once"
    assert not update.selected(other)


def test_outcomes_of_filters_are_bounded_and_right():
    update = block()
    filters = [parse_where({"tx_count": number}, 16) for number in range(200)]
    for _ in range(2):
        assert [number for number, where in enumerate(filters) if update.selected(where)] == [3]


@pytest.mark.parametrize(
    ("number", "written"),
    [
        (0, "00"),
        (1, "01"),
        (127, "7f"),
        (128, "8001"),
        (300, "ac02"),
        (2**64 - 1, "ffffffffffffffffff01"),
    ],
)
def test_varints(number, written):
    assert varint(number).hex() == written
