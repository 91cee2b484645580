"""Messages as JSON: what protobuf's own mapping says, but for the documented differences."""

import json
import math
from base64 import b64decode
from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.core.errors import SchemaError
from bridge.core.streams import Catalogue
from bridge.core.translate import compile_message, json_options
from bridge.core.update import encode_json
from generated.theblock.state.v1 import block_pb2, energy_pb2, metrics_pb2, network_pb2, trading_pb2, update_pb2
from tests.core.schema import F, Schema, add_field, every_kind, messages

EVERY = every_kind()
PAYLOADS = [f.message_type for f in update_pb2.Update.DESCRIPTOR.oneofs_by_name["data"].fields]
LONG = {
    FieldDescriptor.TYPE_INT64,
    FieldDescriptor.TYPE_UINT64,
    FieldDescriptor.TYPE_SINT64,
    FieldDescriptor.TYPE_FIXED64,
    FieldDescriptor.TYPE_SFIXED64,
}


def protobufs_own(message: Message, null_unset: bool, int64_string: bool) -> dict[str, Any]:
    """Return what protobuf's mapping says, with the documented differences applied."""
    return differ(message, MessageToDict(message, always_print_fields_with_no_presence=True), null_unset, int64_string)


def differ(message: Message, found: dict[str, Any], null_unset: bool, int64_string: bool) -> dict[str, Any]:
    def one(field: FieldDescriptor, value: Any, part: Any) -> Any:
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            return differ(part, value, null_unset, int64_string)
        if field.type == FieldDescriptor.TYPE_BYTES and json_options(field).hex:
            return "0x" + b64decode(value).hex()
        if field.type == FieldDescriptor.TYPE_DOUBLE:
            return None if value in ("NaN", "Infinity", "-Infinity") else value
        return int(value) if field.type in LONG and not int64_string else value

    out: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        name, part = field.json_name, getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            kind = field.message_type.fields_by_name["value"]
            parts = {(str(key).lower() if isinstance(key, bool) else str(key)): part[key] for key in part}
            out[name] = {key: one(kind, value, parts[key]) for key, value in found[name].items()}
        elif field.is_repeated:
            out[name] = [one(field, value, item) for value, item in zip(found[name], part, strict=True)]
        elif not field.has_presence or message.HasField(field.name):
            out[name] = one(field, found[name], part)
        elif null_unset:
            out[name] = None
    return out


@pytest.mark.parametrize("null_unset", [False, True])
@pytest.mark.parametrize("int64_string", [False, True])
@pytest.mark.parametrize("descriptor", [*PAYLOADS, EVERY.DESCRIPTOR], ids=lambda d: d.name)
@settings(max_examples=25)
@given(data=st.data())
def test_it_agrees_with_protobufs_own_mapping(descriptor, int64_string, null_unset, data):
    message = data.draw(messages(descriptor))
    to_object = compile_message(descriptor, null_unset=null_unset, int64_string=int64_string)
    got = json.loads(encode_json(to_object(message)))
    assert got == protobufs_own(message, null_unset, int64_string)


def test_every_kind_of_field_by_hand():
    inner = GetMessageClass(EVERY.DESCRIPTOR.fields_by_name["inner_value"].message_type)
    message = EVERY(
        int64_value=-(2**63),
        uint64_value=2**64 - 1,
        int32_value=7,
        double_value=0.1,
        bytes_value=b"\xff\xfe",
        digits=b"\xff\xfe",
        many_digits=[b"", b"\1"],
        many_colour=[0, 1, -3, 77],
        maybe_bool=False,
        one_number=5,
        by_bool={True: 1, False: 2},
        to_inner={"a": inner(maybe="x")},
        by_int64={10: 1, 9: 2},
        many_double=[math.nan],
        **{"from": 1, "None": 2},
    )
    message.itself.itself.string_value = "deep"
    got = compile_message(EVERY.DESCRIPTOR, null_unset=False, int64_string=False)(message)
    wanted = {
        "int64Value": -(2**63),
        "uint64Value": 2**64 - 1,
        "int32Value": 7,
        "doubleValue": 0.1,
        "bytesValue": "//4=",
        "digits": "0xfffe",
        "manyDigits": ["0x", "0x01"],
        "maybeBool": False,
        "oneNumber": 5,
        "class": 0,
        "from": 1,
        "manyColour": ["COLOUR_UNSPECIFIED", "COLOUR_RED", "COLOUR_MINUS", 77],
        "byBool": {"false": 2, "true": 1},
        "toInner": {"a": {"bigNumber": 0, "maybe": "x"}},
        "None": 2,
        "stringValue": "",
        "manyString": [],
        "byString": {},
    }
    assert {name: got[name] for name in wanted} == wanted
    assert list(got["byInt64"]) == ["9", "10"]
    assert "maybeInt32" not in got
    assert "oneText" not in got
    assert got["itself"]["itself"]["stringValue"] == "deep"
    assert "itself" not in got["itself"]["itself"]
    as_strings = compile_message(EVERY.DESCRIPTOR, null_unset=True, int64_string=True)(message)
    assert as_strings["int64Value"] == str(-(2**63))
    assert as_strings["manyInt64"] == []
    assert as_strings["byBool"] == {"false": "2", "true": "1"}
    assert as_strings["int32Value"] == 7
    assert as_strings["maybeInt32"] is None
    assert as_strings["toInner"] == {"a": {"bigNumber": "0", "maybe": "x", "outer": None}}
    assert json.loads(encode_json(as_strings))["manyDouble"] == [None]


@pytest.mark.parametrize(
    ("stream", "message", "data"),
    [
        ("block_updates", block_pb2.BlockUpdate(height=0, hash=b"\0\xab"), {"height": 0, "hash": "0x00ab"}),
        (
            "metrics",
            metrics_pb2.MetricsUpdate(tps=math.inf, fees=2**60),
            {"tps": None, "fees": 2**60, "latencyMs": None, "peers": None, "blockHeight": None, "issuance": None},
        ),
        (
            "network",
            network_pb2.NetworkUpdate(peers=0, bandwidth={"inbound": 1.5}),
            {"peers": 0, "bandwidth": {"inbound": 1.5}},
        ),
        (
            "trading",
            trading_pb2.TradingUpdate(last_price=0),
            {"orders": [], "executions": [], "volume24h": None, "lastPrice": 0},
        ),
        ("energy", energy_pb2.EnergyUpdate(), {}),
    ],
)
def test_streams_as_the_protocol_has_them(stream, message, data):
    assert json.loads(encode_json(Catalogue().get(stream).numbers(message))) == data


@pytest.mark.parametrize("type_", [F.TYPE_FLOAT, F.TYPE_GROUP])
def test_a_float_or_a_group_is_refused(type_):
    if type_ == F.TYPE_GROUP:
        schema = Schema("group")
        schema.file.syntax = "proto2"
        message = schema.message("Bad")
        message.nested_type.add(name="Inner")
        add_field(message, "inner", type_, type_name=schema.type_name("Bad.Inner"))
    else:
        schema = Schema("float")
        message = schema.message("Bad")
        add_field(message, "inner", type_)
    outer = schema.message("Outer")
    add_field(outer, "bad", descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE, type_name=schema.type_name("Bad"))
    for cls in schema.build().values():
        with pytest.raises(SchemaError, match=r"field theblock.tests.*\.inner is a float or a group"):
            compile_message(cls.DESCRIPTOR, null_unset=False, int64_string=False)
