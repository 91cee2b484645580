"""A stream in the journal: its segments, and the base of those that were dropped."""

import errno
import logging
from contextlib import suppress

from bridge.store.journal.base import Base
from bridge.store.journal.files import cut, write_at
from bridge.store.journal.index import Head, Index
from bridge.store.journal.label import Damage
from bridge.store.journal.place import Place
from bridge.store.journal.record import pack, salt_of
from bridge.store.journal.segment import SEGMENT_BYTES, Segment
from bridge.store.journal.types import Declared, Record

PARTS = 4
"""A limit is kept to by dropping segments, so a segment holds at most that part of it."""

SEGMENT_KEYS = 2048
"""A segment with values of as many keys is full: sealing and dropping it takes the caller a millisecond or two."""

DROPS = 8
"""Segments of a stream that are dropped at once, so that nobody waits for long; the next ones go a second later."""

NOTHING = Index(0, 0, 0, 0, b"", [], b"", {})
"""Index of a segment that cannot be read."""

log = logging.getLogger(__name__)


class StoredStream:
    """One stream.

    Attributes:
        declared: what it is.
        base: what stays of segments that were dropped.
        segments: in order; none but the last is unsealed.
        written: bytes of its records since the beginning of the epoch, those that are gone included.
        synced: how many of them are known to be on disk.
        head: seq of the newest update, 0 before the first.
    """

    def __init__(
        self, declared: Declared, place: Place, base: Base, segments: list[Segment], *, synced: int = 0
    ) -> None:
        self.declared = declared
        self.base = base
        self.segments = segments
        self._place = place
        self._salt = salt_of(place.epoch)
        limits = place.limits
        self._segment_count = min(limits.segment_count, max(1, limits.count // PARTS))
        self._segment_bytes = min(limits.segment_bytes, max(1, limits.bytes // PARTS), SEGMENT_BYTES)
        self._segment_age_ms = max(1, limits.age_ms // PARTS) if limits.age_ms else None
        self.written = segments[-1].written if segments else base.start
        self.synced = synced
        self.head = segments[-1].until - 1 if segments else base.oldest - 1

    @property
    def name(self) -> str:
        """Name of the stream."""
        return self.declared.name

    @property
    def epoch(self) -> str:
        """Of its positions."""
        return self._place.epoch

    @property
    def oldest(self) -> int:
        """Seq of the oldest update; one more than `head` where there is none."""
        return self.base.oldest

    @property
    def size_bytes(self) -> int:
        """Of all its files."""
        return self.base.size_bytes + sum(segment.size_bytes for segment in self.segments)

    def __len__(self) -> int:
        """How many updates it holds."""
        return self.head + 1 - self.oldest

    # ------------------------------------------------------------------ writing

    def append(self, record: Record) -> None:
        """Write the next update.

        Raises:
            OSError: it cannot be written, and nothing of it was.
            Damage: the segment is not what it was.
            ValueError: it cannot be kept; the text completes "the update …".
        """
        if record.seq != self.head + 1:
            raise ValueError(f"is not the next of its stream, which has number {self.head + 1}")
        place = self._place
        data = pack(record, self._salt)
        tail = self._tail(len(data))
        fd = place.files.get(tail)
        try:
            write_at(fd, data, tail.end)
            place.mark.put_written(self.declared.name, self.written + len(data))
        except OSError:
            cut(fd, tail.end)
            raise
        tail.accept(data, record)
        self.written += len(data)
        self.head += 1
        if record.publisher:
            place.hear(record.publisher)
        place.work.updates += 1
        place.work.wrote(tail, self)

    def _tail(self, size: int) -> Segment:
        """Return the segment that takes the next `size` bytes."""
        if self.segments:
            tail = self.segments[-1]
            if not tail.sealed and not self._full(tail, size):
                return tail
            if tail.sealed and not self._full(tail, size) and not self._aged(tail, self._place.clock_ms()):
                tail.unseal(self._place.files.get(tail))  # the journal was closed, and goes on here
                return tail
            self._seal(tail)
        head = Head(self._place.epoch, self.name, self.head + 1, self.written)
        segment = Segment.create(self._place.segment_path(self.name, head.first), head)
        self.segments = [*self.segments, segment]
        self._place.work.named()
        self._place.work.wrote(segment, self)
        with suppress(OSError):  # the journal trims once in a second, and tells of it then
            self._trim(self._place.clock_ms(), self._segment_count, self._segment_bytes)
        return segment

    def _full(self, segment: Segment, size: int) -> bool:
        return (
            len(segment) >= self._segment_count
            or max(len(segment.keys), segment.key_count) >= SEGMENT_KEYS
            or (segment.records_bytes + size > self._segment_bytes and len(segment) > 0)
        )

    def _aged(self, segment: Segment, now_ms: int) -> bool:
        age_ms = self._segment_age_ms
        return age_ms is not None and len(segment) > 0 and segment.first_ms < now_ms - age_ms

    def _seal(self, segment: Segment) -> None:
        if not segment.sealed:
            segment.seal(self._place.files.get(segment))
            self._place.work.wrote(segment, self)

    def seal(self) -> None:
        """Seal the last segment, so that opening it is quick.

        Raises:
            OSError: its index cannot be written.
        """
        if self.segments and len(self.segments[-1]):
            self._seal(self.segments[-1])

    # ------------------------------------------------------------------ trimming

    def trim(self, now_ms: int) -> None:
        """Drop the oldest segments that are beyond the limits; the newest update stays.

        Raises:
            OSError: what stays of a segment cannot be written; it is not dropped.
        """
        if self.segments and self._aged(self.segments[-1], now_ms):
            self._seal(self.segments[-1])
        self._trim(now_ms)

    def _trim(self, now_ms: int, room_count: int = 0, room_bytes: int = 0) -> None:
        """Trim so that there is room for what a new segment takes."""
        limits = self._place.limits
        size_bytes = sum(segment.size_bytes for segment in self.segments) + room_bytes
        for first in self.segments[:DROPS]:
            beyond = (
                len(self) + room_count > limits.count
                or size_bytes > limits.bytes
                or (limits.age_ms and first.last_ms < now_ms - limits.age_ms)
            )
            if self.base.frozen or first.until > self.head or not beyond:
                return
            size_bytes -= first.size_bytes
            self._drop(first)

    def _drop(self, segment: Segment) -> None:
        place = self._place
        new = not self.base.size_bytes
        index, records = _remains(segment)
        self.base.put(place.files, index, records, segment.until, segment.written)
        self.segments = self.segments[1:]
        place.files.close(segment)
        if new:
            place.work.named()
        place.work.wrote(self.base, self)
        place.work.remove(segment)
        if self.base.bloated:
            place.work.compact(self.base, self)


def _remains(segment: Segment) -> tuple[Index, list[bytes]]:
    """Return the index of a segment, and the newest record of each key; nothing of one that is damaged.

    Raises:
        OSError: it cannot be read for now.
    """
    try:
        index = segment.index()
        return index, segment.newest(index)
    except (OSError, Damage) as error:
        if isinstance(error, OSError) and error.errno != errno.EIO:
            raise
        log.error("current values that only stood in %s are lost: %s", segment.path.name, error)
        return NOTHING, []
