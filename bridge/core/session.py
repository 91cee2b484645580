"""The session of one client: a pure state machine, messages in, effects out.

It reads requests, acts on the hub at once (subscribing and taking the position is one step), and returns what is
to be sent. It does no I/O and has no clock; the hub and the reader that it acts on are given.
"""

from collections.abc import Callable
from difflib import get_close_matches
from typing import Final, NamedTuple, assert_never

import msgspec

from bridge.core.audience import Reader
from bridge.core.codes import BAD_MESSAGES, WRONG_KIND, Close, ErrorCode
from bridge.core.cursor import Cursor
from bridge.core.errors import RequestError
from bridge.core.frames import Frame, Opcode, check_utf8, text_frame
from bridge.core.history import History
from bridge.core.hub import Hub
from bridge.core.jsontext import JsonError, parse_json
from bridge.core.limits import Limits
from bridge.core.pages import Reason, obstacle, read_page
from bridge.core.position import Position
from bridge.core.requests import (
    Subscribe,
    bad,
    no_params,
    parse_history,
    parse_subscribe,
    parse_unsubscribe,
)
from bridge.core.update import Form, encode_json

RETRY_AFTER_MS: Final = 1000
"""When to ask again while the state service cannot be reached."""

TOLERATED = {ErrorCode.UPSTREAM_UNAVAILABLE, ErrorCode.RATE_LIMITED}
"""Errors that are not the client's doing: they do not count as bad messages."""


class Send(NamedTuple):
    """Effect: write a frame."""

    frame: bytes


class Shut(NamedTuple):
    """Effect: close the connection."""

    close: Close
    message: str


Effect = Send | Shut


class Answer(NamedTuple):
    """What a method returns: its result, and frames to send behind the answer."""

    result: object
    frames: list[bytes]


