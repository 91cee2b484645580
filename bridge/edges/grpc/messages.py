"""Messages of the state service, made of what the hub holds. Updates go in as they are: their bytes are joined."""

from typing import TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from bridge.core.errors import BridgeError
from bridge.core.hub import State, Status
from bridge.core.names import NAME, NAME_RULE
from bridge.core.update import field
from generated.theblock.state.v1 import stream_pb2

M = TypeVar("M", bound=Message)

RESPONSE_BYTES = 1 << 20
"""Every response is smaller, unless a single update is larger: other languages take 4 MiB at most by default."""

STATES = {
    State.LIVE: stream_pb2.SOURCE_STATE_LIVE,
    State.STALE: stream_pb2.SOURCE_STATE_STALE,
    State.DOWN: stream_pb2.SOURCE_STATE_DOWN,
}


class Refusal(BridgeError):
    """A call was refused; `code` is the gRPC status that answers it, the text its details."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def invalid(message: str) -> Refusal:
    """Return the refusal of a request that is not as it must be."""
    return Refusal(grpc.StatusCode.INVALID_ARGUMENT, message)


def message_field(number: int, message: Message) -> bytes:
    """Return a message as a field of another one."""
    return field(number, message.SerializeToString())


def read(message: M, raw: bytes) -> M:
    """Read a request into `message`, and return it.

    Raises:
        Refusal: it is not one.
    """
    try:
        message.ParseFromString(raw)
    except DecodeError as error:
        raise invalid(f"the request is not a serialized {message.DESCRIPTOR.full_name}") from error
    return message


def check_name(name: str) -> None:
    """Check the name of a stream.

    Raises:
        Refusal: it is ill-formed.
    """
    if not NAME.fullmatch(name):
        raise invalid(f"the stream name {name[:200]!r} is ill-formed: it must match {NAME_RULE}")


def source_status(status: Status) -> stream_pb2.SourceStatus:
    """Describe the state of the source."""
    return stream_pb2.SourceStatus(state=STATES[status.state], since_ms=status.since_ms, detail=status.detail)
