"""The WebSocket edge: handshakes on GET /ws, the connections that are open, their liveness and their end."""

import asyncio
import base64
import binascii
import hashlib
from contextlib import suppress
from random import random

from aiohttp import hdrs, web
from multidict import CIMultiDictProxy

from bridge.core.codes import RESTARTING, Close
from bridge.core.hub import Hub
from bridge.core.limits import Limits
from bridge.core.streams import NAME, NAME_RULE
from bridge.core.update import Format
from bridge.edges.guard import SERVER, error_response
from bridge.edges.wire import Patience, Wire

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455, section 1.3."""

VERSION = "13"

CHECK_SECONDS = 1.0
"""How often connections are checked for life, at least."""


class WebSocketEdge:
    """Serves WebSocket connections.

    Attributes:
        wires: the connections that are open.
        accepted: how many there have been.
        refused: how many handshakes were refused.
    """

    def __init__(self, hub: Hub, *, limits: Limits, patience: Patience, connection_limit: int = 20_000) -> None:
        self._hub = hub
        self._limits = limits
        self._patience = patience
        self._connection_limit = connection_limit
        self._draining = False
        self.wires: dict[Wire, None] = {}
        self.accepted = self.refused = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a handshake, then wait until the connection is gone. Cancelling it aborts the connection."""
        refusal = self._refusal(request)
        transport = request.transport
        if refusal is not None or transport is None:
            self.refused += 1
            return refusal or error_response(400, "BAD_REQUEST", "the connection is gone")
        response = web.StreamResponse(
            status=101,
            headers={
                hdrs.UPGRADE: "websocket",
                hdrs.CONNECTION: "Upgrade",
                hdrs.SEC_WEBSOCKET_ACCEPT: accept_key(request.headers[hdrs.SEC_WEBSOCKET_KEY]),
                hdrs.SERVER: SERVER,
            },
        )
        await response.prepare(request)
        if transport.is_closing():
            return response
        wire = Wire(transport, self._hub, self._limits, self._patience, wanted_format(request))
        self.wires[wire] = None
        self.accepted += 1
        try:
            wire.open(wanted_streams(request))
            await wire.closed
        finally:
            del self.wires[wire]
            transport.abort()
        return response

    def _refusal(self, request: web.Request) -> web.Response | None:
        """Return the answer to a handshake that fails: a sentence that says what to fix."""
        headers = request.headers
        if headers.get(hdrs.UPGRADE, "").lower() != "websocket" or "upgrade" not in tokens(headers, hdrs.CONNECTION):
            response = error_response(
                426, "UPGRADE_REQUIRED", 'this is a WebSocket: send "Connection: Upgrade" and "Upgrade: websocket"'
            )
            response.headers[hdrs.UPGRADE] = "websocket"
            return response
        if headers.get(hdrs.SEC_WEBSOCKET_VERSION, "") != VERSION:
            response = error_response(426, "UPGRADE_REQUIRED", "Sec-WebSocket-Version must be 13")
            response.headers[hdrs.SEC_WEBSOCKET_VERSION] = VERSION
            return response
        if not valid_key(headers.get(hdrs.SEC_WEBSOCKET_KEY, "")):
            return error_response(400, "BAD_REQUEST", "Sec-WebSocket-Key must be 16 bytes in base64, 24 characters")
        if hdrs.SEC_WEBSOCKET_PROTOCOL in headers:
            return error_response(
                400, "UNKNOWN_SUBPROTOCOL", "none of the subprotocols offered is known; offer none", known=[]
            )
        if (wrong := wrong_query(request)) is not None:
            return error_response(400, "BAD_REQUEST", wrong)
        if self._draining or len(self.wires) >= self._connection_limit:
            response = error_response(503, "OVERLOADED", "no more connections are taken now; retry later")
            response.headers[hdrs.RETRY_AFTER] = "1"
            return response
        return None

    async def check_forever(self) -> None:
        """Check the connections for life, about once a second, in slices. Runs until cancelled."""
        loop = asyncio.get_running_loop()
        patience = self._patience
        shortest = min(patience.ping_interval_seconds, patience.pong_timeout_seconds, patience.stall_timeout_seconds)
        while True:
            await asyncio.sleep(min(CHECK_SECONDS, shortest / 4))
            for number, wire in enumerate(list(self.wires)):
                wire.check(loop.time())
                if number % 1000 == 999:
                    await asyncio.sleep(0)

    async def drain(self, seconds: float, close: Close = RESTARTING) -> None:
        """Take no more connections and close those that are open.

        Each is told a time of its own, spread over `seconds`, after which to come back. Returns when all are gone;
        what has not hung up when the time is over is aborted.
        """
        self._draining = True
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        for number, wire in enumerate(list(self.wires)):
            wire.close(close, close.meaning, retry_after_ms=round(1000 * seconds * random()))
            if number % 100 == 99:
                await asyncio.sleep(0)
        gone = [wire.closed for wire in self.wires]
        with suppress(TimeoutError):
            if gone:
                await asyncio.wait(gone, timeout=max(0.0, deadline - loop.time()))
        for wire in list(self.wires):
            wire.abort()


def accept_key(key: str) -> str:
    """Return the answer to a Sec-WebSocket-Key (RFC 6455, section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key.strip().encode() + GUID, usedforsecurity=False).digest()).decode()


def valid_key(key: str) -> bool:
    """Whether a Sec-WebSocket-Key is 16 bytes in base64."""
    try:
        return len(base64.b64decode(key.strip(), validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


def tokens(headers: CIMultiDictProxy[str], name: str) -> set[str]:
    """Return the comma-separated tokens of a header, in lower case."""
    return {token.strip().lower() for value in headers.getall(name, ()) for token in value.split(",")}


def wanted_format(request: web.Request) -> Format:
    """Return the format that the URL asks for."""
    return Format.JSON_INT64_STRING if request.query.get("int64") == "string" else Format.JSON


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