class Session:
    """One client's session, in the classic dialect.

    A request with `"jsonrpc":"2.0"` is answered as JSON-RPC 2.0 says; one without is answered only if it fails, by
    an `error` frame, since the dashboard takes any other frame for a mistake.
    """

    __slots__ = ("_bad_in_a_row", "_hub", "_limits", "_reader")

    def __init__(self, hub: Hub, reader: Reader, limits: Limits) -> None:
        self._hub = hub
        self._reader = reader
        self._limits = limits
        self._bad_in_a_row = 0

    def open(self, streams: list[str]) -> list[Effect]:
        """Begin, with subscriptions named in the URL."""
        if not streams:
            return []
        return self._plain({"method": "state_stream.subscribe", "params": streams})

    def receive(self, frame: Frame) -> list[Effect]:
        """Take a message in.

        Returns:
            What to do, in order. Never raises for anything that a client sends.
        """
        match frame.opcode:
            case Opcode.TEXT:
                return self._text(check_utf8(frame.payload))
            case Opcode.BINARY:
                return [Shut(WRONG_KIND, "this connection speaks JSON in text frames")]
            case Opcode.PING | Opcode.PONG | Opcode.CLOSE | Opcode.CONTINUATION:
                return []
            case _ as never:
                assert_never(never)

    def _text(self, text: str) -> list[Effect]:
        try:
            value = parse_json(text, self._limits.depth)
        except JsonError as error:
            return self._error_frame(RequestError(ErrorCode.PARSE_ERROR, f"the message is {error}"), {})
        if isinstance(value, list):
            return self._batch(value)
        if isinstance(value, dict):
            return self._rpc(value) if "jsonrpc" in value else self._plain(value)
        return self._error_frame(invalid("a request must be an object"), {})

    # ------------------------------------------------------------------ three ways of being asked

    def _plain(self, request: dict[str, object]) -> list[Effect]:
        """Answer a request of the dashboard's own protocol: only a failure is told."""
        if request.get("type") == "ping" and "method" not in request:
            return self._pong(request)
        try:
            answer = self._call(request)
        except RequestError as error:
            return self._error_frame(error, request)
        self._bad_in_a_row = 0
        return [Send(frame) for frame in answer.frames]

    def _rpc(self, request: dict[str, object]) -> list[Effect]:
        """Answer a JSON-RPC 2.0 request."""
        response, frames = self._respond(request)
        effects: list[Effect] = [] if response is None else [Send(text_frame(encode_json(response)))]
        return [*effects, *map(Send, frames), *self._strikes()]

    def _batch(self, requests: list[object]) -> list[Effect]:
        """Answer a JSON-RPC 2.0 batch: one response for all, then what follows from them."""
        if not requests or len(requests) > self._limits.batch:
            sentence = f"a batch has 1 to {self._limits.batch} requests, not {len(requests)}"
            return self._error_frame(invalid(sentence), {})
        answered = [self._respond(request) for request in requests]
        responses = [response for response, _ in answered if response is not None]
        effects: list[Effect] = [Send(text_frame(encode_json(responses)))] if responses else []
        return [*effects, *(Send(frame) for _, frames in answered for frame in frames), *self._strikes()]

    def _respond(self, request: object) -> tuple[dict[str, object] | None, list[bytes]]:
        """Return the JSON-RPC response, None for a notification, and the frames that follow."""
        if not isinstance(request, dict) or request.get("jsonrpc") != "2.0" or not valid_id(request.get("id")):
            self._bad_in_a_row += 1
            error = invalid('a JSON-RPC request is an object with "jsonrpc":"2.0", a method, and an id or none')
            return {"jsonrpc": "2.0", "error": error.to_object(), "id": None}, []
        try:
            answer = self._call(request)
        except RequestError as error:
            self._bad_in_a_row += error.code not in TOLERATED
            wanted = "id" in request or error.code is ErrorCode.INVALID_REQUEST
            response = {"jsonrpc": "2.0", "error": error.to_object(), "id": request.get("id")}
            return (response if wanted else None), []
        self._bad_in_a_row = 0
        response = {"jsonrpc": "2.0", "result": answer.result, "id": request.get("id")}
        return (response if "id" in request else None), answer.frames

    def _call(self, request: dict[str, object]) -> Answer:
        method = request.get("method")
        if not isinstance(method, str):
            raise invalid('a request has a "method", one of ' + ", ".join(METHODS))
        if method not in METHODS:
            data: dict[str, object] = {"methods": list(METHODS)}
            raise RequestError(ErrorCode.METHOD_NOT_FOUND, f"there is no method {method[:80]!r}", data)
        if not valid_id(request.get("id")):
            raise invalid("an id is a string, a number or null")
        return METHODS[method](self, request.get("params"))

    def _pong(self, request: dict[str, object]) -> list[Effect]:
        timestamp = request.get("timestamp")
        if isinstance(timestamp, dict | list):
            return self._error_frame(invalid("timestamp must be a number"), request)
        self._bad_in_a_row = 0
        return [Send(text_frame(encode_json(
            {"type": "pong", "timestamp": timestamp, "server_time": self._hub.clock_ms()}
        )))]  # fmt: skip

    def _error_frame(self, error: RequestError, request: dict[str, object]) -> list[Effect]:
        self._bad_in_a_row += error.code not in TOLERATED
        body: dict[str, object] = {"type": "error"}
        if "id" in request and valid_id(request["id"]):
            body["id"] = request["id"]
        body["error"] = error.to_object()
        return [Send(text_frame(encode_json(body))), *self._strikes()]

    def _strikes(self) -> list[Effect]:
        """Close when there were too many bad messages in a row."""
        if self._bad_in_a_row < self._limits.bad_messages:
            return []
        return [Shut(BAD_MESSAGES, f"{self._bad_in_a_row} bad messages in a row")]

    # ------------------------------------------------------------------ the methods

    def _subscribe(self, params: object) -> Answer:
        asked = parse_subscribe(params, self._limits)
        self._check_room(asked)
        for subscribe in asked:
            self._check(subscribe)
        rows: list[dict[str, object]] = []
        frames: list[bytes] = []
        for subscribe in asked:
            row, snapshots = self._begin(subscribe)
            rows.append(row)
            frames += snapshots
        return Answer({"subscriptions": rows}, frames)

    def _check_room(self, asked: list[Subscribe]) -> None:
        limits = self._limits
        keys = self._reader.cursors.keys() | {(one.spec.stream, one.spec.key) for one in asked}
        undeclared = sum(self._declared(stream) is None for stream, _ in keys)
        if len(keys) > limits.subscriptions:
            raise bad(f"that would be {len(keys)} subscriptions; a connection may have {limits.subscriptions}")
        if undeclared > limits.undeclared:
            raise bad(
                f"that would be {undeclared} streams that nothing has declared; a connection may have "
                f"{limits.undeclared}"
            )

    def _declared(self, name: str) -> History | None:
        history = self._hub.histories.get(name)
        return history if history is not None and history.stream is not None else None

    def _check(self, asked: Subscribe) -> None:
        """Check what depends on the stream.

        Raises:
            RequestError: a key on a stream without keys, or a position that cannot be decided on now.
        """
        history = self._declared(asked.spec.stream)
        if history is not None and history.stream is not None and asked.spec.key and not history.stream.keyed:
            raise bad(f"stream {asked.spec.stream!r} has no keys")
        position = asked.since.position if asked.since is not None else None
        if position is None or self._hub.upstream_reached:
            return
        found = self._hub.histories.get(asked.spec.stream)
        if found is None or obstacle(found, position) in (Reason.EPOCH, Reason.AHEAD):
            raise RequestError(
                ErrorCode.UPSTREAM_UNAVAILABLE,
                "the state service cannot be reached, so the position cannot be decided on; keep it and ask again",
                {"retry_after_ms": RETRY_AFTER_MS},
            )

    def _begin(self, asked: Subscribe) -> tuple[dict[str, object], list[bytes]]:
        """Begin or change one subscription; return its row of the result and its snapshot."""
        spec = asked.spec
        cursor = self._hub.subscribe(self._reader, spec)
        history = cursor.history
        row: dict[str, object] = {"stream": spec.stream}
        if spec.key is not None:
            row["key"] = spec.key
        row["declared"] = history.stream is not None
        if history.stream is None and (near := get_close_matches(spec.stream, self._known(), 1)):
            row["did_you_mean"] = near[0]
        frames: list[bytes] = []
        if asked.since is not None:
            row |= self._resume(cursor, asked)
            if row.get("reason") in (Reason.EPOCH, Reason.AHEAD):
                frames = self._reader.snapshots(cursor, self._limits.page)
        elif asked.last is not None:
            row |= self._replay(cursor, asked.last)
            if not row["replayed"]:
                frames = self._reader.snapshots(cursor, self._limits.page)
        else:
            frames = self._reader.snapshots(cursor, self._limits.page)
        row |= position_members(Position(cursor.epoch, cursor.at))
        return row, frames

    def _known(self) -> list[str]:
        return [history.name for history in self._hub.histories.values() if history.stream is not None]

    @staticmethod
    def _resume(cursor: Cursor, asked: Subscribe) -> dict[str, object]:
        """Put a cursor behind the position that a client has."""
        assert asked.since is not None
        history, position = cursor.history, asked.since.position
        if position is None:
            at = asked.since.seq(history)
            cursor.restart(at, replay_to=history.head)
            return {"recovered": True, "replayed": history.head - at}
        reason = obstacle(history, position)
        if reason in (Reason.EPOCH, Reason.AHEAD):
            cursor.restart(history.head)
            return {"recovered": False, "reason": reason}
        cursor.restart(position.seq)
        if reason is not None and cursor.loses():
            return {"recovered": False, "reason": reason}
        return {"recovered": True, "replayed": cursor.replayed()}

    @staticmethod
    def _replay(cursor: Cursor, last: int) -> dict[str, object]:
        """Put a cursor before the last updates."""
        history = cursor.history
        if cursor.spec.key is None:
            at = max(history.head - last, history.oldest - 1)
        else:
            updates = history.of_key(cursor.spec.key, 0, len(history))[-last:] if last else []
            at = updates[0].seq - 1 if updates else history.head
        cursor.restart(at, replay_to=history.head)
        return {"replayed": cursor.replayed()}

    def _unsubscribe(self, params: object) -> Answer:
        ended: list[object] = []
        for stream, key in parse_unsubscribe(params):
            if self._hub.unsubscribe(self._reader, stream, key):
                ended.append(stream if key is None else {"stream": stream, "key": key})
        return Answer({"unsubscribed": ended}, [])

    def _list(self, params: object) -> Answer:
        no_params(params)
        return Answer({"streams": [row for h in self._hub.histories.values() if (row := stream_row(h))]}, [])

    def _history(self, params: object) -> Answer:
        asked = parse_history(params, self._limits)
        history = self._declared(asked.stream)
        if history is None:
            near = get_close_matches(asked.stream, self._known(), 1)
            raise bad(f"stream {asked.stream!r} is not declared" + (f"; did you mean {near[0]!r}?" if near else ""))
        since = asked.since
        for position in (since.position if since else None, asked.until):
            if position is not None and position.epoch != history.epoch:
                data: dict[str, object] = {"reason": Reason.EPOCH, "epoch": history.epoch}
                raise RequestError(ErrorCode.INVALID_PARAMS, f"{position} is not of epoch {history.epoch}", data)
        start = since.seq(history) if since else history.oldest - 1
        until = asked.until.seq if asked.until is not None else None
        page = read_page(history, asked.key, start, until, asked.limit, reverse=asked.reverse)
        result: dict[str, object] = {"updates": [msgspec.Raw(update.json(Form())) for update in page.updates]}
        if page.missed is not None:
            result["missed"] = {"from": page.missed.first, "to": page.missed.last}
        if page.next is not None:
            result["next"] = position_members(page.next)
        return Answer(result, [])

    def _stats(self, params: object) -> Answer:
        no_params(params)
        self._hub.settle(self._reader)
        return Answer({"subscriptions": [stats_row(c) for c in self._reader.cursors.values()]}, [])


