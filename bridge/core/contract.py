"""What goes over the wire in JSON, as tables: frames, methods, errors. Documents and tests walk them.

Close codes stand in `codes`, streams in the proto files.
"""

from typing import Final, NamedTuple

from bridge.core.codes import ErrorCode
from bridge.core.jsonschema import (
    BOOLEAN,
    COUNT,
    INT64_SCHEMAS,
    OBJECT,
    STRING,
    TIME_MS,
    Field,
    Schema,
    array,
    members,
    nullable,
    one_of,
    ref,
)
from bridge.core.names import KEY_RULE, NAME_RULE
from bridge.core.requests import HISTORY, RATE_LIMIT_HZ, SUBSCRIBE
from bridge.core.streams import Delivery
from bridge.core.where import IN_LIMIT

CLASSIC: Final = "classic"
V1_JSON: Final = "theblock.v1.json"
BOTH: Final = (CLASSIC, V1_JSON)

NAME_STRING: Final[Schema] = {"type": "string", "pattern": f"^{NAME_RULE}$"}
KEY_STRING: Final[Schema] = {"type": "string", "pattern": f"^{KEY_RULE}$"}
EPOCH: Final[Schema] = {"type": "string", "pattern": "^[a-z0-9]{1,32}$"}
SCALAR: Final[Schema] = {"type": ["string", "number", "boolean", "null"]}
ID: Final[Schema] = {"type": ["string", "number", "null"]}
PARAMS: Final[Schema] = {"type": ["array", "object"]}
NOTHING: Final[Schema] = {"enum": [[], {}, [{}], None]}

STREAM_FIELD: Final = Field("stream", NAME_STRING, "Name of the stream.")
KEY_FIELD: Final = Field("key", KEY_STRING, "Key that the subscription is for; left out: every key.", optional=True)
EPOCH_FIELD: Final = Field("epoch", EPOCH, "Epoch of the positions.")
SEQ_FIELD: Final = Field("seq", COUNT, "Seq of the position.")
ERROR_FIELD: Final = Field("error", ref("Error"), "Why it was refused.")


class ServerFrame(NamedTuple):
    """A kind of text frame that the sidecar sends.

    Attributes:
        name: of the kind; where `typed`, it is the frame's member `type`.
        dialects: whose clients get it.
        when: it is sent.
        fields: its members, `type` left out where `typed`.
        typed: whether `type` tells it.
    """

    name: str
    dialects: tuple[str, ...]
    when: str
    fields: tuple[Field, ...]
    typed: bool = True


ENVELOPE: Final = (
    Field("type", NAME_STRING, "What kind of value data is."),
    Field("stream", NAME_STRING, "What it was published on."),
    Field("epoch", EPOCH, "Epoch of its position."),
    Field("seq", COUNT | {"minimum": 1}, "Seq of its position: one more with each update of the stream."),
    Field("time", TIME_MS, "When it was published, Unix milliseconds."),
    Field("key", KEY_STRING, "Name of the value, on keyed streams.", optional=True),
    Field("prev", COUNT, "Seq of the key's update before this one, 0 if there was none.", optional=True),
    Field("snapshot", {"const": True}, "Set on a current value, and on one that stands in.", optional=True),
    Field("missed", ref("Missed"), "On a snapshot: what it stands in for.", optional=True),
    Field("data", OBJECT, "The value, complete; trimmed to `fields` where a subscription has them."),
)
"""Members of every update."""

