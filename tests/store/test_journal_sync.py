"""Waiting for the disk: when it is waited for, and what becomes of a disk that fails or is full."""

import asyncio
import errno
import os
import resource
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.core.errors import JournalError
from bridge.store.journal import Journal, JournalLimits, Sync
from tests.store.journals import (
    ACCOUNTS,
    BLOCKS,
    NOW_MS,
    fill,
    leave,
    open_journal,
    read_all,
    record,
    segments,
    wait_for,
    wait_until_idle,
)


class Disk:
    """A disk that can be made to hold syncs up, or to fail them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.synced = 0
        self.failing = 0
        self.free = threading.Event()
        self.free.set()
        self._fdatasync = os.fdatasync
        monkeypatch.setattr(os, "fdatasync", self.fdatasync)

    def fdatasync(self, fd: int) -> None:
        assert self.free.wait(20)
        if self.failing:
            self.failing -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._fdatasync(fd)
        self.synced += 1


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def test_batch_syncs_by_itself(tmp_path: Path, disk: Disk) -> None:
    journal = open_journal(tmp_path, sync=Sync.BATCH, declare=[BLOCKS, ACCOUNTS])
    fill(journal, "blocks", 2)
    fill(journal, "accounts", 2, keys=2)
    wait_until_idle(journal)
    assert disk.synced >= 2
    assert journal.sync_seconds > 0
    before = journal.syncs
    fill(journal, "blocks", 1)
    wait_for(lambda: journal.syncs > before)
    journal.close()


def test_many_updates_share_a_sync(tmp_path: Path, disk: Disk) -> None:
    journal = open_journal(tmp_path, JournalLimits(), Sync.BATCH, declare=[BLOCKS])
    disk.free.clear()
    fill(journal, "blocks", 5000)
    disk.free.set()
    wait_until_idle(journal)
    assert journal.syncs < 50
    journal.close()


def test_off_waits_for_the_disk_only_at_the_end(tmp_path: Path, disk: Disk) -> None:
    journal = open_journal(tmp_path, sync=Sync.OFF, declare=[BLOCKS])
    records = fill(journal, "blocks", 30)
    journal.trim(NOW_MS)
    assert (disk.synced, journal.syncs) == (0, 0)
    journal.close()
    assert disk.synced >= len(segments(tmp_path, "blocks"))
    journal = open_journal(tmp_path, sync=Sync.OFF, boot_id="boot-2")
    assert read_all(journal, "blocks") == records
    journal.close()


@pytest.mark.parametrize("sync", [Sync.BATCH, Sync.OFF])
async def test_nothing_waits_for_the_disk_but_with_always(tmp_path: Path, sync: Sync, disk: Disk) -> None:
    journal = open_journal(tmp_path, sync=sync, declare=[BLOCKS])
    disk.free.clear()
    fill(journal, "blocks", 3)
    await asyncio.wait_for(journal.sync(), 10)
    disk.free.set()
    journal.close()


async def test_always_waits_for_what_was_appended_before(tmp_path: Path, disk: Disk) -> None:
    journal = open_journal(tmp_path / "a", sync=Sync.ALWAYS, declare=[BLOCKS, ACCOUNTS])
    await asyncio.wait_for(journal.sync(), 10)
    disk.free.clear()
    records = fill(journal, "blocks", 9)
    waiting = [asyncio.create_task(journal.sync()) for _ in range(20)]
    fill(journal, "accounts", 9, keys=3)
    waiting += [asyncio.create_task(journal.sync()) for _ in range(20)]
    for _ in range(10):
        await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    waiting[3].cancel()
    disk.free.set()
    done = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 10)
    assert [one for one in done if one is not None] == [done[3]]
    assert 1 <= journal.syncs <= 4
    synced = journal.syncs
    await asyncio.wait_for(journal.sync(), 10)  # nothing has come since
    assert journal.syncs == synced
    crashed = open_journal(leave(tmp_path / "a", tmp_path / "b"), sync=Sync.ALWAYS, boot_id="boot-2")
    assert (crashed.epoch, read_all(crashed, "blocks")) == (journal.epoch, records)
    crashed.close()
    journal.close()


async def test_each_update_of_many_publishers_is_on_disk_when_it_is_acknowledged(tmp_path: Path, disk: Disk) -> None:
    journal = open_journal(tmp_path / "a", JournalLimits(), Sync.ALWAYS, declare=[BLOCKS])
    published = [0]

    async def publish() -> None:
        for _ in range(30):
            seq = journal.head("blocks") + 1
            journal.append("blocks", record(seq))
            await journal.sync()
            published[0] = max(published[0], seq)
            assert journal._streams["blocks"].synced >= 70 * seq

    await asyncio.wait_for(asyncio.gather(*(publish() for _ in range(20))), 30)
    assert published == [600]
    assert journal.syncs <= 100
    journal.close()


# ---------------------------------------------------------------------- a disk that fails


def test_after_a_sync_that_failed_nothing_is_appended_until_the_file_is_written_anew(
    tmp_path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    journal = open_journal(tmp_path / "a", sync=Sync.BATCH, declare=[BLOCKS])
    records = fill(journal, "blocks", 2)
    wait_until_idle(journal)
    inode = segments(tmp_path / "a", "blocks")[0].stat().st_ino
    disk.free.clear()
    disk.failing = 1
    records += fill(journal, "blocks", 1)
    disk.free.set()
    wait_for(lambda: journal.failures > 0)
    wait_for(lambda: not journal._syncer.failure)  # the system says that all is well, and must not be believed
    assert segments(tmp_path / "a", "blocks")[0].stat().st_ino != inode
    records += fill(journal, "blocks", 5)
    assert read_all(journal, "blocks") == records
    assert journal.failures == 1
    assert [one.getMessage() for one in caplog.records] == [
        f"the journal in {tmp_path}/a cannot be written: Input/output error; until it can, nothing is published",
        f"the journal in {tmp_path}/a can be written again",
    ]
    killed = open_journal(leave(tmp_path / "a", tmp_path / "b"))
    assert read_all(killed, "blocks") == records
    killed.close()
    journal.close()


def test_while_the_disk_fails_updates_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    journal = open_journal(tmp_path, sync=Sync.BATCH, declare=[BLOCKS])
    records = fill(journal, "blocks", 2)
    with monkeypatch.context() as patched:
        for name in ("fsync", "fdatasync"):
            patched.setattr(os, name, failing)
        records += fill(journal, "blocks", 1)
        wait_for(lambda: journal.failures >= 3)
        for _ in range(3):
            with pytest.raises(JournalError) as caught:
                journal.append("blocks", record(4))
            assert str(caught.value) == (
                f"update 4 of stream 'blocks' cannot be written to {tmp_path}: Input/output error; "
                "make sure that there is room, then try again"
            )
        journal.trim(NOW_MS)
        assert read_all(journal, "blocks") == records
    wait_for(lambda: not journal._syncer.failure)
    records += fill(journal, "blocks", 3)
    assert len(caplog.records) == 2
    journal.close()
    journal = open_journal(tmp_path, boot_id="boot-2")
    assert read_all(journal, "blocks") == records
    journal.close()


def failing(fd: int) -> None:
    """Fail as a disk does."""
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_disk_that_fails_at_the_end_leaves_no_mark_of_a_clean_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = open_journal(tmp_path, sync=Sync.OFF, declare=[BLOCKS])
    records = fill(journal, "blocks", 3)
    with monkeypatch.context() as patched:
        for name in ("fsync", "fdatasync"):
            patched.setattr(os, name, failing)
        journal.close()
    again = open_journal(tmp_path)
    assert (again.epoch, read_all(again, "blocks")) == (journal.epoch, records)
    again.close()


def test_after_a_failed_end_a_crash_of_the_machine_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = open_journal(tmp_path, sync=Sync.BATCH, declare=[BLOCKS])
    fill(journal, "blocks", 3)
    with monkeypatch.context() as patched:
        for name in ("fsync", "fdatasync"):
            patched.setattr(os, name, failing)
        journal.close()
    again = open_journal(tmp_path, boot_id="boot-2")
    assert again.epoch != journal.epoch
    again.close()


async def test_always_tells_of_a_sync_that_failed_and_waits_again(tmp_path: Path, disk: Disk) -> None:
    journal = open_journal(tmp_path, sync=Sync.ALWAYS, declare=[BLOCKS])
    records = fill(journal, "blocks", 3)
    disk.failing = 1
    with pytest.raises(JournalError) as caught:
        await asyncio.wait_for(journal.sync(), 10)
    assert str(caught.value) == (
        f"updates cannot be said to be on disk in {tmp_path}: Input/output error; it is tried again"
    )
    await asyncio.wait_for(journal.sync(), 10)
    assert read_all(journal, "blocks") == records
    fill(journal, "blocks", 1)
    await asyncio.wait_for(journal.sync(), 10)
    journal.close()


def test_what_the_system_has_lost_is_never_said_to_be_there(tmp_path: Path, disk: Disk) -> None:
    """The pages of a failed write may be gone: then nothing more is published, and the next start is a new epoch."""
    journal = open_journal(tmp_path, sync=Sync.BATCH, declare=[BLOCKS])
    fill(journal, "blocks", 2)
    wait_until_idle(journal)
    disk.free.clear()
    disk.failing = 1
    fill(journal, "blocks", 1)
    path = segments(tmp_path, "blocks")[0]
    with path.open("r+b") as file:
        file.seek(-10, os.SEEK_END)
        file.write(b"\0" * 10)
    disk.free.set()
    wait_for(lambda: "the system has lost what was written" in journal._syncer.failure)
    with pytest.raises(JournalError, match="the system has lost what was written"):
        fill(journal, "blocks", 1)
    journal.begin_epoch("other")  # which is a way out
    fill(journal, "blocks", 3)
    wait_until_idle(journal)
    journal.close()


def test_a_file_that_somebody_has_deleted_is_not_said_to_be_on_disk(tmp_path: Path) -> None:
    journal = open_journal(tmp_path, sync=Sync.BATCH, declare=[BLOCKS])
    fill(journal, "blocks", 8)
    wait_until_idle(journal)
    with journal._lock:
        journal._place.files.close_all()
        segments(tmp_path, "blocks")[-1].unlink()
        journal._place.work.wrote(journal._streams["blocks"].segments[-1], journal._streams["blocks"])
    wait_for(lambda: journal._syncer.failure == "No such file or directory")
    with pytest.raises(JournalError, match="No such file or directory"):
        fill(journal, "blocks", 1)
    journal.close()


def test_whatever_fails_in_the_thread_is_told_and_ends_publishing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    journal = open_journal(tmp_path, sync=Sync.BATCH, declare=[BLOCKS])

    def surprise(fd: int) -> None:
        raise RuntimeError("a surprise")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", surprise)
        fill(journal, "blocks", 1)
        wait_for(lambda: journal._syncer.failure == "a surprise")
        with pytest.raises(JournalError, match="a surprise"):
            fill(journal, "blocks", 1)
    wait_for(lambda: not journal._syncer.failure)
    fill(journal, "blocks", 1)
    assert "Traceback" in caplog.text
    journal.close()


def test_a_base_whose_sync_failed_is_written_anew(tmp_path: Path, disk: Disk) -> None:
    journal = open_journal(tmp_path / "a", JournalLimits(count=8, segment_count=2), Sync.ALWAYS, declare=[ACCOUNTS])
    fill(journal, "accounts", 30, keys=5)
    path = tmp_path / "a" / "journal" / "accounts.base"
    inode = path.stat().st_ino
    original = os.fdatasync

    def fdatasync(fd: int) -> None:
        if os.fstat(fd).st_ino == inode:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        original(fd)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fdatasync", fdatasync)
        assert not journal._syncer.flush()
        assert journal._syncer.flush()
    assert path.stat().st_ino != inode
    values = list(journal.values("accounts"))
    fill(journal, "accounts", 10, keys=5)
    assert journal._syncer.flush()
    crashed = open_journal(leave(tmp_path / "a", tmp_path / "b"), sync=Sync.ALWAYS, boot_id="boot-2")
    assert crashed.epoch == journal.epoch
    assert len(values) == len(list(crashed.values("accounts"))) == 5
    crashed.close()
    journal.close()


# ---------------------------------------------------------------------- a disk that is full


@pytest.fixture
def small_files() -> object:
    """Limit how large files may get, which fails writes as a full disk does: a part of them first."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def limit(size: int | None) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, before if size is None else (size, before[1]))

    yield limit
    limit(None)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_file_that_cannot_grow(tmp_path: Path, small_files: Callable[[int | None], None]) -> None:
    journal: Journal = open_journal(tmp_path / "a", JournalLimits(), declare=[BLOCKS])
    records = fill(journal, "blocks", 10)
    size = segments(tmp_path / "a", "blocks")[0].stat().st_size
    for room in (0, 1, 43, 44, 60, 73, 74, 75, 147):
        small_files(size + room)
        with pytest.raises(JournalError) as caught:
            for _ in range(3):
                records += fill(journal, "blocks", 1)
                size += 74
        assert str(caught.value) == (
            f"update {len(records) + 1} of stream 'blocks' cannot be written to {tmp_path}/a: File too large; "
            "make sure that there is room, then try again"
        )
        small_files(None)
        size = segments(tmp_path / "a", "blocks")[0].stat().st_size
        assert read_all(journal, "blocks") == records
        killed = open_journal(leave(tmp_path / "a", tmp_path / "b"), JournalLimits())
        assert (killed.notes, read_all(killed, "blocks")) == ([], records)
        killed.close()
    records += fill(journal, "blocks", 10)
    assert journal.failures == 9
    journal.close()
    journal = open_journal(tmp_path / "a")
    assert read_all(journal, "blocks") == records
    journal.close()


def test_an_index_that_has_no_room_at_the_end_leaves_nothing(
    tmp_path: Path, small_files: Callable[[int | None], None]
) -> None:
    journal = open_journal(tmp_path, JournalLimits(), declare=[BLOCKS])
    records = fill(journal, "blocks", 100)
    small_files(segments(tmp_path, "blocks")[0].stat().st_size + 50)
    journal.close()
    small_files(None)
    again = open_journal(tmp_path, JournalLimits(), boot_id="boot-2")
    assert (again.epoch, again.notes, read_all(again, "blocks")) == (journal.epoch, [], records)
    again.close()
