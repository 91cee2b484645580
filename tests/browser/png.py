"""PNG with a palette: pictures of a page have few colours, and a browser writes them as if they had many."""

import struct
import zlib
from collections import Counter
from collections.abc import Iterator

COLOURS = 256
ALIKE_BITS = 4
"""Colours are alike that differ in no more than so many bits of each channel."""

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def with_palette(png: bytes) -> bytes:
    """Return a picture with 256 colours: the most frequent of those that are alike; every other becomes the nearest.

    Args:
        png: 8 bits a channel, RGB or RGBA, not interlaced, as Chromium writes it.
    """
    parts = dict(chunks(png))
    width, height, depth, kind = struct.unpack(">IIBB", parts[b"IHDR"][:10])
    assert (depth, kind) in ((8, 2), (8, 6))
    size = 3 if kind == 2 else 4
    rows = [
        [row[at : at + 3] for at in range(0, width * size, size)]
        for row in unfiltered(zlib.decompress(parts[b"IDAT"]), width * size, size)
    ]
    alike: dict[tuple[int, ...], bytes] = {}
    for colour, _ in Counter(colour for row in rows for colour in row).most_common():
        alike.setdefault(tuple(value >> ALIKE_BITS for value in colour), colour)
    frequent = list(alike.values())[:COLOURS]
    indexes = {colour: index for index, colour in enumerate(frequent)}
    for colour in {colour for row in rows for colour in row} - indexes.keys():
        distances = [sum((one - other) ** 2 for one, other in zip(colour, known, strict=True)) for known in frequent]
        indexes[colour] = distances.index(min(distances))
    pixels = b"".join(b"\0" + bytes(indexes[colour] for colour in row) for row in rows)
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    return SIGNATURE + b"".join(
        chunk(name, data)
        for name, data in (
            (b"IHDR", header),
            (b"PLTE", b"".join(frequent)),
            (b"IDAT", zlib.compress(pixels, 9)),
            (b"IEND", b""),
        )
    )


def chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the chunks of a picture, those with its pixels as one."""
    at, pixels = len(SIGNATURE), b""
    while at < len(png):
        (size,) = struct.unpack(">I", png[at : at + 4])
        name, data = png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
        pixels += data if name == b"IDAT" else b""
        yield name, pixels if name == b"IDAT" else data
        at += 12 + size


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def unfiltered(data: bytes, width: int, size: int) -> Iterator[bytes]:
    """Yield the rows of a picture without their filters (PNG specification, section 9.2)."""
    before = bytearray(width)
    for start in range(0, len(data), width + 1):
        kind, row = data[start], bytearray(data[start + 1 : start + 1 + width])
        for at in range(width):
            left, corner = (row[at - size], before[at - size]) if at >= size else (0, 0)
            up = before[at]
            row[at] = (row[at] + (0, left, up, (left + up) // 2, nearest(left, up, corner))[kind]) & 0xFF
        yield bytes(row)
        before = row


def nearest(left: int, up: int, corner: int) -> int:
    """Return the one of three that is nearest to what they predict."""
    predicted = left + up - corner
    return min((left, up, corner), key=lambda one: abs(predicted - one))
