"""An update: immutable, carrying the bytes it arrived as, encoded at most once for each form.

A form is what a group of subscribers wants an update to look like: a format and, in JSON, the integer mode and
the field set, plain or deflated. Encoded, it is complete: a whole WebSocket frame, or a whole field of a gRPC
response.
"""

from enum import IntEnum
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple
from weakref import ref

import msgspec

from bridge.core.deflate import Deflate
from bridge.core.frames import Opcode, message_frame
from bridge.core.position import Position
from bridge.core.streams import Stream
from bridge.core.where import Where
from generated.theblock.state.v1 import frames_pb2, update_pb2

if TYPE_CHECKING:
    from bridge.core.deep import DeepPage

OVERHEAD_BYTES = 680
"""What an update costs in memory beside its bytes (measured with sys.getsizeof over its parts on Python 3.11)."""

UPDATES_TAG = b"\x22"
"""Key of field 4, length-delimited: `updates` of SubscribeResponse."""

UPDATE_TAG, SNAPSHOT_TAG = b"\x0a", b"\x12"
"""Keys of fields 1 and 2, length-delimited: `update` and `snapshot` of ServerFrame; `update` of SnapshotFrame too."""

SAFE_INTEGER = 2**53 - 1

OUTCOMES = 64
"""Filters whose outcome an update remembers at most."""

encode_json = msgspec.json.Encoder().encode


class Format(IntEnum):
    """How an update is written."""

    JSON = 0  # a text frame
    JSON_INT64_STRING = 1  # a text frame; 64-bit integers are strings
    RESPONSE = 2  # a field of SubscribeResponse: the bytes it arrived as
    PROTO = 3  # a binary frame with a ServerFrame: the bytes it arrived as
    EVENT = 4  # a Server-Sent Event with the JSON of the text frame
    EVENT_INT64_STRING = 5  # the same; 64-bit integers are strings

    @property
    def int64_string(self) -> bool:
        """Whether 64-bit integers are strings in its JSON."""
        return self in (Format.JSON_INT64_STRING, Format.EVENT_INT64_STRING)


class Form(NamedTuple):
    """What a group of subscribers wants an update to look like."""

    format: Format = Format.JSON
    fields: tuple[str, ...] | None = None  # of data, JSON only; None: all
    snapshot: bool = False  # marked as a snapshot
    deflate: Deflate | None = None  # WebSocket only; None: plain


@lru_cache(1024)
def form_of(format_: Format, fields: tuple[str, ...] | None, deflate: Deflate | None = None) -> Form:
    """Return a form, the same object each time: every update that was encoded as it keeps one."""
    return Form(format_, fields, deflate=deflate)


class Missed(NamedTuple):
    """Updates that a snapshot stands in for, both ends included."""

    first: int
    last: int


