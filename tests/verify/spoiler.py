"""A proxy before a sidecar that spoils what it sends: WebSocket frames are dropped, repeated or altered."""

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tests.doctor.proxy import HEAD_END, listening, pump
from tests.edges.rawclient import TEXT, parse_frame

Spoil = Callable[[dict], list[dict]]
"""Takes the value of an update, returns what is sent instead."""


def text_frame(value: dict) -> bytes:
    """Return a server's frame."""
    payload = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    length = len(payload)
    head = bytes([0x81, length]) if length < 126 else bytes([0x81, 126]) + struct.pack("!H", length)
    return head + payload


async def pass_frames(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, spoil: Spoil) -> None:
    """Pass frames on, updates in text spoilt."""
    buffer = b""
    while data := await reader.read(65536):
        buffer += data
        while (found := parse_frame(buffer)) is not None:
            frame, end = found
            raw, buffer = buffer[:end], buffer[end:]
            value = json.loads(frame.payload) if frame.opcode == TEXT else {}
            if "data" in value and not value.get("snapshot"):
                raw = b"".join(map(text_frame, spoil(value)))
            writer.write(raw)
        await writer.drain()


@asynccontextmanager
async def spoiling(port: int, spoil: Spoil) -> AsyncIterator[str]:
    """Serve on a free port before a sidecar; yield the URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)
        up = asyncio.create_task(pump(reader, server_writer, None))
        try:
            writer.write(await server_reader.readuntil(HEAD_END))
            await pass_frames(server_reader, writer, spoil)
        finally:
            up.cancel()
            server_writer.close()

    async with listening(serve) as own:
        yield f"http://127.0.0.1:{own}"
