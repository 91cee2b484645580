"""JSON Schema of the data of streams, made from the descriptors by the rules by which `translate` writes it.

Only keywords are used that mean the same in draft 7, which AsyncAPI builds on, and in draft 2020-12, which OpenAPI
builds on. Objects are open: a client ignores members that it does not know.
"""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from bridge.core.names import KEY_RULE
from bridge.core.streams import DECIMAL, Stream
from bridge.core.translate import INT64_TYPES, json_options, message_type
from generated.theblock.state.v1 import options_pb2, update_pb2

Schema = dict[str, object]

PLACE: Final = "#/components/schemas/"
"""Where schemas stand in a document, of AsyncAPI and of OpenAPI alike."""

STRING: Final[Schema] = {"type": "string"}
BOOLEAN: Final[Schema] = {"type": "boolean"}
OBJECT: Final[Schema] = {"type": "object"}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
TIME_MS: Final[Schema] = {"type": "integer", "description": "Unix milliseconds."}

UINT32: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": (1 << 32) - 1}
INT32: Final[Schema] = {"type": "integer", "minimum": -(1 << 31), "maximum": (1 << 31) - 1}
DOUBLE: Final[Schema] = {"type": ["number", "null"], "description": "A double; null for NaN and infinities."}
HEX: Final[Schema] = {"type": "string", "pattern": "^0x([0-9a-f]{2})*$"}
BASE64: Final[Schema] = {"type": "string", "contentEncoding": "base64"}
DECIMAL_STRING: Final[Schema] = {"type": "string", "pattern": f"^{DECIMAL.pattern}$"}

SCALARS: Final[dict[int, Schema]] = {
    FieldDescriptor.TYPE_DOUBLE: DOUBLE,
    FieldDescriptor.TYPE_BOOL: BOOLEAN,
    FieldDescriptor.TYPE_INT32: INT32,
    FieldDescriptor.TYPE_SINT32: INT32,
    FieldDescriptor.TYPE_SFIXED32: INT32,
    FieldDescriptor.TYPE_UINT32: UINT32,
    FieldDescriptor.TYPE_FIXED32: UINT32,
}

UNSIGNED: Final = {FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_FIXED64}

INT64_SCHEMAS: Final[dict[str, Schema]] = {
    "Int64": {
        "description": "A 64-bit integer of data: a number with all its digits, or with int64=string a string.",
        "anyOf": [{"type": "integer"}, {"type": "string", "pattern": "^-?(0|[1-9][0-9]{0,18})$"}],
    },
    "Uint64": {
        "description": "The same, never negative.",
        "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^(0|[1-9][0-9]{0,19})$"}],
    },
}
"""What schemas of data refer to for 64-bit integers: both modes."""


class Field(NamedTuple):
    """A member of an object that we send or take."""

    name: str
    schema: Schema
    doc: str
    optional: bool = False


def ref(name: str) -> Schema:
    """Return a reference to a schema of the document."""
    return {"$ref": PLACE + name}


def array(items: Schema) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": items}


def one_of(values: Iterable[str]) -> Schema:
    """Return the schema of a string that is one of several."""
    return {"type": "string", "enum": list(values)}


def nullable(schema: Schema) -> Schema:
    """Return the schema of something, or null."""
    kinds = schema.get("type")
    return schema if isinstance(kinds, list) and "null" in kinds else {"anyOf": [schema, {"type": "null"}]}


def members(fields: Iterable[Field]) -> Schema:
    """Return the schema of an object."""
    rows = list(fields)
    return {
        "type": "object",
        "properties": {row.name: row.schema | ({"description": row.doc} if row.doc else {}) for row in rows},
        "required": [row.name for row in rows if not row.optional],
    }


def payload(stream: Stream) -> Descriptor:
    """Return the message in the updates of a declared stream."""
    return message_type(update_pb2.Update.DESCRIPTOR.fields_by_name[stream.field])


def data_schemas(stream: Stream) -> dict[str, Schema]:
    """Return the schemas of a declared stream's data by name: that of its message first, then those in it."""
    root = payload(stream)
    null_unset = root.GetOptions().Extensions[options_pb2.stream].unset == options_pb2.UNSET_NULL
    schemas = message_schemas(root, null_unset=null_unset)
    if stream.key_field:
        properties = schemas[root.name]["properties"]
        assert isinstance(properties, dict)
        properties[stream.key_field] = STRING | {"pattern": f"^{KEY_RULE}$"}
    return schemas


def message_schemas(root: Descriptor, *, null_unset: bool) -> dict[str, Schema]:
    """Return the schemas of a message and of those in it by name, the message first.

    Args:
        root: the message; others are named behind its name, since they share its rule.
        null_unset: whether optional fields without a value are null, instead of left out.
    """
    maker = _Maker(root.name, null_unset)
    return {maker.name(message): maker.message(message) for message in messages_within(root)}


def messages_within(root: Descriptor) -> Iterator[Descriptor]:
    """Yield a message and every message in it, each once."""
    found: dict[str, Descriptor] = {}
    waiting = [root]
    while waiting:
        message = waiting.pop(0)
        if message.full_name in found:
            continue
        found[message.full_name] = message
        if not message.GetOptions().map_entry:
            yield message
        waiting += [field.message_type for field in message.fields if field.message_type is not None]


class _Maker:
    """Makes the schemas of the messages of one stream, which share its rule for fields without a value."""

    def __init__(self, root: str, null_unset: bool) -> None:
        self.root = root
        self.null_unset = null_unset

    def name(self, message: Descriptor) -> str:
        return message.name if message.name == self.root else f"{self.root}.{message.name}"

    def message(self, message: Descriptor) -> Schema:
        return members(self.field(field) for field in message.fields)

    def field(self, field: FieldDescriptor) -> Field:
        schema = self.value(field)
        if not field.has_presence:
            return Field(field.json_name, schema, "")
        if self.null_unset:
            return Field(field.json_name, nullable(schema), "")
        return Field(field.json_name, schema, "", optional=True)

    def value(self, field: FieldDescriptor) -> Schema:
        entry = field.message_type
        if entry is not None and entry.GetOptions().map_entry:
            return {"type": "object", "additionalProperties": self.one(entry.fields_by_name["value"])}
        return array(self.one(field)) if field.is_repeated else self.one(field)

    def one(self, field: FieldDescriptor) -> Schema:
        match field.type:
            case FieldDescriptor.TYPE_MESSAGE:
                return ref(self.name(message_type(field)))
            case FieldDescriptor.TYPE_ENUM:
                values = field.enum_type.values if field.enum_type is not None else ()
                return {"anyOf": [one_of(value.name for value in values), INT32]}
            case FieldDescriptor.TYPE_BYTES:
                return HEX if json_options(field).hex else BASE64
            case FieldDescriptor.TYPE_STRING:
                return DECIMAL_STRING if json_options(field).decimal else STRING
            case kind if kind in INT64_TYPES:
                return ref("Uint64" if kind in UNSIGNED else "Int64")
            case kind:
                return SCALARS[kind]
