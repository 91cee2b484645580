"""The same frames in both formats, for the test that they mean the same to the browser client."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import msgspec

from bridge.core.binary import event_frame
from bridge.core.descriptors import descriptor_set
from bridge.core.hub import Hub, State
from bridge.core.origin import Origin
from bridge.core.streams import Catalogue
from bridge.core.update import Form, Format, Missed, Update
from tests.contract.test_golden import FULL

CUSTOM = {
    "small": {"n": 1, "text": "ä\n", "list": [1, 2.5, None, True], "object": {"a": {}}},
    "large": {"n": 2**60, "m": -(2**60), "list": [2**53 + 1]},
    "empty": {},
}
"""Values of custom streams by type."""

EVENTS = {
    "pong": {"timestamp": 5.5, "server_time": 1707770400123},
    "progress": {"positions": [{"stream": "account", "epoch": "e", "seq": 2**40}]},
    "fell_behind": {"stream": "metrics", "seq": 3, "head": 400},
    "caught_up": {"stream": "metrics", "seq": 400},
    "gap": {"stream": "account", "key": "alice", "epoch": "e", "from": 3, "to": 9, "reason": "trimmed"},
    "upstream": {"state": "down", "since": 1707770400123},
    "going_away": {"retry_after_ms": 2500, "reason": "the sidecar restarts"},
}


def updates() -> Iterator[Update]:
    """Publish every kind of value; yield the updates."""
    hub = Hub(Catalogue(), clock_ms=lambda: 1707770400123, schedule=lambda: None)
    origin = Origin(hub, new_epoch=lambda: "e")
    hub.set_status(State.LIVE, "")
    for message in FULL.values():
        yield origin.publish(message)
        keyed = "address" in message.DESCRIPTOR.fields_by_name
        yield origin.publish(type(message)(address="bob") if keyed else type(message)())
    for type_, value in CUSTOM.items():
        yield origin.publish_custom(f"custom_{type_}", type_, json.dumps(value).encode())
    yield origin.publish_custom("keyed", "tick", b"{}", key="k:1")


def payload(frame: bytes) -> bytes:
    """Return the payload of a WebSocket frame of the server."""
    return frame[{126: 4, 127: 10}.get(frame[1], 2) :]


def cases() -> Iterator[dict[str, str]]:
    """Yield a name, the JSON, the JSON with 64-bit integers as strings, and the protobuf of each frame."""
    for update in updates():
        missed = Missed(1, update.seq)
        for name, made in {
            "update": lambda form, update=update: update.frame(form),
            "snapshot": lambda form, update=update: update.frame(form._replace(snapshot=True)),
            "missed": lambda form, update=update, missed=missed: update.standing_in(form, missed),
        }.items():
            number, string, proto = (
                payload(made(Form(format_))) for format_ in (Format.JSON, Format.JSON_INT64_STRING, Format.PROTO)
            )
            yield {
                "name": f"{name} of {update.stream.name} {update.seq}",
                "json": number.decode(),
                "int64": string.decode(),
                "proto": base64.b64encode(proto).decode(),
            }


def events() -> Iterator[dict[str, str]]:
    """Yield the same of every other frame that comes unasked."""
    for kind, members in EVENTS.items():
        proto = payload(event_frame(kind, members))
        text = json.dumps({"type": kind, **members})
        yield {"name": kind, "json": text, "int64": text, "proto": base64.b64encode(proto).decode()}


def write(path: Path) -> None:
    """Write the schema and the frames for a test to read."""
    found = {"schema": base64.b64encode(descriptor_set()).decode(), "frames": [*cases(), *events()]}
    path.write_bytes(msgspec.json.encode(found))
