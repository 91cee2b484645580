"""The v1 dialect: every request answered, and a client told what it could not know from updates alone.

`theblock.v1.json` speaks JSON-RPC 2.0 in text frames, `theblock.v1.proto` protobuf in binary ones.
"""

from collections.abc import Mapping
from typing import NamedTuple

from bridge.core import binary
from bridge.core.audience import Reader
from bridge.core.codes import ErrorCode
from bridge.core.cursor import Cursor
from bridge.core.errors import RequestError
from bridge.core.frames import Opcode, text_frame
from bridge.core.hub import Hub, State, Status
from bridge.core.limits import Limits
from bridge.core.notices import Notices
from bridge.core.session import TOLERATED, Effect, Request, Send, Session
from bridge.core.update import Format, encode_json

PROGRESS_MS = 15_000
"""How often a client is told how far streams have come without a delivery to it."""


class Greeting(NamedTuple):
    """What the welcome frame says of the server."""

    session: str  # a name of the connection, for logs
    server: str
    version: str
    ping_interval_ms: int


class V1Session(Session, Notices):
    """One client's session in theblock.v1.json."""

    __slots__ = ("_greeting", "_progress_ms", "_told")

    def __init__(self, hub: Hub, reader: Reader, limits: Limits, greeting: Greeting) -> None:
        super().__init__(hub, reader, limits)
        reader.events = self
        self._greeting = greeting
        self._progress_ms = hub.monotonic_ms() + PROGRESS_MS
        self._told: dict[str, tuple[str, int, int]] = {}  # by stream: epoch and head as told, deliveries until then

    def open(self, streams: list[str]) -> list[Effect]:
        """Say welcome, tell if the streams do not follow the node, and begin with subscriptions named in the URL."""
        effects: list[Effect] = [Send(self.event("welcome", self._welcome()))]
        if self.hub.status.state is not State.LIVE:
            effects += self.tell_upstream(self.hub.status)
        if streams:
            effects += self.plain({"method": "state_stream.subscribe", "params": streams})
        return effects

    def _welcome(self) -> dict[str, object]:
        histories = self.hub.histories.values()
        return {
            **self._greeting._asdict(),
            "format": "proto" if self.reader.format is Format.PROTO else "json",
            "max_message_bytes": self.limits.message_bytes,
            "streams": [history.name for history in histories if history.stream is not None],
        }

    def request(self, request: Request) -> list[Effect]:
        """Answer one request, as JSON-RPC 2.0 says."""
        return self.rpc(request)

    def refusal(self, error: RequestError, request: Request) -> bytes:
        """Return the response that says why a message was refused."""
        return text_frame(encode_json({"jsonrpc": "2.0", "error": error.to_object(), "id": None}))

    # ------------------------------------------------------------------ what happens without a request

    def tell_upstream(self, status: Status) -> list[Effect]:
        """Tell the state of what feeds the hub."""
        return [Send(self.upstream(status))]

    def tell_going_away(self, retry_after_ms: int, reason: str) -> list[Effect]:
        """Tell that the connection will be closed, and when to come back."""
        return [Send(self.going_away(retry_after_ms, reason))]

    def tick(self, now_ms: int) -> list[Effect]:
        """Tell, every 15 s, how far the streams have come that moved without a delivery to this client."""
        if now_ms < self._progress_ms:
            return []
        self._progress_ms = now_ms + PROGRESS_MS
        streams = self._streams()
        positions = [row for cursors in streams.values() if (row := self._moved(cursors)) is not None]
        self._told = {stream: told for stream, told in self._told.items() if stream in streams}
        return [Send(self.event("progress", {"positions": positions}))] if positions else []

    def _streams(self) -> dict[str, list[Cursor]]:
        """Return the cursors of each stream that the client is up to date with."""
        streams: dict[str, list[Cursor]] = {}
        if self.reader.audience is not None:
            for cursor in self.reader.cursors.values():
                streams.setdefault(cursor.history.name, []).append(cursor)
        return streams

    def _moved(self, cursors: list[Cursor]) -> dict[str, object] | None:
        """Return the position of a stream if it moved without a delivery since it was looked at last."""
        history = cursors[0].history
        seq = min(cursor.at if cursor.paced else history.cut for cursor in cursors)
        delivered = sum(self.reader.delivered(cursor) for cursor in cursors)
        before, now = self._told.get(history.name), (history.epoch, seq, delivered)
        self._told[history.name] = now
        start = min(cursor.start for cursor in cursors)
        quiet = delivered == before[2] if before else delivered == 0
        moved = (before[:2] if before else (history.epoch, start)) != now[:2]
        return {"stream": history.name, "epoch": history.epoch, "seq": seq} if quiet and moved else None


class V1ProtoSession(V1Session):
    """One client's session in theblock.v1.proto."""

    __slots__ = ()

    opcode = Opcode.BINARY
    wrong_kind = "this connection speaks protobuf in binary frames"

    def message(self, payload: bytes) -> list[Effect]:
        """Read a ClientFrame and answer its request."""
        try:
            request = binary.read_request(payload)
        except RequestError as error:
            return self.refuse(error, {})
        if request["method"] == "ping":
            return self.pong({"timestamp": request["params"]})
        return self.rpc(request)

    def rpc(self, request: Request) -> list[Effect]:
        """Answer a request; one without id only if it is none."""
        try:
            answer = self.methods.call(request.get("method"), request.get("params"))
        except RequestError as error:
            if "id" in request or error.code is ErrorCode.INVALID_REQUEST:
                return self.refuse(error, request)
            self.bad_in_a_row += error.code not in TOLERATED
            return self.strikes()
        self.bad_in_a_row = 0
        effects: list[Effect] = []
        if "id" in request:
            effects.append(Send(binary.result_frame(answer.result, request["id"])))
        return [*effects, *map(Send, answer.frames)]

    def event(self, kind: str, members: Mapping[str, object]) -> bytes:
        """Return the frame of an event."""
        return binary.event_frame(kind, members)

    def refusal(self, error: RequestError, request: Request) -> bytes:
        """Return the response that says why a message was refused."""
        return binary.error_frame(error, request.get("id"))
