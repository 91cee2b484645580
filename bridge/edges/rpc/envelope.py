"""The envelope of JSON-RPC 2.0 (https://www.jsonrpc.org/specification): requests out of a body, responses into one."""

from typing import Final, NamedTuple

import msgspec

from bridge.core.codes import ErrorCode
from bridge.core.errors import RequestError
from bridge.core.jsontext import JsonError, parse_json
from bridge.core.limits import Limits

RESPONSE_BYTES: Final = 16 << 20
"""Largest body of an answer; results that find no room in it become errors."""

encode = msgspec.json.Encoder().encode

Members = dict[str, object]


class Call(NamedTuple):
    """A request that is one.

    Attributes:
        method: as it came.
        params: a list or an object, None where there are none.
        id: string, number or null.
        notification: whether it had no id: nobody wants an answer.
    """

    method: str
    params: Members | list[object] | None
    id: object = None
    notification: bool = False


class Refused(NamedTuple):
    """What stands in the place of a request and is none; `id` is the one that it had, if that can be an id."""

    error: RequestError
    id: object = None


class Body(NamedTuple):
    """The requests of a body, in order, and whether they came as a batch."""

    requests: list[Call | Refused]
    batch: bool


def invalid(sentence: str) -> RequestError:
    """Return the error for what is no request."""
    return RequestError(ErrorCode.INVALID_REQUEST, sentence)


def read_body(body: bytes, limits: Limits) -> Body:
    """Read the body of a request.

    Args:
        body: as it came; its size was checked before.
        limits: of depth and batch.

    Raises:
        RequestError: it is not JSON, or a batch that is empty or too large: one error answers it.
    """
    try:
        value = parse_json(body.decode(), limits.depth)
    except UnicodeDecodeError as error:
        raise RequestError(ErrorCode.PARSE_ERROR, f"the body is not UTF-8 at byte {error.start}") from None
    except JsonError as error:
        raise RequestError(ErrorCode.PARSE_ERROR, f"the body is {error}") from None
    if not isinstance(value, list):
        return Body([read_request(value)], batch=False)
    if not 1 <= len(value) <= limits.batch:
        raise invalid(f"a batch has 1 to {limits.batch} requests, not {len(value)} (limit_batch)")
    return Body([read_request(entry) for entry in value], batch=True)


def read_request(value: object) -> Call | Refused:
    """Read one request."""
    if not isinstance(value, dict):
        return Refused(invalid("a request must be an object"))
    id_ = value.get("id")
    if isinstance(id_, bool | dict | list):
        return Refused(invalid("an id must be a string, a number or null"))
    method, params = value.get("method"), value.get("params")
    if value.get("jsonrpc") != "2.0":
        return Refused(invalid('a request must have "jsonrpc":"2.0"'), id_)
    if not isinstance(method, str):
        return Refused(invalid('a request must have a "method", which is a string'), id_)
    if params is not None and not isinstance(params, dict | list):
        return Refused(invalid("params must be an array or an object"), id_)
    return Call(method, params, id_, notification="id" not in value)


class Responses:
    """Collects the responses to one body, each as large as there is room for it."""

    def __init__(self) -> None:
        self._room = RESPONSE_BYTES
        self._written: list[bytes] = []

    def add_result(self, id_: object, result: object) -> None:
        """Add a result: a JSON value, or JSON as msgspec.Raw."""
        written = encode({"jsonrpc": "2.0", "result": result, "id": id_})
        if len(written) > self._room:
            sentence = f"the result finds no room in an answer of {RESPONSE_BYTES} bytes: ask for less at once"
            self.add_error(id_, RequestError(ErrorCode.INVALID_PARAMS, sentence))
        else:
            self._add(written)

    def add_error(self, id_: object, error: RequestError) -> None:
        """Add an error."""
        self._add(encode({"jsonrpc": "2.0", "error": error.to_object(), "id": id_}))

    def _add(self, written: bytes) -> None:
        self._room -= len(written)
        self._written.append(written)

    def body(self, *, batch: bool) -> bytes:
        """Return the body of the answer; empty where nobody wants one."""
        if not self._written:
            return b""
        return b"[%b]" % b",".join(self._written) if batch else self._written[0]
