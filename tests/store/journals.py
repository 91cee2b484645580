"""Journals for tests: opened small, copied as the end of a process would leave them, and judged."""

import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bridge.store.journal import Declared, Journal, JournalLimits, Record, Sync
from bridge.store.journal.mark import Mark, read_mark

BOOT = "boot-1"
NOW_MS = 1_700_000_000_000
BLOCKS = Declared("blocks", "block", keyed=False, custom=False)
ACCOUNTS = Declared("accounts", "account", keyed=True, custom=False)
WEATHER = Declared("weather", "weather_update", keyed=True, custom=True)
SMALL = JournalLimits(segment_count=4)
EVERYTHING = 1 << 40

epochs = (f"epoch{number}" for number in itertools.count(1))


def open_journal(
    folder: Path,
    limits: JournalLimits = SMALL,
    sync: Sync = Sync.BATCH,
    *,
    boot_id: str | None = BOOT,
    clock_ms: Callable[[], int] = lambda: NOW_MS,
    declare: Iterable[Declared] = (),
) -> Journal:
    """Open a journal with small segments."""
    journal = Journal.open(
        folder, limits=limits, sync=sync, new_epoch=lambda: next(epochs), clock_ms=clock_ms, boot_id=boot_id
    )
    for declared in declare:
        journal.declare(declared)
    return journal


def record(seq: int, key: str = "", *, size: int = 30, publisher: str = "", publisher_seq: int = 0) -> Record:
    """Make a record whose bytes tell it from every other."""
    raw = f"{seq}/{key}/{publisher}/".encode().ljust(size, b".")
    return Record(seq, 10 * seq, NOW_MS + seq, key, raw, publisher, publisher_seq)


def fill(journal: Journal, stream: str, count: int, keys: int = 0) -> list[Record]:
    """Append some records, on `keys` keys in turn."""
    head = journal.head(stream)
    records = [record(seq, f"k{seq % keys}" if keys else "") for seq in range(head + 1, head + count + 1)]
    for one in records:
        journal.append(stream, one)
    return records


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until the journal's thread has done something."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def wait_until_idle(journal: Journal) -> None:
    """Wait until the journal's thread has nothing to do."""

    def is_idle() -> bool:
        with journal._syncer.busy:
            return not journal._place.work

    wait_for(is_idle)


@contextmanager
def quick_folder() -> Iterator[Path]:
    """Have a folder in memory where there is one: for tests that open thousands of journals."""
    memory = "/dev/shm"
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        yield Path(name)


def read_all(journal: Journal, stream: str) -> list[Record]:
    """Read all that is there."""
    page = journal.read(stream, journal.oldest(stream) - 1, journal.head(stream) + 1, 1 << 30, EVERYTHING)
    assert page.oldest == journal.oldest(stream)
    return page.records


def segments(folder: Path, stream: str) -> list[Path]:
    """Return the files of a stream's segments, in order."""
    return sorted((folder / "journal").glob(f"{stream}.*.segment"), key=lambda path: int(path.name.split(".")[1]))


def leave(folder: Path, copy: Path) -> Path:
    """Copy a journal so that it is not seen to be a copy: what is there if the process ends now, or the machine."""
    if copy.exists():
        shutil.rmtree(copy)
    shutil.copytree(folder, copy)
    own(copy)
    return copy


def own(folder: Path) -> None:
    """Make a copy of a journal pass for the original."""
    path = folder / "journal" / "mark"
    if path.exists():
        marked = read_mark(path)
        Mark(path, marked.run, marked.streams, durable=False).close()
