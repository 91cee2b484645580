"""Messages for tests: random ones of any type, and a schema made here that has every kind of field."""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

from generated.theblock.state.v1 import options_pb2

PACKAGE = "theblock.tests"
F = descriptor_pb2.FieldDescriptorProto

SCALARS = {
    "double": F.TYPE_DOUBLE,
    "int64": F.TYPE_INT64,
    "uint64": F.TYPE_UINT64,
    "int32": F.TYPE_INT32,
    "fixed64": F.TYPE_FIXED64,
    "fixed32": F.TYPE_FIXED32,
    "bool": F.TYPE_BOOL,
    "string": F.TYPE_STRING,
    "bytes": F.TYPE_BYTES,
    "uint32": F.TYPE_UINT32,
    "sfixed32": F.TYPE_SFIXED32,
    "sfixed64": F.TYPE_SFIXED64,
    "sint32": F.TYPE_SINT32,
    "sint64": F.TYPE_SINT64,
}

RANGES = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SINT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SFIXED32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_FIXED32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SINT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SFIXED64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_FIXED64: (0, 2**64 - 1),
}

MAP_KEYS = (
    "int32",
    "int64",
    "uint32",
    "uint64",
    "sint32",
    "sint64",
    "fixed32",
    "fixed64",
    "sfixed32",
    "sfixed64",
    "bool",
    "string",
)

KEYWORDS = ("from", "class", "in", "None", "lambda")
NAMES_OF_OURS = ("message", "has", "out", "getattr", "to_object")


class Schema:
    """A proto file that is made at test time."""

    def __init__(self, name: str) -> None:
        self.file = descriptor_pb2.FileDescriptorProto(
            name=f"theblock/tests/{name}.proto",
            package=f"{PACKAGE}.{name}",
            syntax="proto3",
            dependency=["theblock/state/v1/options.proto"],
        )

    def message(self, name: str) -> descriptor_pb2.DescriptorProto:
        return self.file.message_type.add(name=name)

    def type_name(self, name: str) -> str:
        return f".{self.file.package}.{name}"

    def build(self) -> dict[str, type[Message]]:
        """Return the message classes by name."""
        pool = descriptor_pool.Default()
        pool.AddSerializedFile(self.file.SerializeToString())
        names = [message.name for message in self.file.message_type]
        return {
            name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{self.file.package}.{name}"))
            for name in names
        }


def add_field(
    message: descriptor_pb2.DescriptorProto,
    name: str,
    type_: int,
    *,
    label: int = F.LABEL_OPTIONAL,
    type_name: str = "",
    optional: bool = False,
    hex_: bool = False,
) -> F:
    """Add a field with the next number."""
    field = message.field.add(
        name=name, number=len(message.field) + 1, type=type_, label=label, type_name=type_name or None
    )
    if optional:
        field.proto3_optional = True
        field.oneof_index = len(message.oneof_decl)
        message.oneof_decl.add(name=f"_{name}")
    if hex_:
        field.options.Extensions[options_pb2.json].hex = True
    return field


