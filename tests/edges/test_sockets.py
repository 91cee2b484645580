"""Sockets that are written to past their transports: what each gets where some take little, nothing, or are broken."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from bridge.edges.sockets import Sockets
from tests.edges.rawclient import parse_frame
from tests.edges.rig import until

DATA = bytes(range(256)) * 64
LARGE = 1 << 20
"""More than the kernel takes for a client that does not read."""


class Half(asyncio.Protocol):
    """The side that is written to; what its socket does not take goes to its transport."""

    def __init__(self, sockets: Sockets) -> None:
        self.sockets = sockets
        self.rests: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.descriptor = self.sockets.add(transport, self.write_rest)

    def write_rest(self, data: bytes) -> None:
        self.rests.append(data)
        self.transport.write(data)


@pytest.fixture
async def pairs() -> AsyncIterator[list[tuple[Half, socket.socket]]]:
    """Return three connections, each with the other end, which nobody reads."""
    loop, sockets = asyncio.get_running_loop(), Sockets()
    made = []
    for _ in range(3):
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        _, half = await loop.create_connection(lambda: Half(sockets), sock=ours)
        made.append((half, theirs))
    yield made
    for half, theirs in made:
        half.transport.abort()
        theirs.close()


async def read(sock: socket.socket, size: int) -> bytes:
    """Read so many bytes."""
    data = b""
    while len(data) < size and (more := await asyncio.get_running_loop().sock_recv(sock, 1 << 20)):
        data += more
    return data


async def test_each_gets_everything_whatever_the_others_take(pairs):
    (quick, fast), (full, slow), (broken, gone) = pairs
    with suppress(BlockingIOError):
        while True:
            os.write(full.descriptor, b"before" * 1000)
    gone.close()
    quick.sockets.write_all(DATA, [broken.descriptor, full.descriptor, quick.descriptor])
    assert quick.rests == []
    assert await read(fast, len(DATA)) == DATA
    assert broken.rests == [DATA]
    (rest,) = full.rests
    assert DATA.endswith(rest)
    data = b""
    while not data.endswith(DATA):
        data += await read(slow, 1)
    assert data.removesuffix(DATA).strip(b"before") == b""
    await until(broken.transport.is_closing, "the broken one is given up")


async def test_what_a_socket_took_half_of_is_written_whole_and_once(pairs):
    (half, sock), *_ = pairs
    half.sockets.write_all(b"a" * LARGE, [half.descriptor])
    (rest,) = half.rests
    assert 0 < len(rest) < LARGE
    assert await read(sock, LARGE) == b"a" * LARGE


async def test_a_socket_that_is_removed_is_not_kept(pairs):
    (half, _), *_ = pairs
    half.sockets.remove(half.descriptor)
    with pytest.raises(KeyError):
        half.sockets.remove(half.descriptor)


async def test_nothing_follows_a_frame_that_was_torn(rig, connect):
    """A connection is dropped, and with it what its socket does not take of a frame: no other may come behind that."""
    client = await connect("/ws?subscribe=ticks", receive_buffer_bytes=8192)
    rig.tick(1)
    await client.read_json()
    await client.pong()  # it is live
    (wire,) = rig.edge.wires
    received = b""

    def read_some() -> bool:
        nonlocal received
        with suppress(BlockingIOError):
            while more := client.sock.recv(1 << 20):
                received += more
            return True
        return False

    wire.abort()
    for letter in (b"x", b"y", b"z"):
        rig.origin.publish_custom("ticks", "tick", b'{"text":"%s"}' % (letter * 250_000))
        rig.hub.finish()
        read_some()
    await until(read_some, "the connection ends")
    assert b"xxx" in received, "a part of the first one was sent"
    assert parse_frame(received, 0) is None, "it is not whole"
    assert b"yyy" not in received
    assert b"zzz" not in received


async def test_a_transport_that_does_more_than_write_is_left_alone():
    assert Sockets().add(asyncio.Transport(), lambda _: None) is None
