"""The process may end at any moment, inside a write too: nothing acknowledged is lost, no position is given twice."""

import errno
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.core.errors import JournalError, StartError
from bridge.store.journal import Declared, Journal, JournalLimits, Record, Sync, base
from tests.store.journals import (
    ACCOUNTS,
    BLOCKS,
    BOOT,
    EVERYTHING,
    NOW_MS,
    WEATHER,
    leave,
    open_journal,
    quick_folder,
    read_all,
    record,
)

LIMITS = JournalLimits(count=12, segment_count=3)

CHANGES = ("pwrite", "ftruncate", "rename", "replace", "unlink", "mkdir", "rmdir", "open")
"""Calls of the system with which the journal changes what is on disk."""


class Model:
    """What was acknowledged."""

    def __init__(self, journal: Journal) -> None:
        self.epoch = journal.epoch
        self.streams: dict[str, list[Record]] = {}
        self.flying: tuple[str, Record] | None = None
        self.chains: set[bytes | None] = {None}

    def append(self, journal: Journal, stream: str, one: Record) -> None:
        """Append and acknowledge."""
        self.flying = stream, one
        journal.append(stream, one)
        self.streams.setdefault(stream, []).append(one)
        self.flying = None

    def judge(self, journal: Journal) -> None:
        """Say whether a journal that was opened after a crash holds what it must."""
        assert journal.epoch == self.epoch, journal.notes
        assert journal.chain in self.chains
        for stream, acknowledged in self.streams.items():
            records = list(acknowledged)
            if self.flying is not None and self.flying[0] == stream and journal.head(stream) > len(records):
                records.append(self.flying[1])
            self._judge_stream(journal, stream, records)
        self._judge_publishers(journal)

    def _judge_stream(self, journal: Journal, stream: str, records: list[Record]) -> None:
        assert journal.head(stream) == len(records)
        oldest = journal.oldest(stream)
        assert len(records) - oldest < 24  # a base that is being written anew puts trimming off
        assert read_all(journal, stream) == records[oldest - 1 :]
        newest = {one.key: one for one in records}
        assert list(journal.values(stream)) == [one.raw for one in sorted(newest.values())]
        trimmed = {one.key: one for one in records[: oldest - 1]}
        stand_ins = journal.read(stream, 0, 1, 1, EVERYTHING).base
        assert stand_ins == [one.raw for one in sorted(trimmed.values())]

    def _judge_publishers(self, journal: Journal) -> None:
        found = {name: (forgotten, {seq for seq, _, _ in known}) for name, forgotten, known in journal.publishers()}
        for records in self.streams.values():
            for one in records:
                if one.publisher:
                    forgotten, known = found[one.publisher]
                    assert one.publisher_seq <= forgotten or one.publisher_seq in known


class Crashes:
    """Leaves a copy of the folder before, inside and after every change, and has it opened and judged."""

    def __init__(self, folder: Path, copy: Path, judge: Callable[[Journal], None], every: int) -> None:
        self._folder = folder
        self._copy = copy
        self._judge = judge
        self._every = every  # how many bytes of a write apart
        self._lock = threading.RLock()
        self._busy = False
        self._threads = {threading.current_thread()}
        self.count = 0
        self.faults: list[BaseException] = []

    def watch(self, journal: Journal) -> None:
        """Watch a journal's thread too; the threads of the copies do as they like."""
        self._threads.add(journal._syncer._thread)

    def patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in CHANGES:
            monkeypatch.setattr(os, name, self._changing(name, getattr(os, name)))

    def _changing(self, name: str, call: Callable[..., object]) -> Callable[..., object]:
        def change(*args: object, **options: object) -> object:
            if threading.current_thread() not in self._threads:
                return call(*args, **options)
            with self._lock:
                if self._busy or (name == "open" and not int(args[1]) & os.O_CREAT):  # type: ignore[call-overload]
                    return call(*args, **options)
                self._busy = True
                try:
                    self._crash()
                    if name == "pwrite":
                        fd, data, offset = args
                        for size in range(1, len(data), self._every):  # type: ignore[arg-type]
                            call(fd, data[:size], offset)  # type: ignore[index]
                            self._crash()
                    result = call(*args, **options)
                    self._crash()
                    return result
                finally:
                    self._busy = False

        return change

    def _crash(self) -> None:
        if self.faults:
            return
        self.count += 1
        journal: Journal | None = None
        try:
            journal = open_journal(leave(self._folder, self._copy), LIMITS, Sync.OFF)
            self._judge(journal)
        except BaseException as error:
            self.faults.append(error)
        finally:
            if journal is not None:
                journal.close()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a process leaves what it wrote with the system; what is on disk does not matter."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    monkeypatch.setattr(os, "fdatasync", lambda fd: None)


