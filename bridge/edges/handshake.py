"""WebSocket handshakes (RFC 6455, section 4.2): what a client asks for, and why it may be refused."""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Final

from aiohttp import hdrs, web
from multidict import CIMultiDictProxy

from bridge.core.codes import NOT_ALLOWED, Close
from bridge.core.names import NAME, NAME_RULE
from bridge.core.update import Format
from bridge.edges.extensions import agree
from bridge.edges.guard import FOREIGN_ORIGIN, SERVER, error_response

GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455, section 1.3."""

VERSION: Final = "13"

SUBPROTOCOLS: Final = {"theblock.v1.json": Format.JSON, "theblock.v1.proto": Format.PROTO}
"""The subprotocols of the v1 dialect and the format of each; without an offer the dialect is classic."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a handshake fails.

    Attributes:
        response: the answer over HTTP.
        close: what a browser is told instead after a v1 handshake, since it cannot read the answer; None: nothing.
        retry_after_ms: when to come back, told with `close`; None: not told.
    """

    response: web.Response
    close: Close | None = None
    retry_after_ms: int | None = None


def refuse(status: int, code: str, message: str, headers: dict[str, str] | None = None, **details: object) -> Refusal:
    """Return the refusal that is an HTTP answer."""
    response = error_response(status, code, message, **details)
    response.headers.update(headers or {})
    return Refusal(response)


def find_refusal(request: web.Request) -> Refusal | None:
    """Return why a handshake fails, None if it does not: a sentence that says what to fix."""
    malformed = find_fault(request)
    if (foreign := request.get(FOREIGN_ORIGIN)) is not None:
        return Refusal(error_response(403, "FORBIDDEN", foreign), None if malformed else NOT_ALLOWED)
    return malformed


def find_fault(request: web.Request) -> Refusal | None:
    """Return what is wrong with a handshake itself, None if nothing is."""
    headers = request.headers
    if headers.get(hdrs.UPGRADE, "").lower() != "websocket" or "upgrade" not in tokens(headers, hdrs.CONNECTION):
        sentence = 'this is a WebSocket: send "Connection: Upgrade" and "Upgrade: websocket"'
        return refuse(426, "UPGRADE_REQUIRED", sentence, {hdrs.UPGRADE: "websocket"})
    if headers.get(hdrs.SEC_WEBSOCKET_VERSION, "") != VERSION:
        sentence = f"Sec-WebSocket-Version must be {VERSION}"
        return refuse(426, "UPGRADE_REQUIRED", sentence, {hdrs.SEC_WEBSOCKET_VERSION: VERSION})
    if not valid_key(headers.get(hdrs.SEC_WEBSOCKET_KEY, "")):
        return refuse(400, "BAD_REQUEST", "Sec-WebSocket-Key must be 16 bytes in base64, 24 characters")
    if hdrs.SEC_WEBSOCKET_PROTOCOL in headers and subprotocol(request) is None:
        known = list(SUBPROTOCOLS)
        sentence = f"none of the subprotocols offered is known: offer {' or '.join(known)}, or none at all"
        return refuse(400, "UNKNOWN_SUBPROTOCOL", sentence, known=known)
    try:
        agreed_extension(request)
    except ValueError as error:
        return refuse(400, "BAD_REQUEST", f"Sec-WebSocket-Extensions {error}")
    if (wrong := wrong_query(request)) is not None:
        return refuse(400, "BAD_REQUEST", wrong)
    return None


def accept_headers(request: web.Request, extension: str | None) -> dict[str, str]:
    """Return the headers of the answer that accepts a handshake.

    Args:
        request: the handshake.
        extension: that is agreed to, with its parameters; None: no extension.
    """
    headers: dict[str, str] = {
        hdrs.UPGRADE: "websocket",
        hdrs.CONNECTION: "Upgrade",
        hdrs.SEC_WEBSOCKET_ACCEPT: accept_key(request.headers[hdrs.SEC_WEBSOCKET_KEY]),
        hdrs.SERVER: SERVER,
    }
    if (chosen := subprotocol(request)) is not None:
        headers[hdrs.SEC_WEBSOCKET_PROTOCOL] = chosen
    if extension is not None:
        headers[hdrs.SEC_WEBSOCKET_EXTENSIONS] = extension
    return headers


def accept_key(key: str) -> str:
    """Return the answer to a Sec-WebSocket-Key (RFC 6455, section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key.strip().encode() + GUID, usedforsecurity=False).digest()).decode()


def valid_key(key: str) -> bool:
    """Whether a Sec-WebSocket-Key is 16 bytes in base64."""
    try:
        return len(base64.b64decode(key.strip(), validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


def tokens(headers: CIMultiDictProxy[str], name: str) -> list[str]:
    """Return the comma-separated tokens of a header, in lower case."""
    return [token.strip().lower() for value in headers.getall(name, ()) for token in value.split(",")]


def subprotocol(request: web.Request) -> str | None:
    """Return the first known subprotocol that a client offers, None if there is none."""
    offers = ",".join(request.headers.getall(hdrs.SEC_WEBSOCKET_PROTOCOL, ())).split(",")
    return next((offer.strip() for offer in offers if offer.strip() in SUBPROTOCOLS), None)


def agreed_extension(request: web.Request) -> str | None:
    """Return how permessage-deflate can be agreed to, None if it is not offered or cannot be.

    Raises:
        ValueError: Sec-WebSocket-Extensions cannot be read; the text says why.
    """
    return agree(",".join(request.headers.getall(hdrs.SEC_WEBSOCKET_EXTENSIONS, ())))


def wanted_format(request: web.Request) -> Format:
    """Return the format that a client asks for."""
    format_ = SUBPROTOCOLS.get(subprotocol(request) or "", Format.JSON)
    strings = request.query.get("int64") == "string"
    return Format.JSON_INT64_STRING if strings and format_ is Format.JSON else format_


def wanted_streams(request: web.Request) -> list[str]:
    """Return the streams that the URL subscribes to."""
    return [name for names in request.query.getall("subscribe", []) for name in names.split(",") if name]


def wrong_query(request: web.Request) -> str | None:
    """Return one sentence on what is wrong with the query of the URL, None if nothing is."""
    if request.query.get("int64", "string") not in ("string", "number"):
        return "int64 must be string or number"
    for name in wanted_streams(request):
        if not NAME.fullmatch(name):
            return f"subscribe names the stream {name[:80]!r}; a name matches {NAME_RULE}"
    return None
