"""The node's reading and writing of JSON-RPC 2.0, which is looser than the standard in most places."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NoReturn

MIN_INT = -(2**63)
MAX_INT = 2**64 - 1
METHOD_NOT_FOUND = (-32601, "method not found")
INVALID_PARAMS = -32602
PARSE_ERROR = (-32700, "parse error")


class RpcError(Exception):
    """An error object, with ``code`` and ``message``."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Call:
    """A request: ``jsonrpc`` is not looked at, an absent ``id`` is null and answered too."""

    method: str
    params: Any
    id: Any


class Params:
    """The params of a call, read as the node does: what is not an object, or has the wrong type, is not there."""

    def __init__(self, value: Any) -> None:
        self._values: dict[str, Any] = value if isinstance(value, dict) else {}
        self._is_object = isinstance(value, dict)

    def text(self, name: str) -> str | None:
        """Return a string, None if there is none of that name."""
        value = self._values.get(name)
        return value if isinstance(value, str) else None

    def number(self, name: str) -> int | None:
        """Return an unsigned 64-bit integer, None if there is none of that name."""
        value = self._values.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_INT else None

    def require_object(self) -> None:
        """Raise the error of the few methods that insist on an object."""
        if not self._is_object:
            raise RpcError(INVALID_PARAMS, "parameters must be an object")


def _integer(digits: str) -> int:
    value = int(digits)
    if not MIN_INT <= value <= MAX_INT:
        raise ValueError("an integer beyond 64 bits")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def parse_call(body: bytes) -> Call:
    """Read a request body. Batches are not known; of a repeated key the last one counts.

    Raises:
        RpcError: -32700, it is not a request.
    """
    try:
        request = json.loads(body.decode(), parse_int=_integer, parse_constant=_no_constant)
        to_json(request)  # a lone surrogate or a float beyond range is not JSON to the node
    except (ValueError, RecursionError):
        raise RpcError(*PARSE_ERROR) from None
    if not isinstance(request, dict) or not isinstance(request.get("method"), str):
        raise RpcError(*PARSE_ERROR)
    if not isinstance(request.get("jsonrpc"), str | None) or not isinstance(request.get("badge"), str | None):
        raise RpcError(*PARSE_ERROR)
    return Call(request["method"], request.get("params"), request.get("id"))


def to_json(value: Any) -> bytes:
    """Write JSON as the node does: keys sorted, no blanks, UTF-8 unescaped."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def result_body(result: Any, request_id: Any) -> bytes:
    """Return the body of a successful answer."""
    return to_json({"id": request_id, "jsonrpc": "2.0", "result": result})


def error_body(code: int, message: str, request_id: Any = None) -> bytes:
    """Return the body of an error; the node never sends ``data``."""
    return to_json({"error": {"code": code, "message": message}, "id": request_id, "jsonrpc": "2.0"})
