"""Recovery: what of a journal on disk can be relied on.

Positions go on only where nothing can be missing that was sent.
"""

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from bridge.core.names import NAME_RULE
from bridge.store.journal.base import PUBLISHERS, Base
from bridge.store.journal.files import reason, sync_file
from bridge.store.journal.label import Damage
from bridge.store.journal.mark import Run, read_mark
from bridge.store.journal.segment import Segment
from bridge.store.journal.types import Declared

MARK = "mark"
SEGMENT_NAME = re.compile(rf"({NAME_RULE})\.([1-9][0-9]{{0,19}})\.segment")
BASE_NAME = re.compile(rf"({NAME_RULE})\.base")

WORKERS = 2
"""Threads that read segments; checksums are made without the interpreter's lock."""


class Recovered(NamedTuple):
    """A stream that can be relied on."""

    base: Base
    segments: list[Segment]

    @property
    def written(self) -> int:
        """Bytes of its records since the beginning of the epoch."""
        return self.segments[-1].written if self.segments else self.base.start


class Recovery(NamedTuple):
    """A journal that can be relied on."""

    run: Run
    streams: dict[Declared, Recovered]
    notes: list[str]


class Loaded(NamedTuple):
    """A segment as its file has it, or what is wrong with that."""

    first: int  # as the name of the file says
    path: Path
    segment: Segment | None
    damage: str


def recover(folder: Path, boot: str) -> Recovery:
    """Read a journal, and cut off what was cut short.

    Args:
        folder: of the epoch.
        boot: name of this run of the machine; empty: not known.

    Raises:
        Damage: it cannot be relied on; the text is a clause: what is wrong, and where.
    """
    try:
        return _recover(folder, boot)
    except OSError as error:
        raise Damage(f"{error.filename or folder} cannot be read: {reason(error)}") from error


def _recover(folder: Path, boot: str) -> Recovery:
    run, original, extents = read_mark(folder / MARK)
    if not original:
        raise Damage(f"{folder} is a copy, or was restored: what was published since then is not known")
    crashed = not run.clean and not (boot and boot == run.boot)
    if crashed and not run.always:
        raise Damage("the machine was restarted, or stopped, before everything was on disk")
    bases, paths = _list(folder)
    if unknown := sorted((bases.keys() | paths.keys()) - {declared.name for declared in extents}):
        raise Damage(f"{folder} holds files of stream {unknown[0]!r}, which {MARK} knows nothing of")
    notes: list[str] = []
    streams: dict[Declared, Recovered] = {}
    loaded = _load(run.epoch, paths)
    for declared, extent in extents.items():
        name = declared.name
        base = Base(folder / f"{name}.base", run.epoch, name)
        stream = _Stream(name, run.clean, extent.synced if crashed else extent.written, notes)
        streams[declared] = stream.recover(base, name in bases, loaded.get(name, []))
    return Recovery(run, streams, notes)


def _list(folder: Path) -> tuple[dict[str, Path], dict[str, list[tuple[int, Path]]]]:
    """Return the bases and the segments, in order, by stream; files that are no part of it are left alone."""
    bases: dict[str, Path] = {}
    segments: dict[str, list[tuple[int, Path]]] = {}
    for path in folder.iterdir():
        if path.suffix == ".new":  # was never finished
            path.unlink()
        elif found := SEGMENT_NAME.fullmatch(path.name):
            segments.setdefault(found[1], []).append((int(found[2]), path))
        elif found := BASE_NAME.fullmatch(path.name):
            bases[found[1]] = path
    for paths in segments.values():
        paths.sort()
    return bases, segments


def _load(epoch: str, paths: dict[str, list[tuple[int, Path]]]) -> dict[str, list[Loaded]]:
    """Read all segments."""

    def load(job: tuple[str, int, Path]) -> Loaded:
        name, first, path = job
        try:
            return Loaded(first, path, Segment.load(path, epoch, name), "")
        except Damage as error:
            return Loaded(first, path, None, str(error))

    loaded: dict[str, list[Loaded]] = {}
    jobs = [(name, first, path) for name, files in paths.items() for first, path in files]
    with ThreadPoolExecutor(WORKERS) as executor:
        for job, result in zip(jobs, executor.map(load, jobs), strict=True):
            loaded.setdefault(job[0], []).append(result)
    return loaded


