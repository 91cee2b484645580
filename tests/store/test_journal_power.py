"""The machine may lose its power at any moment: with `always` nothing that was acknowledged is lost."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import cast

import pytest

from bridge.store.journal import Journal, JournalLimits, Record, Sync, base
from tests.store.journals import ACCOUNTS, BLOCKS, WEATHER, open_journal, own, quick_folder, read_all, record

LIMITS = JournalLimits(count=12, segment_count=3)

CHANGES = ("pwrite", "ftruncate", "rename", "replace", "unlink", "fsync", "fdatasync")


class Disk:
    """What of a folder has reached the disk: files as they were synced, names as their folder was."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}

    def synced(self, fd: int) -> None:
        """Note that a file or a folder was synced."""
        inode = os.fstat(fd).st_ino
        path = Path(f"/proc/self/fd/{fd}").readlink()
        if path.is_dir():
            self._names[inode] = {one.name: one.lstat().st_ino for one in path.iterdir()}
        else:
            self._files[inode] = path.read_bytes() if path.exists() else b""

    def leave(self, image: Path, names: str, content: str) -> None:
        """Write what is there after the power was lost: each of names and content as synced, or as it was last."""
        current = {path.name: path.lstat().st_ino for path in self._folder.iterdir()}
        top = self._names.get(self._folder.lstat().st_ino, {}) if names == "synced" else current
        inode = top.get("journal")
        live = self._folder / "journal"
        found = {path.name: path.lstat().st_ino for path in live.iterdir()}
        known = self._names.get(inode or 0, {}) if names == "synced" else found
        by_inode = {number: live / name for name, number in found.items()}
        (image / "journal").mkdir(parents=True)
        for name, number in known.items():
            data = self._files.get(number, b"")
            if content == "last" and number in by_inode:
                data = by_inode[number].read_bytes()
            (image / "journal" / name).write_bytes(data)
        own(image)


class Outages:
    """Looks after every change at what the power's loss would leave, and has it judged."""

    def __init__(self, disk: Disk, folder: Path, judge: Callable[[Journal], None]) -> None:
        self._disk = disk
        self._folder = folder
        self._judge = judge
        self._busy = False
        self.judged = True
        self.count = 0

    def patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in CHANGES:
            monkeypatch.setattr(os, name, self._changing(name, getattr(os, name)))

    def _changing(self, name: str, call: Callable[..., object]) -> Callable[..., object]:
        def change(*args: object, **options: object) -> object:
            result = call(*args, **options)
            if self._busy:
                return result
            self._busy = True
            try:
                if name in ("fsync", "fdatasync"):
                    self._disk.synced(cast(int, args[0]))
                if self.judged:
                    self._lose_power()
            finally:
                self._busy = False
            return result

        return change

    def _lose_power(self) -> None:
        for names in ("synced", "last"):
            for content in ("synced", "last"):
                self.count += 1
                image = self._folder / f"{self.count}"
                self._disk.leave(image, names, content)
                journal = open_journal(image, LIMITS, Sync.ALWAYS, boot_id=f"boot-{self.count}")
                try:
                    self._judge(journal)
                except AssertionError as error:
                    raise AssertionError(f"names {names}, content {content}: {journal.notes}") from error
                finally:
                    journal.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    with quick_folder() as path:
        yield path


class Model:
    """What was said to be on disk."""

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self.written: dict[str, list[Record]] = {}
        self.acknowledged: dict[str, int] = {}

    def append(self, journal: Journal, stream: str, key: str = "") -> None:
        one = record(journal.head(stream) + 1, key, publisher="alice", publisher_seq=journal.head(stream) + 1)
        self.written.setdefault(stream, []).append(one)
        journal.append(stream, one)

    def acknowledge(self, journal: Journal) -> None:
        assert journal._syncer.flush()
        self.acknowledged = {stream: len(records) for stream, records in self.written.items()}

    def judge(self, journal: Journal) -> None:
        assert journal.epoch == self.epoch
        for stream, count in self.acknowledged.items():
            head, oldest = journal.head(stream), journal.oldest(stream)
            assert head >= count
            records = self.written[stream][:head]
            assert read_all(journal, stream) == records[oldest - 1 :]
            newest = {one.key: one for one in records}
            assert list(journal.values(stream)) == [one.raw for one in sorted(newest.values())]


