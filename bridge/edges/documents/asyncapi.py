"""The AsyncAPI 3.0 document, put together from the tables of the contract (https://www.asyncapi.com/docs/reference)."""

from collections.abc import Iterable
from typing import Final

from bridge import __version__
from bridge.core.codes import CLOSES
from bridge.core.contract import CLASSIC, ERRORS, FRAMES, METHODS, V1_JSON
from bridge.core.jsonschema import Field, Schema, members, one_of, ref
from bridge.core.messages import schemas
from bridge.core.streams import Catalogue
from bridge.edges.documents.openapi import LICENSE
from bridge.edges.documents.paths import INT64, PROTOBUF, WEBSOCKET
from bridge.edges.handshake import SUBPROTOCOLS

V1_PROTO: Final = next(name for name in SUBPROTOCOLS if name.endswith("proto"))

CHANNELS: Final = {
    "classic": (CLASSIC, "JSON, for dashboards: updates, and what was asked for. Chosen by offering no subprotocol."),
    "v1_json": (V1_JSON, "JSON, for clients that want to know of everything that happens."),
    "v1_proto": (V1_PROTO, "Protobuf: one ClientFrame or ServerFrame of /schema.binpb in each binary message."),
}
"""The channels: the dialect of each and what it is."""

BINARY: Final = {"client_frame": "theblock.state.v1.ClientFrame", "server_frame": "theblock.state.v1.ServerFrame"}
"""Messages of the channel that speaks protobuf, with their names in the proto files."""


def asyncapi(catalogue: Catalogue) -> Schema:
    """Return the document.

    Args:
        catalogue: the declared streams.
    """
    updates = [*(stream.type for stream in catalogue), "custom_update"]
    asked = ["ping", *(f"{method.name}.request" for method in METHODS)]
    operations: Schema = {}
    channels: Schema = {}
    for name, (dialect, doc) in CHANNELS.items():
        sent = sent_messages(dialect, updates)
        taken = ["client_frame"] if dialect == V1_PROTO else asked
        channels[name] = channel_object(dialect, doc, [*taken, *sent])
        operations |= operation_objects(name, dialect, taken, sent)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "theblock-bridge",
            "version": __version__,
            "description": "The WebSocket of the sidecar.",
            "license": LICENSE,
        },
        "defaultContentType": "application/json",
        "servers": {
            "sidecar": {
                "host": "{host}",
                "protocol": "ws",
                "variables": {"host": {"default": "127.0.0.1:5000", "description": "Where the sidecar listens."}},
            }
        },
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages(catalogue, updates), "schemas": schemas(catalogue)},
        "x-errors": [{"code": int(code), "name": code.name, "when": when} for code, when in ERRORS.items()],
        "x-close-codes": [
            {"code": close.code, "name": close.name, "when": close.meaning, "retry": close.retry.name.lower()}
            for close in CLOSES
        ],
    }


def sent_messages(dialect: str, updates: list[str]) -> list[str]:
    """Return the names of the messages that clients of a dialect get."""
    if dialect == V1_PROTO:
        return ["server_frame"]
    frames = [frame.name for frame in FRAMES if dialect in frame.dialects and frame.name != "update"]
    return [*updates, *frames, *(f"{method.name}.response" for method in METHODS), "batch"]


def messages(catalogue: Catalogue, updates: list[str]) -> Schema:
    """Return every message by name."""
    docs = {stream.type: f"An update of {stream.name}, delivered {stream.delivery}." for stream in catalogue}
    docs["custom_update"] = "An update of a stream that begins with its first update."
    docs |= {frame.name: frame.when for frame in FRAMES if frame.name != "update"}
    docs |= {"batch": "The responses to a batch of requests.", "ping": "Asks for a pong."}
    docs |= {f"{method.name}.request": method.doc for method in METHODS}
    found: Schema = {name: {"summary": doc, "payload": ref(name)} for name, doc in docs.items()}
    for method in METHODS:
        result = members([Field("result", ref(f"{method.name}.result"), "")])
        payload = {"allOf": [ref("response"), result]}
        found[f"{method.name}.response"] = {"summary": f"Result of {method.name}.", "payload": payload}
    for name, message in BINARY.items():
        found[name] = {"summary": f"{message} of /schema.binpb.", "contentType": PROTOBUF, "x-message": message}
    return found


def channel_object(dialect: str, doc: str, names: Iterable[str]) -> Schema:
    """Return what the document says of a channel."""
    query = {"type": "object", "properties": {row.name: row.schema for row in WEBSOCKET if row.place == "query"}}
    binding: Schema = {"method": "GET", "query": query, "bindingVersion": "0.1.0"}
    if dialect == V1_PROTO:
        del query["properties"][INT64.name]  # type: ignore[attr-defined]  # binary updates are as they were published
    if dialect != CLASSIC:
        binding["headers"] = members([Field("Sec-WebSocket-Protocol", one_of([dialect]), "Offers the dialect.")])
    return {
        "address": "/ws",
        "description": doc,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        "bindings": {"ws": binding},
    }


def operation_objects(channel: str, dialect: str, taken: list[str], sent: list[str]) -> Schema:
    """Return what the sidecar does on a channel: it sends, and it takes requests and answers them."""
    place = {"$ref": f"#/channels/{channel}"}

    def listed(names: Iterable[str]) -> list[Schema]:
        return [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in names]

    found: Schema = {
        f"{channel}.send": {"action": "send", "channel": place, "messages": listed(sent)},
    }
    for name in taken:
        operation: Schema = {"action": "receive", "channel": place, "messages": listed([name])}
        if dialect == V1_PROTO:
            operation["reply"] = {"channel": place, "messages": listed(["server_frame"])}
        elif name == "ping":
            operation["reply"] = {"channel": place, "messages": listed(["pong"])}
        else:
            answers = [name.replace(".request", ".response"), "response"]
            operation["reply"] = {"channel": place, "messages": listed(answers)}
        found[f"{channel}.{name}"] = operation
    return found
