"""Statuses: what it means that a call of the state service ended with a gRPC status, as tables.

What each status is for: https://grpc.io/docs/guides/status-codes/ and
https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Final, NamedTuple

import grpc

from bridge.core.codes import ErrorCode
from bridge.core.errors import BridgeError, RequestError, UpstreamError

DETAILS_LENGTH: Final = 300
"""How much of what the other side says goes into our sentence."""


class Pace(Enum):
    """When to subscribe again at the address that gave the answer."""

    SOON = "soon"  # it may be well again in a moment
    SLOWLY = "slowly"  # somebody has to do something first


class Blame(Enum):
    """Whether the positions that were asked for may be what the service failed at."""

    NO = "no"
    ANSWERED = "answered"  # only once it had answered: before that, a proxy in between may have said so
    YES = "yes"


class Meaning(NamedTuple):
    """A row of the table: what a subscription that ended with a status means."""

    problem: str  # end of a sentence on the state service
    pace: Pace = Pace.SOON
    blame: Blame = Blame.NO


MEANINGS: Final = {
    grpc.StatusCode.OK: Meaning("ended the subscription"),
    grpc.StatusCode.CANCELLED: Meaning("cancelled the subscription"),
    grpc.StatusCode.UNKNOWN: Meaning("failed", blame=Blame.ANSWERED),
    grpc.StatusCode.INVALID_ARGUMENT: Meaning("does not understand the subscription", Pace.SLOWLY),
    grpc.StatusCode.DEADLINE_EXCEEDED: Meaning("did not answer in time"),
    grpc.StatusCode.NOT_FOUND: Meaning("does not know what was asked for", Pace.SLOWLY),
    grpc.StatusCode.ALREADY_EXISTS: Meaning("refuses the subscription", Pace.SLOWLY),
    grpc.StatusCode.PERMISSION_DENIED: Meaning("does not allow the subscription", Pace.SLOWLY),
    grpc.StatusCode.RESOURCE_EXHAUSTED: Meaning("is at a limit", Pace.SLOWLY, Blame.ANSWERED),  # a message too large
    grpc.StatusCode.FAILED_PRECONDITION: Meaning("cannot serve the subscription as it is", Pace.SLOWLY),
    grpc.StatusCode.ABORTED: Meaning("broke the subscription off"),
    grpc.StatusCode.OUT_OF_RANGE: Meaning("refuses the positions", Pace.SLOWLY, Blame.ANSWERED),
    grpc.StatusCode.UNIMPLEMENTED: Meaning("is no state service", Pace.SLOWLY),
    grpc.StatusCode.INTERNAL: Meaning("failed", blame=Blame.ANSWERED),
    grpc.StatusCode.UNAVAILABLE: Meaning("cannot be reached"),
    grpc.StatusCode.DATA_LOSS: Meaning("has lost data", blame=Blame.YES),
    grpc.StatusCode.UNAUTHENTICATED: Meaning("does not know who we are", Pace.SLOWLY),
}
"""Every status there is. A subscription that had been answered is always made anew soon."""

NODE_REFUSALS: Final = {
    grpc.StatusCode.INVALID_ARGUMENT: ErrorCode.INVALID_PARAMS,
    grpc.StatusCode.PERMISSION_DENIED: ErrorCode.FORBIDDEN,
    grpc.StatusCode.FAILED_PRECONDITION: ErrorCode.METHOD_NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED: ErrorCode.METHOD_NOT_FOUND,
}
"""What a refused call of the node means for whoever made it; every other status: it cannot be answered now."""

PAGE_REFUSALS: Final = {
    grpc.StatusCode.INVALID_ARGUMENT: ErrorCode.INVALID_PARAMS,
    grpc.StatusCode.NOT_FOUND: ErrorCode.INVALID_PARAMS,
    grpc.StatusCode.FAILED_PRECONDITION: ErrorCode.INVALID_PARAMS,
    grpc.StatusCode.OUT_OF_RANGE: ErrorCode.INVALID_PARAMS,
}
"""The same of a refused page of history."""


def told(error: grpc.aio.AioRpcError) -> str:
    """Return a status and what the other side says of it, cut short."""
    details = (error.details() or "")[:DETAILS_LENGTH]
    return f"{error.code().name}: {details}" if details else error.code().name


def call_error(
    error: grpc.aio.AioRpcError, refusals: Mapping[grpc.StatusCode, ErrorCode], seconds: float
) -> BridgeError:
    """Return the error that a failed call is for whoever made it.

    Args:
        error: of the call.
        refusals: the statuses that say that this very call will never be answered.
        seconds: how long its answer was waited for.
    """
    code = refusals.get(error.code())
    if code is not None:
        return RequestError(code, error.details() or "the state service refused the call")
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return UpstreamError(f"the state service did not answer within {seconds:g} s")
    return UpstreamError(error.details() or f"the state service answered {error.code().name}")
