"""What opening makes of files that are not as they were left: the epoch goes on only where nothing can be missing."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from bridge.core.errors import JournalError
from bridge.store.journal import Journal, JournalLimits, Record, Sync
from bridge.store.journal.identity import identity
from bridge.store.journal.mark import Mark, Run, read_mark
from tests.store.journals import (
    ACCOUNTS,
    BLOCKS,
    EVERYTHING,
    WEATHER,
    fill,
    leave,
    open_journal,
    own,
    quick_folder,
    read_all,
    record,
    segments,
)

LIMITS = JournalLimits(count=12, segment_count=3)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here depends on the disk."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    monkeypatch.setattr(os, "fdatasync", lambda fd: None)


class Kept(NamedTuple):
    """What a journal holds."""

    blocks: list[Record]
    accounts: list[Record]
    values: list[bytes]
    base: list[bytes]
    publishers: list[object]


def kept(journal: Journal) -> Kept:
    """Return what a journal holds."""
    return Kept(
        read_all(journal, "blocks"),
        read_all(journal, "accounts"),
        list(journal.values("accounts")),
        journal.read("accounts", 0, 1, 1, EVERYTHING).base,
        list(journal.publishers()),
    )


def make(folder: Path) -> tuple[Journal, Kept]:
    """Make a journal with segments, sealed and not, that has dropped some, and leave it open."""
    journal = open_journal(folder, LIMITS, Sync.OFF, declare=[BLOCKS, ACCOUNTS])
    fill(journal, "blocks", 5)
    fill(journal, "accounts", 17, keys=7)
    journal.append("accounts", record(18, "p", publisher="alice", publisher_seq=1))
    fill(journal, "accounts", 5, keys=7)
    journal._syncer.flush()
    return journal, kept(journal)


@pytest.fixture
def memory_path() -> Iterator[Path]:
    """A folder in memory."""
    with quick_folder() as folder:
        yield folder


@pytest.fixture
def clean(tmp_path: Path) -> tuple[Path, str, Kept]:
    """A journal that was closed: its folder, epoch and content."""
    journal, content = make(tmp_path / "clean")
    journal.close()
    return tmp_path / "clean", journal.epoch, content


@pytest.fixture
def killed(tmp_path: Path) -> tuple[Path, str, Kept]:
    """A journal whose process was killed."""
    journal, content = make(tmp_path / "open")
    folder = leave(tmp_path / "open", tmp_path / "killed")
    journal.close()
    return folder, journal.epoch, content


Made = tuple[Path, str, Kept]


def opened(folder: Path, sync: Sync = Sync.OFF, boot_id: str | None = "boot-1") -> tuple[str, list[str], Kept]:
    """Open a journal, and return its epoch, its notes and its content."""
    journal = open_journal(folder, LIMITS, sync, boot_id=boot_id)
    try:
        return journal.epoch, journal.notes, kept(journal)
    finally:
        journal.close()


NOTHING = Kept([], [], [], [], [])


def expect_end(made: Made, reason: str, **options: object) -> None:
    """Open a journal that cannot be relied on."""
    folder, before, _ = made
    epoch, notes, content = opened(folder, **options)  # type: ignore[arg-type]
    assert epoch != before
    assert content == NOTHING
    assert notes == [f"epoch {epoch} begins, since {reason}; what was there is kept in {folder}/ended"]
    assert opened(folder) == (epoch, [], NOTHING)


def expect_all(made: Made, *notes: str, **options: object) -> None:
    """Open a journal of which nothing is missing."""
    folder, epoch, content = made
    assert opened(folder, **options) == (epoch, list(notes), content)  # type: ignore[arg-type]


def flip(path: Path, offset: int, bit: int = 0) -> None:
    """Change one bit of a file in place."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1 << bit]))


# ---------------------------------------------------------------------- bits


