"""One connection of Server-Sent Events: events out to the socket, nothing in.

As for a WebSocket, aiohttp answers the request, and then `set_protocol` hands the connection to a protocol of ours, so
that what the hub writes goes to the transport as it is, and `pause_writing` tells at once when the socket is full.
"""

import asyncio
import socket
from typing import Final

from bridge.core.audience import SubscriptionKey
from bridge.core.codes import Close
from bridge.core.events import COMMENT, EventReader, EventSession, with_retry
from bridge.core.hub import Hub, Status
from bridge.core.limits import Limits
from bridge.core.update import Format
from bridge.core.vector import Vector
from bridge.edges.handover import take_over
from bridge.edges.patience import Patience, Stall, bound_buffers
from bridge.edges.wire import CLOSE_SECONDS

LEAST_RETRY_MS: Final = 1000
"""Clients that find nobody try again and again after the time that they were told: it must not be nothing."""

DISCARD_BYTES: Final = 65_536
"""How much a client may send that has nothing to say."""

LAST_CHUNK: Final = b"0\r\n\r\n"


class EventWire(asyncio.Protocol):
    """The protocol of a connection after its request.

    Attributes:
        closed: set when the connection is gone.
    """

    __slots__ = (
        "_beat", "_chunked", "_closing", "_discarded", "_held", "_hub", "_loop", "_patience", "_reader",
        "_session", "_stall", "_transport", "closed",
    )  # fmt: skip

    def __init__(self, hub: Hub, limits: Limits, patience: Patience, format_: Format) -> None:
        """Make one without a connection: what is written waits for it.

        Args:
            hub: whose streams are served.
            limits: of what the client may ask for.
            patience: how long the client is waited for.
            format_: of the events.
        """
        self._loop = asyncio.get_running_loop()
        self._hub = hub
        self._patience = patience
        self._reader = EventReader(self._write, format_)
        self._session = EventSession(hub, self._reader, limits)
        self._transport: asyncio.Transport | None = None
        self._held: list[bytes] = []
        self._chunked = self._closing = False
        self._beat = self._loop.time()
        self._stall = Stall()
        self._discarded = 0
        self.closed: asyncio.Future[None] = self._loop.create_future()
        hub.attach(self._reader)
        hub.block(self._reader)

    def open(self, subscriptions: list[SubscriptionKey], reached: Vector, retry_after_ms: int) -> None:
        """Subscribe.

        Args:
            subscriptions: streams, and keys in them.
            reached: positions of some of them, behind which they go on.
            retry_after_ms: when the client should come back if the connection is lost.

        Raises:
            RequestError: a subscription cannot be had, or a position not be decided on; nothing has been done.
            Needed: pages are needed to tell; nothing has been done.
        """
        self._session.open(subscriptions, reached, retry_after_ms)

    def take_over(self, transport: asyncio.Transport, *, chunked: bool) -> None:
        """Take over a connection from aiohttp.

        Args:
            transport: of the connection, the head of the answer written.
            chunked: whether the answer is sent in chunks (RFC 9112, section 7.1); else it ends with the connection.
        """
        self._transport, self._chunked = transport, chunked
        take_over(transport, self)
        sock = bound_buffers(transport, self._patience)
        if sock is not None and sock.family != socket.AF_UNIX and hasattr(socket, "TCP_USER_TIMEOUT"):
            unacknowledged_ms = round(self._patience.stall_timeout_seconds * 1000)  # no pong shows that it is gone
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, unacknowledged_ms)
        held, self._held = self._held, []
        self._hub.unblock(self._reader)
        self._write(b"".join(held))

    def let_go(self) -> None:
        """Leave the hub, unless a connection was taken over: then it is left when that is lost."""
        if self._transport is None:
            self._closing = True
            self._hub.detach(self._reader)

    # ------------------------------------------------------------------ what the transport calls

    def data_received(self, data: bytes) -> None:
        """Throw away what a client sends that has nothing to say."""
        self._discarded += len(data)
        if self._discarded > DISCARD_BYTES:
            self.abort()

    def pause_writing(self) -> None:
        """Note that the socket takes no more."""
        self._stall.begin(self._loop.time(), self._waiting_bytes)
        self._hub.block(self._reader)

    def resume_writing(self) -> None:
        """Note that the socket takes more again."""
        self._stall.end()
        if not self._closing:
            self._hub.unblock(self._reader)

    def eof_received(self) -> bool:
        """Let the transport close: a peer that has hung up gets nothing more."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything."""
        self._closing = True
        self._hub.detach(self._reader)
        if not self.closed.done():
            self.closed.set_result(None)

    # ------------------------------------------------------------------ events

    def _write(self, data: bytes) -> None:
        """Write whole events."""
        if self._transport is None:
            self._held.append(data)
        elif self._chunked:
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        else:
            self._transport.write(data)

    def tell_upstream(self, status: Status) -> None:
        """Tell that the state of what feeds the hub has changed."""
        if not self._closing:
            self._write(self._session.upstream(status))

    def announce(self, close: Close, retry_after_ms: int) -> None:
        """Tell that the connection will be closed, and when to come back."""
        if not self._closing:
            notice = self._session.going_away(retry_after_ms, close.meaning)
            self._write(with_retry(max(retry_after_ms, LEAST_RETRY_MS), notice))

    def close(self, close: Close, message: str, **more: int) -> None:
        """End the events, having said when to come back."""
        if self._closing or self._transport is None:
            return
        self._closing = True
        self._hub.detach(self._reader)
        self._write(with_retry(max(more.get("retry_after_ms", 0), LEAST_RETRY_MS), b"\n"))
        if self._chunked:
            self._transport.write(LAST_CHUNK)
        self._transport.close()
        self._loop.call_later(CLOSE_SECONDS, self.abort)

    def abort(self) -> None:
        """Drop the connection at once."""
        if self._transport is not None and not self.closed.done():  # asyncio takes it badly where it is gone
            self._transport.abort()

    # ------------------------------------------------------------------ liveness

    @property
    def _waiting_bytes(self) -> int:
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def check(self, now: float) -> bool:
        """Show life in every ping interval; abort a peer that takes nothing. Called about once a second.

        Args:
            now: loop time.

        Returns:
            Whether it was aborted.
        """
        if self._closing:
            return False
        if self._stall.lasts:
            return self._drop_stalled(now)
        if now - self._beat > self._patience.ping_interval_seconds:
            self._beat = now
            self._write(COMMENT)
        return False

    def _drop_stalled(self, now: float) -> bool:
        over = self._stall.longer_than(self._patience.stall_timeout_seconds, now, self._waiting_bytes)
        if over:
            self.abort()
        return over
