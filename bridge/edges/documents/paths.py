"""What is served over HTTP, as tables: paths, parameters, answers, errors; the OpenAPI document is made of them."""

from typing import Final, NamedTuple

from bridge.core.contract import KEY_STRING, METHODS, NAME_STRING
from bridge.core.jsonschema import BOOLEAN, COUNT, OBJECT, STRING, Field, Schema, array, members, one_of, ref
from bridge.core.names import KEY_RULE, NAME_RULE
from bridge.edges.events.edge import EVENT_STREAM
from bridge.edges.handshake import SUBPROTOCOLS
from bridge.edges.negotiation import JSON
from bridge.edges.state import MISSED, NDJSON

PROTOBUF: Final = "application/x-protobuf"
TEXT: Final = "text/plain"
HTML: Final = "text/html"
JAVASCRIPT: Final = "text/javascript"
CSS: Final = "text/css"

POSITION_TEXT: Final[Schema] = {"type": "string", "pattern": "^[a-z0-9]{1,32}-(0|[1-9][0-9]{0,19})$"}


class HttpError(NamedTuple):
    """A code in the error of an answer."""

    status: int
    code: str
    when: str


HTTP_ERRORS: Final = (
    HttpError(400, "BAD_REQUEST", "a name, a key, a parameter or a header is not as it must be"),
    HttpError(400, "UNKNOWN_SUBPROTOCOL", "no subprotocol that is offered is known"),
    HttpError(403, "FORBIDDEN", "`Host` or `Origin` is not allowed"),
    HttpError(404, "NOT_FOUND", "there is nothing at that path, no such stream, no such key, or no value yet"),
    HttpError(405, "METHOD_NOT_ALLOWED", "the path does not take that method; `Allow` has those that it takes"),
    HttpError(406, "NOT_ACCEPTABLE", "`Accept` does not allow what the path answers with"),
    HttpError(408, "TIMEOUT", "the body did not come in time"),
    HttpError(410, "GONE", "a position is of another epoch: begin anew"),
    HttpError(413, "TOO_LARGE", "the body is too large"),
    HttpError(415, "UNSUPPORTED_MEDIA_TYPE", "the body is compressed"),
    HttpError(426, "UPGRADE_REQUIRED", "it is a WebSocket, and the request asks for none that is known"),
    HttpError(503, "NOT_READY", "new clients should go elsewhere"),
    HttpError(503, "OVERLOADED", "no more connections are taken now; `Retry-After` says when to come back"),
    HttpError(
        503, "UPSTREAM_UNAVAILABLE", "a position cannot be decided on; keep it, and ask again after `Retry-After`"
    ),
)
"""Every code, by status."""

ERROR_HEADERS: Final = {405: ("Allow",), 503: ("Retry-After",)}

HEADERS: Final = {
    "ETag": "Changes with the body; If-None-Match with it is answered 304.",
    "Link": 'The next page: <URL>; rel="next". Left out at the end.',
    MISSED: "What was asked for and is no longer held: from=1, to=9.",
    "Retry-After": "Seconds after which to come back.",
    "Allow": "The methods that the path takes.",
}
"""Headers of answers that are said of an operation."""


class Parameter(NamedTuple):
    """A parameter of a request; one of the path is always required."""

    name: str
    place: str  # path, query or header
    schema: Schema
    doc: str
    required: bool = False


class Content(NamedTuple):
    """A body of an answer."""

    type: str
    schema: Schema


class Operation(NamedTuple):
    """A method of a path.

    Attributes:
        name: of the operation, for generated clients.
        method: of HTTP.
        path: with parameters in braces.
        doc: one sentence.
        contents: of the answer 200, or of 101 on a WebSocket.
        parameters: beside what every request has.
        errors: codes beside FORBIDDEN, which every path has.
        headers: of the answer.
        body: of the request.
    """

    name: str
    method: str
    path: str
    doc: str
    contents: tuple[Content, ...]
    parameters: tuple[Parameter, ...] = ()
    errors: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    body: Schema | None = None


STREAM: Final = Parameter("stream", "path", NAME_STRING, "Name of the stream.")
KEY: Final = Parameter("key", "path", KEY_STRING, "Key of the value.")
KEY_IN_QUERY: Final = Parameter("key", "query", KEY_STRING, "Key of the value, whatever it is called.")
INT64: Final = Parameter("int64", "query", one_of(["number", "string"]), "How 64-bit integers of data are written.")
FILE: Final = Parameter("file", "path", STRING, "Name of the file.")
VISITOR: Final = Parameter("visitor", "query", STRING, "Any text that stays the same for a visitor: its side.")
IF_NONE_MATCH: Final = Parameter("If-None-Match", "header", STRING, "The ETag that the client has.")

HISTORY: Final = (
    Parameter("key", "query", KEY_STRING, "The updates of one key only."),
    Parameter("since", "query", POSITION_TEXT, "The position behind which the page begins."),
    Parameter("since_height", "query", COUNT, "Instead: the first update of at least that height."),
    Parameter("since_time_ms", "query", COUNT, "Instead: the first update published then or later, Unix milliseconds."),
    Parameter("until", "query", POSITION_TEXT, "The position before which it ends."),
    Parameter("limit", "query", COUNT | {"minimum": 1}, "Size of the page; as large as is allowed if left out."),
    Parameter("reverse", "query", one_of(["1", "0", "true", "false"]), "The newest first."),
)