class _Stream:
    """Judges one stream.

    What is behind `floor` was not acknowledged: it may be there, whole, in part or not at all.
    """

    def __init__(self, name: str, clean: bool, floor: int, notes: list[str]) -> None:
        self._name = name
        self._clean = clean
        self._floor = floor
        self._notes = notes

    def recover(self, base: Base, has_base: bool, found: list[Loaded]) -> Recovered:
        """Return what of a stream can be relied on, and delete the rest of it.

        Raises:
            Damage: something is missing that was acknowledged.
        """
        fault = self._load_base(base) if has_base else ""
        try:
            recovered = self._recover(base, found)
        except Damage as error:
            raise Damage(fault or str(error)) from error
        if fault and self._clean:
            raise Damage(fault)
        if base.size_bytes:
            _cut(base.path, base.size_bytes)
        elif has_base:
            base.path.unlink()
        return recovered

    def _load_base(self, base: Base) -> str:
        """Read the base, and return what is wrong with it: it was cut short, or segments will be found missing."""
        try:
            base.load()
        except Damage as error:
            return str(error)
        if base.path.stat().st_size == base.size_bytes:
            return ""
        return f"{base.path} is damaged behind byte {base.size_bytes}"

    def _recover(self, base: Base, found: list[Loaded]) -> Recovered:
        gone = [loaded.path for loaded in found if loaded.first < base.oldest]
        segments: list[Segment] = []
        seq, written = base.oldest, base.start
        rest = found[len(gone) :]
        while rest:
            fault = self._fault(rest[0], seq, written)
            if fault:
                break
            segment = rest.pop(0).segment
            assert segment is not None
            segments.append(segment)
            seq, written = segment.until, segment.written
            if not segment.sealed:
                fault = f"{segment.path} ends too early" if rest else ""
                break
        else:
            fault = ""
        if written < self._floor:
            raise Damage(fault or self._missing(seq))
        if self._clean and (fault or written > self._floor):
            raise Damage(fault or f"stream {self._name!r} has more updates than were written")
        self._cut_last(segments)
        for path in [*gone, *(loaded.path for loaded in rest)]:
            path.unlink()
        if rest:
            self._notes.append(f"files of stream {self._name!r} behind update {seq - 1} were never finished: deleted")
        return Recovered(base, segments)

    def _fault(self, loaded: Loaded, seq: int, written: int) -> str:
        """Return what is wrong with a segment that should begin at `seq`; empty if nothing is."""
        if loaded.segment is None:
            return loaded.damage
        if loaded.first != seq:
            return f"updates {seq} to {loaded.first - 1} of stream {self._name!r} are missing"
        head = loaded.segment.head
        return "" if (head.first, head.start) == (seq, written) else f"{loaded.path} is not what it should be"

    def _missing(self, seq: int) -> str:
        return f"the updates of stream {self._name!r} from {seq} on are damaged or missing"

    def _cut_last(self, segments: list[Segment]) -> None:
        """Cut off what is behind the last whole record."""
        if not segments or segments[-1].sealed:
            return
        last = segments[-1]
        surplus = last.path.stat().st_size - last.end
        if surplus and self._clean:
            raise Damage(f"{last.path} is damaged behind byte {last.end}")
        if surplus:
            _cut(last.path, last.end)
            self._notes.append(
                f"{surplus} bytes of a write cut short were removed from the end of {last.path}: stream "
                f"{self._name!r} goes on behind update {last.until - 1}"
            )


def _cut(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)


def sync_all(folder: Path) -> None:
    """Wait until every file of an epoch is on disk.

    Raises:
        OSError: it cannot be said to be.
    """
    for path in folder.iterdir():
        if path.suffix in (".segment", ".base"):
            sync_file(path)
    sync_file(folder)


def heard_of(streams: Iterable[Recovered]) -> "OrderedDict[str, None]":
    """Return the publishers that are told apart, the one heard of longest ago first."""
    times: dict[str, int] = {}
    for stream in streams:
        for name, time_ms in _heard(stream):
            times[name] = max(times.get(name, time_ms), time_ms)
    return OrderedDict.fromkeys(sorted(times, key=times.__getitem__)[-PUBLISHERS:])


def _heard(stream: Recovered) -> Iterator[tuple[str, int]]:
    for name, heard in stream.base.publishers.items():
        yield name, heard.time_ms
    for segment in stream.segments:
        if segment.published:
            with suppress(OSError, Damage):  # it was whole a moment ago, and reading it will tell
                for name, heard in segment.index().publishers.items():
                    yield name, heard.time_ms