def publish(journal: Journal, model: Model, rounds: int) -> None:
    for number in range(rounds):
        for _ in range(1 + number % 3):
            model.append(journal, "blocks")
        model.append(journal, "accounts", f"k{journal.head('accounts') * 3 % 5}")
        model.acknowledge(journal)


def test_what_was_acknowledged_outlives_the_power(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "SLACK_BYTES", 600)
    disk = Disk(folder / "data")
    model = Model("")
    outages = Outages(disk, folder / "images", lambda journal: model.judge(journal))
    outages.judged = False
    with monkeypatch.context() as patched:
        outages.patch(patched)
        journal = open_journal(folder / "data", LIMITS, Sync.ALWAYS, declare=[BLOCKS, ACCOUNTS])
        model.epoch = journal.epoch
        outages.judged = True
        publish(journal, model, 12)
        journal.declare(WEATHER)
        model.append(journal, "weather", "north")
        model.acknowledge(journal)
        journal.keep_chain(b"genesis")
        publish(journal, model, 8)
        journal.close()
        journal = open_journal(folder / "data", LIMITS, Sync.ALWAYS, boot_id="boot-0")
        publish(journal, model, 4)
        journal.close()
    assert outages.count > 1500


@pytest.mark.parametrize("before", [Sync.BATCH, Sync.OFF])
def test_always_relies_on_nothing_that_an_earlier_process_left_with_the_system(
    folder: Path, before: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(folder / "data")
    model = Model("")
    outages = Outages(disk, folder / "images", lambda journal: model.judge(journal))
    outages.judged = False
    with monkeypatch.context() as patched:
        outages.patch(patched)
        journal = open_journal(folder / "data", LIMITS, before, declare=[BLOCKS, ACCOUNTS])
        model.epoch = journal.epoch
        for number in range(20):
            model.append(journal, "blocks")
            model.append(journal, "accounts", f"k{number % 5}")
        journal._syncer.stop()
        with suppress(OSError):
            os.close(journal._held)  # as if it were killed
        journal = open_journal(folder / "data", LIMITS, Sync.ALWAYS)
        assert journal.epoch == model.epoch
        model.acknowledged = {"blocks": 20, "accounts": 20}
        outages.judged = True
        publish(journal, model, 4)
        journal.close()
    assert outages.count > 200


@pytest.mark.parametrize("sync", list(Sync))
def test_a_clean_end_outlives_the_power_and_what_comes_behind_it_is_not_taken_for_one(
    folder: Path, sync: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(folder / "data")
    model = Model("")
    epochs: list[str] = []
    outages = Outages(disk, folder / "images", lambda journal: epochs.append(journal.epoch))
    outages.judged = False
    with monkeypatch.context() as patched:
        outages.patch(patched)
        journal = open_journal(folder / "data", LIMITS, sync, declare=[BLOCKS, ACCOUNTS])
        model.epoch = journal.epoch
        for number in range(10):
            model.append(journal, "blocks")
            model.append(journal, "accounts", f"k{number % 5}")
        journal.close()
        model.acknowledged = {"blocks": 10, "accounts": 10}
        outages._judge = model.judge
        outages._lose_power()
        journal = open_journal(folder / "data", LIMITS, sync)
        outages._judge = lambda again: epochs.append(again.epoch)
        outages.judged = True
        journal.append("blocks", record(11))
    if sync is not Sync.ALWAYS:
        assert model.epoch not in epochs
    assert len(epochs) >= 4
    journal.close()
