"""Holds every frame that a server sends to the AsyncAPI document, and keeps count of what was seen.

    frames.saw(opcode, payload)   # for each frame that a test client reads
    frames.asked(payload)         # for each request that it makes in protobuf

What servers within the tests send comes here by `tests.tap`.

When the whole suite has run, `unseen()` names everything that is documented and that no test has made the server say.
"""

import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from functools import cache
from typing import Any

from google.protobuf.message import DecodeError
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

from bridge.core.contract import FRAMES
from bridge.core.streams import Catalogue
from bridge.edges.documents.asyncapi import asyncapi
from bridge.edges.documents.paths import HTTP_SCHEMAS
from generated.theblock.state.v1 import frames_pb2, update_pb2

TEXT, BINARY, CLOSE = 0x1, 0x2, 0x8
RSV1 = 0x40

DOCUMENT = asyncapi(Catalogue())

CLOSES = {row["code"]: row["name"] for row in DOCUMENT["x-close-codes"]}

ONEOFS = {
    "binary request": (frames_pb2.ClientFrame, "request"),
    "binary frame": (frames_pb2.ServerFrame, "frame"),
    "binary outcome": (frames_pb2.ResponseFrame, "outcome"),
    "binary update": (update_pb2.Update, "data"),
}
"""What a frame in protobuf may be: messages that are one of several, by what is counted of them."""

SEEN: Counter[tuple[str, object]] = Counter()
"""How often what was seen: ("message", name in the document), ("error", code), ("close", code), and for each of
`ONEOFS` its name and the member that was set."""

NUMBER = re.compile(rb'(?<="time":)[1-9][0-9]*(?=,)|(?<=:)[1-9][0-9]{0,8}(?=[,}])')
FRACTION = re.compile(rb"(?<=:)-?[0-9]+[.][0-9]+(?=[,}])")
HEX = re.compile(rb'(?<="0x)([0-9a-f]{2})+(?=")')
"""What may differ between frames that are equally sound: no schema tells such numbers apart, or such digits."""

SOUND: dict[bytes, tuple[str, list[tuple[str, object]]]] = {}
"""The kind of a frame and what was seen in it, by the frame without its numbers: thousands differ in nothing else."""

UPDATES = {stream.name: stream.type for stream in Catalogue()}
TYPED = {frame.name for frame in FRAMES if frame.typed}
RESULTS = {
    "unsubscribed": "state_stream.unsubscribe",
    "streams": "state_stream.list",
    "updates": "state_stream.history",
}
"""The method whose result has a member that no other has."""


class BadFrame(AssertionError):
    """A frame is not as it is documented."""


def saw(opcode: int, payload: bytes) -> None:
    """Take notice of a frame that the server sent.

    Raises:
        BadFrame: it is not as it is documented.
    """
    if opcode == TEXT:
        check_frame(payload)
    elif opcode == BINARY:
        check_binary(payload)
    elif opcode == CLOSE and len(payload) > 2:  # without a reason it is the client's own code, which is echoed
        check_close(int.from_bytes(payload[:2], "big"), payload[2:])


def check_close(code: int, reason: bytes) -> None:
    """Hold a close code and its reason to the table, and keep count.

    Raises:
        BadFrame: it is not as it is documented.
    """
    if (name := json.loads(reason)["error"]) != CLOSES.get(code):
        raise BadFrame(f"closed with {code} {name}, which is not in the table")
    SEEN["close", code] += 1


def asked(payload: bytes) -> None:
    """Take notice of what a client sent in a binary frame: it may be anything."""
    with suppress(DecodeError, BadFrame):
        note_oneof("binary request", frames_pb2.ClientFrame.FromString(payload))


def server_frames(data: bytes, *, deflates: bool = False) -> Iterator[tuple[int, bytes]]:
    """Take whole frames of a server apart (RFC 6455, section 5.2): first byte and payload.

    Args:
        data: the frames.
        deflates: whether permessage-deflate was agreed on; deflated ones are given as what they say.
    """
    at = 0
    while at < len(data):
        first, length, at = data[at], data[at + 1], at + 2
        if length in (126, 127):
            size = 2 if length == 126 else 8
            length, at = int.from_bytes(data[at : at + size], "big"), at + size
        assert length + at <= len(data), "a write ends within a frame"
        payload = data[at : at + length]
        at += length
        if first & RSV1 and deflates:
            assert first & 0x0F in (TEXT, BINARY), "a deflated control frame"
            first, payload = first ^ RSV1, inflate(payload)
        assert first & 0xF0 == 0x80, f"a fragment, or a reserved bit that nobody has agreed on: {first:#x}"
        yield first, payload


def inflate(payload: bytes) -> bytes:
    """Return what a server's deflated message says (RFC 7692, section 7.2.2), with nothing known of those before it."""
    inflater = zlib.decompressobj(-15)
    return inflater.decompress(payload + b"\x00\x00\xff\xff") + inflater.flush()


# ---------------------------------------------------------------------- frames in protobuf


