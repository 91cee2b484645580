"""Clients of the v1 dialect, in text and in binary, that ask and are answered in the same words.

A binary client's frames are told as JSON would have told them, by a translation that shares nothing with the bridge, so
that one test holds for both.
"""

import itertools
import json
import math
from collections.abc import Iterable
from typing import Any

from bridge.core.audience import Reader
from bridge.core.frames import Frame, Opcode
from bridge.core.limits import Limits
from bridge.core.session import Effect, Send, Session, Shut
from bridge.core.update import Format
from bridge.core.v1 import Greeting, V1ProtoSession, V1Session
from generated.theblock.state.v1 import frames_pb2, stream_pb2
from tests import frames
from tests.core.world import World, receive, server_frames

GREETING = Greeting("5e551010", "theblock-bridge", "1.2.3", 25_000)

NULL_WHERE_UNSET = {"metrics", "trading"}
"""Streams whose fields without a value are null; on the others they are left out (protocol, section 2)."""

DELIVERIES = {1: "every", 2: "latest"}

KINDS = {
    "state_stream.subscribe": "subscribe",
    "state_stream.unsubscribe": "unsubscribe",
    "state_stream.list": "list",
    "state_stream.history": "history",
    "session.stats": "stats",
    "session.authenticate": "authenticate",
}


class V1Client:
    """A client with a session, on a socket that may be full.

    Attributes:
        frames: every frame that it got, as JSON tells it.
        raw: the payloads of those frames.
        shut: how the connection was ended, None while it is open.
    """

    def __init__(
        self, world: World, *, format_: Format, limits: Limits | None = None, capacity: int | None = None
    ) -> None:
        self.world = world
        self.hub = world.hub
        self.capacity = capacity
        self.waiting = 0
        self.frames: list[Any] = []
        self.raw: list[bytes] = []
        self.shut: Shut | None = None
        self.reader = Reader(self.write, format_)
        self.session = self.make_session(limits or Limits())
        self._ids = itertools.count(1)
        self.hub.attach(self.reader)

    def make_session(self, limits: Limits) -> Session:
        raise NotImplementedError

    def decode(self, first: int, payload: bytes) -> Any:
        raise NotImplementedError

    def encode(self, method: str, params: tuple[Any, ...], id_: object) -> bytes:
        raise NotImplementedError

    def write(self, data: bytes) -> None:
        """Take frames as a transport does: always, but say when it is full."""
        for first, payload in server_frames(data):
            self.raw.append(payload)
            self.frames.append(self.decode(first, payload))
            self.waiting += 1
        if self.capacity is not None and self.waiting >= self.capacity and not self.reader.blocked:
            self.hub.block(self.reader)

    def drain(self) -> None:
        """Let the socket run empty."""
        self.waiting = 0
        if self.reader.blocked:
            self.hub.unblock(self.reader)

    def apply(self, effects: list[Effect]) -> list[Any]:
        """Do what a session says; return the frames that it sent."""
        before = len(self.frames)
        for effect in effects:
            if isinstance(effect, Send):
                self.write(effect.frame)
            else:
                self.shut = effect
        return self.frames[before:]

    def open(self, *streams: str) -> list[Any]:
        return self.apply(self.session.open(list(streams)))

    def tick(self) -> list[Any]:
        return self.apply(self.session.tick(self.world.now_ms))

    def receive(self, payload: bytes) -> list[Any]:
        """Have a message come in, in the kind of frame that this client sends."""
        if self.session.opcode is Opcode.BINARY:
            frames.asked(payload)
        return self.apply(receive(self.session, Frame(self.session.opcode, payload), self.world.disk))

    def call(self, method: str, *params: Any) -> Any:
        """Ask, and return the response."""
        number = next(self._ids)
        answers = self.receive(self.encode(method, params, number))
        (response,) = [answer for answer in answers if answer.get("id") == number]
        return response

    def result(self, method: str, *params: Any) -> Any:
        response = self.call(method, *params)
        assert "result" in response, response
        return response["result"]

    def error(self, method: str, *params: Any) -> dict[str, Any]:
        response = self.call(method, *params)
        assert "error" in response, response
        return response["error"]

    def notify(self, method: str, *params: Any) -> list[Any]:
        """Ask without an id, and return the frames that follow."""
        return self.receive(self.encode(method, params, None))

    def subscribe(self, *entries: Any) -> list[dict[str, Any]]:
        return self.result("state_stream.subscribe", *entries)["subscriptions"]

    def stats(self) -> list[dict[str, Any]]:
        return self.result("session.stats")["subscriptions"]

    def take(self) -> list[Any]:
        """Let the hub do what it has to, and return all frames since the last time."""
        self.world.run()
        taken, self.frames[:], self.raw[:] = list(self.frames), [], []
        return taken

    def leave(self) -> None:
        self.hub.detach(self.reader)


