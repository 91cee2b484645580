"""The mark: a small file that says what was written, so that a file cut short is told from a write cut short.

Format: a label with what is true for this run, then for each stream a label and two numbers: how many bytes of records
were written, and how many of them are surely on disk. Numbers only grow. Each stands in two words that are written in
turn, so one of them is whole whenever the process ends; the higher one counts. A word is its value (u64), crc32 of that
(u32) and zeros, 16 bytes at a multiple of 16.

The mark is replaced by a new file when the journal is opened and when it is closed. It holds its own identity: a copy
of it is seen to be one.
"""

import os
import struct
import zlib
from pathlib import Path
from typing import ClassVar, NamedTuple

from bridge.store.journal.files import opened, read_file, sync_file, write_at
from bridge.store.journal.identity import Identity, identity
from bridge.store.journal.label import Damage, Label, pack, unpack
from bridge.store.journal.types import Declared

WORD = struct.Struct("<QI4x")
VALUE = struct.Struct("<Q")
NUMBER_BYTES = 2 * WORD.size


class Run(Label, frozen=True):
    """What a mark says of the run of the process that wrote it."""

    magic: ClassVar[bytes] = b"tbj.mark"
    epoch: str
    chain: bytes | None  # hash of the first block of the chain that the epoch is about
    boot: str  # name of the machine's run
    always: bool  # whether nothing was sent before it was on disk
    clean: bool  # whether the process ended in order, all of it on disk
    device: int = 0
    inode: int = 0
    born_ns: int = 0

    @property
    def identity(self) -> Identity:
        """Of the file that this was written to."""
        return Identity(self.device, self.inode, self.born_ns)


class Entry(Label, frozen=True):
    """A stream that the mark has words for."""

    magic: ClassVar[bytes] = b"tbj.strm"
    name: str
    type: str
    keyed: bool
    custom: bool


class Extent(NamedTuple):
    """How much there is of a stream, in bytes of records since the beginning of the epoch."""

    written: int = 0
    synced: int = 0


class Marked(NamedTuple):
    """What a mark says."""

    run: Run
    original: bool  # whether it is the file that it was written to
    streams: dict[Declared, Extent]


class Mark:
    """The mark of a running journal.

    Attributes:
        path: of the file.
        run: what it says of this run.
        declared: the streams that it has words for.
    """

    def __init__(self, path: Path, run: Run, streams: dict[Declared, Extent], *, durable: bool = True) -> None:
        """Put a new mark in the place of what is there.

        Args:
            path: of the file.
            run: what is true for this run.
            streams: to have words for.
            durable: whether to wait for the disk.

        Raises:
            OSError: it cannot be written; the one before is still there.
        """
        self.path = path
        self.run = run
        self.declared: list[Declared] = []
        self._words: dict[str, int] = {}  # where those of a stream begin
        self._turns: dict[int, int] = {}  # which of two words is written next, by where they begin
        self._size = 0
        new = path.with_name(f"{path.name}.new")
        self._fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            self._write(streams)
            if durable:
                os.fsync(self._fd)
            new.replace(path)
            if durable:
                sync_file(path.parent)
        except OSError:
            self.close()
            raise

    def _write(self, streams: dict[Declared, Extent]) -> None:
        device, inode, born_ns = identity(self._fd)
        run = self.run
        label = pack(Run(run.epoch, run.chain, run.boot, run.always, run.clean, device, inode, born_ns))
        write_at(self._fd, label, 0)
        self._size = len(label)
        for declared, extent in streams.items():
            self.declare(declared, extent)

    def declare(self, declared: Declared, extent: Extent = Extent()) -> None:  # noqa: B008  # it cannot be changed
        """Add words for a stream.

        Raises:
            OSError: they cannot be written, and are not there.
        """
        label = pack(Entry(*declared))
        words = 2 * word(extent.written) + 2 * word(extent.synced)
        write_at(self._fd, label + words, self._size)
        self._words[declared.name] = self._size + len(label)
        self._size += len(label) + len(words)
        self.declared.append(declared)

    def put_written(self, stream: str, value: int) -> None:
        """Note how many bytes of a stream's records were written.

        Raises:
            OSError: it cannot be written.
        """
        self._put(self._words[stream], value)

    def put_synced(self, stream: str, value: int) -> None:
        """Note how many of them are on disk.

        Raises:
            OSError: it cannot be written.
        """
        self._put(self._words[stream] + NUMBER_BYTES, value)

    def _put(self, begin: int, value: int) -> None:
        turn = self._turns.get(begin, 0)
        write_at(self._fd, word(value), begin + turn * WORD.size)
        self._turns[begin] = 1 - turn  # what failed is written again, and never the one that is whole

    def close(self) -> None:
        """Close the file; harmless when it is closed."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def word(value: int) -> bytes:
    """Return a word as it is written."""
    return WORD.pack(value, zlib.crc32(VALUE.pack(value)))


def read_mark(path: Path) -> Marked:
    """Read a mark.

    What is cut short at its end is a stream whose declaration was cut short: nothing of it was written.

    Raises:
        Damage: it is none that can be relied on; the text is a sentence.
        OSError: it cannot be read.
    """
    data = read_file(path)
    streams: dict[Declared, Extent] = {}
    try:
        run, offset = unpack(Run, data)
    except Damage as error:
        raise Damage(f"{path} {error}") from error
    while offset < len(data):
        try:
            entry, words_at = unpack(Entry, data, offset)
        except Damage:
            break  # files of a stream that is not declared are found and are damage
        offset = words_at + 2 * NUMBER_BYTES
        if offset > len(data):
            break
        extent = Extent(*(_value(data, at, path) for at in (words_at, words_at + NUMBER_BYTES)))
        streams[Declared(entry.name, entry.type, entry.keyed, entry.custom)] = extent
    return Marked(run, _is_original(path, run), streams)


def _is_original(path: Path, run: Run) -> bool:
    with opened(path) as fd:
        return identity(fd).same(run.identity)


def _value(data: bytes, offset: int, path: Path) -> int:
    words = (WORD.unpack_from(data, offset), WORD.unpack_from(data, offset + WORD.size))
    values = [int(value) for value, crc in words if zlib.crc32(VALUE.pack(value)) == crc]
    if not values:
        raise Damage(f"{path} is damaged: a checksum is wrong")
    return max(values)