@pytest.mark.parametrize("state", ["clean", "killed"])
def test_no_bit_that_changes_is_overlooked(state: str, memory_path: Path, request: pytest.FixtureRequest) -> None:
    folder, epoch, content = request.getfixturevalue(state)
    outcomes = {"goes on": 0, "ends": 0}
    files = sorted(path for path in (folder / "journal").iterdir())
    assert len(files) == 8
    for path in files:
        # Every byte of the mark and of what begins a file, every fifth of the rest: a prime, so that it meets all.
        for offset in range(path.stat().st_size):
            if path.name != "mark" and offset > 40 and offset % 7:
                continue
            work = leave(folder, memory_path / "work")
            flip(work / "journal" / path.name, offset, offset % 8)
            found, notes, now = opened(work)
            if found == epoch:
                assert now == content, (path, offset, notes)
                outcomes["goes on"] += 1
            else:
                assert now == NOTHING
                assert len(notes) == 1
                assert notes[0].startswith(f"epoch {found} begins, since "), notes
                assert notes[0].endswith(f"; what was there is kept in {work}/ended"), notes
                outcomes["ends"] += 1
    assert outcomes["ends"] > 600
    assert outcomes["goes on"] < 200  # one of two words of a number, and what fills labels up to 16 bytes


@pytest.mark.parametrize(
    ("name", "offset", "reason"),
    [
        ("blocks.1.segment", 3, "blocks.1.segment is not what it should be"),
        ("blocks.1.segment", 20, "blocks.1.segment is damaged: a checksum is wrong"),
        ("blocks.1.segment", 100, "blocks.1.segment is damaged: a checksum is wrong"),
        ("blocks.1.segment", -30, "blocks.1.segment is damaged: a checksum is wrong"),
        ("blocks.1.segment", -3, "blocks.1.segment ends too early"),
        ("accounts.base", 3, "accounts.base is not what it should be"),
        ("accounts.base", -3, "accounts.base is damaged behind byte "),
        ("mark", 3, "mark is not what it should be"),
        ("mark", 8, "mark is of version 0, and this program reads version 1"),
        ("mark", 20, "mark is damaged: a checksum is wrong"),
    ],
)
def test_damage_is_told_of(clean: Made, name: str, offset: int, reason: str) -> None:
    path = clean[0] / "journal" / name
    flip(path, offset % path.stat().st_size)
    epoch, notes, content = opened(clean[0])
    assert content == NOTHING
    if name == "blocks.1.segment" and offset == -3:
        assert "blocks.1.segment" in notes[0]
    assert notes[0].startswith(f"epoch {epoch} begins, since {clean[0]}/journal/{reason}"), notes


def test_both_words_of_a_number_are_damaged(clean: Made) -> None:
    path = clean[0] / "journal" / "mark"
    flip(path, path.stat().st_size - 9)
    flip(path, path.stat().st_size - 25)
    expect_end(clean, f"{path} is damaged: a checksum is wrong")


@pytest.mark.parametrize("word", [0, 1])
def test_one_word_of_a_number_is_enough_to_miss_two_updates(tmp_path: Path, word: int) -> None:
    journal = open_journal(tmp_path / "a", JournalLimits(), Sync.OFF, declare=[BLOCKS])
    records = fill(journal, "blocks", 6)
    for lost, goes_on in ((0, True), (2, False)):
        work = leave(tmp_path / "a", tmp_path / "b")
        path = work / "journal" / "mark"
        shutil.copyfile(tmp_path / "a" / "journal" / "mark", path)  # with the words as the process left them
        flip(path, path.stat().st_size - 64 + 16 * word)
        own(work)
        last = segments(work, "blocks")[0]
        os.truncate(last, last.stat().st_size - lost * len_of(records[-1]))
        again = open_journal(work, JournalLimits(), Sync.OFF)
        assert (again.epoch == journal.epoch) == goes_on
        again.close()
    journal.close()


# ---------------------------------------------------------------------- files that are missing or others


def remove(name: str) -> Callable[[Path], None]:
    """Return what removes a file."""
    return lambda folder: (folder / "journal" / name).unlink()


