"""A WebSocket client on a bare socket: strict about what it reads, and free to send anything.

It reads only when it is told to, so that it can be slow, and parses what the server sends as RFC 6455 demands.
"""

import asyncio
import base64
import json
import os
import socket
import struct
from typing import NamedTuple

from bridge.verify import oracle
from tests import frames
from tests.edges.rig import within

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
RSV1 = 0x40
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
"""The key of the example in RFC 6455, section 1.3."""

ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""The answer to it."""


class Received(NamedTuple):
    """A frame from the server."""

    opcode: int
    payload: bytes  # inflated, if it was deflated


class Answer(NamedTuple):
    """An HTTP response."""

    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes

    def json(self) -> dict:
        return json.loads(self.body)


class Hung(Exception):
    """The server has hung up."""


def frame(
    opcode: int, payload: bytes = b"", *, final: bool = True, masked: bool = True, reserved: int = 0, size: int = 0
) -> bytes:
    """Return a client's frame.

    Args:
        opcode: of it.
        payload: of it, before it is masked.
        final: whether FIN is set.
        masked: whether it is masked.
        reserved: the reserved bits, 0 to 7.
        size: say that the payload is this long, whatever it is.
    """
    length = size or len(payload)
    head = bytes([final << 7 | reserved << 4 | opcode])
    bit = masked << 7
    if length < 126:
        head += bytes([bit | length])
    elif length < 1 << 16:
        head += bytes([bit | 126]) + struct.pack("!H", length)
    else:
        head += bytes([bit | 127]) + struct.pack("!Q", length)
    if not masked:
        return head + payload
    key = os.urandom(4)
    return head + key + bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))


def parse_frame(data: bytes, start: int = 0, *, deflates: bool = False) -> tuple[Received, int] | None:
    """Read the server's frame at `start` and where the next one begins; None if it is not all there.

    Args:
        data: what has come.
        start: where the frame begins.
        deflates: whether permessage-deflate was agreed on.
    """
    if len(data) < start + 2:
        return None
    first, second = data[start], data[start + 1]
    deflated = deflates and first & (RSV1 | 0x0F) in (RSV1 | TEXT, RSV1 | BINARY)
    assert first & 0xF0 == 0x80 | RSV1 * deflated, f"a fragment or a reserved bit: {first:#x}"
    assert not second & 0x80, "the server masked a frame"
    opcode, length = first & 0x0F, second & 0x7F
    assert opcode in (TEXT, BINARY, CLOSE, PING, PONG), f"opcode {opcode}"
    start += 2
    if length >= 126:
        size = 2 if length == 126 else 8
        if len(data) < start + size:
            return None
        lowest = 126 if length == 126 else 1 << 16
        length = int.from_bytes(data[start : start + size], "big")
        assert length >= lowest, "a length is written longer than need be"
        start += size
    assert opcode in (TEXT, BINARY) or length <= 125
    end = start + length
    if len(data) < end:
        return None
    payload = bytes(data[start:end])
    return Received(opcode, frames.inflate(payload) if deflated else payload), end


def parse_frames(data: bytes) -> list[Received]:
    """Read bytes that are whole frames and nothing else."""
    frames, start = [], 0
    while start < len(data):
        read = parse_frame(data, start)
        assert read is not None, f"{len(data) - start} bytes at the end are no whole frame"
        frames.append(read[0])
        start = read[1]
    return frames


def parse_answer(head: bytes, body: bytes) -> Answer:
    """Read the head of an HTTP response."""
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Answer(int(first.split()[1]), headers, body)


class RawClient:
    """A connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = bytearray()
        self.deflates = False  # whether permessage-deflate was agreed on
        self.deflated = 0  # frames that came deflated
        self.judged: oracle.Client | None = None  # who is told what it says and gets

    @classmethod
    async def dial(cls, port: int, *, receive_buffer_bytes: int = 0) -> "RawClient":
        """Open a TCP connection."""
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        await within(asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port)))
        return cls(sock)

    @classmethod
    async def connect(cls, port: int, path: str = "/ws", *, receive_buffer_bytes: int = 0) -> "RawClient":
        """Open a WebSocket."""
        client = await cls.dial(port, receive_buffer_bytes=receive_buffer_bytes)
        answer = await client.shake(path)
        assert answer.status == 101, answer
        return client

    async def shake(self, path: str = "/ws", *, method: str = "GET", **headers: str | None) -> Answer:
        """Send a handshake and return the answer to it.

        Args:
            path: of the URL.
            method: of the request.
            headers: other than usual, with `_` for `-`; None leaves one out.
        """
        usual: dict[str, str | None] = {
            "Host": f"127.0.0.1:{self.sock.getpeername()[1]}",
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": KEY,
        }
        wanted = usual | {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"{name}: {value}" for name, value in wanted.items() if value is not None]
        await self.send("\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode())
        answer = await self.read_answer()
        self.deflates = answer.headers.get("sec-websocket-extensions", "").startswith("permessage-deflate")
        return answer

    async def read_answer(self) -> Answer:
        """Read an HTTP response, body and all."""
        while b"\r\n\r\n" not in self.buffer:
            await self.fill()
        head, _, rest = bytes(self.buffer).partition(b"\r\n\r\n")
        length = int(parse_answer(head, b"").headers.get("content-length", 0))
        while len(rest) < length:
            await self.fill()
            rest = bytes(self.buffer)[len(head) + 4 :]
        self.buffer[:] = rest[length:]
        return parse_answer(head, rest[:length])

    # ------------------------------------------------------------------ out

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        await within(asyncio.get_running_loop().sock_sendall(self.sock, data))

    async def send_text(self, text: str | bytes) -> None:
        """Send a text message."""
        if self.judged:
            self.judged.sent(text)
        await self.send(frame(TEXT, text if isinstance(text, bytes) else text.encode()))

    async def ask(self, value: object) -> None:
        """Send a JSON message."""
        await self.send_text(json.dumps(value))

    async def subscribe(self, *params: object, request_id: object = 1) -> None:
        """Send a subscribe request as the dashboard does."""
        await self.ask({"method": "state_stream.subscribe", "params": params, "id": request_id})

    # ------------------------------------------------------------------ in

    async def fill(self) -> None:
        """Read what is there.

        Raises:
            Hung: there is no more.
        """
        try:
            data = await within(asyncio.get_running_loop().sock_recv(self.sock, 1 << 16))
        except ConnectionError:
            data = b""
        if not data:
            raise Hung
        self.buffer += data

    async def read(self) -> Received:
        """Read a frame.

        Raises:
            Hung: there is none; what came before was whole frames.
        """
        while (read := parse_frame(self.buffer, deflates=self.deflates)) is None:
            try:
                await self.fill()
            except Hung:
                assert not self.buffer, "the last frame is not whole"
                raise
        self.deflated += bool(self.buffer[0] & RSV1)
        del self.buffer[: read[1]]
        frames.saw(read[0].opcode, read[0].payload)
        if self.judged and read[0].opcode == TEXT:
            self.judged.received(read[0].payload)
        return read[0]

    async def read_json(self) -> dict:
        """Read a message."""
        received = await self.read()
        assert received.opcode == TEXT, received
        return json.loads(received.payload)

    async def read_close(self) -> tuple[int, dict]:
        """Read to the close frame; return its code and its reason."""
        while (received := await self.read()).opcode != CLOSE:
            pass
        assert len(received.payload) <= 125
        code, reason = int.from_bytes(received.payload[:2], "big"), received.payload[2:]
        return code, json.loads(reason) if reason else {}

    async def read_to_end(self) -> list[Received]:
        """Read frames until the server hangs up."""
        received = []
        try:
            while True:
                received.append(await self.read())
        except Hung:
            return received

    async def pong(self) -> dict:
        """Ask for a pong and read it: there was nothing before it."""
        token = base64.b16encode(os.urandom(4)).decode()
        await self.ask({"type": "ping", "timestamp": token})
        answer = await self.read_json()
        assert (answer["type"], answer["timestamp"]) == ("pong", token), answer
        return answer

    def reset(self) -> None:
        """Close the socket so that the server is told that the connection is gone, not that it ends."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def hang_up(self) -> None:
        """Close the socket."""
        self.sock.close()
