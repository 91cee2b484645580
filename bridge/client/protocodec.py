"""theblock.v1.proto: protobuf in binary frames, read into the same shapes as JSON."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import DecodeError, Message

from bridge.client.codec import EVENTS, Answer, Frame, MalformedError, Params, PongFrame, Result
from bridge.client.errors import RefusedError
from bridge.client.events import Missed, Updated, Welcome
from bridge.core.streams import Catalogue
from bridge.core.update import long_integers_as_strings
from generated.theblock.state.v1 import frames_pb2, update_pb2

RENAMED: Final = {"max_rate": "max_rate_hz"}
"""Params that have another name in protobuf."""

SINCE: Final = {"height": "since_height", "time": "since_time_ms"}
"""Members of `since` that have a field of their own."""

ALL_EVENTS: Final = EVENTS | {"welcome": Welcome, "pong": PongFrame}


class ProtoCodec:
    """theblock.v1.proto."""

    subprotocol = "theblock.v1.proto"
    binary = True

    def __init__(self, *, int64_string: bool = False) -> None:
        self.query: dict[str, str] = {}
        self._int64_string = int64_string
        self._streams = {stream.field: stream for stream in Catalogue()}

    # ------------------------------------------------------------------ what is sent

    def request(self, id_: int, method: str, params: Params) -> bytes:
        """Return the message of a request.

        Raises:
            RefusedError: there is no place for it in protobuf.
        """
        try:
            members = {"id": id_} | request_members(method, params)
            return ParseDict(members, frames_pb2.ClientFrame()).SerializeToString()
        except ParseError as error:
            raise RefusedError(f"{method} cannot be asked for in protobuf: {error}") from error

    def ping(self, number: int) -> bytes:
        """Return the message of a ping."""
        return frames_pb2.ClientFrame(ping=frames_pb2.PingFrame(timestamp=number)).SerializeToString()

    # ------------------------------------------------------------------ what is read

    def read(self, payload: bytes) -> Frame:
        """Read a binary frame.

        Raises:
            MalformedError: it is none.
            RefusedError: it carries a value of a stream that this client does not know.
        """
        try:
            frame = frames_pb2.ServerFrame.FromString(payload)
            kind = frame.WhichOneof("frame")
            match kind:
                case None:
                    return None
                case "update":
                    return self._updated(frame.update, raw=payload)
                case "snapshot":
                    missed = convert_missed(frame.snapshot)
                    return self._updated(frame.snapshot.update, raw=payload, snapshot=True, missed=missed)
                case "response":
                    return self._answer(frame.response)
                case _:
                    return msgspec.convert(members_of(getattr(frame, kind)), ALL_EVENTS[kind], strict=False)  # type: ignore[no-any-return]
        except (DecodeError, msgspec.MsgspecError) as error:
            raise MalformedError(str(error)) from error

    def _updated(
        self, update: update_pb2.Update, *, raw: bytes = b"", snapshot: bool = False, missed: Missed | None = None
    ) -> Updated:
        type_, data = self._value(update)
        return Updated(
            stream=update.stream,
            type=type_,
            epoch=update.epoch,
            seq=update.seq,
            time_ms=update.time_ms,
            key=update.key or None,
            prev=update.prev if update.key else None,
            snapshot=snapshot,
            missed=missed,
            data=data,
            raw=raw,
        )

    def _value(self, update: update_pb2.Update) -> tuple[str, dict[str, object]]:
        """Return the type and the data of an update."""
        field = update.WhichOneof("data")
        if field == "custom":
            data: dict[str, object] = msgspec.json.decode(update.custom.json, type=dict[str, object])
            return update.custom.type, long_integers_as_strings(data) if self._int64_string else data  # type: ignore[return-value]
        if field is None:
            raise RefusedError(f"this client is too old to read {update.stream!r} in protobuf; use JSON")
        stream = self._streams[field]
        to_object = stream.strings if self._int64_string else stream.numbers
        return stream.type, to_object(getattr(update, field))

    def _answer(self, response: frames_pb2.ResponseFrame) -> Answer:
        id_ = response.id if response.HasField("id") else None
        kind = response.WhichOneof("outcome")
        if kind == "error":
            error: Result = {"code": response.error.code, "message": response.error.message}
            if response.error.data_json:
                error["data"] = msgspec.json.decode(response.error.data_json)
            return Answer(id_, {}, error)
        if kind == "history":
            members = members_of(response.history)
            return Answer(id_, members | {"updates": [self._updated(one) for one in response.history.updates]}, None)
        result = {} if kind is None else members_of(getattr(response, kind))
        for row in result.get("streams", ()):
            row["delivery"] = row["delivery"].removeprefix("DELIVERY_").lower()
        return Answer(id_, result, None)


# ---------------------------------------------------------------------- from and to the shapes of JSON


def request_members(method: str, params: Params) -> dict[str, object]:
    """Return the members of the ClientFrame of a request."""
    match method:
        case "state_stream.subscribe":
            return {"subscribe": {"subscriptions": [start_members(entry) for entry in params]}}
        case "state_stream.unsubscribe":
            return {"unsubscribe": {"subscriptions": params}}
        case "state_stream.history":
            return {"history": start_members(params[0])}
        case _:
            return {{"state_stream.list": "list", "session.stats": "stats"}[method]: {}}


def start_members(entry: Mapping[str, Any]) -> dict[str, object]:
    """Return the members of a SubscriptionSpec or a HistoryFrame."""
    members = {RENAMED.get(name, name): value for name, value in entry.items()}
    for name, field in SINCE.items():
        if name in members.get("since", ()):
            members[field] = members.pop("since")[name]
    if "where" in members:
        members["where"] = [term for name, test in members["where"].items() for term in where_terms(name, test)]
    return members


def where_terms(field: str, test: object) -> list[dict[str, object]]:
    """Return the terms of a filter on one field."""
    if not isinstance(test, dict):
        return [{"field": field, "values": [where_value(test)]}]
    return [
        {"field": field, "test": name, "values": [where_value(one) for one in (value if name == "in" else [value])]}
        for name, value in test.items()
    ]


def where_value(value: object) -> dict[str, object]:
    """Return a scalar of a filter."""
    if value is None:
        return {}
    kinds = {bool: "truth", int: "integer", float: "number", str: "text"}
    return {kinds.get(type(value), "text"): value}


def convert_missed(snapshot: frames_pb2.SnapshotFrame) -> Missed | None:
    """Return what a snapshot stands in for."""
    return Missed(getattr(snapshot.missed, "from"), snapshot.missed.to) if snapshot.HasField("missed") else None


def members_of(message: Message) -> dict[str, Any]:
    """Return a message as JSON would have it: every number, no empty string. 64-bit numbers are strings."""
    members: dict[str, Any] = without_empty(
        MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    )
    return members


def without_empty(value: Any) -> Any:
    """Leave empty strings out of objects: protobuf's word for what is not there."""
    if isinstance(value, dict):
        return {name: without_empty(item) for name, item in value.items() if item != ""}
    return [without_empty(item) for item in value] if isinstance(value, list) else value
