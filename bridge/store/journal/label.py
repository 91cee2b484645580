"""Labels: what every file of the journal begins with, says what it is, in which version, and cannot be misread.

A label is: 8 bytes of magic, version (u16), 2 bytes of zero, length (u32), crc32 (u32) of all of it but itself, then a
MessagePack array, then zeros up to a multiple of 16 bytes. Numbers are little-endian.
"""

import struct
import zlib
from typing import ClassVar, TypeVar

import msgspec

from bridge.core.errors import BridgeError

VERSION = 1
"""Of the format of all files of the journal."""

HEAD_BYTES = 4096
"""A label at the beginning of a file takes no more."""

HEADER = struct.Struct("<8sHHI")
CRC = struct.Struct("<I")
FRONT_BYTES = HEADER.size + CRC.size
ALIGNMENT = 16


class Damage(BridgeError):
    """What is on disk cannot be relied on; the text says what and where."""


class Label(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Base of what labels say; `magic` has 8 bytes and tells them apart."""

    magic: ClassVar[bytes] = b""


L = TypeVar("L", bound=Label)


def pack(label: Label) -> bytes:
    """Return a label as it is written; its length is a multiple of 16."""
    body = msgspec.msgpack.encode(label)
    header = HEADER.pack(label.magic, VERSION, 0, len(body))
    crc = zlib.crc32(body, zlib.crc32(header))
    return header + CRC.pack(crc) + body + bytes(-(FRONT_BYTES + len(body)) % ALIGNMENT)


def unpack(kind: type[L], data: bytes, offset: int = 0) -> tuple[L, int]:
    """Return the label at `offset` and where it ends.

    Raises:
        Damage: it is not there, of another version, cut short or damaged; the text completes "the file …".
    """
    if len(data) < offset + FRONT_BYTES:
        raise Damage("is cut short")
    magic, version, _, length = HEADER.unpack_from(data, offset)
    if magic != kind.magic:
        raise Damage("is not what it should be")
    if version != VERSION:
        raise Damage(f"is of version {version}, and this program reads version {VERSION}")
    begin = offset + FRONT_BYTES
    end = begin + length
    if end > len(data):
        raise Damage("is cut short")
    (crc,) = CRC.unpack_from(data, offset + HEADER.size)
    if zlib.crc32(data[begin:end], zlib.crc32(data[offset : offset + HEADER.size])) != crc:
        raise Damage("is damaged: a checksum is wrong")
    try:
        label = msgspec.msgpack.decode(data[begin:end], type=kind)
    except msgspec.DecodeError as error:
        raise Damage("is damaged: its label makes no sense") from error
    return label, offset + aligned(end - offset)


def size_of(front: bytes) -> int:
    """Return how many bytes the label takes that begins with `front`; it need not be one."""
    if len(front) < FRONT_BYTES:
        return 0
    return aligned(FRONT_BYTES + int(HEADER.unpack_from(front)[3]))


def aligned(size: int) -> int:
    """Return the bytes that a label takes whose header and content have `size` bytes."""
    return size + -size % ALIGNMENT
