"""The WebSocket client of verify: strict about what it reads, and in want of nothing that a server may send."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bridge.verify.websocket import BINARY, TEXT, Ended, NotConnectedError, Target, WebSocket, connect
from tests.doctor.proxy import HEAD_END, listening

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def answer(head: bytes, status: str = "101 Switching Protocols", subprotocol: str = "") -> bytes:
    """Return the answer to a handshake."""
    key = head.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
    accept = base64.b64encode(hashlib.sha1(key + GUID.encode()).digest()).decode()
    lines = [f"HTTP/1.1 {status}", "Upgrade: websocket", f"Sec-WebSocket-Accept: {accept}"]
    return "\r\n".join([*lines, *([f"Sec-WebSocket-Protocol: {subprotocol}"] if subprotocol else []), "", ""]).encode()


@asynccontextmanager
async def server(*sent: bytes, **how: str) -> AsyncIterator[Target]:
    """Serve one that sends bytes after the handshake, in one write, and then waits."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(await reader.readuntil(HEAD_END), **how) + b"".join(sent))
        await reader.read()

    async with listening(serve) as port:
        yield Target("127.0.0.1", port, False, "/ws")


async def ended(socket: WebSocket) -> Ended:
    async with asyncio.timeout(10):
        return await socket.ended


CLOSE = b"\x88\x05\x03\xf4bye"


@pytest.mark.parametrize(
    ("sent", "messages"),
    [
        (b"\x81\x02hi", [(TEXT, b"hi")]),
        (b"\x82\x02hi\x81\x00", [(BINARY, b"hi"), (TEXT, b"")]),
        (b"\x01\x01a\x89\x01p\x00\x01b\x80\x01c", [(TEXT, b"abc")]),
        (b"\x81\x7e\x01\x00" + b"x" * 256, [(TEXT, b"x" * 256)]),
        (b"\x82\x7f" + (70_000).to_bytes(8, "big") + b"y" * 70_000, [(BINARY, b"y" * 70_000)]),
    ],
)
async def test_messages_are_read(sent, messages):
    got: list[tuple[int, bytes]] = []
    async with server(sent, CLOSE) as target:
        socket = await connect(target, lambda opcode, payload: got.append((opcode, payload)))
        assert await ended(socket) == Ended(1012, "bye", "")
    assert got == messages


@pytest.mark.parametrize(
    ("sent", "fault"),
    [
        (b"\x81\x82aaaahi", "masked"),
        (b"\xc1\x02hi", "reserved"),
        (b"\x83\x00", "opcode 3"),
        (b"\x80\x01a", "fragment"),
        (b"\x01\x01a\x01\x01b", "fragment"),
        (b"\x01\x01a\x81\x01b", "began within"),
        (b"\x09\x00", "control frame"),
        (b"\x88\x03\x03\xe8\xff", "UTF-8"),
        (b"\x81\x7f" + (1 << 40).to_bytes(8, "big"), "bytes"),
    ],
)
async def test_what_a_server_must_not_do_is_told(sent, fault):
    async with server(sent) as target:
        socket = await connect(target, lambda _opcode, _payload: None)
        assert fault in (await ended(socket)).fault


async def test_nothing_is_read_while_it_is_paused():
    got: list[bytes] = []
    sent = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(await reader.readuntil(HEAD_END)))
        await reader.readexactly(7)
        writer.write(b"\x81\x01a")
        await writer.drain()
        sent.set()
        await reader.read()

    async with listening(serve) as port, asyncio.timeout(10):
        target = Target("127.0.0.1", port, False, "/ws")
        socket = await connect(target, lambda _opcode, payload: got.append(payload))
        socket.pause()
        socket.send(TEXT, b"x")
        await sent.wait()
        await until_idle()
        assert got == []
        socket.resume()
        while not got:
            await asyncio.sleep(0.005)
        await socket.drop()
        assert (await socket.ended).code is None
    assert got == [b"a"]


async def until_idle() -> None:
    """Let the loop see to everything that is ready."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"status": "503 Service Unavailable"}, "HTTP 503"),
        ({"subprotocol": "theblock.v1.proto"}, "does not speak"),
        ({"status": "XYZ"}, "no HTTP server"),
    ],
)
async def test_a_handshake_that_fails_is_told(how, sentence):
    async with server(**how) as target:
        with pytest.raises(NotConnectedError, match=sentence):
            await connect(target, lambda _opcode, _payload: None, "theblock.v1.json")


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://h:1", Target("h", 1, False, "/ws")),
        ("https://h", Target("h", 443, True, "/ws")),
        ("ws://h/x/ws?a=b", Target("h", 80, False, "/x/ws?a=b")),
        ("wss://[::1]:8/", Target("::1", 8, True, "/ws")),
    ],
)
def test_urls(url, target):
    assert Target.of(url) == target


def test_what_is_no_url():
    with pytest.raises(ValueError, match="URL of a sidecar"):
        Target.of("ftp://h")