@pytest.fixture
def folder() -> Iterator[Path]:
    with quick_folder() as path:
        yield path


def scenario(journal: Journal, model: Model, seqs: range) -> None:
    """Publish on two streams, here and there in the name of a publisher."""
    for seq in seqs:
        model.append(journal, "blocks", record(seq, publisher="alice" if seq % 3 == 0 else "", publisher_seq=seq))
        if seq % 2:
            head = journal.head("accounts")
            model.append(journal, "accounts", record(head + 1, f"k{seq % 7}"))


@pytest.mark.parametrize("sync", [Sync.OFF, Sync.BATCH])
def test_every_moment_of_a_run(folder: Path, sync: Sync, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "SLACK_BYTES", 600)
    journal = open_journal(folder / "data", LIMITS, sync, declare=[BLOCKS, ACCOUNTS])
    model = Model(journal)
    with monkeypatch.context() as patched:
        crashes = Crashes(folder / "data", folder / "copy", model.judge, every=29)
        crashes.watch(journal)
        crashes.patch(patched)
        scenario(journal, model, range(1, 26))
        journal.declare(WEATHER)
        model.append(journal, "weather", record(1, "north"))
        model.chains = {None, b"genesis"}
        journal.keep_chain(b"genesis")
        model.chains = {b"genesis"}
        journal.trim(NOW_MS)
        scenario(journal, model, range(26, 45))
        journal.close()
        journal = open_journal(folder / "data", LIMITS, sync)
        crashes.watch(journal)
        scenario(journal, model, range(45, 56))
        journal.close()
    assert crashes.faults == []
    assert crashes.count > 1000


def test_every_byte_of_a_record_its_mark_and_its_segment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = open_journal(folder / "data", LIMITS, Sync.OFF, declare=[BLOCKS])
    model = Model(journal)
    with monkeypatch.context() as patched:
        crashes = Crashes(folder / "data", folder / "copy", model.judge, every=1)
        crashes.watch(journal)
        crashes.patch(patched)
        for seq in range(1, 6):
            model.append(journal, "blocks", record(seq, size=1, publisher="p", publisher_seq=seq))
        journal.close()
    assert crashes.faults == []
    assert crashes.count > 700


