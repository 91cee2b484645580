"""The session of one client: a pure state machine, messages in, effects out.

It reads requests, acts on the hub at once (subscribing and taking the position is one step), and returns what is
to be sent. What needs pages that are not here does nothing but say so, and is received again when they are. It does no
I/O and has no clock; the hub and the reader that it acts on are given.
"""

from collections.abc import Mapping
from typing import NamedTuple

from bridge.core.audience import Reader
from bridge.core.codes import BAD_MESSAGES, WRONG_KIND, Close, ErrorCode
from bridge.core.deep import Needed, Place
from bridge.core.errors import RequestError
from bridge.core.frames import Frame, Opcode, check_utf8, text_frame
from bridge.core.hub import Hub, Status
from bridge.core.jsonform import result_object
from bridge.core.jsontext import JsonError, parse_json
from bridge.core.limits import Limits
from bridge.core.methods import Methods
from bridge.core.update import encode_json

TOLERATED = {ErrorCode.UPSTREAM_UNAVAILABLE, ErrorCode.RATE_LIMITED}
"""Errors that are not the client's doing: they do not count as bad messages."""

BATCH_PAGES = 16
"""How many pages a batch waits for at one time."""

Request = dict[str, object]


class Send(NamedTuple):
    """Effect: write a frame."""

    frame: bytes


class Shut(NamedTuple):
    """Effect: close the connection."""

    close: Close
    message: str


class Await(NamedTuple):
    """Effect, alone: have the message received again when one of these pages is here; until then no other."""

    places: tuple[Place, ...]


Effect = Send | Shut | Await


