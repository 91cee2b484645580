"""The node's side of a WebSocket: a handshake, and text frames that go out. Nothing is ever read."""

from __future__ import annotations

import base64
import hashlib

from .http1 import HttpRequest, HttpResponse

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
FINAL_TEXT = 0x81


def refusal(request: HttpRequest) -> str | None:
    """Say what the node finds wrong with a handshake, None if nothing. Any key will do, and no version means 13."""
    headers = request.headers
    connection = [token.strip().lower() for token in headers.get("connection", "").split(",")]
    if "upgrade" not in headers:
        return "missing upgrade header"
    if headers["upgrade"].lower() != "websocket":
        return "upgrade header must be websocket"
    if "upgrade" not in connection:
        return "connection header must include upgrade"
    if "sec-websocket-key" not in headers:
        return "missing Sec-WebSocket-Key"
    if headers.get("sec-websocket-version", "13") != "13":
        return "unsupported websocket version"
    return None


def accept_value(key: str) -> str:
    """Return the ``Sec-WebSocket-Accept`` for a key (RFC 6455, section 4.2.2)."""
    return base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()


def acceptance(request: HttpRequest) -> HttpResponse:
    """Return the node's 101, which says ``Unknown`` and carries a ``content-length``."""
    headers = {
        "connection": "Upgrade",
        "sec-websocket-accept": accept_value(request.headers["sec-websocket-key"]),
        "upgrade": "websocket",
    }
    return HttpResponse(101, headers=headers)


def text_frame(payload: bytes) -> bytes:
    """Return ``payload`` as one unmasked text frame (RFC 6455, section 5.2)."""
    length = len(payload)
    if length < 126:
        head = bytes((FINAL_TEXT, length))
    elif length < 65536:
        head = bytes((FINAL_TEXT, 126)) + length.to_bytes(2)
    else:
        head = bytes((FINAL_TEXT, 127)) + length.to_bytes(8)
    return head + payload
