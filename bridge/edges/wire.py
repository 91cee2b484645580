"""One WebSocket connection: bytes in to the session, effects and updates out to the socket.

aiohttp answers the handshake; then `asyncio.BaseTransport.set_protocol` hands the connection to a `Wire`. So
nothing stands between the hub's frames and the transport, `pause_writing` tells at once when the socket is full,
and every close code and reason is ours.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from bridge.core.audience import SILENT, Reader, Way
from bridge.core.codes import STALLED, Close
from bridge.core.deflate import Deflate
from bridge.core.errors import FrameError
from bridge.core.frames import Decoder, Frame, Opcode, close_frame, close_reason, frame, parse_close
from bridge.core.hub import Hub, Status
from bridge.core.limits import Limits
from bridge.core.session import Await, Effect, Send, Session, Shut
from bridge.core.update import Format
from bridge.edges.handover import take_over
from bridge.edges.patience import Patience, Stall, bound_buffers
from bridge.edges.sockets import Sockets
from bridge.ops.deep import WAIT_SECONDS

CLOSE_SECONDS = 2.0
"""How long the peer may take to answer a close frame and hang up."""

DISCARD_BYTES = 64 << 20
"""How much of a peer is thrown away while it is awaited to hang up."""

MakeSession = Callable[[Hub, Reader, Limits], Session]

PING = frame(Opcode.PING, b"")


class Wire(asyncio.BufferedProtocol):
    """The protocol of a connection after its handshake.

    Attributes:
        closed: set when the connection is gone.
        opened: loop time of the handshake.
    """

    __slots__ = (
        "_awaited", "_closing", "_deadline", "_decoder", "_descriptor", "_discarded", "_hub", "_life", "_loop",
        "_patience", "_pinged", "_reader", "_received", "_session", "_sockets", "_stall", "_transport", "closed",
        "opened",
    )  # fmt: skip

    def __init__(
        self,
        transport: asyncio.Transport,
        hub: Hub,
        limits: Limits,
        patience: Patience,
        sockets: Sockets,
        format_: Format,
        make_session: MakeSession = Session,
        deflate: Deflate | None = None,
    ) -> None:
        """Take over a connection: from here on aiohttp sees of it only that it is lost.

        Args:
            transport: of the connection, the handshake done.
            hub: whose streams are served.
            limits: of what the client may ask for.
            patience: how long the client is waited for.
            sockets: those of all connections of the event loop.
            format_: of the frames.
            make_session: makes the session of the dialect that was agreed on.
            deflate: how messages are deflated; None: permessage-deflate was not agreed on.
        """
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._hub = hub
        self._patience = patience
        self._sockets = sockets
        self._decoder = Decoder(limits.message_bytes, deflates=deflate is not None)
        self._received: deque[Frame] = deque()  # their turn has not come
        self._awaited: Frame | None = None  # the message that waits for pages; none behind it is acted on
        self._deadline: asyncio.TimerHandle | None = None  # of that wait
        self._descriptor = sockets.add(transport, self._write_rest)
        way = None if self._descriptor is None else Way(sockets.write_all, self._descriptor)
        self._reader = Reader(transport.write, format_, deflate, way)
        self._session = make_session(hub, self._reader, limits)
        self._closing = False
        self._discarded = 0
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self.opened = self._life = self._loop.time()
        self._pinged = False
        self._stall = Stall()
        hub.attach(self._reader)
        take_over(transport, self)
        bound_buffers(transport, patience)

    def open(self, streams: list[str]) -> None:
        """Begin the session, with subscriptions named in the URL."""
        self._apply(self._session.open(streams))

    # ------------------------------------------------------------------ what the transport calls

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next bytes go: a read into memory that is there costs 3 µs, one that makes its own 17."""
        return self._sockets.inbox

    def buffer_updated(self, nbytes: int) -> None:
        """Take bytes in."""
        data = bytes(self._sockets.inbox[:nbytes])
        self._life = self._loop.time()
        self._pinged = False
        if self._closing:
            self._discard(data)
            return
        try:
            for received in self._decoder.feed(data):
                if self._awaited is not None and received.opcode is Opcode.PING:
                    self._receive(received)  # it overtakes: a peer that waits for us must still see life
                else:
                    self._received.append(received)
        except FrameError as error:
            self.close(error.close, str(error))
        self._work()

    def pause_writing(self) -> None:
        """Note that the socket takes no more."""
        self._stall.begin(self._loop.time(), self._transport.get_write_buffer_size())
        self._hub.block(self._reader)

    def resume_writing(self) -> None:
        """Note that the socket takes more again."""
        self._stall.end()
        if not self._closing:
            self._life, self._pinged = self._loop.time(), False  # it has read; its pong may have had to wait
            self._hub.unblock(self._reader)
            self._transport.resume_reading()
            self._work()

    def eof_received(self) -> bool:
        """Let the transport close: a peer that has hung up gets nothing more."""
        self._hub.detach(self._reader)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything."""
        self._closing = True
        self._stop_waiting()
        self._hub.detach(self._reader)
        if self._descriptor is not None:
            self._sockets.remove(self._descriptor)
        self._reader.events = SILENT  # the session: with it gone nothing waits for a collection of cycles
        if not self.closed.done():
            self.closed.set_result(None)

    def _write_rest(self, data: bytes) -> None:
        """Have the transport write what the socket has not taken."""
        self._transport.write(data)
        if self._transport.is_closing():  # it has dropped it: nothing may follow
            self._hub.detach(self._reader)

    # ------------------------------------------------------------------ messages

    def _work(self) -> None:
        """Act on what was received, as long as the peer reads the answers: what it asks for must not pile up here."""
        limit_bytes = self._patience.write_buffer_bytes
        try:
            while self._can_act() and self._transport.get_write_buffer_size() <= limit_bytes:
                received = self._received.popleft()
                self._receive(self._decoder.inflate(received))
                if received.deflated and self._received:  # few bytes may be a lot of work: one in a turn of the loop
                    self._transport.pause_reading()
                    self._loop.call_soon(self._go_on)
                    return
        except FrameError as error:
            self.close(error.close, str(error))
        if self._closing:
            return
        held_bytes = sum(len(received.payload) for received in self._received) if self._awaited is not None else 0
        if max(self._transport.get_write_buffer_size(), held_bytes) > limit_bytes:
            self._transport.pause_reading()

    def _go_on(self) -> None:
        """Act on what was left for this turn of the loop."""
        if not self._closing:
            self._transport.resume_reading()
            self._work()

    def _can_act(self) -> bool:
        """Whether there is a message to act on, and none before it waits for pages."""
        return bool(self._received) and self._awaited is None

    def _receive(self, received: Frame) -> None:
        match received.opcode:
            case Opcode.PING:
                self._transport.write(frame(Opcode.PONG, received.payload))
            case Opcode.PONG:
                pass
            case Opcode.CLOSE:
                code = parse_close(received.payload)
                self._finish(close_frame(1000 if code is None else code))
            case _:
                self._act(received)

    def _act(self, received: Frame, *, late: bool = False) -> None:
        """Act on a message, at once or when the pages that it needs are here."""
        effects = self._session.receive(received, late=late)
        places = [place for effect in effects if isinstance(effect, Await) for place in effect.places]
        if not places:
            self._stop_waiting()
            self._apply(effects)
            return
        self._awaited = received
        if self._deadline is None:
            self._deadline = self._loop.call_later(WAIT_SECONDS, self._look_again, True)
        for place in places:
            self._hub.pages.want(place, self._look_again)

    def _look_again(self, late: bool = False) -> None:
        """Act on the message that waits, since a page has come, or it has waited long enough."""
        received = self._awaited
        if received is None:
            return
        self._hub.pages.forget(self._look_again)
        self._act(received, late=late)
        if self._awaited is None and not self._closing:
            self._transport.resume_reading()
            self._work()

    def _stop_waiting(self) -> None:
        self._awaited = None
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
            self._hub.pages.forget(self._look_again)

    def _apply(self, effects: list[Effect]) -> None:
        if frames := [effect.frame for effect in effects if isinstance(effect, Send)]:
            self._transport.write(b"".join(frames))  # a write costs more than all that goes before it
        for effect in effects:
            if isinstance(effect, Shut):
                self.close(effect.close, effect.message)

    def close(self, close: Close, message: str, **more: int) -> None:
        """Send a close frame, then hang up when the peer does, or after two seconds."""
        if not self._closing:
            self._finish(close_frame(close.code, close_reason(close, **more, message=message)))

    def _finish(self, last_frame: bytes) -> None:
        self._closing = True
        self._stop_waiting()
        self._received.clear()
        self._hub.detach(self._reader)
        self._transport.write(last_frame)
        try:
            if self._transport.can_write_eof():
                self._transport.write_eof()
        except OSError:  # the peer has reset the connection, and we have not been told yet
            self._transport.abort()
        self._transport.resume_reading()
        self._loop.call_later(CLOSE_SECONDS, self.abort)

    def tell_upstream(self, status: Status) -> None:
        """Tell that the state of what feeds the hub has changed."""
        if not self._closing:
            self._apply(self._session.tell_upstream(status))

    def announce(self, close: Close, retry_after_ms: int) -> None:
        """Tell that the connection will be closed, and when to come back; in the classic dialect it is not told."""
        if not self._closing:
            self._apply(self._session.tell_going_away(retry_after_ms, close.meaning))

    def abort(self) -> None:
        """Drop the connection at once; nothing where it is gone already, which asyncio takes badly."""
        if not self.closed.done():
            self._transport.abort()

    def _discard(self, data: bytes) -> None:
        """Throw away what a peer still sends, so that hanging up does not cost it our close frame."""
        self._discarded += len(data)
        if self._discarded > DISCARD_BYTES:
            self._transport.abort()

    # ------------------------------------------------------------------ liveness

    def check(self, now: float) -> bool:
        """Ping a silent peer; abort one that shows no life or takes nothing. Called about once a second.

        Args:
            now: loop time.

        Returns:
            Whether it was aborted.
        """
        if self._closing:
            return False
        self._apply(self._session.tick(self._hub.monotonic_ms()))
        if self._stall.lasts:
            return self._drop_stalled(now)
        if self._pinged:
            if now - self._life > self._patience.ping_interval_seconds + self._patience.pong_timeout_seconds:
                self.close(STALLED, "no answer to a ping")
        elif now - self._life > self._patience.ping_interval_seconds:
            self._pinged = True
            self._transport.write(PING)
        return False

    def _drop_stalled(self, now: float) -> bool:
        left_bytes = self._transport.get_write_buffer_size()
        over = self._stall.longer_than(self._patience.stall_timeout_seconds, now, left_bytes)
        if over:
            self._transport.abort()
        return over