def truncate(name: str, size: int) -> Callable[[Path], None]:
    """Return what cuts a file short; `size` may count from its end."""

    def cut(folder: Path) -> None:
        path = folder / "journal" / name
        os.truncate(path, size if size >= 0 else path.stat().st_size + size)

    return cut


def replace(name: str, content: bytes | None) -> Callable[[Path], None]:
    """Return what puts other content, or a folder, in the place of a file."""

    def put(folder: Path) -> None:
        path = folder / "journal" / name
        path.unlink()
        if content is None:
            path.mkdir()
        else:
            path.write_bytes(content)

    return put


def swap(first: str, second: str) -> Callable[[Path], None]:
    """Return what copies one file over another."""
    return lambda folder: shutil.copyfile(folder / "journal" / first, folder / "journal" / second) and None


@pytest.mark.parametrize("state", ["clean", "killed"])
@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (remove("mark"), "mark cannot be read: No such file or directory"),
        (replace("mark", b""), "mark is cut short"),
        (replace("mark", b"x" * 5000), "mark is not what it should be"),
        (replace("mark", None), "mark cannot be read: Is a directory"),
        (truncate("mark", 30), "mark is cut short"),
        (remove("blocks.1.segment"), "updates 1 to 3 of stream 'blocks' are missing"),
        (remove("blocks.4.segment"), "the updates of stream 'blocks' from 4 on are damaged or missing"),
        (remove("accounts.16.segment"), "updates 16 to 18 of stream 'accounts' are missing"),
        (replace("blocks.1.segment", b""), "blocks.1.segment is cut short"),
        (replace("blocks.4.segment", b""), "blocks.4.segment is cut short"),
        (replace("blocks.1.segment", None), "blocks.1.segment cannot be read: Is a directory"),
        (truncate("blocks.1.segment", 100), "blocks.1.segment ends too early"),
        (truncate("blocks.4.segment", 100), "the updates of stream 'blocks' from 4 on are damaged or missing"),
        (swap("blocks.1.segment", "blocks.4.segment"), "blocks.4.segment is not what it should be"),
        (swap("blocks.1.segment", "accounts.16.segment"), "accounts.16.segment belongs to another epoch or stream"),
        (remove("accounts.base"), "updates 1 to 12 of stream 'accounts' are missing"),
        (replace("accounts.base", None), "accounts.base cannot be read: Is a directory"),
        (replace("accounts.base", b""), "accounts.base is cut short"),
        (truncate("accounts.base", -1), "accounts.base is damaged behind byte "),
        (swap("accounts.16.segment", "strange.16.segment"),
         "holds files of stream 'strange', which mark knows nothing of"),
        (swap("blocks.1.segment", "blocks.900.segment"), "updates 6 to 899 of stream 'blocks' are missing"),
    ],
)  # fmt: skip
def test_files_that_are_not_what_was_left(
    state: str, harm: Callable[[Path], None], reason: str, request: pytest.FixtureRequest
) -> None:
    folder, before, content = request.getfixturevalue(state)
    harm(folder)
    epoch, notes, now = opened(folder)
    if epoch == before:  # a file that nobody has asked for was never finished, as far as the journal can tell
        assert state == "killed"
        assert now == content
        assert notes == ["files of stream 'blocks' behind update 5 were never finished: deleted"]
    else:
        assert now == NOTHING
        assert len(notes) == 1
        assert notes[0].startswith(f"epoch {epoch} begins, since ")
        assert reason in notes[0]


def test_foreign_files_of_another_version(clean: Made) -> None:
    path = clean[0] / "journal" / "mark"
    data = bytearray(path.read_bytes())
    data[8] = 2
    path.write_bytes(data)
    expect_end(clean, f"{path} is of version 2, and this program reads version 1")


def test_another_journal_has_the_folder(clean: Made) -> None:
    shutil.rmtree(clean[0] / "journal")
    (clean[0] / "journal").write_text("a file")
    expect_end(clean, f"{clean[0]}/journal/mark cannot be read: Not a directory")


