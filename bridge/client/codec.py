"""The two formats of v1, as one interface: what a client sends and what it reads."""

from typing import Any, Final, NamedTuple, Protocol

import msgspec

from bridge.client.events import (
    CaughtUp,
    Event,
    FellBehind,
    Gap,
    GoingAway,
    Progress,
    Updated,
    Upstream,
    Welcome,
)

Params = list[dict[str, object]]
Result = dict[str, Any]
"""The result of a method, in the shape that JSON has."""

EVENTS: Final[dict[str, Any]] = {
    "progress": Progress,
    "fell_behind": FellBehind,
    "caught_up": CaughtUp,
    "gap": Gap,
    "upstream": Upstream,
    "going_away": GoingAway,
}
"""What the frames of a connection are read as, by their type."""


class Answer(NamedTuple):
    """A response: `error` is the JSON-RPC error object, None if there is none."""

    id: int | None
    result: Result
    error: Result | None


class PongFrame(msgspec.Struct, frozen=True):
    """Answer to a ping; `timestamp` is the number that it was sent with."""

    timestamp: int
    server_time: int


class MalformedError(ValueError):
    """A frame cannot be read."""


Frame = Event | Welcome | Answer | PongFrame | None
"""A frame that was read; None is one of a kind that is not known."""


class Codec(Protocol):
    """A format.

    Attributes:
        subprotocol: that stands for it.
        binary: whether its frames are.
        query: of the URL, that it needs.
    """

    subprotocol: str
    binary: bool
    query: dict[str, str]

    def request(self, id_: int, method: str, params: Params) -> str | bytes:
        """Return the message of a request; text where it is JSON."""

    def ping(self, number: int) -> str | bytes:
        """Return the message of a ping that carries a number."""

    def read(self, payload: bytes) -> Frame:
        """Read a frame.

        Raises:
            MalformedError: it is none.
        """


class JsonCodec:
    """theblock.v1.json."""

    subprotocol = "theblock.v1.json"
    binary = False

    def __init__(self, *, int64_string: bool = False) -> None:
        self.query = {"int64": "string"} if int64_string else {}

    def request(self, id_: int, method: str, params: Params) -> str:
        """Return the text of a request."""
        message = {"jsonrpc": "2.0", "id": id_, "method": method, "params": params}
        return msgspec.json.encode(message).decode()

    def ping(self, number: int) -> str:
        """Return the text of a ping."""
        return f'{{"type":"ping","timestamp":{number}}}'

    def read(self, payload: bytes) -> Frame:
        """Read a text frame."""
        try:
            frame = msgspec.json.decode(payload)
            if not isinstance(frame, dict):
                raise MalformedError("not an object")
            return read_object(frame, payload)
        except (msgspec.MsgspecError, LookupError, TypeError, AttributeError) as error:
            raise MalformedError(str(error)) from error


def read_object(frame: dict[str, Any], payload: bytes) -> Frame:
    """Read a frame that is a JSON object."""
    if "seq" in frame and "data" in frame:
        frame["raw"] = payload
        return msgspec.convert(frame, Updated)
    if "jsonrpc" in frame:
        id_ = frame.get("id")
        return Answer(id_ if isinstance(id_, int) else None, result_of(frame), frame.get("error"))
    kind = frame.get("type")
    if kind == "welcome":
        return msgspec.convert(frame, Welcome)
    if kind == "pong":
        return msgspec.convert(frame, PongFrame)
    return None if kind not in EVENTS else msgspec.convert(frame, EVENTS[kind])


def result_of(frame: dict[str, Any]) -> Result:
    """Return the result of a response; streams are described with an epoch and two seqs, as in protobuf."""
    result: Result = frame.get("result") or {}
    for row in result.get("streams", ()):
        newest, oldest = row["newest"], row["oldest"]
        row |= {"epoch": newest["epoch"], "newest": newest["seq"], "oldest": oldest["seq"] if oldest else 0}
    return result
