"""The base: what stays of segments that were dropped, so that every key keeps its current value.

Format: a label, then a batch for each drop: a label that says what is gone, and the newest trimmed record of each key
that was in it. A batch that is not whole at the end was cut short before its segment was deleted. When more than half
of the file may have been superseded it is written anew.
"""

import logging
import os
import zlib
from array import array
from collections.abc import Collection, Iterable, Iterator
from itertools import accumulate
from operator import itemgetter, or_
from pathlib import Path
from typing import ClassVar

from bridge.store.journal.files import OpenFiles, create, cut, opened, read_at, write_at
from bridge.store.journal.index import OFFSET, Heard, Index, numbers, raw_numbers
from bridge.store.journal.label import FRONT_BYTES, HEAD_BYTES, Damage, Label, pack, size_of, unpack
from bridge.store.journal.record import intact, salt_of
from bridge.store.journal.span import read_spans
from bridge.store.journal.types import Record

KEYS = 200_000
"""Keys of which the newest trimmed value is kept; of more than that the least recently changed ones go."""

PUBLISHERS = 10_000
"""Publishers that are told apart; what is known of the one heard of longest ago goes."""

SLACK_BYTES = 4 << 20
"""Of records that were superseded, beside as much again as there was when the file was last written anew."""

BATCH_BYTES = 1 << 20
"""Of records in a batch when the file is written anew; one larger record makes a larger batch."""

SIZE_BITS = 32
"""A place is an offset, then the size of the record there in that many bits."""


log = logging.getLogger(__name__)


class BaseHead(Label, frozen=True):
    """What the file begins with."""

    magic: ClassVar[bytes] = b"tbj.base"
    epoch: str
    stream: str


class Batch(Label, frozen=True):
    """What a batch begins with; its records follow."""

    magic: ClassVar[bytes] = b"tbj.drop"
    oldest: int  # seq behind the last record that is gone
    start: int  # bytes of the stream's records that are gone
    checksum: int  # crc32 of the records of the batch
    keys: list[str]  # of the records, in order
    sizes: bytes  # of each record, u32
    publishers: dict[str, Heard]  # that were in what is gone