def test_only_one_ended_epoch_is_kept(clean: Made) -> None:
    folder = clean[0]
    for _ in range(3):
        (folder / "journal" / "mark").unlink()
        journal = open_journal(folder, declare=[BLOCKS])
        last = journal.epoch
        fill(journal, "blocks", 1)
        journal.close()
    (folder / "journal" / "mark").unlink()
    open_journal(folder).close()
    assert [path.name for path in (folder / "ended").iterdir()] == ["blocks.1.segment"]
    assert last.encode() in (folder / "ended" / "blocks.1.segment").read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == ["ended", "journal", "lock"]


# ---------------------------------------------------------------------- copies


@pytest.mark.parametrize("state", ["clean", "killed"])
def test_a_copy_is_seen_to_be_one(state: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    folder, epoch, content = request.getfixturevalue(state)
    shutil.copytree(folder, tmp_path / "copy")
    reason = f"{tmp_path}/copy/journal is a copy, or was restored: what was published since then is not known"
    expect_end((tmp_path / "copy", epoch, content), reason)
    expect_all((folder, epoch, content))


def test_a_copy_that_is_put_back_is_seen_to_be_one(clean: Made, tmp_path: Path) -> None:
    folder = clean[0]
    for _ in range(20):  # the file system may well give the numbers of deleted files again
        shutil.rmtree(tmp_path / "backup", ignore_errors=True)
        shutil.copytree(folder, tmp_path / "backup")
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "backup", folder)
        epoch, notes, _ = opened(folder)
        assert epoch in notes[0]
        assert "journal is a copy, or was restored" in notes[0]


def test_old_files_written_over_new_ones_are_seen(clean: Made, tmp_path: Path) -> None:
    folder = clean[0]
    shutil.copytree(folder, tmp_path / "backup")
    journal = open_journal(folder, LIMITS)
    fill(journal, "blocks", 1)
    journal.close()
    for path in (tmp_path / "backup" / "journal").iterdir():  # the same files, with what they held before
        shutil.copyfile(path, folder / "journal" / path.name)
    expect_end(clean, f"{folder}/journal is a copy, or was restored: what was published since then is not known")


def test_a_folder_that_was_moved_or_has_another_owner_goes_on(clean: Made, tmp_path: Path) -> None:
    folder, epoch, content = clean
    moved = folder.rename(tmp_path / "moved")
    for path in moved.rglob("*"):
        path.chmod(path.stat().st_mode | 0o070)
        os.chown(path, os.getuid(), os.getgid())
    expect_all((moved, epoch, content))


# ---------------------------------------------------------------------- the machine


def test_after_a_clean_end_the_machine_may_be_restarted(clean: Made) -> None:
    expect_all(clean, boot_id="boot-2")


RESTARTED = "the machine was restarted, or stopped, before everything was on disk"


@pytest.mark.parametrize("boot_id", ["boot-2", ""])
@pytest.mark.parametrize("sync", list(Sync))
def test_after_a_crash_of_the_machine_positions_may_be_lost(killed: Made, boot_id: str, sync: Sync) -> None:
    expect_end(killed, RESTARTED, boot_id=boot_id, sync=sync)


def test_a_mark_of_a_clean_end_is_gone_once_the_journal_is_open_again(clean: Made, tmp_path: Path) -> None:
    journal = open_journal(clean[0], LIMITS)
    crashed = leave(clean[0], tmp_path / "crashed")
    journal.close()
    expect_end((crashed, *clean[1:]), RESTARTED, boot_id="boot-2")


def test_without_a_name_of_the_boot_only_a_clean_end_counts(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "a", boot_id="", declare=[BLOCKS])
    epoch = journal.epoch
    copy = leave(tmp_path / "a", tmp_path / "b")
    journal.close()
    again = open_journal(copy, boot_id="")
    assert again.epoch != epoch
    again.close()
    again = open_journal(tmp_path / "a", boot_id="")
    assert again.epoch == epoch
    again.close()