SUBSCRIPTION_STRING: Final[Schema] = {"type": "string", "pattern": f"^{NAME_RULE}(/{KEY_RULE})?$"}
VECTOR: Final[Schema] = {"type": "string", "examples": ["lq3x8f2a;block_updates=42;account/alice=17"]}

EVENTS: Final = (
    Parameter(
        "stream",
        "query",
        array(SUBSCRIPTION_STRING) | {"minItems": 1},
        "A stream, or `stream/key` for one key of it; as often as there are subscriptions.",
        required=True,
    ),
    INT64,
    Parameter("last_event_id", "query", VECTOR, "The id behind which to go on, for who does not come back by itself."),
    Parameter("Last-Event-ID", "header", VECTOR, "The id behind which to go on; it goes before that of the query."),
)

STATUS: Final = members([Field("status", {"const": "ok"}, "")])

HTTP_ERROR: Final = Field(
    "error",
    members(
        [
            Field("code", one_of(error.code for error in HTTP_ERRORS), "Why."),
            Field("message", STRING, "One sentence: what was wrong, and what is allowed."),
            Field("details", OBJECT, "More about it, for programs.", optional=True),
        ]
    ),
    "",
)

HTTP_SCHEMAS: Final[dict[str, Schema]] = {
    "HttpError": members([HTTP_ERROR]),
    "SubscribedEvent": members(
        [
            Field("type", {"const": "subscribed"}, "What it is."),
            Field("subscriptions", array(ref("Started")), "Where each subscription begins."),
        ]
    ),
    "RefusedEvent": members([Field("type", {"const": "refused"}, "What it is."), HTTP_ERROR]),
    "Health": members(
        [
            Field("status", one_of(["ok", "degraded"]), "Whether the streams follow the node."),
            Field("version", STRING, "Of the bridge."),
            Field("uptime", COUNT, "Seconds since the start."),
            Field("bootstrap", members([Field("rpc_connected", BOOLEAN, "Whether the node is reached.")]), ""),
            Field(
                "upstream",
                members(
                    [
                        Field("state", one_of(["live", "stale", "down"]), "Of what feeds the bridge."),
                        Field("since", COUNT, "Unix milliseconds."),
                        Field("detail", STRING, "One sentence on it."),
                        Field("address", STRING, "Of the state service, as it is followed.", optional=True),
                    ]
                ),
                "",
            ),
            Field("connections", COUNT, "WebSocket connections that are open.", optional=True),
        ]
    ),
    "Values": members(
        [
            Field("stream", NAME_STRING, "Name of the stream."),
            Field("keys", COUNT, "How many keys it has."),
            Field("updates", array(ref("update")), "The values that changed last, in order."),
        ]
    ),
    "Config": members(
        [
            Field("ws_url", {"type": "string", "format": "uri"}, "Address of the WebSocket."),
            Field("websockets", BOOLEAN, "Whether this visitor is to use it; otherwise poll."),
            Field("poll_interval_ms", COUNT, "How often to poll without it."),
            Field("ping_interval_ms", COUNT, "How long the server lets a client be silent before it pings."),
            Field("version", STRING, "Of the bridge."),
        ]
    ),
    "RpcRequest": members(
        [
            Field("jsonrpc", {"const": "2.0"}, "Version of JSON-RPC."),
            Field("method", STRING, "Name of the method."),
            Field("params", {"type": ["array", "object", "null"]}, "Of the method.", optional=True),
            Field("id", {"type": ["string", "number", "null"]}, "Repeated in the response.", optional=True),
        ]
    ),
    "RpcResponse": members(
        [
            Field("jsonrpc", {"const": "2.0"}, "Version of JSON-RPC."),
            Field("id", {"type": ["string", "number", "null"]}, "That of the request."),
            Field("result", {}, "What the method returns; there is this or error.", optional=True),
            Field("error", ref("Error"), "Why it was refused.", optional=True),
        ]
    ),
}
"""Schemas of bodies that are not messages of the WebSocket too."""

RPC_BODY: Final[Schema] = {"anyOf": [ref("RpcRequest"), array(ref("RpcRequest")) | {"minItems": 1}]}
RPC_ANSWER: Final[Schema] = {"anyOf": [ref("RpcResponse"), array(ref("RpcResponse")) | {"minItems": 1}]}
HISTORY_PAGE: Final = next(f"{method.name}.result" for method in METHODS if method.name.endswith(".history"))

EVENT_DATA: Final = {
    "message": ref("update"),
    "subscribed": ref("SubscribedEvent"),
    **{name: ref(name) for name in ("gap", "fell_behind", "caught_up", "upstream", "going_away")},
    "refused": ref("RefusedEvent"),
}
"""The JSON that is the data of Server-Sent Events, by the type of event."""

