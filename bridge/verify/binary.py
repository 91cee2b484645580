"""Protobuf as the oracle reads it: what comes in binary, as the values that JSON would have; apart from the bridge.

Which fields of a stream are decimal or hexadecimal, and what stands for no value, is told by the options in the proto
files; this module reads them through the descriptors.
"""

import base64
import json
import math
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from bridge.verify.jsonvalues import Data, read_json
from generated.theblock.state.v1 import frames_pb2, options_pb2, stream_pb2, update_pb2


def read_server_frame(raw: bytes) -> Data:
    """Return a ServerFrame as the value that the JSON frame has.

    Raises:
        ValueError: it is none.
    """
    message = frames_pb2.ServerFrame()
    try:
        message.ParseFromString(raw)
    except DecodeError as error:
        raise ValueError(f"no ServerFrame: {error}") from None
    match message.WhichOneof("frame"):
        case "update":
            return update_value(message.update)
        case "snapshot":
            return snapshot_value(message.snapshot)
        case "response":
            return response_value(message.response)
        case None:
            raise ValueError("a ServerFrame without a frame")
        case kind:
            body = getattr(message, kind)
            return {"type": kind, **plain(body)}


def plain(message: Message) -> Data:
    """Return a message that is not of a stream as JSON: names of the proto files, numbers as numbers."""
    names = {field.name for field in message.DESCRIPTOR.fields}
    value: Data = {}
    for name in names:
        field = message.DESCRIPTOR.fields_by_name[name]
        if field.has_presence and not message.HasField(name):
            continue
        got = getattr(message, name)
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            got = [plain(one) for one in got] if field.is_repeated else plain(got)
        elif field.is_repeated:
            got = list(got)
        value[name] = got
    if value.get("key") == "":
        del value["key"]  # it stands for every key
    return value


def response_value(response: frames_pb2.ResponseFrame) -> Data:
    """Return a response as JSON-RPC 2.0 has it."""
    value: Data = {"jsonrpc": "2.0", "id": response.id if response.HasField("id") else None}
    match response.WhichOneof("outcome"):
        case "error":
            error: Data = {"code": response.error.code, "message": response.error.message}
            if response.error.data_json:
                error["data"] = json.loads(response.error.data_json)
            return value | {"error": error}
        case "history":
            page = response.history
            result: Data = {"updates": [update_value(update) for update in page.updates]}
            result |= {name: plain(getattr(page, name)) for name in ("next", "missed") if page.HasField(name)}
        case "subscribed":
            rows = [plain(row) for row in response.subscribed.subscriptions]
            unsaid = ("reason", "did_you_mean")
            result = {"subscriptions": [{n: v for n, v in row.items() if v or n not in unsaid} for row in rows]}
        case "unsubscribed":
            names = [plain(row) for row in response.unsubscribed.subscriptions]
            result = {"unsubscribed": [row if "key" in row else row["stream"] for row in names]}
        case "streams":
            result = {"streams": [stream_value(info) for info in response.streams.streams]}
        case "stats":
            result = plain(response.stats)
        case _:
            raise ValueError("a response without an outcome")
    return value | {"result": result}


def stream_value(info: stream_pb2.StreamInfo) -> Data:
    """Return what a StreamInfo says as state_stream.list has it."""
    return {
        "stream": info.stream,
        "type": info.type,
        "delivery": "latest" if info.delivery == options_pb2.DELIVERY_LATEST else "every",
        "keyed": info.keyed,
        "message": info.message,
        "oldest": {"epoch": info.epoch, "seq": info.oldest} if info.oldest else None,
        "newest": {"epoch": info.epoch, "seq": info.newest},
    }


# ---------------------------------------------------------------------- updates


def snapshot_value(frame: frames_pb2.SnapshotFrame) -> Data:
    """Return a snapshot."""
    value = update_value(frame.update) | {"snapshot": True}
    if frame.HasField("missed"):
        value["missed"] = {"from": getattr(frame.missed, "from"), "to": frame.missed.to}
    return value


def update_value(update: update_pb2.Update) -> Data:
    """Return an update as its JSON frame has it.

    Raises:
        ValueError: it carries no data, or data that is not JSON.
    """
    kind = update.WhichOneof("data")
    if kind is None:
        raise ValueError("an update without data")
    payload = getattr(update, kind)
    if kind == "custom":
        type_, data = payload.type, read_json(payload.json)
    else:
        options = stream_options(payload.DESCRIPTOR)
        type_, data = options.type, data_value(payload, nulls=options.unset == options_pb2.UNSET_NULL)
    value = {"type": type_, "stream": update.stream, "epoch": update.epoch, "seq": update.seq, "time": update.time_ms}
    if update.key:
        value |= {"key": update.key, "prev": update.prev}
    return value | {"data": data}


@cache
def stream_options(descriptor: Descriptor) -> options_pb2.StreamOptions:
    """Return what the proto files say of the stream of a payload."""
    return descriptor.GetOptions().Extensions[options_pb2.stream]


def data_value(message: Message, *, nulls: bool) -> Data:
    """Return a payload as JSON, with every number a number.

    Args:
        message: the payload, or a message in it.
        nulls: whether a field without a value is null; else it is left out.
    """
    value: Data = {}
    for field in message.DESCRIPTOR.fields:
        if field.has_presence and not message.HasField(field.name):
            if nulls:
                value[field.json_name] = None
            continue
        got = getattr(message, field.name)
        values = [one_value(field, one, nulls=nulls) for one in (got if field.is_repeated else [got])]
        value[field.json_name] = values if field.is_repeated else values[0]
    return value


def one_value(field: Any, got: Any, *, nulls: bool) -> Any:
    """Return one value of a field as JSON."""
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return data_value(got, nulls=nulls)
    if field.type == FieldDescriptor.TYPE_BYTES:
        in_hex = field.GetOptions().Extensions[options_pb2.json].hex
        return f"0x{got.hex()}" if in_hex else base64.b64encode(got).decode()
    if field.type == FieldDescriptor.TYPE_ENUM:
        return field.enum_type.values_by_number[got].name
    return None if isinstance(got, float) and not math.isfinite(got) else got