def check_binary(payload: bytes) -> None:
    """Hold a binary frame to its message, and keep count.

    Raises:
        BadFrame: it is not as it is documented.
    """
    try:
        message = frames_pb2.ServerFrame.FromString(payload)
    except DecodeError as error:
        raise BadFrame(f"a binary frame that is no ServerFrame: {error}") from None
    kind = note_oneof("binary frame", message)
    if kind == "response" and note_oneof("binary outcome", message.response) == "error":
        SEEN["error", message.response.error.code] += 1
    for update in updates_in(message):
        note_oneof("binary update", update)
        update.Clear()  # it is the state service's own, which may be of a later version
    size = message.ByteSize()
    message.DiscardUnknownFields()
    if message.ByteSize() != size:
        raise BadFrame(f"{kind}: it has fields that no proto file has")


def updates_in(message: frames_pb2.ServerFrame) -> list[update_pb2.Update]:
    """Return the updates in a frame."""
    match message.WhichOneof("frame"):
        case "update":
            return [message.update]
        case "snapshot":
            return [message.snapshot.update]
        case _:
            return list(message.response.history.updates)


def note_oneof(kind: str, message: Any) -> str:
    """Keep count of what a message is; return it.

    Raises:
        BadFrame: it is nothing.
    """
    member = message.WhichOneof(ONEOFS[kind][1])
    if member is None:
        raise BadFrame(f"a {message.DESCRIPTOR.name} without anything in it")
    SEEN[kind, member] += 1
    return str(member)


# ---------------------------------------------------------------------- frames in JSON


def check_frame(text: str | bytes) -> str:
    """Return the kind of a text frame, and keep count.

    Raises:
        BadFrame: it is not as it is documented.
    """
    text = text.encode() if isinstance(text, str) else text
    outline = HEX.sub(b"", NUMBER.sub(b"1", FRACTION.sub(b"1.5", text)))
    if outline not in SOUND:
        SOUND[outline] = examine(json.loads(text))
    kind, found = SOUND[outline]
    SEEN.update(found)
    return kind


def examine(value: object) -> tuple[str, list[tuple[str, object]]]:
    """Return the kind of a frame and what is seen in it.

    Raises:
        BadFrame: it is not as it is documented.
    """
    kind = kind_of(value)
    refuse_faults(kind, value)
    found: list[tuple[str, object]] = [("message", kind)]
    for response in value if isinstance(value, list) else [value]:
        if "error" in response:
            found.append(("error", response["error"]["code"]))
        elif "result" in response:
            method = method_of(response["result"])
            found.append(("message", f"{method}.response"))
            refuse_faults(f"{method}.result", response["result"])
    return kind, found


def kind_of(value: object) -> str:
    """Return the name of the schema of a frame."""
    if isinstance(value, list):
        return "batch"
    if not isinstance(value, dict):
        raise BadFrame(f"not an object: {value!r}")
    if "jsonrpc" in value:
        return "response"
    if "data" in value or value.get("type") not in TYPED:
        return UPDATES.get(str(value.get("stream")), "custom_update")
    return str(value["type"])


def method_of(result: dict[str, list[dict[str, object]]]) -> str:
    """Return the method that has such a result."""
    for member, method in RESULTS.items():
        if member in result:
            return method
    books = all("delivered" in row for row in result["subscriptions"])
    return "session.stats" if books else "state_stream.subscribe"


def refuse_faults(name: str, value: object) -> None:
    """Hold a value to a schema; fields of data may be left out, since subscriptions may trim it.

    Raises:
        BadFrame: something is wrong with it.
    """
    faults = (fault for fault in validator(name).iter_errors(value) if not trimmed(fault))
    if (worst := best_match(faults)) is not None:
        raise BadFrame(f"{name}: {worst.json_path}: {worst.message[:500]}")


def trimmed(fault: ValidationError) -> bool:
    """Whether all that is wrong is that data lacks a field."""
    return fault.validator == "required" and list(fault.absolute_path) == ["data"]


@cache
def validator(name: str, int64: str = "") -> Draft202012Validator:
    """Return what validates a value against a schema, with no member beside those that it names.

    Args:
        name: of the schema.
        int64: number or string, where 64-bit integers must be the one or the other.
    """
    named = closed(DOCUMENT["components"]["schemas"] | HTTP_SCHEMAS)
    if int64:
        for whole in ("Int64", "Uint64"):
            named[whole] = named[whole]["anyOf"][int64 == "string"]
    schema = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": named}}
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def closed(schema: dict) -> dict:
    """Return a schema whose objects have no members but those that it names."""
    schema = deepcopy(schema)
    waiting: list[object] = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if isinstance(value.get("properties"), dict) and "type" in value:
                value.setdefault("additionalProperties", False)
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return schema


# ---------------------------------------------------------------------- the whole suite


def documented() -> set[tuple[str, object]]:
    """Return everything that the documents say that may be said."""
    operations = [one for one in DOCUMENT["operations"].values() if one["action"] == "send"]
    named = {place["$ref"].rpartition("/")[2] for one in operations for place in one["messages"]}
    return {
        *(("message", name) for name in named - {"server_frame"}),
        *(("error", row["code"]) for row in DOCUMENT["x-errors"]),
        *(("close", code) for code in CLOSES),
        *(
            (kind, field.name)
            for kind, (message, oneof) in ONEOFS.items()
            for field in message.DESCRIPTOR.oneofs_by_name[oneof].fields
        ),
    }


def unseen() -> list[str]:
    """Return what is documented and was not seen."""
    return sorted(f"{kind} {name}" for kind, name in documented() - SEEN.keys())


def undocumented() -> list[str]:
    """Return what was seen and is not documented."""
    return sorted(f"{kind} {name}" for kind, name in SEEN.keys() - documented())
