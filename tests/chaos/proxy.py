"""A TCP proxy on one hop: it passes bytes on, until it is told to stall, cut, delay, trickle or half-close."""

import asyncio
import socket
import struct
from collections import deque
from contextlib import suppress

BACKLOG_BYTES = 1 << 20
"""How much of one direction waits here, before the sender is no longer read."""

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER that makes a close a reset: what the peer has not read is lost."""


class End(asyncio.Protocol):
    """One side of a connection that is passed on."""

    def __init__(self, proxy: "Proxy", peer: "End | None" = None) -> None:
        self.proxy = proxy
        self.peer = peer
        self.transport: asyncio.Transport | None = None
        self.waiting: deque[tuple[float, bytes]] = deque()  # due, bytes: from here to the peer
        self.size = 0
        self.timer: asyncio.TimerHandle | None = None
        self.full = False  # the peer takes no more
        self.over = False  # nothing more comes from here
        self.told = False  # and the peer was told so
        self.opening: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.proxy.ends.add(self)
        if self.peer is None:  # a client
            if self.proxy.refusing:
                self.abort()
                return
            transport.pause_reading()
            self.opening = asyncio.ensure_future(self.open())
        elif self.proxy.stalled:
            transport.pause_reading()

    async def open(self) -> None:
        """Connect to the server."""
        loop = asyncio.get_running_loop()
        self.peer = End(self.proxy, self)
        try:
            await loop.create_connection(lambda: self.peer, *self.proxy.target)
        except OSError:
            self.abort()
            return
        if self.transport is None or self.transport.is_closing():
            self.peer.abort()
        elif not self.proxy.stalled:
            self.transport.resume_reading()
            self.plan()

    @property
    def connected(self) -> bool:
        """Whether there is somebody to pass bytes on to: on 3.11.2, bytes come although reading is paused."""
        return self.peer is not None and self.peer.transport is not None

    def data_received(self, data: bytes) -> None:
        proxy = self.proxy
        if not proxy.shaped and not self.waiting and self.connected:
            self.pass_on(data)
            return
        loop = asyncio.get_running_loop()
        due = loop.time() + proxy.delay_seconds
        if self.waiting:
            due = max(due, self.waiting[-1][0])
        for start in range(0, len(data), proxy.piece_bytes):
            piece = data[start : start + proxy.piece_bytes]
            self.waiting.append((due, piece))
            due += len(piece) / proxy.bytes_per_second if proxy.bytes_per_second else 0
        self.size += len(data)
        self.settle_reading()
        self.plan()

    def pass_on(self, data: bytes) -> None:
        """Give bytes to the peer, unless it was told that nothing more comes."""
        peer = self.peer.transport if self.peer is not None else None
        if peer is not None and not peer.is_closing() and not self.told:
            peer.write(data)

    def plan(self) -> None:
        if self.timer is None and self.waiting:
            self.timer = asyncio.get_running_loop().call_at(self.waiting[0][0], self.release)

    def release(self) -> None:
        """Pass on what is due; all of it once the proxy shapes nothing any more."""
        self.timer = None
        now = asyncio.get_running_loop().time() + 0.001
        ready = self.connected and not self.proxy.stalled
        while self.waiting and ready and (self.waiting[0][0] <= now or not self.proxy.shaped):
            _, piece = self.waiting.popleft()
            self.size -= len(piece)
            self.pass_on(piece)
        if ready:
            self.plan()
        if self.over and not self.waiting:
            self.pass_end()
        self.settle_reading()

    def settle_reading(self) -> None:
        """Read from here as long as there is room, and nobody has stalled it."""
        if self.transport is None or self.transport.is_closing() or self.peer is None or self.peer.transport is None:
            return  # what comes has nowhere to go yet
        muted = self.proxy.muted and self.opening is None
        wanted = not (self.full or self.proxy.stalled or muted or self.size > BACKLOG_BYTES)
        if wanted:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    def pause_writing(self) -> None:
        if self.peer is not None:
            self.peer.full = True
            self.peer.settle_reading()

    def resume_writing(self) -> None:
        if self.peer is not None:
            self.peer.full = False
            self.peer.settle_reading()

    def eof_received(self) -> bool:
        self.over = True
        if not self.waiting:
            self.pass_end()
        return True  # the other direction goes on

    def pass_end(self) -> None:
        """Tell the other side that nothing more comes."""
        peer = self.peer.transport if self.peer is not None else None
        self.told = True
        if peer is not None and not peer.is_closing():
            with suppress(OSError, RuntimeError):
                peer.write_eof()
        if self.peer is not None and self.peer.over and not self.peer.waiting:
            for end in (self, self.peer):
                if end.transport is not None:
                    end.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.proxy.ends.discard(self)
        if self.timer is not None:
            self.timer.cancel()
        self.waiting.clear()
        if self.peer is not None and (exc is not None or not self.peer.waiting):
            self.peer.abort(reset=exc is not None)

    def abort(self, *, reset: bool = False) -> None:
        """End the connection at once."""
        if self.opening is not None:
            self.opening.cancel()
        if self.transport is None or self.transport.is_closing():
            return
        if reset:
            with suppress(OSError):
                self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.transport.abort()


class Proxy:
    """Passes connections on to one server.

    Attributes:
        name: of the hop.
        target: host and port of the server.
        port: that it listens on.
        refusing: whether new connections are turned away.
        stalled: whether nothing is passed on.
        muted: whether nothing is passed on from the server.
        delay_seconds: how much later everything is passed on.
        bytes_per_second: how slowly; 0: as fast as it comes.
    """

    def __init__(self, name: str, target: tuple[str, int]) -> None:
        self.name = name
        self.target = target
        self.port = 0
        self.refusing = self.stalled = self.muted = False
        self.delay_seconds = 0.0
        self.bytes_per_second = 0
        self.ends: set[End] = set()
        self._server: asyncio.Server | None = None

    @property
    def shaped(self) -> bool:
        """Whether bytes are held back."""
        return self.stalled or bool(self.delay_seconds or self.bytes_per_second)

    @property
    def piece_bytes(self) -> int:
        """In what pieces bytes are passed on."""
        return max(1, min(512, self.bytes_per_second // 20)) if self.bytes_per_second else 1 << 16

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: End(self), "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Cut everything and listen no more."""
        assert self._server is not None
        self._server.close()
        self.cut(reset=False)
        await self._server.wait_closed()

    # ------------------------------------------------------------------ faults

    def cut(self, *, reset: bool) -> None:
        """End every connection; with a reset, what is on its way is lost."""
        for end in list(self.ends):
            end.abort(reset=reset)

    def half_close(self, *, from_client: bool) -> None:
        """Say to one side of every connection that nothing more comes from the other."""
        for end in list(self.ends):
            if (end.opening is not None) is from_client:
                end.pass_end()

    def stall(self, stalled: bool) -> None:
        """Pass nothing on, or go on."""
        self.stalled = stalled
        self._settle()

    def mute(self, muted: bool) -> None:
        """Pass nothing on from the server, or go on."""
        self.muted = muted
        self._settle()

    def shape(self, *, delay_seconds: float = 0.0, bytes_per_second: int = 0) -> None:
        """Pass bytes on later, or more slowly."""
        self.delay_seconds, self.bytes_per_second = delay_seconds, bytes_per_second
        self._settle()

    def _settle(self) -> None:
        for end in list(self.ends):
            if end.timer is not None:
                end.timer.cancel()
            end.release()