FRAMES: Final = (
    ServerFrame("update", BOTH, "For each update, and for each snapshot.", ENVELOPE, typed=False),
    ServerFrame(
        "response",
        BOTH,
        'After a request with "jsonrpc":"2.0" and an id, and after what is no request.',
        (
            Field("jsonrpc", {"const": "2.0"}, "Version of JSON-RPC."),
            Field("id", ID, "That of the request; null where it could not be read."),
            Field("result", OBJECT, "What the method returns; there is this or error.", optional=True),
            ERROR_FIELD._replace(optional=True),
        ),
        typed=False,
    ),
    ServerFrame(
        "pong",
        BOTH,
        "After a ping.",
        (
            Field("timestamp", SCALAR, "That of the ping; null where there was none."),
            Field("server_time", TIME_MS, "Unix milliseconds."),
        ),
    ),
    ServerFrame(
        "error",
        (CLASSIC,),
        'After a request without "jsonrpc" that failed.',
        (Field("id", ID, "That of the request, where there was one.", optional=True), ERROR_FIELD),
    ),
    ServerFrame(
        "welcome",
        (V1_JSON,),
        "First of all.",
        (
            Field("session", STRING, "Name of the connection, for logs."),
            Field("server", STRING, "Name of the software."),
            Field("version", STRING, "Version of the software."),
            Field("format", one_of(["json", "proto"]), "Format of the frames."),
            Field("ping_interval_ms", COUNT, "How long a client may be silent before it is pinged."),
            Field("max_message_bytes", COUNT, "Largest message that a client may send."),
            Field("streams", array(NAME_STRING), "The streams that are declared."),
        ),
    ),
    ServerFrame(
        "progress",
        (V1_JSON,),
        "Every 15 s, where streams have moved without a delivery to this client.",
        (Field("positions", array(members((STREAM_FIELD, EPOCH_FIELD, SEQ_FIELD))), "How far they have come."),),
    ),
    ServerFrame(
        "fell_behind",
        (V1_JSON,),
        "When the client has read too slowly to stay live.",
        (
            Field("stream", NAME_STRING, "The stream that it is furthest behind on."),
            Field("seq", COUNT, "Up to which it has been served."),
            Field("head", COUNT, "Seq of the stream's newest update."),
        ),
    ),
    ServerFrame(
        "caught_up",
        (V1_JSON,),
        "When it is live again.",
        (
            Field("stream", NAME_STRING, "The stream that it was furthest behind on."),
            Field("seq", COUNT, "Up to which it has been served."),
        ),
    ),
    ServerFrame(
        "gap",
        (V1_JSON,),
        "Before values that stand in for updates which this client will not get.",
        (
            STREAM_FIELD,
            KEY_FIELD,
            EPOCH_FIELD,
            Field("from", COUNT, "The first missing seq; 0 in a new epoch, where there is no range to name."),
            Field("to", COUNT, "The last missing seq."),
            Field("reason", one_of(["trimmed", "epoch"]), "Why."),
        ),
    ),
    ServerFrame(
        "upstream",
        (V1_JSON,),
        "When the streams begin or cease to follow the node; after the welcome if they do not.",
        (
            Field("state", one_of(["live", "stale", "down"]), "Whether they do."),
            Field("since", TIME_MS, "Since when, Unix milliseconds."),
        ),
    ),
    ServerFrame(
        "going_away",
        (V1_JSON,),
        "Before the sidecar closes the connection because it ends.",
        (
            Field("retry_after_ms", COUNT, "When to come back: a time for this client alone."),
            Field("reason", STRING, "One sentence."),
        ),
    ),
)
"""Every kind of text frame that the sidecar sends. A batch of requests is answered by a list of responses."""

TERM: Final[Schema] = {
    "anyOf": [
        SCALAR,
        members([Field("in", array(SCALAR) | {"minItems": 1, "maxItems": IN_LIMIT}, "One of these.")]),
        members([Field("prefix", STRING, "Strings that begin with it.")]),
        {
            "type": "object",
            "properties": {bound: {"type": ["number", "string"]} for bound in ("gt", "gte", "lt", "lte")},
            "minProperties": 1,
        },
    ]
}

SINCE: Final[Schema] = {
    "anyOf": [
        ref("Position"),
        members([Field("height", COUNT, "The first update of at least that height.")]),
        members([Field("time", TIME_MS, "The first update published then or later, Unix milliseconds.")]),
    ]
}

ASKED: Final = {
    field.name: field._replace(optional=field.name != "stream")
    for field in (
        STREAM_FIELD,
        KEY_FIELD,
        Field("since", SINCE, "Where to begin: behind a position, or with a height or a time."),
        Field("last", COUNT, "Replay that many of the newest updates."),
        Field("where", OBJECT | {"additionalProperties": TERM}, "Conditions on fields of data; all must hold."),
        Field("fields", array(STRING) | {"minItems": 1}, "Trim data to these fields."),
        Field(
            "max_rate",
            {"type": "number", "exclusiveMinimum": 0, "maximum": RATE_LIMIT_HZ},
            "At most so many updates a second, of a stream delivered latest.",
        ),
        Field("until", ref("Position"), "The page ends before it."),
        Field("limit", COUNT | {"minimum": 1}, "Size of the page; as large as is allowed if left out."),
        Field("reverse", BOOLEAN, "The newest first."),
    )
}
"""Members that the params of methods have."""


class Method(NamedTuple):
    """A method that a client may call."""

    name: str
    doc: str
    params: Schema
    result: tuple[Field, ...]


def listed(entry: Schema) -> Schema:
    """Return the schema of params that are names and/or objects, or one object."""
    return {"anyOf": [entry, array({"anyOf": [NAME_STRING, entry]}) | {"minItems": 1}]}


