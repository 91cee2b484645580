"""Error codes and close codes: two tables that code, documents and tests walk.

Error codes are those of JSON-RPC 2.0 (https://www.jsonrpc.org/specification, section 5.1) and of its
implementation-defined range; close codes those of RFC 6455, section 7.4, and of its private range, where
4000-4499 may be retried and 4500-4999 may not.
"""

from enum import IntEnum
from typing import NamedTuple


class ErrorCode(IntEnum):
    """Why a request was refused, as JSON-RPC error code."""

    PARSE_ERROR = -32700  # the message is not JSON
    INVALID_REQUEST = -32600  # it is JSON but not a request
    METHOD_NOT_FOUND = -32601  # nobody knows the method
    INVALID_PARAMS = -32602  # which, and what is allowed, is in the message
    UNAUTHORIZED = -32001  # a valid token is needed
    FORBIDDEN = -32003  # the token does not allow it
    UPSTREAM_UNAVAILABLE = -32010  # the state service or the node cannot answer now
    RATE_LIMITED = -32029  # too many requests


class Retry(IntEnum):
    """What a client does after a close code."""

    NEVER = 0
    AFTER_FIX = 1
    YES = 2


class Close(NamedTuple):
    """A row of the table of close codes."""

    code: int
    name: str  # in the reason, as {"error": name}
    retry: Retry
    meaning: str


GOING_AWAY = Close(1001, "going_away", Retry.YES, "the sidecar is going away")
PROTOCOL_ERROR = Close(1002, "protocol_error", Retry.AFTER_FIX, "a frame breaks RFC 6455")
WRONG_KIND = Close(1003, "wrong_kind", Retry.AFTER_FIX, "binary on a JSON connection, or text on a protobuf one")
BAD_DATA = Close(1007, "bad_data", Retry.AFTER_FIX, "a text message is not UTF-8, or compressed data is damaged")
TOO_BIG = Close(1009, "too_big", Retry.AFTER_FIX, "a message is larger than the limit")
RESTARTING = Close(1012, "restarting", Retry.YES, "the sidecar restarts")
OVERLOADED = Close(1013, "overloaded", Retry.YES, "the sidecar takes no more connections now")
STALLED = Close(4004, "stalled", Retry.YES, "the client reads nothing or shows no life")
BAD_MESSAGES = Close(4500, "bad_messages", Retry.NEVER, "too many bad messages in a row")
NOT_ALLOWED = Close(4503, "not_allowed", Retry.NEVER, "the origin is not allowed")

CLOSES = (
    GOING_AWAY,
    PROTOCOL_ERROR,
    WRONG_KIND,
    BAD_DATA,
    TOO_BIG,
    RESTARTING,
    OVERLOADED,
    STALLED,
    BAD_MESSAGES,
    NOT_ALLOWED,
)
"""Every close code that the sidecar sends, but for a client's own code, which is echoed."""