class JsonClient(V1Client):
    """Speaks theblock.v1.json."""

    encoding = "json"

    def __init__(self, world: World, *, format_: Format = Format.JSON, **options: Any) -> None:
        super().__init__(world, format_=format_, **options)

    def make_session(self, limits: Limits) -> Session:
        return V1Session(self.hub, self.reader, limits, GREETING)

    def decode(self, first: int, payload: bytes) -> Any:
        assert first == 0x81
        return json.loads(payload)

    def encode(self, method: str, params: tuple[Any, ...], id_: object) -> bytes:
        id_member = {} if id_ is None else {"id": id_}
        return json.dumps({"jsonrpc": "2.0", "method": method, "params": params, **id_member}).encode()


class ProtoClient(V1Client):
    """Speaks theblock.v1.proto."""

    encoding = "proto"

    def __init__(self, world: World, **options: Any) -> None:
        super().__init__(world, format_=Format.PROTO, **options)

    def make_session(self, limits: Limits) -> Session:
        return V1ProtoSession(self.hub, self.reader, limits, GREETING)

    def decode(self, first: int, payload: bytes) -> Any:
        assert first == 0x82
        return told_as_json(frames_pb2.ServerFrame.FromString(payload))

    def encode(self, method: str, params: tuple[Any, ...], id_: object) -> bytes:
        message = client_frame(method, params)
        if isinstance(id_, int):
            message.id = id_
        return message.SerializeToString()


CLIENTS = {"json": JsonClient, "proto": ProtoClient}


def kinds(frames: list[dict]) -> list[str]:
    """Return what the frames are: types of events, `response`, `snapshot`, or seqs of updates."""
    found = []
    for frame in frames:
        if "jsonrpc" in frame:
            found.append("response")
        elif "data" in frame:
            found.append("snapshot" if frame.get("snapshot") else frame["seq"])
        else:
            found.append(frame["type"])
    return found


def since(seq: int, epoch: str = "e1") -> dict:
    return {"epoch": epoch, "seq": seq}


# ---------------------------------------------------------------------- requests in binary


def client_frame(method: str, params: Iterable[Any] = ()) -> frames_pb2.ClientFrame:
    """Write a request as a ClientFrame, given as JSON has it."""
    message = frames_pb2.ClientFrame()
    request = getattr(message, KINDS[method])
    request.SetInParent()
    for entry in params:
        entry = {"stream": entry} if isinstance(entry, str) else dict(entry)
        if method == "state_stream.subscribe":
            write_subscription(request.subscriptions.add(), entry)
        elif method == "state_stream.unsubscribe":
            request.subscriptions.add(**entry)
        elif method == "state_stream.history":
            write_since(request, entry.pop("since", None))
            if until := entry.pop("until", None):
                request.until.CopyFrom(stream_pb2.Position(**until))
            request.MergeFrom(frames_pb2.HistoryFrame(**entry))
        else:
            request.MergeFrom(type(request)(**entry))
    return message


def write_since(message: Any, since: Any) -> None:
    if since is None:
        return
    if "height" in since:
        message.since_height = since["height"]
    elif "time" in since:
        message.since_time_ms = since["time"]
    else:
        message.since.CopyFrom(stream_pb2.Position(**since))


def write_subscription(spec: frames_pb2.SubscriptionSpec, entry: dict[str, Any]) -> None:
    spec.stream, spec.key = entry["stream"], entry.get("key") or ""
    write_since(spec, entry.get("since"))
    if entry.get("last") is not None:
        spec.last = entry["last"]
    if entry.get("max_rate") is not None:
        spec.max_rate_hz = entry["max_rate"]
    for field, wanted in (entry.get("where") or {}).items():
        tests = wanted if isinstance(wanted, dict) else {"": wanted}
        for test, bound in tests.items():
            term = spec.where.add(field=field, test=test)
            for value in bound if test == "in" else [bound]:
                write_value(term.values.add(), value)