def test_every_moment_in_which_an_epoch_begins(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = open_journal(folder / "data", LIMITS, Sync.OFF, declare=[BLOCKS, ACCOUNTS])
    model = Model(journal)
    scenario(journal, model, range(1, 20))
    opened: list[tuple[str, int]] = []

    def judge(again: Journal) -> None:
        opened.append((again.epoch, again.head("blocks")))

    with monkeypatch.context() as patched:
        crashes = Crashes(folder / "data", folder / "copy", judge, every=50)
        crashes.watch(journal)
        crashes.patch(patched)
        journal.begin_epoch("second")
        begun = len(opened)
        model = Model(journal)
        scenario(journal, model, range(1, 3))
        journal.close()
    assert crashes.faults == []
    before = [epoch for epoch, _ in opened[:begun]]
    assert set(before) >= {before[0], "second"}  # and epochs of its own, where it ended between the two
    assert all(head == (19 if epoch == before[0] else 0) for epoch, head in opened[:begun])
    assert {epoch for epoch, _ in opened[begun:]} == {"second"}


class Died(BaseException):
    """The process has ended."""


def dying(pwrite: Callable[[int, bytes, int], int], after: int) -> Callable[[int, bytes, int], int]:
    """Return what ends the process inside of a write, after so many of them."""
    left = iter(range(after))

    def write(fd: int, data: bytes, offset: int) -> int:
        if next(left, None) is None:
            pwrite(fd, data[: len(data) // 2], offset)
            raise Died
        return pwrite(fd, data, offset)

    return write


@pytest.mark.parametrize("after", range(0, 90, 2))
def test_the_next_process_goes_on_where_the_last_one_died(
    folder: Path, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Die after so many changes, go on in the same folder, and die again, until all is published."""
    monkeypatch.setattr(base, "SLACK_BYTES", 600)
    published: list[Record] = []
    flying: list[Record] = []
    epoch = ""
    copy = folder / "0"
    for run in range(1, 40):
        journal = open_journal(copy, LIMITS, Sync.OFF)
        epoch = epoch or journal.epoch
        assert journal.epoch == epoch
        journal.declare(BLOCKS)
        if flying and journal.head("blocks") > len(published):
            published += flying
        flying.clear()
        assert read_all(journal, "blocks") == published[journal.oldest("blocks") - 1 :]
        if len(published) >= 40:
            journal.close()
            return
        with monkeypatch.context() as patched:
            patched.setattr(os, "pwrite", dying(os.pwrite, after + run))
            try:
                while len(published) < 40:
                    flying[:] = [record(len(published) + 1, size=20 + run)]
                    journal.append("blocks", flying[0])
                    published += flying
                    flying.clear()
            except Died:
                pass
        shutil.rmtree(folder / str(run), ignore_errors=True)
        copy = leave(copy, folder / str(run))
        journal.close()
    raise AssertionError("never done")


# ---------------------------------------------------------------------- whatever comes

STREAMS = [BLOCKS, ACCOUNTS, WEATHER]
ACTIONS = st.one_of(
    st.tuples(st.just("append"), st.sampled_from(STREAMS), st.integers(0, 8), st.integers(0, 300)),
    st.tuples(st.just("append"), st.sampled_from(STREAMS), st.integers(0, 8), st.integers(0, 300)),
    st.tuples(st.just("append"), st.sampled_from(STREAMS), st.integers(0, 8), st.integers(0, 300)),
    st.tuples(st.sampled_from(["trim", "reopen", "kill", "epoch", "chain"])),
)


@settings(max_examples=60)
@given(actions=st.lists(ACTIONS, max_size=120), sync=st.sampled_from(list(Sync)), count=st.integers(4, 30))
def test_whatever_is_done_to_it(actions: list[tuple[object, ...]], sync: Sync, count: int) -> None:
    limits = JournalLimits(count=count, segment_count=5, bytes=20_000)
    with quick_folder() as folder:
        journal = open_journal(folder / "0", limits, sync)
        model = Model(journal)
        for number, action in enumerate(actions, 1):
            match action:
                case ("append", Declared() as declared, int(key), int(size)):
                    journal.declare(declared)
                    seq = journal.head(declared.name) + 1
                    one = record(seq, f"k{key}" if declared.keyed else "", size=size, publisher="p" * (key % 2),
                                 publisher_seq=number)  # fmt: skip
                    model.append(journal, declared.name, one)
                case ("trim",):
                    journal.trim(NOW_MS)
                case ("epoch",):
                    journal.begin_epoch(f"begun{number}")
                    model = Model(journal)
                case ("chain",):
                    journal.keep_chain(str(number).encode())
                    model.chains = {str(number).encode()}
                case ("reopen",):
                    path = journal._folder
                    journal.close()
                    journal = open_journal(path, limits, sync, boot_id=f"{BOOT}-{number}")
                case ("kill",):
                    before, journal = journal, open_journal(leave(journal._folder, folder / str(number)), limits, sync,
                                                            boot_id=journal._place.mark.run.boot)  # fmt: skip
                    before.close()
            judge(journal, model, count)
        journal.close()


def judge(journal: Journal, model: Model, count: int) -> None:
    """Say whether a journal holds what it must."""
    assert journal.epoch == model.epoch
    assert journal.chain in model.chains
    for stream, records in model.streams.items():
        oldest = journal.oldest(stream)
        assert journal.head(stream) == len(records)
        assert len(records) - oldest < count
        assert read_all(journal, stream) == records[oldest - 1 :]
        newest = {one.key: one for one in records}
        assert list(journal.values(stream)) == [one.raw for one in sorted(newest.values())]
    model._judge_publishers(journal)


class FullDisk:
    """A disk that is full after so many writes, with room for a part of the next one."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._pwrite = os.pwrite

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        self._room -= 1
        if self._room >= 0:
            return self._pwrite(fd, data, offset)
        if self._room == -1 and len(data) > 1:
            return self._pwrite(fd, data[: len(data) // 2], offset)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_write_that_fails_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full at every write in turn; each append is tried again until there is room for all that it takes."""
    journal = open_journal(folder / "data", LIMITS, Sync.OFF, declare=[BLOCKS, ACCOUNTS])
    model = Model(journal)
    refused = 0
    for seq in range(1, 41):
        for stream, one in (("blocks", record(seq)), ("accounts", record(seq, f"k{seq % 5}"))):
            for room in range(10):
                with monkeypatch.context() as patched:
                    patched.setattr(os, "pwrite", FullDisk(room).pwrite)
                    try:
                        model.append(journal, stream, one)
                        break
                    except JournalError as error:
                        model.flying = None
                        sentence = str(error)
                refused += 1
                assert sentence == (
                    f"update {seq} of stream {stream!r} cannot be written to {folder}/data: No space left on device; "
                    "make sure that there is room, then try again"
                )
                model.judge(journal)
                killed = open_journal(leave(folder / "data", folder / "copy"), LIMITS, Sync.OFF)
                model.judge(killed)
                killed.close()
    assert refused > 160
    assert journal.failures == refused
    journal.trim(NOW_MS)
    model.judge(journal)
    assert journal.updates <= 24
    journal.close()


def test_an_epoch_that_cannot_be_put_in_place_is_not_begun(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = open_journal(folder / "data", LIMITS, Sync.OFF, declare=[BLOCKS])
    model = Model(journal)
    model.append(journal, "blocks", record(1))
    original = os.rename

    def rename(source: Path, target: Path) -> None:
        if source.name == failing[-1]:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        original(source, target)

    failing: list[str] = []
    for name in ("journal", "new"):
        failing.append(name)
        with monkeypatch.context() as patched:
            patched.setattr(os, "rename", rename)
            with pytest.raises(JournalError, match="epoch other cannot be written to .*: Input/output error"):
                journal.begin_epoch("other")
        model.append(journal, "blocks", record(journal.head("blocks") + 1))
        model.judge(journal)
    journal.close()
    journal = open_journal(folder / "data", LIMITS)
    model.judge(journal)
    journal.close()


def test_a_journal_that_cannot_be_opened_for_now_is_there_later(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = open_journal(folder / "data", LIMITS, Sync.OFF, declare=[BLOCKS])
    model = Model(journal)
    model.append(journal, "blocks", record(1))
    copy = leave(folder / "data", folder / "copy")
    journal.close()
    for data in (folder / "data", copy, folder / "empty"):
        for room in range(2):
            with monkeypatch.context() as patched:
                patched.setattr(os, "pwrite", FullDisk(room).pwrite)
                with pytest.raises(StartError) as caught:
                    open_journal(data, LIMITS)
            assert re.fullmatch(
                f"the (data folder {data} cannot be used|journal in {data} cannot be opened): No space left on .*",
                str(caught.value),
            )
    for data in (folder / "data", copy):
        journal = open_journal(data, LIMITS)
        model.judge(journal)
        journal.close()
    journal = open_journal(folder / "empty", LIMITS)
    assert "there was no journal" in journal.notes[0]
    journal.close()


def test_everything_else_that_fails_leaves_things_as_they_were(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = open_journal(folder / "data", LIMITS, Sync.OFF, declare=[BLOCKS])
    model = Model(journal)
    model.append(journal, "blocks", record(1))
    for what, change in (
        ("stream 'weather'", lambda: journal.declare(WEATHER)),
        ("the chain", lambda: journal.keep_chain(b"genesis")),
        ("epoch other", lambda: journal.begin_epoch("other")),
    ):
        for room in range(2):
            with monkeypatch.context() as patched:
                patched.setattr(os, "pwrite", FullDisk(room).pwrite)
                try:
                    change()
                    break
                except JournalError as error:
                    assert str(error).startswith(f"{what} cannot be written to {folder}/data: No space left on device")
            assert (journal.declared(), journal.chain, journal.epoch) == ([BLOCKS], None, model.epoch)
            killed = open_journal(leave(folder / "data", folder / "copy"), LIMITS, Sync.OFF)
            model.judge(killed)
            killed.close()
            if room == 0:
                model.append(journal, "blocks", record(journal.head("blocks") + 1))
                break
    journal.close()