SUBSCRIPTION: Final = members(ASKED[name] for name in SUBSCRIBE)
NAMED: Final = members((STREAM_FIELD, KEY_FIELD))
PAGE: Final = members(ASKED[name] for name in HISTORY)

METHODS: Final = (
    Method(
        "state_stream.subscribe",
        "Subscribe to streams, or change subscriptions in place; all or nothing.",
        listed(SUBSCRIPTION),
        (Field("subscriptions", array(ref("Started")), "One for each asked for, in that order."),),
    ),
    Method(
        "state_stream.unsubscribe",
        "End subscriptions.",
        listed(NAMED),
        (Field("unsubscribed", array({"anyOf": [NAME_STRING, NAMED]}), "Those that there were."),),
    ),
    Method(
        "state_stream.list",
        "Describe every stream that is declared.",
        NOTHING,
        (Field("streams", array(ref("Stream")), "The streams."),),
    ),
    Method(
        "state_stream.history",
        "Read a page of a stream's history.",
        {"anyOf": [PAGE, array({"anyOf": [NAME_STRING, PAGE]}) | {"minItems": 1, "maxItems": 1}]},
        (
            Field("updates", array(ref("update")), "The page."),
            Field("next", ref("Position"), "Since, or with reverse until, of the next page.", optional=True),
            Field("missed", ref("Missed"), "What was asked for and is no longer held.", optional=True),
        ),
    ),
    Method(
        "session.stats",
        "Read the books: what became of every update of each subscription.",
        NOTHING,
        (Field("subscriptions", array(ref("Books")), "One for each subscription."),),
    ),
)
"""The methods, in the order of `methods.METHODS`."""

ERRORS: Final[dict[ErrorCode, str]] = {
    ErrorCode.PARSE_ERROR: "The message is not JSON that is accepted.",
    ErrorCode.INVALID_REQUEST: "It is JSON, but not a request.",
    ErrorCode.METHOD_NOT_FOUND: "There is no such method; data.methods are those that there are.",
    ErrorCode.INVALID_PARAMS: "A parameter is wrong; the message says which, and what is allowed.",
    ErrorCode.UPSTREAM_UNAVAILABLE: (
        "The state service cannot be reached, or older updates cannot be read now; "
        "data.retry_after_ms says when to ask again."
    ),
}
"""The errors in use over the WebSocket."""

BOOKS: Final = ("start", "head", "delivered", "filtered", "skipped", "missed", "pending")

VALUES: Final[dict[str, Schema]] = {
    **INT64_SCHEMAS,
    "Position": members((EPOCH_FIELD, SEQ_FIELD)),
    "Missed": members((Field("from", COUNT, "The first."), Field("to", COUNT, "The last; it is included."))),
    "Error": members(
        (
            Field("code", {"type": "integer"}, "JSON-RPC error code."),
            Field("message", STRING, "One sentence: what was wrong, and what is allowed."),
            Field("data", OBJECT, "More about it, for programs.", optional=True),
        )
    ),
    "Started": members(
        (
            STREAM_FIELD,
            KEY_FIELD,
            Field("declared", BOOLEAN, "Whether anything has declared the stream yet."),
            Field("did_you_mean", NAME_STRING, "The nearest name, where it is not declared.", optional=True),
            Field("epoch", {"type": "string"}, "Of the position; empty while no epoch is known."),
            Field("seq", COUNT, "Of the position behind which updates follow."),
            Field("recovered", BOOLEAN, "With since: whether every update behind it follows.", optional=True),
            Field("replayed", COUNT, "How many updates are replayed from history.", optional=True),
            Field("reason", one_of(["trimmed", "epoch", "ahead"]), "Why not all follow.", optional=True),
        )
    ),
    "Stream": members(
        (
            STREAM_FIELD,
            Field("type", NAME_STRING, "Type of its updates."),
            Field("delivery", one_of(Delivery), "What a reader that falls behind gets."),
            Field("keyed", BOOLEAN, "Whether its updates carry keys."),
            Field("message", STRING, "Full name of the message in its updates."),
            Field("oldest", nullable(ref("Position")), "Of the oldest update held; null where there is none."),
            Field("newest", members((EPOCH_FIELD._replace(schema=STRING), SEQ_FIELD)), "Of the newest update."),
        )
    ),
    "Books": members(
        (STREAM_FIELD, KEY_FIELD, EPOCH_FIELD._replace(schema=STRING), *(Field(name, COUNT, "") for name in BOOKS))
    ),
    "ping": members(
        (
            Field("type", {"const": "ping"}, "What it is."),
            Field("timestamp", SCALAR, "Repeated in the pong.", optional=True),
        )
    ),
}
"""What frames and results are made of, and the one message of a client that is no request."""
