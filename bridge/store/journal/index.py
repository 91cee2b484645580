"""What a segment begins and ends with."""

import struct
from array import array
from collections.abc import Iterable
from typing import ClassVar, NamedTuple

from bridge.store.journal.label import Label

OFFSET = "I"
"""Type of an offset within a segment."""

END = struct.Struct("<Q8s")
"""Size of the index, and SEALED: the last bytes of a segment that is sealed."""

SEALED = b"tbj.seal"


class Head(Label, frozen=True):
    """What a segment begins with."""

    magic: ClassVar[bytes] = b"tbj.segm"
    epoch: str
    stream: str
    first: int  # seq of the first record
    start: int  # bytes of the stream's records before it, those that are gone included


class Heard(NamedTuple):
    """The last that was heard of a publisher."""

    publisher_seq: int  # the highest
    time_ms: int


class Index(Label, frozen=True):
    """What a sealed segment ends with."""

    magic: ClassVar[bytes] = b"tbj.indx"
    end: int  # where the records end
    checksum: int  # crc32 of all of them
    first_ms: int
    last_ms: int
    offsets: bytes  # of each record, u32
    keys: list[str]  # that the segment has values of, the least recently changed first
    newest: bytes  # which record has the newest value of each, u32
    publishers: dict[str, Heard]


def raw_numbers(values: Iterable[int]) -> bytes:
    """Return u32 numbers as they are written: as this machine has them, since a journal stays where it was written."""
    return array(OFFSET, values).tobytes()


def numbers(data: bytes) -> "array[int]":
    """Return u32 numbers that were written."""
    return array(OFFSET, data)
