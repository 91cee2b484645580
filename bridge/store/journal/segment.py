"""Segments: files that hold a stream's records one after the other.

Format: a label, records, and once the segment is sealed a second label, the index, whose size and `tbj.seal` are the
last 16 bytes of the file. Only the last segment of a stream may be unsealed.
"""

import os
import zlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from pathlib import Path

from bridge.store.journal.files import (
    WINDOW_BYTES,
    checksum,
    create,
    cut,
    opened,
    read_at,
    read_file,
    sync_file,
    write_at,
)
from bridge.store.journal.index import END, OFFSET, SEALED, Head, Heard, Index, numbers, raw_numbers
from bridge.store.journal.label import HEAD_BYTES, Damage, pack, unpack
from bridge.store.journal.record import RECORD_BYTES, salt_of
from bridge.store.journal.record import unpack as unpack_record
from bridge.store.journal.span import Span, raw_spans
from bridge.store.journal.types import Record

SEGMENT_BYTES = 1 << 30
"""A segment that has as much gets no further record: offsets have 32 bits."""

INDEX_BYTES = 256 << 20
"""No index is larger."""


SPARSE = 16
"""Where fewer than one in as many records is wanted, they are read one by one."""


class Segment:
    """One segment.

    Attributes:
        path: of the file.
        head: its label.
        begin: offset of the first record.
        end: offset behind the last record.
        index_bytes: size of the index; 0 while it is not sealed.
        first_ms: when the first update was published, Unix milliseconds.
        last_ms: when the newest one was.
        keys: which record has the newest value of each key, the least recently changed first; empty when sealed.
        key_count: how many keys it has values of; 0 unless sealed.
        publishers: the last that was heard of each; empty when sealed.
        published: whether any record names a publisher.
        checksum: crc32 of all records.
    """

    __slots__ = ("_offsets", "begin", "checksum", "end", "first_ms", "head", "index_bytes", "key_count", "keys",
                 "last_ms", "path", "published", "publishers")  # fmt: skip

    def __init__(self, path: Path, head: Head, begin: int) -> None:
        """Describe a segment without records; `begin` is where its label ends."""
        self.path = path
        self.head = head
        self.end = self.begin = begin
        self.index_bytes = self.first_ms = self.last_ms = self.checksum = 0
        self.keys: dict[str, int] = {}
        self.publishers: dict[str, Heard] = {}
        self.published = False
        self.key_count = 0
        self._offsets = array(OFFSET)

    @classmethod
    def create(cls, path: Path, head: Head) -> "Segment":
        """Begin a segment.

        Raises:
            OSError: it cannot be written.
        """
        label = pack(head)
        create(path, label)
        return cls(path, head, len(label))

    def __len__(self) -> int:
        """How many records it holds."""
        return len(self._offsets)

    @property
    def first(self) -> int:
        """Seq of its first record."""
        return self.head.first

    @property
    def until(self) -> int:
        """Seq behind its last record."""
        return self.head.first + len(self._offsets)

    @property
    def written(self) -> int:
        """Bytes of the stream's records up to its end, those that are gone included."""
        return self.head.start + self.end - self.begin

    @property
    def records_bytes(self) -> int:
        """Bytes of its records."""
        return self.end - self.begin

    @property
    def sealed(self) -> bool:
        """Whether it has an index."""
        return self.index_bytes > 0

    @property
    def size_bytes(self) -> int:
        """Size of the file."""
        return self.end + self.index_bytes

    # ------------------------------------------------------------------ writing

    def accept(self, data: bytes, record: Record) -> None:
        """Take in a record that was written at `end`."""
        number = len(self._offsets)
        self._offsets.append(self.end)
        self.end += len(data)
        self.checksum = zlib.crc32(data, self.checksum)
        if not number:
            self.first_ms = record.time_ms
        self.last_ms = record.time_ms
        self.keys.pop(record.key, None)
        self.keys[record.key] = number
        if record.publisher:
            before = self.publishers.get(record.publisher)
            highest = record.publisher_seq if before is None else max(before.publisher_seq, record.publisher_seq)
            self.publishers[record.publisher] = Heard(highest, record.time_ms)
            self.published = True

    def seal(self, fd: int) -> None:
        """Write the index.

        Raises:
            OSError: it cannot be written; the segment is as before.
        """
        label = pack(self.index())
        try:
            write_at(fd, label + END.pack(len(label), SEALED), self.end)
        except OSError:
            cut(fd, self.end)
            raise
        self.index_bytes = len(label) + END.size
        self.key_count = len(self.keys)
        self.keys, self.publishers = {}, {}

    def unseal(self, fd: int) -> None:
        """Take the index off, so that records can be added.

        Raises:
            OSError: it cannot be read or cut off.
            Damage: it is not what it was.
        """
        index = self.index()
        os.ftruncate(fd, self.end)
        self.index_bytes = 0
        self.keys = dict(zip(index.keys, numbers(index.newest), strict=True))
        self.publishers = dict(index.publishers)

    def rewrite(self) -> None:
        """Put a copy in the place of the file, since the system failed to write it and may have forgotten some of it.

        Raises:
            OSError: it cannot be read or written.
            Damage: it is not what was written; the text is a sentence.
        """
        data = read_file(self.path, 0, self.size_bytes)
        if zlib.crc32(data[self.begin : self.end]) != self.checksum:
            raise Damage(f"{self.path} is damaged: the system has lost what was written")
        new = self.path.with_name(f"{self.path.name}.new")
        create(new, data)
        sync_file(new)
        new.replace(self.path)

    def index(self) -> Index:
        """Return the index, read from the file if the segment is sealed.

        Raises:
            OSError: it cannot be read.
            Damage: it is not what it was.
        """
        if self.sealed:
            try:
                return unpack(Index, read_file(self.path, self.end, self.index_bytes))[0]
            except Damage as error:
                raise Damage(f"the index of {self.path} {error}") from error
        return Index(
            self.end,
            self.checksum,
            self.first_ms,
            self.last_ms,
            raw_numbers(self._offsets),
            list(self.keys),
            raw_numbers(self.keys.values()),
            dict(self.publishers),
        )

    # ------------------------------------------------------------------ reading

    def span(self, first: int, until: int) -> Span:
        """Return where the records with seq `first` to `until` - 1 lie, which it must hold."""
        begin = first - self.head.first
        return Span(
            self.path, self.head.epoch, first, until - first, self._offsets[begin], self._end_of(until - 1 - self.first)
        )

    def until_within(self, first: int, size_bytes: int) -> int:
        """Return the highest `until` so that the records from `first` on have at most `size_bytes`."""
        begin = first - self.head.first
        limit = self._offsets[begin] + size_bytes
        if self.end <= limit:
            return self.until
        return self.head.first + bisect_right(self._offsets, limit, lo=begin) - 1

    def first_within(self, size_bytes: int) -> int:
        """Return the lowest `first` so that the records from there on have at most `size_bytes`."""
        return self.head.first + bisect_left(self._offsets, self.end - size_bytes)

    def spans_of(self, records: Iterable[int]) -> list[tuple[int, int]]:
        """Return (begin, end) of some records, which are numbered from 0."""
        ends = self._offsets[1:]
        ends.append(self.end)
        return [(self._offsets[number], ends[number]) for number in records]

    def _end_of(self, number: int) -> int:
        return self._offsets[number + 1] if number + 1 < len(self._offsets) else self.end

    def newest(self, index: Index) -> list[bytes]:
        """Return the newest record of each key, as it is written.

        Raises:
            OSError: one cannot be read.
            Damage: one is not what it was; the text is a sentence.
        """
        picked = numbers(index.newest)
        with opened(self.path) as fd:
            if len(picked) < len(self) // SPARSE:
                return list(raw_spans(fd, self.path, self.head.epoch, self.spans_of(picked)))
            data = read_at(fd, self.end, 0)
        if zlib.crc32(data[self.begin :]) != self.checksum:
            raise Damage(f"{self.path} is damaged: a checksum is wrong")
        return [data[begin:end] for begin, end in self.spans_of(picked)]

    # ------------------------------------------------------------------ opening

    @classmethod
    def load(cls, path: Path, epoch: str, stream: str) -> "Segment":
        """Read a segment of an epoch; one without an index ends where no whole record follows.

        Raises:
            OSError: it cannot be read.
            Damage: it cannot be relied on; the text is a sentence.
        """
        try:
            with opened(path) as fd:
                head, begin = unpack(Head, read_at(fd, HEAD_BYTES, 0))
                if (head.epoch, head.stream) != (epoch, stream):
                    raise Damage("belongs to another epoch or stream")
                segment = cls(path, head, begin)
                if not segment._load_index(fd):
                    segment._scan(fd)
                return segment
        except Damage as error:
            raise Damage(f"{path} {error}") from error

    def _load_index(self, fd: int) -> bool:
        """Take in the index, if there is one."""
        size = os.fstat(fd).st_size
        last = read_at(fd, END.size, max(size - END.size, 0))
        if len(last) < END.size:
            return False
        length, magic = END.unpack(last)
        begin = size - END.size - length
        if magic != SEALED or begin < self.begin or length > INDEX_BYTES:
            return False
        index, _ = unpack(Index, read_at(fd, length, begin))
        offsets = numbers(index.offsets)
        if index.end != begin or not offsets or offsets[0] != self.begin or offsets[-1] >= begin:
            raise Damage("is damaged: its index does not fit its records")
        if checksum(fd, self.begin, begin) != index.checksum:
            raise Damage("is damaged: a checksum is wrong")
        self._offsets, self.end, self.index_bytes = offsets, begin, size - begin
        self.checksum, self.first_ms, self.last_ms = index.checksum, index.first_ms, index.last_ms
        self.published = bool(index.publishers)
        self.key_count = len(index.keys)
        return True

    def _scan(self, fd: int) -> None:
        """Take in the records up to where no whole one follows."""
        salt, size = salt_of(self.head.epoch), os.fstat(fd).st_size
        data, at = b"", self.end
        while self.end < size:
            found = unpack_record(data, self.end - at, salt)
            if found is not None and found[0].seq == self.until:
                record, end = found
                self.accept(data[self.end - at : end], record)
            elif found is None and (more := self._window(at, len(data))):
                data, at = read_at(fd, more, self.end), self.end
            else:
                return

    def _window(self, at: int, size: int) -> int:
        """Return how much to read at `end`, where no record was found in `size` bytes from `at`; 0: there is none."""
        if at < self.end or not size:
            return WINDOW_BYTES
        return RECORD_BYTES if size == WINDOW_BYTES else 0
