"""Schemas of data: whatever a message holds, what `translate` writes of it holds to the schema made of it."""

import json
import math

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator, Draft202012Validator

from bridge.core.jsonschema import INT64_SCHEMAS, PLACE, data_schemas, message_schemas, payload
from bridge.core.messages import schemas
from bridge.core.streams import Catalogue
from bridge.core.translate import compile_message
from bridge.core.update import encode_json
from generated.theblock.state.v1 import account_pb2, block_pb2, metrics_pb2, network_pb2, options_pb2

FIELD = descriptor_pb2.FieldDescriptorProto
INTEGERS = {
    "int32": (-(2**31), 2**31 - 1),
    "sint32": (-(2**31), 2**31 - 1),
    "sfixed32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
    "fixed32": (0, 2**32 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "sint64": (-(2**63), 2**63 - 1),
    "sfixed64": (-(2**63), 2**63 - 1),
    "uint64": (0, 2**64 - 1),
    "fixed64": (0, 2**64 - 1),
}
LONG = {"int64", "sint64", "sfixed64", "uint64", "fixed64"}


def make_class() -> type:
    """Make a message with a field of every type, required and optional, lists, maps, and itself in itself."""
    file = descriptor_pb2.FileDescriptorProto(name="every.proto", package="every", syntax="proto3")
    file.dependency.append("theblock/state/v1/options.proto")
    color = file.enum_type.add(name="Color")
    for number, name in enumerate(("NONE", "RED")):
        color.value.add(name=name, number=number)
    message = file.message_type.add(name="Every")
    names = [*INTEGERS, "double", "bool", "string", "bytes"]
    numbers = iter(range(1, 100))
    for name in names:
        kind = getattr(FIELD, f"TYPE_{name.upper()}")
        message.field.add(name=name, number=next(numbers), type=kind, label=FIELD.LABEL_OPTIONAL)
        message.field.add(name=f"{name}s", number=next(numbers), type=kind, label=FIELD.LABEL_REPEATED)
        maybe = message.field.add(name=f"maybe_{name}", number=next(numbers), type=kind, label=FIELD.LABEL_OPTIONAL)
        maybe.proto3_optional = True
        maybe.oneof_index = len(message.oneof_decl)
        message.oneof_decl.add(name=f"_maybe_{name}")
    color = message.field.add(name="color", number=next(numbers), type=FIELD.TYPE_ENUM, label=FIELD.LABEL_OPTIONAL)
    color.type_name = ".every.Color"
    inner = message.field.add(name="inner", number=next(numbers), type=FIELD.TYPE_MESSAGE, label=FIELD.LABEL_REPEATED)
    inner.type_name = ".every.Every"
    hexed = message.field.add(name="hexed", number=next(numbers), type=FIELD.TYPE_BYTES, label=FIELD.LABEL_OPTIONAL)
    hexed.options.Extensions[options_pb2.json].hex = True
    entry = message.nested_type.add(name="CountsEntry", options=descriptor_pb2.MessageOptions(map_entry=True))
    entry.field.add(name="key", number=1, type=FIELD.TYPE_STRING, label=FIELD.LABEL_OPTIONAL)
    entry.field.add(name="value", number=2, type=FIELD.TYPE_UINT64, label=FIELD.LABEL_OPTIONAL)
    counts = message.field.add(name="counts", number=next(numbers), type=FIELD.TYPE_MESSAGE, label=FIELD.LABEL_REPEATED)
    counts.type_name = ".every.Every.CountsEntry"
    pool = DescriptorPool()
    for needed in (descriptor_pb2.DESCRIPTOR, options_pb2.DESCRIPTOR):
        pool.AddSerializedFile(needed.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return GetMessageClass(pool.FindMessageTypeByName("every.Every"))


EVERY = make_class()
SCALARS = {
    **{name: st.integers(*bounds) for name, bounds in INTEGERS.items()},
    "double": st.floats(),
    "bool": st.booleans(),
    "string": st.text(),
    "bytes": st.binary(max_size=8),
}
FIELDS = {
    **SCALARS,
    **{f"{name}s": st.lists(scalar, max_size=2) for name, scalar in SCALARS.items()},
    **{f"maybe_{name}": scalar for name, scalar in SCALARS.items()},
    "color": st.integers(0, 5),
    "hexed": st.binary(max_size=4),
    "counts": st.dictionaries(st.text(max_size=3), SCALARS["uint64"], max_size=2),
}
MESSAGES = st.recursive(
    st.fixed_dictionaries({}, optional=FIELDS),
    lambda inner: st.fixed_dictionaries({"inner": st.lists(inner, max_size=2)}, optional=FIELDS),
    max_leaves=3,
)


def validator(named: dict, name: str, kind: type = Draft202012Validator, *, int64: int | None = None):
    """Return a validator of a schema among others; `int64` is 0 where long integers must be numbers, 1 for strings."""
    whole = {key: value if int64 is None else value["anyOf"][int64] for key, value in INT64_SCHEMAS.items()}
    return kind({"$ref": PLACE + name, "components": {"schemas": named | whole}})


@pytest.mark.parametrize("kind", [Draft7Validator, Draft202012Validator])
@pytest.mark.parametrize("int64", [0, 1])
@pytest.mark.parametrize("null_unset", [True, False])
@settings(max_examples=30)
@given(members=MESSAGES)
def test_what_is_written_holds_to_the_schema(null_unset, int64, kind, members):
    to_object = compile_message(EVERY.DESCRIPTOR, null_unset=null_unset, int64_string=bool(int64))
    written = json.loads(encode_json(to_object(EVERY(**members))))
    named = message_schemas(EVERY.DESCRIPTOR, null_unset=null_unset)
    assert list(named) == ["Every"]
    for schema in (validator(named, "Every", kind, int64=int64), validator(named, "Every", kind)):
        assert [fault.message for fault in schema.iter_errors(written)] == []
    assert written.keys() <= named["Every"]["properties"].keys()


@pytest.mark.parametrize("null_unset", [True, False])
@pytest.mark.parametrize("name", SCALARS)
def test_a_field_without_a_value_is_null_or_left_out_as_the_stream_says(name, null_unset):
    schema = message_schemas(EVERY.DESCRIPTOR, null_unset=null_unset)["Every"]
    maybe = EVERY.DESCRIPTOR.fields_by_name[f"maybe_{name}"].json_name
    assert name in schema["required"]
    assert (maybe in schema["required"]) == null_unset
    takes_null = validator({"Every": schema, "Maybe": schema["properties"][maybe]}, "Maybe").is_valid(None)
    assert takes_null == (null_unset or name == "double")


@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize("int64", [0, 1])
def test_a_long_integer_of_the_other_mode_is_refused(name, int64):
    named = message_schemas(EVERY.DESCRIPTOR, null_unset=False)
    schema = validator(named | {"It": named["Every"]["properties"][name]}, "It", int64=int64)
    assert schema.is_valid([5, "5"][int64])
    assert not schema.is_valid(["5", 5][int64])
    assert schema.is_valid([-5, "-5"][int64]) == (name in ("int64", "sint64", "sfixed64"))


@pytest.mark.parametrize(
    ("message", "field", "good", "bad"),
    [
        (block_pb2.BlockUpdate, "hash", "0x00ff", "0x0"),
        (block_pb2.BlockUpdate, "hash", "0x", "00FF"),
        (block_pb2.BlockUpdate, "tx_count", 2**32 - 1, 2**32),
        (account_pb2.AccountUpdate, "balance", "-" + "9" * 99, "1.5"),
        (account_pb2.AccountUpdate, "balance", "0", 5),
        (account_pb2.AccountUpdate, "address", "a:b", "a b"),
        (account_pb2.AccountUpdate, "nonce", 0, -1),
        (metrics_pb2.MetricsUpdate, "fees", None, "x"),
        (metrics_pb2.MetricsUpdate, "tps", None, "1"),
        (network_pb2.NetworkUpdate, "peers", 0, None),
        (network_pb2.NetworkUpdate, "bandwidth", {"inbound": None}, {"inbound": "1"}),
    ],
)
def test_values_of_streams(message, field, good, bad):
    (stream,) = [stream for stream in Catalogue() if payload(stream) is message.DESCRIPTOR]
    named = data_schemas(stream)
    schema = validator(named | {"It": named[message.DESCRIPTOR.name]["properties"][field]}, "It")
    assert schema.is_valid(good)
    assert not schema.is_valid(bad)


def test_messages_within_others_are_named_behind_them():
    found = [name for stream in Catalogue() for name in data_schemas(stream)]
    assert len(found) == len(set(found))
    assert {"TradingUpdate", "TradingUpdate.Order", "TradingUpdate.Execution", "BlockUpdate.ReplacedBlock"} <= set(
        found
    )


def test_doubles_that_json_has_no_number_for():
    named = message_schemas(EVERY.DESCRIPTOR, null_unset=False)
    to_object = compile_message(EVERY.DESCRIPTOR, null_unset=False, int64_string=False)
    written = json.loads(encode_json(to_object(EVERY(doubles=[math.nan, math.inf, 1.5]))))
    assert written["doubles"] == [None, None, 1.5]
    assert validator(named, "Every").is_valid(written)


def test_every_schema_has_a_name_of_its_own():
    named = schemas(Catalogue())
    assert len({name.lower() for name in named}) >= len(named) - len({"stream", "error"})
    for schema in named.values():
        Draft7Validator.check_schema(schema)
        Draft202012Validator.check_schema(schema)
