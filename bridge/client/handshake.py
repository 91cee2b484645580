"""The handshake from the client's side: where to connect, and why it failed."""

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import aiohttp
import msgspec

from bridge.client.errors import LostError, RefusedError, retry_after_seconds
from bridge.client.retry import FAULTY_CODES

FINAL_STATUSES = frozenset({400, 401, 403})
"""HTTP answers after which trying again does not help."""

BODY_BYTES = 65_536
"""How much of the body of a refusal is read."""

SENTENCE_LENGTH = 500
"""How much of a sentence that the other side wrote is repeated."""


def websocket_url(url: str, query: Mapping[str, str] | None = None) -> str:
    """Return the WebSocket URL of a sidecar: http is taken for ws, no path for /ws.

    Args:
        url: of the sidecar.
        query: members to add to its query.

    Raises:
        ValueError: it is no URL of that kind.
    """
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if scheme not in ("ws", "wss") or not parts.hostname:
        raise ValueError("the URL of a sidecar is http://host:port or ws://host:port/path, or the same with https, wss")
    members = urlencode(dict(parse_qsl(parts.query)) | dict(query or {}))
    path = parts.path if parts.path.strip("/") else "/ws"
    return urlunsplit(parts._replace(scheme=scheme, path=path, query=members, fragment=""))


async def check_answer(response: aiohttp.ClientResponse) -> None:
    """Check the answer to a handshake; for `raise_for_status` of aiohttp's session.

    Raises:
        RefusedError: the sidecar refuses, and trying again would not help.
        LostError: it refuses for now.
    """
    if response.status == 101:
        return
    told = ""
    with suppress(msgspec.MsgspecError, aiohttp.ClientError, LookupError, TypeError):
        told = str(msgspec.json.decode(await response.content.read(BODY_BYTES))["error"]["message"])
    sentence = f"the server answered the handshake with HTTP {response.status}"
    if told:
        sentence += f": {told[:SENTENCE_LENGTH]}"
    if response.status in FINAL_STATUSES:
        raise RefusedError(sentence, response.status)
    raise LostError(sentence, retry_after_seconds=read_retry_after(response.headers.get("Retry-After", "")))


def read_retry_after(text: str) -> float | None:
    """Return the seconds of a Retry-After header; None where it is a date or not there."""
    return float(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


def read_close(code: int, reason: str) -> LostError:
    """Return what a close frame says."""
    members: Any = None
    with suppress(msgspec.MsgspecError):
        members = msgspec.json.decode(reason or "null")
    told = members if isinstance(members, dict) else {}
    words = told.get("message") or told.get("error") or (reason if members is None else "")
    sentence = f"the sidecar closed the connection: {code}" + (f", {str(words)[:SENTENCE_LENGTH]}" if words else "")
    return LostError(sentence, code, retry_after_seconds(told), fault=code in FAULTY_CODES)


def sentence_on(error: BaseException) -> str:
    """Return one sentence on an error of the connection. No URL is in it: it may hold a token."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return f"the certificate of {error.host}:{error.port} is not valid"
        case aiohttp.ClientConnectorSSLError():
            return f"{error.host}:{error.port} does not speak TLS as it should"
        case aiohttp.ClientConnectorError():
            number = error.os_error.errno
            reason = os.strerror(number) if number and number > 0 else error.os_error.strerror or "unknown error"
            return f"cannot connect to {error.host}:{error.port}: {reason}"
        case aiohttp.WSServerHandshakeError():
            return f"the server answered the handshake with HTTP {error.status}: {error.message}"
        case aiohttp.ClientResponseError():
            return "what answers there is no HTTP server"
        case TimeoutError():
            return "no answer in time"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError():
            return "the server hung up"
        case _:
            return f"the connection failed: {type(error).__name__}"