def every_kind() -> type[Message]:
    """Make a message with every kind of field that a stream may have."""
    schema = Schema("every")
    colour = schema.file.enum_type.add(name="Colour")
    colour.options.allow_alias = True
    for name, number in (("COLOUR_UNSPECIFIED", 0), ("COLOUR_RED", 1), ("COLOUR_CRIMSON", 1), ("COLOUR_MINUS", -3)):
        colour.value.add(name=name, number=number)
    every, inner = schema.message("Every"), schema.message("Inner")
    add_field(inner, "big_number", F.TYPE_UINT64)
    add_field(inner, "maybe", F.TYPE_STRING, optional=True)
    add_field(inner, "outer", F.TYPE_MESSAGE, type_name=schema.type_name("Every"))
    kinds = [(name, type_, "") for name, type_ in SCALARS.items()]
    kinds += [("colour", F.TYPE_ENUM, schema.type_name("Colour")), ("inner", F.TYPE_MESSAGE, schema.type_name("Inner"))]
    for name, type_, type_name in kinds:
        add_field(every, f"{name}_value", type_, type_name=type_name)
        if type_ != F.TYPE_MESSAGE:
            add_field(every, f"maybe_{name}", type_, type_name=type_name, optional=True)
        add_field(every, f"many_{name}", type_, type_name=type_name, label=F.LABEL_REPEATED)
    add_field(every, "digits", F.TYPE_BYTES, hex_=True)
    add_field(every, "many_digits", F.TYPE_BYTES, hex_=True, label=F.LABEL_REPEATED)
    maps = [(f"by_{key}", SCALARS[key], F.TYPE_INT64, "") for key in MAP_KEYS]
    maps += [(f"to_{name}", F.TYPE_STRING, type_, type_name) for name, type_, type_name in kinds]
    for name, key_type, type_, type_name in maps:
        entry = every.nested_type.add(name="".join(part.title() for part in name.split("_")) + "Entry")
        entry.options.map_entry = True
        add_field(entry, "key", key_type)
        add_field(entry, "value", type_, type_name=type_name)
        add_field(
            every, name, F.TYPE_MESSAGE, label=F.LABEL_REPEATED, type_name=schema.type_name(f"Every.{entry.name}")
        )
    for name in (*KEYWORDS, *NAMES_OF_OURS):
        add_field(every, name, F.TYPE_INT64)
    index = len(every.oneof_decl)
    for name, type_ in (("one_text", F.TYPE_STRING), ("one_number", F.TYPE_INT64)):
        add_field(every, name, type_).oneof_index = index
    every.oneof_decl.add(name="one")
    add_field(every, "itself", F.TYPE_MESSAGE, type_name=schema.type_name("Every"))
    # Oneofs of optional fields must come behind the others.
    order = [index, *(n for n in range(len(every.oneof_decl)) if n != index)]
    declared = [descriptor_pb2.OneofDescriptorProto.FromString(every.oneof_decl[n].SerializeToString()) for n in order]
    del every.oneof_decl[:]
    every.oneof_decl.extend(declared)
    for field in every.field:
        if field.HasField("oneof_index"):
            field.oneof_index = order.index(field.oneof_index)
    return schema.build()["Every"]


def messages(descriptor: Descriptor, depth: int = 3) -> st.SearchStrategy[Message]:
    """Return a strategy for messages of a type."""
    cls = message_factory.GetMessageClass(descriptor)

    @st.composite
    def build(draw: st.DrawFn) -> Message:
        message = cls()
        usable = [field for field in descriptor.fields if depth or field.message_type is None]
        for field in (
            draw(st.lists(st.sampled_from(usable), max_size=6, unique_by=lambda f: f.number)) if usable else ()
        ):
            fill(draw, message, field, depth)
        return message

    return build()


def fill(draw: st.DrawFn, message: Message, field: FieldDescriptor, depth: int) -> None:
    """Give a field a value."""
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, value = field.message_type.fields_by_name["key"], field.message_type.fields_by_name["value"]
        for one in draw(st.lists(values(key, depth), max_size=3)):
            if value.message_type is not None:
                getattr(message, field.name)[one].CopyFrom(draw(values(value, depth)))
            else:
                getattr(message, field.name)[one] = draw(values(value, depth))
    elif field.is_repeated:
        getattr(message, field.name).extend(draw(st.lists(values(field, depth), max_size=3)))
    elif field.message_type is not None:
        getattr(message, field.name).CopyFrom(draw(values(field, depth)))
    else:
        setattr(message, field.name, draw(values(field, depth)))


def values(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    """Return a strategy for one value of a field."""
    match field.type:
        case FieldDescriptor.TYPE_DOUBLE:
            return st.floats()
        case FieldDescriptor.TYPE_BOOL:
            return st.booleans()
        case FieldDescriptor.TYPE_STRING:
            return st.text(max_size=5)
        case FieldDescriptor.TYPE_BYTES:
            return st.binary(max_size=5)
        case FieldDescriptor.TYPE_ENUM:
            assert field.enum_type is not None
            return st.sampled_from([*(value.number for value in field.enum_type.values), 77])
        case FieldDescriptor.TYPE_MESSAGE:
            assert field.message_type is not None
            return messages(field.message_type, depth - 1)
        case kind:
            return st.integers(*RANGES[kind])
