"""Records: updates as they lie in a file.

A record is: crc32 (u32) of all that follows, its size with the crc (u32), seq (u64), ordinal (u64), time_ms (i64),
publisher_seq (u64), bytes of publisher (u16) and key (u16), publisher, key, serialized update. Numbers are
little-endian. The crc begins with a salt, so that what another epoch left behind on the disk is never taken for a
record of this one.
"""

import struct
import zlib

from bridge.store.journal.types import Record

CRC = struct.Struct("<I")
BODY = struct.Struct("<IQQqQHH")
FIELDS = struct.Struct("<IIQQqQHH")

RECORD_BYTES = 64 << 20
"""The largest record."""


def salt_of(epoch: str) -> int:
    """Return what the checksums of an epoch's records begin with."""
    return zlib.crc32(epoch.encode())


def pack(record: Record, salt: int) -> bytes:
    """Return a record as it is written.

    Raises:
        ValueError: a field does not fit; the text completes "the update …".
    """
    publisher, key = record.publisher.encode(), record.key.encode()
    size = FIELDS.size + len(publisher) + len(key) + len(record.raw)
    if size > RECORD_BYTES:
        raise ValueError(f"has {len(record.raw)} bytes, and a record has room for {RECORD_BYTES}")
    try:
        body = BODY.pack(
            size, record.seq, record.ordinal, record.time_ms, record.publisher_seq, len(publisher), len(key)
        )
    except struct.error as error:
        raise ValueError(f"has a number or a name that does not fit: {error}") from error
    body = b"".join((body, publisher, key, record.raw))
    return CRC.pack(zlib.crc32(body, salt)) + body


def unpack(data: bytes, offset: int, salt: int) -> tuple[Record, int] | None:
    """Return the record at `offset` and where it ends; None if there is no whole one."""
    if len(data) - offset < FIELDS.size:
        return None
    crc, size, seq, ordinal, time_ms, publisher_seq, publisher_bytes, key_bytes = FIELDS.unpack_from(data, offset)
    end = offset + size
    key_at = offset + FIELDS.size + publisher_bytes
    raw_at = key_at + key_bytes
    if not raw_at <= end <= len(data) or zlib.crc32(data[offset + CRC.size : end], salt) != crc:
        return None
    publisher = data[offset + FIELDS.size : key_at].decode() if publisher_bytes else ""
    key = data[key_at:raw_at].decode() if key_bytes else ""
    return Record(seq, ordinal, time_ms, key, data[raw_at:end], publisher, publisher_seq), end


def intact(data: bytes, salt: int) -> bool:
    """Return whether `data` is one whole record."""
    return len(data) >= FIELDS.size and CRC.unpack_from(data) == (zlib.crc32(data[CRC.size :], salt),)