class Base:
    """The base of one stream.

    Attributes:
        path: of the file, which is there after the first drop.
        oldest: seq behind the last record that is gone.
        start: bytes of the stream's records that are gone.
        size_bytes: of the file.
        publishers: the last that was heard of each in what is gone.
        frozen: whether it is being written anew, and must not be changed.
    """

    def __init__(self, path: Path, epoch: str, stream: str) -> None:
        """Describe a base of a stream of which nothing is gone."""
        self.path = path
        self.oldest = 1
        self.start = 0
        self.size_bytes = 0
        self.publishers: dict[str, Heard] = {}
        self.frozen = False
        self._head = BaseHead(epoch, stream)
        self._places: dict[str, int] = {}
        self._live_bytes = 0  # at most, when it was last written anew

    def load(self) -> None:
        """Read the file, as far as whole batches follow one another.

        Raises:
            OSError: it cannot be read.
            Damage: it cannot be relied on; the text is a sentence.
        """
        try:
            with opened(self.path) as fd:
                head, size_bytes = unpack(BaseHead, read_at(fd, HEAD_BYTES, 0))
                if head != self._head:
                    raise Damage("belongs to another epoch or stream")
                self.size_bytes = size_bytes
                while (batch := self._read_batch(fd)) is not None:
                    self._accept(*batch)
        except Damage as error:
            raise Damage(f"{self.path} {error}") from error

    def _read_batch(self, fd: int) -> tuple[Batch, int, "array[int]"] | None:
        """Return the next batch, the size of its label and those of its records; None where no whole one follows."""
        size = size_of(read_at(fd, FRONT_BYTES, self.size_bytes))
        room = os.fstat(fd).st_size - self.size_bytes
        try:
            batch, _ = unpack(Batch, read_at(fd, min(size, room), self.size_bytes))
        except Damage:
            return None
        sizes = numbers(batch.sizes)
        records = read_at(fd, min(sum(sizes), room), self.size_bytes + size)
        return (batch, size, sizes) if zlib.crc32(records) == batch.checksum else None

    def _accept(self, batch: Batch, label_bytes: int, sizes: "array[int]") -> None:
        """Take in a batch that was written at the end."""
        offsets = list(accumulate(sizes, initial=self.size_bytes + label_bytes))
        places = map(or_, map((1 << SIZE_BITS).__mul__, offsets), sizes)  # no loop of Python: there may be thousands
        self._places.update(zip(batch.keys, places, strict=True))
        self.size_bytes = offsets[-1]
        self.oldest, self.start = batch.oldest, batch.start
        for name, heard in batch.publishers.items():
            before = self.publishers.pop(name, heard)
            self.publishers[name] = Heard(max(before.publisher_seq, heard.publisher_seq), heard.time_ms)

    @property
    def new_path(self) -> Path:
        """Where it is written anew."""
        return self.path.with_name(f"{self.path.name}.new")

    def __len__(self) -> int:
        """Of how many keys it holds a value."""
        return len(self._places)

    # ------------------------------------------------------------------ writing

    def put(self, files: OpenFiles, index: Index, records: list[bytes], oldest: int, start: int) -> None:
        """Take in what stays of a segment that is about to be dropped.

        Args:
            files: that are open.
            index: of the segment.
            records: the newest one of each key in the index, as they are written.
            oldest: seq behind the last record of the segment.
            start: bytes of the stream's records up to the end of the segment.

        Raises:
            OSError: it cannot be written; nothing has changed.
        """
        if not self.size_bytes:
            head = pack(self._head)
            create(self.path, head)
            self.size_bytes = len(head)
        batch, sizes = _batch(index.keys, records, oldest, start, index.publishers)
        label = pack(batch)
        fd = files.get(self)
        try:
            write_at(fd, b"".join((label, *records)), self.size_bytes)
        except OSError:
            cut(fd, self.size_bytes)
            raise
        self._accept(batch, len(label), sizes)

    @property
    def bloated(self) -> bool:
        """Whether it is time to write it anew."""
        return (
            self.size_bytes > 2 * self._live_bytes + SLACK_BYTES
            or len(self._places) > KEYS + KEYS // 4
            or len(self.publishers) > 2 * PUBLISHERS
        )

    def compact(self, limit_bytes: int, known: Collection[str], *, durable: bool) -> "Base":
        """Write what is not superseded to a new file beside this one; this one must be frozen.

        Args:
            limit_bytes: of records; the least recently changed ones go.
            known: publishers that are still told apart.
            durable: whether to wait until it is on disk.

        Returns:
            The base of the new file, which `replace` puts in the place of this one.

        Raises:
            OSError: it cannot be written.
        """
        new = Base(self.new_path, self._head.epoch, self._head.stream)
        head = pack(new._head)
        create(new.path, head)
        new.size_bytes = len(head)
        publishers = {name: heard for name, heard in self.publishers.items() if name in known}
        with opened(new.path, os.O_RDWR) as fd, opened(self.path) as source:
            for group in _groups(self._kept(limit_bytes)):
                keys, records = self._read_group(source, group)
                batch, sizes = _batch(keys, records, self.oldest, self.start, publishers)
                label = pack(batch)
                write_at(fd, b"".join((label, *records)), new.size_bytes)
                new._accept(batch, len(label), sizes)
                publishers = {}
            if durable:
                os.fsync(fd)
        new._live_bytes = new.size_bytes
        return new

    def _kept(self, limit_bytes: int) -> list[tuple[str, int]]:
        """Return keys and places that are within the limits, in order."""
        items = sorted(self._places.items(), key=itemgetter(1))[-KEYS:]
        total = 0
        for number in range(len(items) - 1, 0, -1):
            total += _place(items[number][1])[1]
            if total > limit_bytes:
                return items[number + 1 :] or items[-1:]
        return items

    def _read_group(self, fd: int, group: list[tuple[str, int]]) -> tuple[list[str], list[bytes]]:
        """Return keys and records that lie close to one another, without those that are damaged."""
        if not group:
            return [], []
        salt = salt_of(self._head.epoch)
        first, (last, size) = _place(group[0][1])[0], _place(group[-1][1])
        data = read_at(fd, last + size - first, first)
        records = [data[offset - first : offset - first + n] for offset, n in (_place(place) for _, place in group)]
        whole = [(key, record) for (key, _), record in zip(group, records, strict=True) if intact(record, salt)]
        if len(whole) < len(group):
            log.error("%s is damaged: %d current values are lost", self.path, len(group) - len(whole))
        return [key for key, _ in whole], [record for _, record in whole]

    def replace(self, new: "Base", files: OpenFiles) -> None:
        """Put what `compact` wrote in the place of this base.

        Raises:
            OSError: that failed; nothing has changed.
        """
        new.path.replace(self.path)
        files.close(self)
        self._places, self.publishers = new._places, new.publishers
        self.size_bytes, self._live_bytes = new.size_bytes, new._live_bytes

    # ------------------------------------------------------------------ reading

    def places(self) -> dict[str, int]:
        """Return where the value of each key lies in the file as it is now: what `read_places` takes, in no order."""
        return dict(self._places)


def read_places(fd: int, path: Path, epoch: str, places: Iterable[int]) -> Iterator[Record]:
    """Iterate over the records at some places of a base, which are in order.

    Raises:
        OSError: one cannot be read.
        Damage: one is not what it was; the text is a sentence.
    """
    spans = [(offset, offset + size) for offset, size in map(_place, places)]
    return read_spans(fd, path, epoch, spans)


def _place(place: int) -> tuple[int, int]:
    """Return offset and size."""
    return place >> SIZE_BITS, place & (1 << SIZE_BITS) - 1


def _groups(items: list[tuple[str, int]]) -> Iterator[list[tuple[str, int]]]:
    """Group keys and places so that each group is read at once; there is at least one group."""
    group: list[tuple[str, int]] = []
    for item in items:
        offset, size = _place(item[1])
        if group and offset + size - _place(group[0][1])[0] > BATCH_BYTES:
            yield group
            group = []
        group.append(item)
    yield group


def _batch(
    keys: list[str], records: list[bytes], oldest: int, start: int, publishers: dict[str, Heard]
) -> tuple[Batch, "array[int]"]:
    sizes = array(OFFSET, map(len, records))
    return Batch(oldest, start, zlib.crc32(b"".join(records)), keys, raw_numbers(sizes), publishers), sizes