class Session:
    """One client's session, in the classic dialect; the other dialects are variations of it.

    A request with `"jsonrpc":"2.0"` is answered as JSON-RPC 2.0 says; one without is answered only if it fails, by
    an `error` frame, since the dashboard takes any other frame for a mistake.
    """

    __slots__ = ("bad_in_a_row", "hub", "limits", "methods", "reader")

    opcode = Opcode.TEXT
    wrong_kind = "this connection speaks JSON in text frames"

    def __init__(self, hub: Hub, reader: Reader, limits: Limits) -> None:
        self.hub = hub
        self.reader = reader
        self.limits = limits
        self.methods = Methods(hub, reader, limits)
        self.bad_in_a_row = 0

    # ------------------------------------------------------------------ what the connection calls

    def open(self, streams: list[str]) -> list[Effect]:
        """Begin, with subscriptions named in the URL."""
        return self.request({"method": "state_stream.subscribe", "params": streams}) if streams else []

    def receive(self, frame: Frame, *, late: bool = False) -> list[Effect]:
        """Take a message in.

        Args:
            frame: with the message.
            late: whether it has waited long enough, and is answered without the pages that are still not here.

        Returns:
            What to do, in order.

        Raises:
            FrameError: a text message is not UTF-8. Nothing else is ever raised, whatever a client sends.
        """
        if frame.opcode is self.opcode:
            self.methods.late = late
            try:
                return self.message(frame.payload)
            except Needed as needed:
                return [Await(needed.places)]
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            return [Shut(WRONG_KIND, self.wrong_kind)]
        return []

    def tick(self, now_ms: int) -> list[Effect]:
        """Do what is due; called about once a second."""
        return []

    def tell_upstream(self, status: Status) -> list[Effect]:
        """Tell that the state of what feeds the hub has changed."""
        return []

    def tell_going_away(self, retry_after_ms: int, reason: str) -> list[Effect]:
        """Tell that the connection will be closed, and when to come back."""
        return []

    # ------------------------------------------------------------------ reading

    def message(self, payload: bytes) -> list[Effect]:
        """Read a message and answer what is in it."""
        try:
            value = parse_json(check_utf8(payload), self.limits.depth)
        except JsonError as error:
            return self.refuse(RequestError(ErrorCode.PARSE_ERROR, f"the message is {error}"), {})
        if isinstance(value, list):
            return self.batch(value)
        if not isinstance(value, dict):
            return self.refuse(invalid("a request must be an object"), {})
        if value.get("type") == "ping" and "method" not in value:
            return self.pong(value)
        return self.request(value)

    def request(self, request: Request) -> list[Effect]:
        """Answer one request."""
        return self.rpc(request) if "jsonrpc" in request else self.plain(request)

    def plain(self, request: Request) -> list[Effect]:
        """Answer a request of the dashboard's own protocol: only a failure is told."""
        try:
            if not valid_id(request.get("id")):
                raise invalid("an id is a string, a number or null")
            answer = self.methods.call(request.get("method"), request.get("params"))
        except RequestError as error:
            return self.refuse(error, request)
        self.bad_in_a_row = 0
        return [Send(frame) for frame in answer.frames]

    def rpc(self, request: Request) -> list[Effect]:
        """Answer a JSON-RPC 2.0 request."""
        response, frames = self.respond(request)
        effects: list[Effect] = [] if response is None else [Send(text_frame(encode_json(response)))]
        return [*effects, *map(Send, frames), *self.strikes()]

    def batch(self, requests: list[object]) -> list[Effect]:
        """Answer a JSON-RPC 2.0 batch: one response for all, then what follows from them."""
        if not requests or len(requests) > self.limits.batch:
            sentence = f"a batch has 1 to {self.limits.batch} requests, not {len(requests)}"
            return self.refuse(invalid(sentence), {})
        if not self.methods.late:
            self.collect(requests)
        answered = [self.respond(request) for request in requests]
        responses = [response for response, _ in answered if response is not None]
        effects: list[Effect] = [Send(text_frame(encode_json(responses)))] if responses else []
        return [*effects, *(Send(frame) for _, frames in answered for frame in frames), *self.strikes()]

    def collect(self, requests: list[object]) -> None:
        """Have the pages that a batch needs be here before anything of it is done.

        Raises:
            Needed: some are not.
        """
        asked = [request for request in requests if isinstance(request, dict)]
        places = {place for one in asked for place in self.methods.needs(one.get("method"), one.get("params"))}
        if places:
            raise Needed(*sorted(places)[:BATCH_PAGES])
        self.methods.late = True

    def respond(self, request: object) -> tuple[dict[str, object] | None, list[bytes]]:
        """Return the JSON-RPC response, None for a notification, and the frames that follow."""
        if not isinstance(request, dict) or request.get("jsonrpc") != "2.0" or not valid_id(request.get("id")):
            self.bad_in_a_row += 1
            error = invalid('a JSON-RPC request is an object with "jsonrpc":"2.0", a method, and an id or none')
            return {"jsonrpc": "2.0", "error": error.to_object(), "id": None}, []
        response = {"jsonrpc": "2.0", "id": request.get("id")}
        try:
            answer = self.methods.call(request.get("method"), request.get("params"))
        except RequestError as error:
            self.bad_in_a_row += error.code not in TOLERATED
            wanted = "id" in request or error.code is ErrorCode.INVALID_REQUEST
            return (response | {"error": error.to_object()} if wanted else None), []
        self.bad_in_a_row = 0
        if "id" not in request:
            return None, answer.frames
        return response | {"result": result_object(answer.result, self.reader.format)}, answer.frames

    # ------------------------------------------------------------------ writing

    def pong(self, request: Request) -> list[Effect]:
        """Answer a ping."""
        timestamp = request.get("timestamp")
        if isinstance(timestamp, dict | list):
            return self.refuse(invalid("timestamp must be a number"), request)
        self.bad_in_a_row = 0
        return [Send(self.event("pong", {"timestamp": timestamp, "server_time": self.hub.clock_ms()}))]

    def event(self, kind: str, members: Mapping[str, object]) -> bytes:
        """Return the frame of an event."""
        return text_frame(encode_json({"type": kind, **members}))

    def refuse(self, error: RequestError, request: Request) -> list[Effect]:
        """Tell why a message was refused."""
        self.bad_in_a_row += error.code not in TOLERATED
        return [Send(self.refusal(error, request)), *self.strikes()]

    def refusal(self, error: RequestError, request: Request) -> bytes:
        """Return the frame that says why a message was refused."""
        id_ = {"id": request["id"]} if "id" in request and valid_id(request["id"]) else {}
        return self.event("error", {**id_, "error": error.to_object()})

    def strikes(self) -> list[Effect]:
        """Close when there were too many bad messages in a row."""
        if self.bad_in_a_row < self.limits.bad_messages:
            return []
        return [Shut(BAD_MESSAGES, f"{self.bad_in_a_row} bad messages in a row")]


def invalid(sentence: str) -> RequestError:
    """Return the error for what is no request."""
    return RequestError(ErrorCode.INVALID_REQUEST, sentence)


def valid_id(value: object) -> bool:
    """Whether a value may be the id of a request; one that is left out reads as null."""
    return value is None or (isinstance(value, str | int | float) and not isinstance(value, bool))