METHODS: Final[dict[str, Callable[[Session, object], Answer]]] = {
    "state_stream.subscribe": Session._subscribe,
    "state_stream.unsubscribe": Session._unsubscribe,
    "state_stream.list": Session._list,
    "state_stream.history": Session._history,
    "session.stats": Session._stats,
}
"""The methods that a client may call."""


def invalid(sentence: str) -> RequestError:
    """Return the error for what is no request."""
    return RequestError(ErrorCode.INVALID_REQUEST, sentence)


def valid_id(value: object) -> bool:
    """Whether a value may be the id of a request; one that is left out reads as null."""
    return value is None or (isinstance(value, str | int | float) and not isinstance(value, bool))


def position_members(position: Position) -> dict[str, object]:
    """Return a position as JSON members."""
    return {"epoch": position.epoch, "seq": position.seq}


def stream_row(history: History) -> dict[str, object] | None:
    """Return what state_stream.list says of a stream, None if nothing has declared it."""
    stream = history.stream
    if stream is None:
        return None
    oldest = position_members(Position(history.epoch, history.oldest)) if len(history) else None
    return {
        "stream": stream.name,
        "type": stream.type,
        "delivery": stream.delivery.value,
        "keyed": stream.keyed,
        "message": stream.message,
        "oldest": oldest,
        "newest": position_members(Position(history.epoch, history.head)),
    }


def stats_row(cursor: Cursor) -> dict[str, object]:
    """Return what session.stats says of a subscription."""
    row: dict[str, object] = {"stream": cursor.spec.stream}
    if cursor.spec.key is not None:
        row["key"] = cursor.spec.key
    return row | {"epoch": cursor.epoch} | cursor.books()._asdict()
