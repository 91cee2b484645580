"""Streams and their catalogue, as the proto files describe them."""

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.message import Message

from bridge.core.errors import PublishError, SchemaError
from bridge.core.names import KEY, NAME
from bridge.core.streams import Catalogue, Delivery, check_decimals, custom_stream
from generated.theblock.state.v1 import account_pb2, block_pb2, options_pb2, update_pb2
from tests.core.schema import F, Schema, add_field
from tests.core.world import CATALOGUE


def test_the_declared_streams_are_those_of_the_protocol():
    rows = [(s.name, s.type, s.delivery.value, s.key_field or None, s.field) for s in CATALOGUE]
    assert rows == [
        ("block_updates", "block_update", "every", None, "block"),
        ("metrics", "metrics_update", "latest", None, "metrics"),
        ("network", "network_update", "latest", None, "network"),
        ("trading", "trading_update", "every", None, "trading"),
        ("energy", "energy_update", "latest", None, "energy"),
        ("account", "account_update", "every", "address", "account"),
    ]
    assert not any(stream.custom for stream in CATALOGUE)
    assert CATALOGUE.get("account").keyed
    assert CATALOGUE.get("none") is None


def test_a_payload_tells_its_stream():
    assert CATALOGUE.of_message(block_pb2.BlockUpdate()) is CATALOGUE.get("block_updates")
    with pytest.raises(PublishError, match=r"no stream carries a theblock\.state\.v1\.ReplacedBlock"):
        CATALOGUE.of_message(block_pb2.ReplacedBlock())
    with pytest.raises(PublishError):
        CATALOGUE.of_message(update_pb2.CustomUpdate())


def test_a_custom_stream():
    stream = custom_stream("notes", "note", keyed=True)
    assert (stream.name, stream.type, stream.delivery, stream.keyed) == ("notes", "note", Delivery.EVERY, True)
    assert stream.custom
    assert stream.message == "theblock.state.v1.CustomUpdate"


def catalogue(name: str, *messages: dict[str, object]) -> Catalogue:
    """Return the catalogue of a schema made here, with one stream option a message."""
    schema = Schema(name)
    update = schema.message("Update")
    update.oneof_decl.add(name="data")
    for number, options in enumerate(messages):
        payload = schema.message(f"Payload{number}")
        add_field(payload, "id", F.TYPE_STRING)
        payload.options.Extensions[options_pb2.stream].CopyFrom(options_pb2.StreamOptions(**options))
        add_field(update, f"field{number}", F.TYPE_MESSAGE, type_name=schema.type_name(payload.name)).oneof_index = 0
    return Catalogue(schema.build()["Update"].DESCRIPTOR)


GOOD = {"name": "things", "type": "thing", "delivery": options_pb2.DELIVERY_EVERY, "unset": options_pb2.UNSET_NULL}


def test_a_new_message_is_a_new_stream():
    found = list(catalogue("good", GOOD, GOOD | {"name": "others", "key_field": "id"}))
    assert [(stream.name, stream.keyed) for stream in found] == [("things", False), ("others", True)]


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("bad1", {"name": ""}, r"stream option of theblock\.tests\.bad1\.Payload0: name must match"),
        ("bad2", {"name": "Things"}, "name must match"),
        ("bad3", {"type": "a-b"}, "type must match"),
        ("bad4", {"delivery": options_pb2.DELIVERY_UNSPECIFIED}, "delivery must be DELIVERY_EVERY or DELIVERY_LATEST"),
        ("bad5", {"unset": options_pb2.UNSET_UNSPECIFIED}, "unset must be UNSET_LEFT_OUT or UNSET_NULL"),
        ("bad6", {"key_field": "address"}, "key_field must name a field"),
    ],
)
def test_a_description_that_cannot_be_served_is_refused(name, change, sentence):
    with pytest.raises(SchemaError, match=sentence):
        catalogue(name, GOOD | change)


def test_no_stream_is_declared_twice():
    with pytest.raises(SchemaError, match="stream 'things' is declared twice"):
        catalogue("twice", GOOD, GOOD)


@pytest.mark.parametrize("text", ["a", "block_updates", "a" * 64, "a0_"])
def test_names(text):
    assert NAME.fullmatch(text)


@pytest.mark.parametrize("text", ["", "A", "_a", "0a", "a" * 65, "a-b", "a\n", "ä"])
def test_what_is_no_name(text):
    assert not NAME.fullmatch(text)


@pytest.mark.parametrize(
    ("text", "well"),
    [
        ("0xAb", True),
        ("a:b.c_d-e", True),
        ("k" * 128, True),
        ("", False),
        ("k" * 129, False),
        ("a b", False),
        ("a/b", False),
        ("a\n", False),
        ('"', False),
    ],
)
def test_keys(text, well):
    assert bool(KEY.fullmatch(text)) is well


def decimals() -> type[Message]:
    schema = Schema("decimals")
    outer, inner = schema.message("Outer"), schema.message("Inner")
    add_field(inner, "amount", F.TYPE_STRING).options.Extensions[options_pb2.json].decimal = True
    many = add_field(inner, "amounts", F.TYPE_STRING, label=F.LABEL_REPEATED)
    many.options.Extensions[options_pb2.json].decimal = True
    add_field(inner, "text", F.TYPE_STRING)
    add_field(outer, "one", F.TYPE_MESSAGE, type_name=schema.type_name("Inner"))
    add_field(outer, "many", F.TYPE_MESSAGE, type_name=schema.type_name("Inner"), label=F.LABEL_REPEATED)
    entry = outer.nested_type.add(name="MapEntry", options=descriptor_pb2.MessageOptions(map_entry=True))
    add_field(entry, "key", F.TYPE_STRING)
    add_field(entry, "value", F.TYPE_STRING)
    add_field(outer, "map", F.TYPE_MESSAGE, type_name=schema.type_name("Outer.MapEntry"), label=F.LABEL_REPEATED)
    return schema.build()["Outer"]


OUTER = decimals()


@pytest.mark.parametrize("text", ["0", "1", "-1", "10", "9" * 100, "-" + "9" * 100])
def test_decimals(text):
    check_decimals(OUTER(one={"amount": text, "text": "x"}, many=[{"amounts": [text, text]}], map={"a": "b"}))
    check_decimals(account_pb2.AccountUpdate(address="a", balance=text))


@pytest.mark.parametrize("text", ["", "-", "01", "+1", "1.0", "1e3", " 1", "1\n", "0x1", "-0x1", "\u0661", "1" * 101])
@pytest.mark.parametrize("where", ["one", "many", "repeated"])
def test_what_is_no_decimal_is_refused(text, where):
    if where == "one" and text:  # an empty string without presence is not there
        message = OUTER(one={"amount": text})
    elif where == "many" and text:
        message = OUTER(many=[{}, {"amount": text}])
    else:
        message = OUTER(many=[{"amounts": ["1", text]}])
    with pytest.raises(
        PublishError, match=r"field theblock\.tests\.decimals\.Inner\.amounts? must be a decimal integer"
    ):
        check_decimals(message)
