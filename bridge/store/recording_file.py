"""Recording files: updates as a state service sent them, one after the other.

Format: the line `theblock-recording 1`, then each update as its length (base-128 varint) and its bytes (a serialized
`Update`), which is protobuf's own way to write messages one after the other. Gzip may lie around all of it.
"""

import gzip
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, cast

from google.protobuf.message import DecodeError

from bridge.core.errors import BridgeError
from bridge.core.update import varint
from generated.theblock.state.v1 import update_pb2

MAGIC = b"theblock-recording "
VERSION = b"1"
HEADER = MAGIC + VERSION + b"\n"

UPDATE_BYTES = 16 << 20
"""The largest update of a recording."""

FLUSH_SECONDS = 1.0
"""How long what was written may wait in memory while more is written."""

GZIP_MAGIC = b"\x1f\x8b"


class RecordingWriter:
    """Writes a recording; a context manager that closes it.

    Attributes:
        path: of the file; one that ends in `.gz` is compressed.
        count: how many updates were written.
    """

    def __init__(self, path: Path, *, overwrite: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        """Create the file.

        Args:
            path: of the file.
            overwrite: whether a file that exists may be lost.
            clock: returns seconds that never go back.

        Raises:
            BridgeError: it exists, or cannot be created.
        """
        self.path = path
        self.count = 0
        self._clock = clock
        self._flushed = clock()
        try:
            plain = path.open("wb" if overwrite else "xb")
        except FileExistsError as error:
            raise BridgeError(f"{path} exists already: name another file, or say that it may be overwritten") from error
        except OSError as error:
            raise self._error(error) from error
        self._files: tuple[BinaryIO, ...] = (plain,)
        if path.suffix == ".gz":
            self._files = (cast(BinaryIO, gzip.GzipFile(fileobj=plain, mode="wb", filename="")), plain)
        try:
            self._write(HEADER)
            self.flush()
        except BridgeError:
            with suppress(BridgeError):
                self.close()
            raise

    def write(self, update: bytes) -> None:
        """Add a serialized `Update`; once in a second what was added goes to the file.

        Raises:
            BridgeError: it is empty or too large, or the file cannot be written.
        """
        if not 0 < len(update) <= UPDATE_BYTES:
            raise BridgeError(f"an update of {len(update)} bytes cannot be recorded: 1 to {UPDATE_BYTES} are allowed")
        self._write(varint(len(update)) + update)
        self.count += 1
        if self._clock() - self._flushed >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Hand everything that was written to the system: a reader finds it, and a crash of this process leaves it.

        Raises:
            BridgeError: the file cannot be written.
        """
        try:
            for file in self._files:
                file.flush()
        except OSError as error:
            raise self._error(error) from error
        self._flushed = self._clock()

    def close(self) -> None:
        """Write what is left and close the file; harmless when it is closed.

        Raises:
            BridgeError: the file cannot be written.
        """
        files, self._files = self._files, ()
        failed: OSError | None = None
        for file in files:
            try:
                file.close()
            except OSError as error:
                failed = failed or error
        if failed is not None:
            raise self._error(failed) from failed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, data: bytes) -> None:
        if not self._files:
            raise BridgeError(f"{self.path} is closed: nothing more can be recorded to it")
        try:
            self._files[0].write(data)
        except OSError as error:
            raise self._error(error) from error

    def _error(self, error: OSError) -> BridgeError:
        return BridgeError(f"{self.path} cannot be written: {error.strerror or error}")


class RecordingReader:
    """Reads a recording, the updates one by one, as often as it is iterated over.

    Attributes:
        path: of the file; whether it is compressed is seen from its first bytes.
        truncated: whether the last reading ended inside an update: the recorder was stopped, or the disk was full.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.truncated = False

    def __iter__(self) -> Iterator[update_pb2.Update]:
        """Iterate over the updates that are whole.

        Raises:
            BridgeError: the file cannot be read, is no recording, or is damaged; the sentence says where.
        """
        self.truncated = False
        try:
            with self.path.open("rb") as plain:
                packed = plain.read(len(GZIP_MAGIC)) == GZIP_MAGIC
                plain.seek(0)
                yield from self._updates(cast(BinaryIO, gzip.GzipFile(fileobj=plain)) if packed else plain)
        except (gzip.BadGzipFile, zlib.error) as error:
            raise BridgeError(f"recording {self.path} is damaged: {error}") from error
        except OSError as error:
            raise BridgeError(f"recording {self.path} cannot be read: {error.strerror or error}") from error

    def _updates(self, file: BinaryIO) -> Iterator[update_pb2.Update]:
        try:
            line = file.readline(len(HEADER) + 20)
        except EOFError:
            line = b""
        self._check_header(line)
        number = 0
        try:
            while (length := self._length(file, number + 1)) is not None:
                data = file.read(length)
                if len(data) < length:
                    raise EOFError
                number += 1
                yield self._decoded(data, number)
        except EOFError:
            self.truncated = True

    def _check_header(self, line: bytes) -> None:
        if not line.startswith(MAGIC) or not line.endswith(b"\n"):
            raise BridgeError(f"{self.path} is no recording: it must begin with the line {HEADER.decode().strip()!r}")
        if line != HEADER:
            version = line[len(MAGIC) :].decode(errors="replace").strip()
            raise BridgeError(
                f"recording {self.path} is of version {version!r}: this program reads version {VERSION.decode()!r}"
            )

    def _length(self, file: BinaryIO, number: int) -> int | None:
        """Read the length of update `number`; None at the end of the file, EOFError in the middle of it."""
        length = 0
        for shift in range(0, 28, 7):
            byte = file.read(1)
            if not byte:
                if shift:
                    raise EOFError
                return None
            length |= (byte[0] & 0x7F) << shift
            if byte[0] < 0x80:
                break
        else:
            raise self._damaged(number, "its length has too many digits")
        if not 0 < length <= UPDATE_BYTES:
            raise self._damaged(number, f"it would have {length} bytes, and 1 to {UPDATE_BYTES} are allowed")
        return length

    def _decoded(self, data: bytes, number: int) -> update_pb2.Update:
        try:
            update = update_pb2.Update.FromString(data)
        except DecodeError as error:
            raise self._damaged(number, "it is no Update message") from error
        if not update.stream:
            raise self._damaged(number, "it names no stream")
        return update

    def _damaged(self, number: int, what: str) -> BridgeError:
        return BridgeError(f"recording {self.path} is damaged at update {number}: {what}")
