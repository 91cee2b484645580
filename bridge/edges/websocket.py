"""The WebSocket edge: the connections on GET /ws, their dialects, their liveness and their end."""

import asyncio
import secrets
from functools import partial
from random import random

from aiohttp import web

from bridge import __version__
from bridge.core.codes import OVERLOADED, RESTARTING, Close
from bridge.core.deflate import Deflate
from bridge.core.hub import Hub
from bridge.core.limits import Limits
from bridge.core.session import Session
from bridge.core.update import Format
from bridge.core.v1 import Greeting, V1ProtoSession, V1Session
from bridge.edges.admission import LONGEST_WAIT_SECONDS, Slices, Turns, postpone
from bridge.edges.connection import Connection
from bridge.edges.drain import Drain
from bridge.edges.guard import SERVER, error_response
from bridge.edges.handshake import (
    Refusal,
    accept_headers,
    agreed_extension,
    find_refusal,
    subprotocol,
    wanted_format,
    wanted_streams,
)
from bridge.edges.patience import Patience
from bridge.edges.sockets import Sockets
from bridge.edges.wire import MakeSession, Wire

CHECK_SECONDS = 1.0
"""How often connections are checked for life, at least."""

CHECKED_AT_ONCE, DROPPED_AT_ONCE = 1000, 4
"""How many connections are checked, and how many may be dropped, in one turn of the loop: a millisecond or two."""


class WebSocketEdge:
    """Serves WebSocket connections.

    Attributes:
        wires: the connections that are open, each with what it speaks: its subprotocol, None in the classic dialect, or
            text/event-stream.
        waiting: how many handshakes wait for their turn.
        accepted: how many connections there have been.
        refused: how many handshakes were refused.
    """

    def __init__(
        self,
        hub: Hub,
        *,
        limits: Limits,
        patience: Patience,
        connection_limit: int = 20_000,
        accept_rate: int = 0,
        deflate: Deflate | None = None,
    ) -> None:
        """Make the edge.

        Args:
            hub: whose streams are served.
            limits: of what a client may ask for.
            patience: how long a client is waited for.
            connection_limit: connections at one time.
            accept_rate: handshakes accepted a second, others wait for their turn; 0: no limit.
            deflate: how messages are deflated for clients that offer permessage-deflate; None: it is not agreed to.
        """
        self._hub = hub
        self._limits = limits
        self._patience = patience
        self._sockets = Sockets()
        self._connection_limit = connection_limit
        self._turns = Turns(accept_rate)
        self._slices = Slices()
        self._deflate = deflate
        self._drain: Drain | None = None
        self._drain_begun = asyncio.Event()
        self._status = hub.status
        self.wires: dict[Connection, str | None] = {}
        self.waiting = self.accepted = self.refused = 0
        hub.listen(self._notice)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a handshake, and take the connection over. Cancelling it while it waits refuses the handshake."""
        refusal = find_refusal(request) or await self.admit()
        transport = request.transport
        if transport is None:
            return error_response(400, "BAD_REQUEST", "the connection is gone")
        if refusal is not None:
            self.refused += 1
            if refusal.close is None or subprotocol(request) is None or "Origin" not in request.headers:
                return refusal.response
        extension = None if self._deflate is None else agreed_extension(request)
        response = web.StreamResponse(status=101, headers=accept_headers(request, extension))
        try:
            await response.prepare(request)
        except ConnectionError:  # the peer did not wait for the answer
            return response
        if transport.is_closing():
            return response
        format_ = wanted_format(request)
        deflate = None if extension is None else self._deflate
        dialect = self._dialect(request, format_)
        wire = Wire(transport, self._hub, self._limits, self._patience, self._sockets, format_, dialect, deflate)
        self.keep(wire, subprotocol(request))
        try:
            self._begin(wire, request, refusal or self._find_drain())  # it may have begun while this one was answered
        except Exception:
            wire.abort()
            raise
        return response

    def keep(self, wire: Connection, subprotocol: str | None) -> None:
        """Keep a connection among those that are open, until it is gone."""
        self.wires[wire] = subprotocol
        wire.closed.add_done_callback(lambda _: self.wires.pop(wire))

    async def admit(self) -> Refusal | None:
        """Wait until it is the turn of a handshake, or of what else asks to stay; return why it has none."""
        if len(self.wires) + self.waiting >= self._connection_limit:
            return postpone(OVERLOADED, "no more connections are taken now; retry later", 1.0)
        if (place := self._slices.take()) is not None:
            self.waiting += 1
            try:
                await place
            finally:
                self.waiting -= 1
        wait_seconds = self._turns.take(asyncio.get_running_loop().time())
        if wait_seconds is None:
            retry_after_seconds = 1 + LONGEST_WAIT_SECONDS * random()
            return postpone(OVERLOADED, "too many clients connect at once; retry later", retry_after_seconds)
        if wait_seconds:
            self.waiting += 1
            try:
                await asyncio.wait_for(self._drain_begun.wait(), wait_seconds)
            except TimeoutError:
                pass
            finally:
                self.waiting -= 1
        return self._find_drain()

    def _find_drain(self) -> Refusal | None:
        """Return why nobody is taken in any more, None while that is not so."""
        if self._drain is None:
            return None
        sentence = "the sidecar is going away; retry later"
        return postpone(self._drain.close, sentence, self._drain.retry_after_seconds())

    def _begin(self, wire: Wire, request: web.Request, refusal: Refusal | None) -> None:
        if refusal is not None and refusal.close is not None:
            ms = refusal.retry_after_ms
            wire.close(refusal.close, refusal.close.meaning, **({} if ms is None else {"retry_after_ms": ms}))
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
            checked = dropped = 0
            for wire in list(self.wires):
                checked += 1
                dropped += wire.check(loop.time())
                if checked == CHECKED_AT_ONCE or dropped == DROPPED_AT_ONCE:
                    checked = dropped = 0
                    await asyncio.sleep(0)

    async def drain(self, seconds: float, close: Close = RESTARTING, *, successor: bool = False) -> None:
        """Take no more connections, and send away those that are open, spread over `seconds`.

        Args:
            seconds: how long it takes at most, but for a moment in which the last ones may hang up.
            close: with what they are closed.
            successor: whether somebody else takes new connections already.
        """
        self._drain = Drain(self.wires, seconds, close, successor=successor)
        self._drain_begun.set()
        await self._drain.run()