WEBSOCKET: Final = (
    Parameter("Sec-WebSocket-Protocol", "header", one_of(SUBPROTOCOLS), "The dialect; left out: classic."),
    Parameter("subscribe", "query", STRING, "Streams to subscribe to at once, separated by commas."),
    INT64,
)

OPERATIONS: Final = (
    Operation(
        "openWebSocket",
        "GET",
        "/ws",
        "The WebSocket; its messages stand in /asyncapi.json.",
        (),
        WEBSOCKET,
        ("BAD_REQUEST", "UNKNOWN_SUBPROTOCOL", "UPGRADE_REQUIRED", "OVERLOADED"),
    ),
    Operation("getHealth", "GET", "/health", "How things stand.", (Content(JSON, ref("Health")),)),
    Operation("getLive", "GET", "/livez", "Whether the process answers.", (Content(JSON, STATUS),)),
    Operation(
        "getReady",
        "GET",
        "/readyz",
        "Whether new clients should be sent here.",
        (Content(JSON, STATUS),),
        errors=("NOT_READY",),
    ),
    Operation("getMetrics", "GET", "/metrics", "The metrics for Prometheus.", (Content(TEXT, STRING),)),
    Operation(
        "getState",
        "GET",
        "/state/{stream}",
        "The newest update; of a keyed stream the values that changed last.",
        (Content(JSON, {"anyOf": [ref("update"), ref("Values")]}),),
        (STREAM, KEY_IN_QUERY, INT64, IF_NONE_MATCH),
        ("BAD_REQUEST", "NOT_FOUND"),
        ("ETag",),
    ),
    Operation(
        "listHistory",
        "GET",
        "/state/{stream}/history",
        "A page of history.",
        (Content(JSON, ref(HISTORY_PAGE)), Content(NDJSON, STRING)),
        (STREAM, *HISTORY, INT64, IF_NONE_MATCH),
        ("BAD_REQUEST", "NOT_FOUND", "GONE", "UPSTREAM_UNAVAILABLE"),
        ("ETag", "Link", MISSED),
    ),
    Operation(
        "getKey",
        "GET",
        "/state/{stream}/{key}",
        "The newest update of one key; one called history is had with ?key=history.",
        (Content(JSON, ref("update")),),
        (STREAM, KEY, INT64, IF_NONE_MATCH),
        ("BAD_REQUEST", "NOT_FOUND"),
        ("ETag",),
    ),
    Operation(
        "listenEvents",
        "GET",
        "/events",
        "Updates as Server-Sent Events; the data of each is JSON, by its type as x-events has it.",
        (Content(EVENT_STREAM, STRING | {"x-events": EVENT_DATA}),),
        EVENTS,
        ("BAD_REQUEST", "NOT_ACCEPTABLE", "OVERLOADED", "UPSTREAM_UNAVAILABLE"),
    ),
    Operation(
        "callRpc",
        "POST",
        "/rpc",
        "JSON-RPC 2.0, batches too; 204 where nothing that came wants an answer.",
        (Content(JSON, RPC_ANSWER),),
        errors=("BAD_REQUEST", "TIMEOUT", "TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE"),
        body=RPC_BODY,
    ),
    Operation(
        "getConfig",
        "GET",
        "/config.json",
        "What a dashboard begins with.",
        (Content(JSON, ref("Config")),),
        (VISITOR,),
    ),
    Operation(
        "getSchema",
        "GET",
        "/schema.binpb",
        "The proto files, as a google.protobuf.FileDescriptorSet.",
        (Content(PROTOBUF, {"type": "string", "format": "binary"}),),
        (IF_NONE_MATCH,),
        headers=("ETag",),
    ),
    Operation(
        "getAsyncApi",
        "GET",
        "/asyncapi.json",
        "The WebSocket as an AsyncAPI 3.0 document.",
        (Content(JSON, OBJECT),),
        (IF_NONE_MATCH,),
        headers=("ETag",),
    ),
    Operation(
        "getOpenApi",
        "GET",
        "/openapi.json",
        "This document, in OpenAPI 3.1.",
        (Content(JSON, OBJECT),),
        (IF_NONE_MATCH,),
        headers=("ETag",),
    ),
    Operation("getPage", "GET", "/", "The live page.", (Content(HTML, STRING),), (IF_NONE_MATCH,), headers=("ETag",)),
    Operation(
        "getPageFile",
        "GET",
        "/page/{file}",
        "What the live page is made of.",
        (Content(JAVASCRIPT, STRING), Content(CSS, STRING), Content("image/svg+xml", STRING), Content(TEXT, STRING)),
        (FILE, IF_NONE_MATCH),
        ("NOT_FOUND",),
        ("ETag",),
    ),
    Operation(
        "getClientFile",
        "GET",
        "/client/{file}",
        "The browser client: theblock.js, and its modules and types.",
        (Content(JAVASCRIPT, STRING), Content(TEXT, STRING)),
        (FILE, IF_NONE_MATCH),
        ("NOT_FOUND",),
        ("ETag",),
    ),
)
"""Everything that is served."""