class Update:
    """One value published on a stream.

    Attributes:
        stream: what it was published on.
        epoch: of its position.
        seq: of its position.
        time_ms: when it was published, Unix milliseconds.
        key: of the value on keyed streams, else empty.
        prev: seq of the key's previous update on keyed streams, 0 at first.
        raw: the serialized Update, byte for byte as the state service made it.
        ordinal: its place among all updates of this hub; set when the hub takes it in.
        page: that it is on while that is held, if it was read from disk again.
        size_bytes: what it costs in memory now, encoded forms included.
    """

    __slots__ = ("_frames", "_outcomes", "epoch", "key", "ordinal", "page", "prev", "raw", "seq", "size_bytes",
                 "stream", "time_ms")  # fmt: skip

    def __init__(
        self, stream: Stream, epoch: str, seq: int, time_ms: int, raw: bytes, key: str = "", prev: int = 0
    ) -> None:
        self.stream = stream
        self.epoch = epoch
        self.seq = seq
        self.time_ms = time_ms
        self.raw = raw
        self.key = key
        self.prev = prev
        self.ordinal = 0
        self.page: DeepPage | None = None
        self.size_bytes = OVERHEAD_BYTES + len(raw)
        self._frames: dict[Form, bytes] = {}
        self._outcomes: dict[ref[Where], bool] = {}  # no filter is kept alive here when its subscriptions end

    @property
    def position(self) -> Position:
        """Its position."""
        return Position(self.epoch, self.seq)

    def frame(self, form: Form) -> bytes:
        """Return it encoded as `form`; made at the first call, kept for the others."""
        encoded = self._frames.get(form)
        if encoded is None:
            encoded = self._frames[form] = self._encode(form)
            self.size_bytes += len(encoded)
        return encoded

    def selected(self, where: Where) -> bool:
        """Whether a filter selects it; evaluated at the first call, and not again for equal filters."""
        outcome = self._outcomes.get(ref(where))
        if outcome is None:
            if len(self._outcomes) >= OUTCOMES:
                self._outcomes.clear()
            outcome = self._outcomes[ref(where)] = where.matches(self.data())
        return outcome

    def standing_in(self, form: Form, missed: Missed) -> bytes:
        """Return the frame that repeats it as a snapshot and says what it stands in for: for one client, so plain."""
        return self._encode(form._replace(snapshot=True, deflate=None), missed)

    def _encode(self, form: Form, missed: Missed | None = None) -> bytes:
        match form.format:
            case Format.RESPONSE:
                return UPDATES_TAG + varint(len(self.raw)) + self.raw
            case Format.PROTO:
                return message_frame(Opcode.BINARY, self._server_frame(form, missed), form.deflate)
            case Format.EVENT | Format.EVENT_INT64_STRING:
                one_line = self.json(form, missed).translate(None, b"\r\n")  # they can only stand between tokens
                return b"data: %b\n\n" % one_line
            case _:
                return message_frame(Opcode.TEXT, self.json(form, missed), form.deflate)

    def _server_frame(self, form: Form, missed: Missed | None) -> bytes:
        """Return a ServerFrame: written by hand around the bytes that arrived, which stay as they are."""
        update = UPDATE_TAG + varint(len(self.raw)) + self.raw
        if not form.snapshot:
            return update
        if missed is not None:
            note = frames_pb2.SnapshotFrame(missed=missed_range(missed))
            update += note.SerializeToString()
        return SNAPSHOT_TAG + varint(len(update)) + update

    def json(self, form: Form, missed: Missed | None = None) -> bytes:
        """Return the JSON message, envelope and data."""
        message = self.message()
        type_ = message.custom.type if self.stream.custom else self.stream.type
        parts = [f'{{"type":"{type_}","stream":"{self.stream.name}","epoch":"{self.epoch}"']
        parts.append(f',"seq":{self.seq},"time":{self.time_ms}')
        if self.key:
            parts.append(f',"key":"{self.key}","prev":{self.prev}')
        if form.snapshot:
            parts.append(',"snapshot":true')
        if missed:
            parts.append(f',"missed":{{"from":{missed.first},"to":{missed.last}}}')
        parts.append(',"data":')
        return b"".join(("".join(parts).encode(), self._data_json(message, form), b"}"))

    def message(self) -> update_pb2.Update:
        """Return it decoded."""
        return update_pb2.Update.FromString(self.raw)

    def data(self, format_: Format = Format.JSON) -> dict[str, object]:
        """Return its data as a JSON object."""
        message = self.message()
        strings = format_.int64_string
        if self.stream.custom:
            data: dict[str, object] = msgspec.json.decode(message.custom.json)
            return long_integers_as_strings(data) if strings else data  # type: ignore[return-value]
        payload = getattr(message, self.stream.field)
        return self.stream.strings(payload) if strings else self.stream.numbers(payload)

    def _data_json(self, message: update_pb2.Update, form: Form) -> bytes:
        if self.stream.custom and not form.format.int64_string and form.fields is None:
            return message.custom.json  # as the publisher wrote it, all digits included
        data = self.data(form.format)
        if form.fields is not None:
            data = {name: value for name, value in data.items() if name in form.fields}
        return encode_json(data)


def missed_range(missed: Missed) -> frames_pb2.MissedRange:
    """Return the message for a range of missed updates."""
    message = frames_pb2.MissedRange(to=missed.last)
    setattr(message, "from", missed.first)  # a keyword of Python
    return message


def long_integers_as_strings(value: object) -> object:
    """Return a JSON value with every integer that a double cannot hold as a string.

    A custom value has no declared types, so those are the ones that a client could not read exactly.
    """
    if isinstance(value, dict):
        return {name: long_integers_as_strings(item) for name, item in value.items()}
    if isinstance(value, list):
        return [long_integers_as_strings(item) for item in value]
    if isinstance(value, int) and not -SAFE_INTEGER <= value <= SAFE_INTEGER:
        return str(value)
    return value


def field(number: int, payload: bytes) -> bytes:
    """Return a length-delimited field of a protobuf message; `number` is at most 15."""
    return b"".join((bytes((number << 3 | 2,)), varint(len(payload)), payload))


def varint(number: int) -> bytes:
    """Return protobuf's base-128 encoding of a number that is not negative."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