def test_the_boot_is_told_by_the_system(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "a", boot_id=None)
    killed = open_journal(leave(tmp_path / "a", tmp_path / "b"), boot_id=None)
    assert killed.epoch == journal.epoch
    journal.close()
    killed.close()


def always(tmp_path: Path, synced: int, written: int) -> tuple[Path, str, list[Record]]:
    """Make a journal of a machine that crashed: so many updates were synced, so many written."""
    journal = open_journal(tmp_path / "a", JournalLimits(segment_count=10), Sync.ALWAYS, declare=[BLOCKS])
    records = fill(journal, "blocks", synced)
    assert journal._syncer.flush()
    records += fill(journal, "blocks", written - synced)
    folder = leave(tmp_path / "a", tmp_path / "b")
    journal.close()
    return folder, journal.epoch, records


def test_what_was_synced_goes_on_whatever_became_of_the_rest(memory_path: Path) -> None:
    folder, epoch, records = always(memory_path, 15, 18)
    size = segments(folder, "blocks")[-1].stat().st_size
    for lost in range(0, 4 * len_of(records[-1]), 3):
        for filling in (None, b"\0" * lost, b"\xff" * lost):
            work = leave(folder, memory_path / "work")
            last = segments(work, "blocks")[-1]
            os.truncate(last, size - lost)
            if filling is not None:
                with last.open("ab") as file:
                    file.write(filling)
            journal = open_journal(work, sync=Sync.ALWAYS, boot_id="boot-2")
            found = read_all(journal, "blocks") if journal.epoch == epoch else None
            journal.close()
            if size - lost >= size - 3 * len_of(records[-1]):
                assert found is not None
                assert found == records[: len(found)]
                assert len(found) >= 15
            else:
                assert found is None or len(found) >= 15


def len_of(one: Record) -> int:
    """Return the size of a record as it is written."""
    return 44 + len(one.key) + len(one.raw)


def test_unfinished_segments_behind_what_was_synced_are_deleted(tmp_path: Path) -> None:
    folder, epoch, records = always(tmp_path, 9, 25)
    first, _, third = segments(folder, "blocks")
    for harm in range(4):
        work = leave(folder, tmp_path / "work")
        if harm == 1:
            os.truncate(work / "journal" / third.name, 0)
        if harm >= 2:
            os.truncate(work / "journal" / first.name, first.stat().st_size - 30)
        if harm == 3:
            (work / "journal" / third.name).unlink()
        journal = open_journal(work, sync=Sync.ALWAYS, boot_id="boot-2")
        assert journal.epoch == epoch
        assert read_all(journal, "blocks") == records[: {0: 25, 1: 20, 2: 10, 3: 10}[harm]]
        fill(journal, "blocks", 20)
        journal.close()


def test_going_from_batch_to_always_and_back(tmp_path: Path) -> None:
    for before, after, goes_on in ((Sync.BATCH, Sync.ALWAYS, True), (Sync.ALWAYS, Sync.BATCH, False)):
        folder = tmp_path / before
        open_journal(folder, sync=before, declare=[BLOCKS]).close()
        journal = open_journal(folder, sync=after)
        records = fill(journal, "blocks", 3)
        crashed = leave(folder, tmp_path / f"{before}-crashed")
        journal.close()
        again = open_journal(crashed, sync=after, boot_id="boot-2")
        assert (again.epoch == journal.epoch) == goes_on
        assert read_all(again, "blocks") == (records if goes_on else [])
        again.close()


# ---------------------------------------------------------------------- writes cut short


def test_a_torn_record_is_cut_off_and_told_of(killed: Made) -> None:
    last = segments(killed[0], "blocks")[-1]
    with last.open("ab") as file:
        file.write(b"\x00\x01half a record")
    expect_all(
        killed,
        f"15 bytes of a write cut short were removed from the end of {last}: stream 'blocks' goes on behind update 5",
    )


