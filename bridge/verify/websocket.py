"""A WebSocket client that is strict about what it reads (RFC 6455), cheap, and free to be slow or rude."""

import asyncio
import base64
import contextlib
import hashlib
import os
import socket
import ssl
import struct
from collections.abc import Callable
from typing import Final, NamedTuple
from urllib.parse import urlsplit

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

GUID: Final = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""Of RFC 6455, section 1.3."""

HTTP: Final = b"HTTP/1."
"""What an answer to a handshake begins with."""

HEAD_BYTES: Final = 32_768
"""The longest head of an HTTP response that is read."""

MESSAGE_BYTES: Final = 16 << 20
"""The largest message that is taken."""

CONNECT_SECONDS: Final = 5.0
"""How long a handshake may take."""


class Target(NamedTuple):
    """Where a WebSocket is.

    Attributes:
        host: name or address.
        port: of TCP.
        secure: whether with TLS.
        path: of the URL, with its query.
    """

    host: str
    port: int
    secure: bool
    path: str

    @classmethod
    def of(cls, url: str) -> "Target":
        """Read a URL: http is taken for ws, no path for /ws.

        Raises:
            ValueError: it is no URL of a sidecar.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https", "ws", "wss") or not parts.hostname:
            raise ValueError("the URL of a sidecar is http://host:port or ws://host:port/path, or https, wss")
        secure = parts.scheme in ("https", "wss")
        path = parts.path if parts.path.strip("/") else "/ws"
        port = parts.port or (443 if secure else 80)
        return cls(parts.hostname, port, secure, f"{path}?{parts.query}" if parts.query else path)

    @property
    def authority(self) -> str:
        """Host and port, as the Host header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"


class NotConnectedError(Exception):
    """There is no connection; the text says why.

    Attributes:
        status: of the HTTP answer; 0 where there was none.
    """

    def __init__(self, sentence: str, status: int = 0) -> None:
        super().__init__(sentence)
        self.status = status


class Ended(NamedTuple):
    """How a connection ended.

    Attributes:
        code: of the close frame; None: it was cut off.
        reason: of the close frame.
        fault: what the server did that RFC 6455 forbids, empty where nothing.
    """

    code: int | None
    reason: str
    fault: str


Take = Callable[[int, bytes], object]
"""Takes the opcode, TEXT or BINARY, and the payload of a message."""


class WebSocket(asyncio.Protocol):
    """One connection. Messages are taken as soon as they come, unless it is paused.

    Attributes:
        ended: how it ended, once it has.
    """

    def __init__(self, take: Take) -> None:
        """Make one; `connect` opens it.

        Args:
            take: is given every message.
        """
        self._take = take
        self._buffer = bytearray()
        self._parts: list[bytes] = []  # of a message in fragments
        self._opcode = 0
        self._head: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._close: tuple[int | None, str] = None, ""
        self._fault = ""
        self._transport: asyncio.Transport | None = None
        self.ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()

    # ------------------------------------------------------------------ opening

    async def open(self, target: Target, subprotocol: str, receive_buffer_bytes: int = 0) -> None:
        """Shake hands.

        Raises:
            NotConnectedError: the server does not do it, or not right.
        """
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            f"GET {target.path} HTTP/1.1",
            f"Host: {target.authority}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {key}",
            *([f"Sec-WebSocket-Protocol: {subprotocol}"] if subprotocol else []),
        ]
        loop = asyncio.get_running_loop()
        context = ssl.create_default_context() if target.secure else None
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await loop.create_connection(lambda: self, target.host, target.port, ssl=context)
                assert self._transport is not None
                if receive_buffer_bytes:
                    set_receive_buffer(self._transport, receive_buffer_bytes)
                self._transport.write("\r\n".join([*lines, "", ""]).encode())
                head = await self._head
        except TimeoutError:
            raise NotConnectedError("the server accepted the connection and then said nothing") from None
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or error
            raise NotConnectedError(f"cannot connect to {target.authority}: {reason}") from None
        check_head(head, key, subprotocol)
        if self._buffer:
            self._read_frames()

    # ------------------------------------------------------------------ protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take note of the connection."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note of the end."""
        if not self._head.done():
            self._head.set_exception(NotConnectedError("the server closed the connection instead of an answer"))
            self._head.exception()
        if not self.ended.done():
            self.ended.set_result(Ended(*self._close, self._fault))

    def data_received(self, data: bytes) -> None:
        """Take in bytes."""
        self._buffer += data
        if self._head.done():
            self._read_frames()
            return
        end = self._buffer.find(b"\r\n\r\n")
        if end >= 0:
            head = bytes(self._buffer[:end])
            del self._buffer[: end + 4]
            self._head.set_result(head)
        elif len(self._buffer) > HEAD_BYTES or not self._buffer.startswith(HTTP[: len(self._buffer)]):
            self._head.set_exception(NotConnectedError("what answers there is no HTTP server"))
            self.abort()

    def _read_frames(self) -> None:
        data, at, size = bytes(self._buffer), 0, len(self._buffer)
        while at + 2 <= size and not self._fault:
            first, length = data[at], data[at + 1]
            start = at + 2
            if length == 126:
                if start + 2 > size:
                    break
                length = int.from_bytes(data[start : start + 2], "big")
                start += 2
            elif length == 127:
                if start + 8 > size:
                    break
                length = int.from_bytes(data[start : start + 8], "big")
                start += 8
            elif length > 127:
                self._break("the server masked a frame")
                break
            if length > MESSAGE_BYTES:
                self._break(f"a frame of {length} bytes")
                break
            if start + length > size:
                break
            at = start + length
            self._frame(first, data[start:at])
        del self._buffer[:at]

    def _frame(self, first: int, payload: bytes) -> None:
        if first == 0x81 or first == 0x82:  # whole, as nearly all are
            if self._parts:
                self._break("a message began within another one")
            else:
                self._take(first & 0x0F, payload)
            return
        opcode, final = first & 0x0F, first & 0x80
        if first & 0x70:
            self._break("a reserved bit is set")
        elif opcode in (TEXT, BINARY, CONTINUATION):
            self._fragment(opcode, payload, bool(final))
        elif not final or len(payload) > 125:
            self._break("a control frame is in fragments or too long")
        elif opcode == PING:
            self.send(PONG, payload)
        elif opcode == CLOSE:
            self._closed(payload)
        elif opcode != PONG:
            self._break(f"a frame has opcode {opcode}")

    def _fragment(self, opcode: int, payload: bytes, final: bool) -> None:
        if (opcode == CONTINUATION) is not bool(self._parts):
            self._break("a fragment does not follow what came before")
            return
        self._opcode = opcode or self._opcode
        self._parts.append(payload)
        if final:
            whole, self._parts = b"".join(self._parts), []
            self._take(self._opcode, whole)

    def _closed(self, payload: bytes) -> None:
        try:
            self._close = (int.from_bytes(payload[:2], "big") if payload else 1005), payload[2:].decode()
        except UnicodeDecodeError:
            self._break("the reason of a close frame is not UTF-8")
            return
        self.send(CLOSE, payload[:2])
        if self._transport is not None:
            self._transport.close()

    def _break(self, fault: str) -> None:
        self._fault = fault
        self.abort()

    # ------------------------------------------------------------------ what its owner does

    def send(self, opcode: int, payload: bytes) -> None:
        """Send a frame; does nothing once the connection is gone."""
        if self._transport is None or self._transport.is_closing():
            return
        length = len(payload)
        if length < 126:
            head = bytes([0x80 | opcode, 0x80 | length])
        else:
            head = bytes([0x80 | opcode, 0x80 | 126]) + struct.pack("!H", length)
        mask = os.urandom(4)
        key = (mask * (length // 4 + 1))[:length]
        masked = (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(length, "big")
        self._transport.write(head + mask + masked)

    def pause(self) -> None:
        """Read nothing until `resume`: what the server sends piles up on its side."""
        if self._transport is not None and not self._transport.is_closing():
            with contextlib.suppress(RuntimeError):
                self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._transport is not None and not self._transport.is_closing():
            with contextlib.suppress(RuntimeError):
                self._transport.resume_reading()

    def close(self) -> None:
        """Say good-bye; the server ends the connection."""
        self.send(CLOSE, (1000).to_bytes(2, "big"))

    def abort(self) -> None:
        """Cut the connection."""
        if self._transport is not None:
            self._transport.abort()

    async def drop(self) -> None:
        """Cut the connection, and wait until it is gone."""
        self.abort()
        if self._transport is not None:
            await asyncio.wait((self.ended,), timeout=CONNECT_SECONDS)


async def connect(target: Target, take: Take, subprotocol: str = "", *, receive_buffer_bytes: int = 0) -> WebSocket:
    """Open a WebSocket.

    Args:
        target: where it is.
        take: is given the opcode and the payload of every message.
        subprotocol: that is wanted; empty: none.
        receive_buffer_bytes: of the kernel; 0: as it comes.

    Raises:
        NotConnectedError: there is none.
    """
    opened = WebSocket(take)
    try:
        await opened.open(target, subprotocol, receive_buffer_bytes)
    except BaseException:
        await opened.drop()
        raise
    return opened


def set_receive_buffer(transport: asyncio.Transport, size_bytes: int) -> None:
    """Bound what the kernel takes in for a connection that is not read."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size_bytes)


def check_head(head: bytes, key: str, subprotocol: str) -> None:
    """Check the answer to a handshake.

    Raises:
        NotConnectedError: it is not as it must be.
    """
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
        raise NotConnectedError("what answers there is no HTTP server")
    status = int(rest[:3])
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if status != 101:
        raise NotConnectedError(f"the server answered the handshake with HTTP {status}", status)
    accept = base64.b64encode(hashlib.sha1((key + GUID).encode(), usedforsecurity=False).digest()).decode()
    if headers.get("sec-websocket-accept") != accept:
        raise NotConnectedError("the server's Sec-WebSocket-Accept is wrong", status)
    if headers.get("sec-websocket-protocol", "") != subprotocol:
        raise NotConnectedError(f"the server does not speak {subprotocol or 'without a subprotocol'}", status)
