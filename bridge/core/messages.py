"""JSON Schema of every message, ours and a client's, put together from the tables of `contract` and the streams."""

from collections.abc import Iterable

from bridge.core.contract import ENVELOPE, FRAMES, ID, METHODS, NAME_STRING, NOTHING, VALUES, Method, ServerFrame
from bridge.core.jsonschema import Field, Schema, array, data_schemas, members, payload, ref
from bridge.core.streams import Stream


def update_schema(stream: Stream) -> Schema:
    """Return the schema of the updates of a declared stream."""
    known: dict[str, Schema] = {
        "type": {"const": stream.type},
        "stream": {"const": stream.name},
        "data": ref(payload(stream).name),
    }
    fields = [field._replace(schema=known.get(field.name, field.schema)) for field in ENVELOPE]
    key = ("key", "prev")
    if stream.keyed:
        return members(field._replace(optional=field.optional and field.name not in key) for field in fields)
    return members(field for field in fields if field.name not in key)


def custom_schema(streams: Iterable[Stream]) -> Schema:
    """Return the schema of the updates of streams that nothing declares but their first update."""
    names = [stream.name for stream in streams]
    other = NAME_STRING | {"not": {"enum": names}}
    return members(field._replace(schema=other) if field.name == "stream" else field for field in ENVELOPE)


def frame_schema(frame: ServerFrame) -> Schema:
    """Return the schema of a kind of frame, updates left aside."""
    kind = [Field("type", {"const": frame.name}, "What it is.")] if frame.typed else []
    return members([*kind, *frame.fields])


def request_schema(method: Method) -> Schema:
    """Return the schema of a request."""
    return members(
        (
            Field("jsonrpc", {"const": "2.0"}, "With it, a request is answered; always so on v1.", optional=True),
            Field("method", {"const": method.name}, method.doc),
            Field("params", method.params, "", optional=method.params is NOTHING),
            Field("id", ID, "Repeated in the answer; without one there is none.", optional=True),
        )
    )


def schemas(streams: Iterable[Stream]) -> dict[str, Schema]:
    """Return every schema by name: those of frames are called as the frames are, in lower case.

    Args:
        streams: the declared ones.
    """
    declared = list(streams)
    updates = {stream.type: update_schema(stream) for stream in declared}
    updates["custom_update"] = custom_schema(declared)
    frames = {frame.name: frame_schema(frame) for frame in FRAMES if frame.name != "update"}
    responses = frames["response"] | {"oneOf": [{"required": ["result"]}, {"required": ["error"]}]}
    return {
        **VALUES,
        **{name: schema for stream in declared for name, schema in data_schemas(stream).items()},
        **updates,
        "update": {"anyOf": [ref(name) for name in updates]},
        **frames,
        "response": responses,
        "batch": array(ref("response")) | {"minItems": 1},
        **{f"{method.name}.request": request_schema(method) for method in METHODS},
        **{f"{method.name}.result": members(method.result) for method in METHODS},
    }