def write_value(message: frames_pb2.WhereValue, value: Any) -> None:
    match value:
        case bool():
            message.truth = value
        case int():
            message.integer = value
        case float():
            message.number = value
        case str():
            message.text = value
        case None:
            pass


# ---------------------------------------------------------------------- frames in binary


def told_as_json(message: frames_pb2.ServerFrame) -> Any:
    """Tell a ServerFrame as theblock.v1.json would have it."""
    kind = message.WhichOneof("frame")
    assert kind is not None, "a frame without anything in it"
    body = getattr(message, kind)
    match kind:
        case "update":
            return told_update(body)
        case "snapshot":
            missed = {"missed": told(body.missed)} if body.HasField("missed") else {}
            return told_update(body.update) | {"snapshot": True} | missed
        case "response":
            id_ = body.id if body.HasField("id") else None
            return {"jsonrpc": "2.0", "id": id_, **told_outcome(body)}
        case _:
            return {"type": kind, **told(body, optional=("key",))}


def told_outcome(body: frames_pb2.ResponseFrame) -> dict[str, Any]:
    """Tell what came of a request."""
    outcome = body.WhichOneof("outcome")
    match outcome:
        case "error":
            data = {"data": json.loads(body.error.data_json)} if body.error.data_json else {}
            return {"error": {"code": body.error.code, "message": body.error.message, **data}}
        case "subscribed":
            left_out = ("key", "did_you_mean", "reason")
            return {"result": {"subscriptions": [told(row, left_out) for row in body.subscribed.subscriptions]}}
        case "unsubscribed":
            names = [told(row, ("key",)) for row in body.unsubscribed.subscriptions]
            return {"result": {"unsubscribed": [n if "key" in n else n["stream"] for n in names]}}
        case "streams":
            return {"result": {"streams": [told_stream(row) for row in body.streams.streams]}}
        case "stats":
            return {"result": {"subscriptions": [told(row, ("key",)) for row in body.stats.subscriptions]}}
        case "history":
            more = {
                name: told(getattr(body.history, name)) for name in ("next", "missed") if body.history.HasField(name)
            }
            return {"result": {"updates": [told_update(update) for update in body.history.updates], **more}}
        case _:
            raise AssertionError(f"a response with {outcome}")


def told_stream(row: stream_pb2.StreamInfo) -> dict[str, Any]:
    oldest = {"epoch": row.epoch, "seq": row.oldest} if row.oldest else None
    return {
        "stream": row.stream,
        "type": row.type,
        "delivery": DELIVERIES[row.delivery],
        "keyed": row.keyed,
        "message": row.message,
        "oldest": oldest,
        "newest": {"epoch": row.epoch, "seq": row.newest},
    }


def told_update(update: Any) -> dict[str, Any]:
    """Tell an update."""
    name = update.WhichOneof("data")
    body = getattr(update, name)
    data = json.loads(body.json) if name == "custom" else told(body, null=update.stream in NULL_WHERE_UNSET)
    types = {"block": "block_update", "custom": body.type if name == "custom" else ""}
    key = {"key": update.key, "prev": update.prev} if update.key else {}
    return {
        "type": types.get(name, f"{name}_update"),
        "stream": update.stream,
        "epoch": update.epoch,
        "seq": update.seq,
        "time": update.time_ms,
        **key,
        "data": data,
    }


def told(message: Any, optional: Iterable[str] = (), *, null: bool = False) -> dict[str, Any]:
    """Tell a message, field by field.

    Args:
        message: of any type.
        optional: fields that are left out while they are empty.
        null: whether a field that may be without a value is null then; else it is left out.
    """
    out: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.has_presence and not message.HasField(field.name):
            if null:
                out[field.json_name] = None
        elif field.name not in optional or value:
            name = field.json_name if message.DESCRIPTOR.file.name.split("/")[-1] != "frames.proto" else field.name
            out[name] = [told_value(item, null) for item in value] if field.is_repeated else told_value(value, null)
    return out


def told_value(value: Any, null: bool) -> Any:
    match value:
        case bytes():
            return "0x" + value.hex()
        case float() if not math.isfinite(value):
            return None
        case str() | int() | float():
            return value
        case _:
            return told(value, null=null)