def test_a_stream_whose_declaration_was_cut_short_never_was(killed: Made, memory_path: Path) -> None:
    folder, epoch, content = killed
    marked = read_mark(folder / "journal" / "mark")
    mark = Mark(folder / "journal" / "mark", marked.run, marked.streams)
    size = (folder / "journal" / "mark").stat().st_size
    mark.declare(WEATHER)
    mark.close()
    for end in range(size, (folder / "journal" / "mark").stat().st_size):
        work = leave(folder, memory_path / "work")
        os.truncate(work / "journal" / "mark", end)
        journal = open_journal(work, LIMITS)
        assert (journal.epoch, journal.notes, kept(journal)) == (epoch, [], content)
        journal.declare(WEATHER)
        journal.close()


def test_files_of_another_epoch(clean: Made) -> None:
    folder = clean[0]
    path = folder / "journal" / "mark"
    marked = read_mark(path)
    run: Run = marked.run
    Mark(path, Run("other", run.chain, run.boot, run.always, run.clean), marked.streams).close()
    expect_end(clean, f"{folder}/journal/blocks.1.segment belongs to another epoch or stream")


# ---------------------------------------------------------------------- while it is open


def test_what_cannot_be_read_is_told_of_and_the_rest_can_be(clean: Made) -> None:
    folder, _, content = clean
    journal = open_journal(folder, LIMITS, Sync.OFF)
    path = folder / "journal" / "blocks.1.segment"
    size = path.stat().st_size
    flip(path, 100)
    with pytest.raises(JournalError) as caught:
        journal.read("blocks", 0, 4, 10, EVERYTHING)
    assert str(caught.value) == (
        f"updates of stream 'blocks' cannot be read from {folder}: {path} is damaged: updates 1 to 3 cannot be read"
    )
    assert journal.read("blocks", 3, 9, 10, EVERYTHING).records == content.blocks[3:]
    os.truncate(path, size - 10)
    path.unlink()
    with pytest.raises(JournalError, match=f"cannot be read from {folder}: No such file or directory"):
        journal.newest("blocks", 5, EVERYTHING)
    assert journal.newest("blocks", 2, EVERYTHING) == content.blocks[3:]
    assert journal.failures == 2
    journal.close()


def test_values_and_publishers_that_cannot_be_read_are_told_of(clean: Made) -> None:
    folder, _, _ = clean
    journal = open_journal(folder, LIMITS, Sync.OFF)
    flip(folder / "journal" / "accounts.16.segment", 100)
    flip(segments(folder, "accounts")[-1], 100)
    with pytest.raises(JournalError, match="updates of stream 'accounts' cannot be read from .*segment is damaged"):
        list(journal.values("accounts"))
    with pytest.raises(JournalError, match="publishers cannot be read from .*16.segment is damaged"):
        list(journal.publishers())
    flip(folder / "journal" / "accounts.base", -20 + (folder / "journal" / "accounts.base").stat().st_size)
    with pytest.raises(
        JournalError, match="updates of stream 'accounts' cannot be read from .*accounts.base is damaged"
    ):
        journal.read("accounts", 0, 1, 1, EVERYTHING)
    (folder / "journal" / "accounts.base").unlink()
    with pytest.raises(JournalError, match="updates of stream 'accounts' cannot be read from .*No such file"):
        journal.read("accounts", 0, 1, 1, EVERYTHING)
    journal.close()


def test_a_file_system_that_tells_no_time_of_birth(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with (tmp_path / "a").open() as file:
        known = identity(file.fileno())
    assert known.inode == (tmp_path / "a").stat().st_ino
    assert known.same(known._replace(device=known.device + 1))  # another mount of the same file system
    assert not known.same(known._replace(born_ns=known.born_ns + 1))
    assert not known.same(known._replace(inode=known.inode + 1))
    unborn = known._replace(born_ns=0)
    assert unborn.same(unborn)
    assert unborn.same(known)
    assert not unborn.same(unborn._replace(device=known.device + 1))
