"""The WebSocket edge: the connections on GET /ws, their dialects, their liveness and their end."""

import asyncio
import secrets
from contextlib import suppress
from functools import partial
from random import random

from aiohttp import web

from bridge import __version__
from bridge.core.codes import RESTARTING, Close
from bridge.core.hub import Hub
from bridge.core.limits import Limits
from bridge.core.session import Session
from bridge.core.update import Format
from bridge.core.v1 import Greeting, V1ProtoSession, V1Session
from bridge.edges.guard import SERVER, error_response
from bridge.edges.handshake import (
    RETRY_SECONDS,
    Refusal,
    accept_headers,
    find_refusal,
    subprotocol,
    wanted_format,
    wanted_streams,
)
from bridge.edges.wire import MakeSession, Patience, Wire

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
        self._status = hub.status
        self.wires: dict[Wire, None] = {}
        self.accepted = self.refused = 0
        hub.listen(self._notice)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a handshake, then wait until the connection is gone. Cancelling it aborts the connection."""
        room = not self._draining and len(self.wires) < self._connection_limit
        refusal = find_refusal(request, room=room)
        transport = request.transport
        if transport is None:
            return error_response(400, "BAD_REQUEST", "the connection is gone")
        if refusal is not None:
            self.refused += 1
            if refusal.close is None or subprotocol(request) is None or "Origin" not in request.headers:
                return refusal.response
        response = web.StreamResponse(status=101, headers=accept_headers(request))
        await response.prepare(request)
        if transport.is_closing():
            return response
        format_ = wanted_format(request)
        wire = Wire(transport, self._hub, self._limits, self._patience, format_, self._dialect(request, format_))
        self.wires[wire] = None
        try:
            self._begin(wire, request, refusal)
            await wire.closed
        finally:
            del self.wires[wire]
            transport.abort()
        return response

    def _begin(self, wire: Wire, request: web.Request, refusal: Refusal | None) -> None:
        if refusal is not None and refusal.close is not None:
            close = refusal.close
            wire.close(close, close.meaning, **({"retry_after_ms": RETRY_SECONDS * 1000} if close.code == 1013 else {}))
            return
        self.accepted += 1
        wire.open(wanted_streams(request))

    def _dialect(self, request: web.Request, format_: Format) -> MakeSession:
        """Return what makes the session of the dialect that the client asks for."""
        if subprotocol(request) is None:
            return Session
        interval_ms = round(self._patience.ping_interval_seconds * 1000)
        greeting = Greeting(secrets.token_hex(8), SERVER, __version__, interval_ms)
        return partial(V1ProtoSession if format_ is Format.PROTO else V1Session, greeting=greeting)

    def _notice(self) -> None:
        """Tell every connection when the state of what feeds the hub has changed."""
        status = self._hub.status
        if (status.state, status.since_ms) != (self._status.state, self._status.since_ms):
            self._status = status
            for wire in list(self.wires):
                wire.tell_upstream(status)

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
            wire.send_away(close, round(1000 * seconds * random()))
            if number % 100 == 99:
                await asyncio.sleep(0)
        gone = [wire.closed for wire in self.wires]
        with suppress(TimeoutError):
            if gone:
                await asyncio.wait(gone, timeout=max(0.0, deadline - loop.time()))
        for wire in list(self.wires):
            wire.abort()
