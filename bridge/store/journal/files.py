"""Files: reading and writing at an offset, and a bounded number of them open."""

import os
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

WINDOW_BYTES = 1 << 20
"""Read at a time."""

OPEN_FILES = 64
"""Files that are kept open for writing."""


class Stored(Protocol):
    """Something with a file of its own."""

    path: Path


class OpenFiles:
    """Files that are open for writing; of more than `limit` the one opened first is closed."""

    def __init__(self, limit: int = OPEN_FILES) -> None:
        self._limit = limit
        self._open: OrderedDict[Stored, int] = OrderedDict()

    def get(self, stored: Stored) -> int:
        """Return the descriptor of a file, which stays this object's.

        Raises:
            OSError: it cannot be opened.
        """
        fd = self._open.get(stored)
        if fd is None:
            fd = self._open[stored] = os.open(stored.path, os.O_RDWR | os.O_CLOEXEC)
            if len(self._open) > self._limit:
                os.close(self._open.popitem(last=False)[1])
        return fd

    def duplicate(self, stored: Stored) -> int:
        """Return another descriptor of a file, which is the caller's to close.

        Raises:
            OSError: it cannot be opened.
        """
        fd = self._open.get(stored)
        return os.open(stored.path, os.O_RDWR | os.O_CLOEXEC) if fd is None else os.dup(fd)

    def close(self, stored: Stored) -> None:
        """Close a file, if it is open."""
        fd = self._open.pop(stored, None)
        if fd is not None:
            os.close(fd)

    def close_all(self) -> None:
        """Close every file."""
        while self._open:
            os.close(self._open.popitem()[1])


@contextmanager
def opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    """Open a file for as long as the context lasts; errors of the system in there get its name.

    Raises:
        OSError: it cannot be opened.
    """
    fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        yield fd
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        os.close(fd)


def reason(error: Exception) -> str:
    """Return what went wrong, as it stands in a sentence."""
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def create(path: Path, data: bytes) -> None:
    """Write a file anew.

    Raises:
        OSError: it cannot be written, and is not there.
    """
    with opened(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC) as fd:
        try:
            write_at(fd, data, 0)
        except OSError:
            with suppress(OSError):
                path.unlink()
            raise


def write_at(fd: int, data: bytes, offset: int) -> None:
    """Write all of `data` at `offset`.

    Raises:
        OSError: it cannot be written; a part of it may have been.
    """
    written = os.pwrite(fd, data, offset)
    while written < len(data):  # a disk that is full takes what it has room for, and says why with the next write
        written += os.pwrite(fd, data[written:], offset + written)


def cut(fd: int, size: int) -> None:
    """Cut a file back after a write that failed; if even that fails the next write goes to the same place."""
    with suppress(OSError):
        os.ftruncate(fd, size)


def read_file(path: Path, offset: int = 0, size: int | None = None) -> bytes:
    """Return a part of a file, or what there is of it; without a size, all that is behind `offset`.

    Raises:
        OSError: it cannot be read.
    """
    with opened(path) as fd:
        return read_at(fd, os.fstat(fd).st_size - offset if size is None else size, offset)


def read_at(fd: int, size: int, offset: int) -> bytes:
    """Return `size` bytes at `offset`, fewer where the file ends.

    Raises:
        OSError: they cannot be read.
    """
    data = os.pread(fd, max(size, 0), offset)
    while len(data) < size and (more := os.pread(fd, size - len(data), offset + len(data))):
        data += more
    return data


def checksum(fd: int, begin: int, end: int) -> int:
    """Return the crc32 of what lies between two offsets.

    Raises:
        OSError: it cannot be read.
    """
    window = memoryview(bytearray(min(WINDOW_BYTES, max(end - begin, 1))))
    crc = 0
    while begin < end and (size := os.preadv(fd, [window[: end - begin]], begin)):
        crc = zlib.crc32(window[:size], crc)
        begin += size
    return crc


def windows(spans: list[tuple[int, int]]) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
    """Group spans of a file, in order, so that each group can be read at once.

    Args:
        spans: (begin, end) of each.

    Yields:
        Begin and end of a group, and its spans.
    """
    group: list[tuple[int, int]] = []
    for span in spans:
        if group and span[1] - group[0][0] > WINDOW_BYTES:
            yield group[0][0], group[-1][1], group
            group = []
        group.append(span)
    if group:
        yield group[0][0], group[-1][1], group


def sync_file(path: Path) -> None:
    """Wait until a file or a folder, its size and names included, is on disk.

    Raises:
        OSError: it cannot be said to be.
    """
    with opened(path) as fd:
        os.fsync(fd)
