"""Streams and their catalogue, read from the descriptors: the proto files are the only description of a stream."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from bridge.core.errors import PublishError, SchemaError
from bridge.core.names import NAME, NAME_RULE
from bridge.core.translate import ToObject, compile_message, json_options, message_type
from generated.theblock.state.v1 import options_pb2, update_pb2

DECIMAL = re.compile(r"-?(0|[1-9][0-9]{0,99})")


class Delivery(StrEnum):
    """What a reader that falls behind gets."""

    EVERY = "every"  # each update in order, as long as history holds it
    LATEST = "latest"  # the newest; older ones are skipped


DELIVERIES = {options_pb2.DELIVERY_EVERY: Delivery.EVERY, options_pb2.DELIVERY_LATEST: Delivery.LATEST}
DELIVERY_NUMBERS = {delivery: number for number, delivery in DELIVERIES.items()}


@dataclass(frozen=True, eq=False, slots=True)
class Stream:
    """What a stream is. Two are the same only if they are the same object.

    Attributes:
        name: of the stream.
        type: of its updates, as JSON clients route by it.
        delivery: to a reader that falls behind.
        keyed: whether its updates carry keys.
        message: full name of the payload's message.
        field: name of the payload's field in Update.
        key_field: field of the payload that holds the key; empty for custom streams and streams without keys.
        numbers: compiled payload with integers as numbers.
        strings: compiled payload with 64-bit integers as strings.
    """

    name: str
    type: str
    delivery: Delivery
    keyed: bool
    message: str
    field: str
    key_field: str
    numbers: ToObject
    strings: ToObject

    @property
    def custom(self) -> bool:
        """Whether a publisher added the stream: its payload is JSON, no message declares it."""
        return self.field == "custom"


def custom_stream(name: str, type_: str, *, keyed: bool) -> Stream:
    """Return a custom stream: `every` update, payloads that are JSON objects."""
    descriptor = update_pb2.CustomUpdate.DESCRIPTOR
    to_object = _compiled(descriptor, False, False)
    return Stream(name, type_, Delivery.EVERY, keyed, descriptor.full_name, "custom", "", to_object, to_object)


class Catalogue:
    """The declared streams: those whose message stands in the oneof `data` of Update."""

    def __init__(self, update: Descriptor = update_pb2.Update.DESCRIPTOR) -> None:
        """Read the streams from the descriptor of Update.

        Raises:
            SchemaError: an option is missing or wrong; the sentence names the message.
        """
        fields = update.oneofs_by_name["data"].fields
        declared = (declared_stream(field) for field in fields if field.name != "custom")
        self._streams: dict[str, Stream] = {}
        self._by_message: dict[str, Stream] = {}
        for stream in declared:
            if stream.name in self._streams:
                raise SchemaError(f"stream {stream.name!r} is declared twice")
            self._streams[stream.name] = stream
            self._by_message[stream.message] = stream

    def __iter__(self) -> Iterator[Stream]:
        """Iterate over the streams in the order of declaration."""
        return iter(self._streams.values())

    def get(self, name: str) -> Stream | None:
        """Return the declared stream of that name, or None."""
        return self._streams.get(name)

    def of_message(self, message: Message) -> Stream:
        """Return the stream whose payload `message` is.

        Raises:
            PublishError: no stream has such a payload.
        """
        stream = self._by_message.get(message.DESCRIPTOR.full_name)
        if stream is None:
            raise PublishError(f"no stream carries a {message.DESCRIPTOR.full_name}")
        return stream


def declared_stream(field: FieldDescriptor) -> Stream:
    """Read one stream from the field of Update that carries its payload.

    Raises:
        SchemaError: an option is missing or wrong.
    """
    message = message_type(field)
    options = message.GetOptions().Extensions[options_pb2.stream]
    for wrong, what in (
        (not NAME.fullmatch(options.name), f"name must match {NAME_RULE}"),
        (not NAME.fullmatch(options.type), f"type must match {NAME_RULE}"),
        (options.delivery not in DELIVERIES, "delivery must be DELIVERY_EVERY or DELIVERY_LATEST"),
        (options.unset == options_pb2.UNSET_UNSPECIFIED, "unset must be UNSET_LEFT_OUT or UNSET_NULL"),
        (options.key_field and options.key_field not in message.fields_by_name, "key_field must name a field"),
    ):
        if wrong:
            raise SchemaError(f"stream option of {message.full_name}: {what}")
    null_unset = options.unset == options_pb2.UNSET_NULL
    return Stream(
        name=options.name,
        type=options.type,
        delivery=DELIVERIES[options.delivery],
        keyed=bool(options.key_field),
        message=message.full_name,
        field=field.name,
        key_field=options.key_field,
        numbers=_compiled(message, null_unset, False),
        strings=_compiled(message, null_unset, True),
    )


@cache
def _compiled(message: Descriptor, null_unset: bool, int64_string: bool) -> ToObject:
    return compile_message(message, null_unset=null_unset, int64_string=int64_string)


def check_decimals(message: Message) -> None:
    """Check that strings marked decimal hold decimal integers, in nested messages too.

    Raises:
        PublishError: one does not; the sentence names the field.
    """
    for field, value in message.ListFields():
        if field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for nested in value if field.is_repeated else (value,):
                check_decimals(nested)
        elif field.type == FieldDescriptor.TYPE_STRING and json_options(field).decimal:
            for text in value if field.is_repeated else (value,):
                if not DECIMAL.fullmatch(text):
                    raise PublishError(f"field {field.full_name} must be a decimal integer, not {text!r}")
