"""The journal: what is appended is there, also for the next process."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.core.errors import JournalError, StartError
from bridge.store.journal import Declared, JournalLimits, StoredPage, Sync
from tests.store.journals import (
    ACCOUNTS,
    BLOCKS,
    EVERYTHING,
    SMALL,
    WEATHER,
    fill,
    leave,
    open_journal,
    read_all,
    record,
    segments,
)


def test_a_new_journal_is_empty_and_says_why_its_epoch_begins(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "data" / "here")
    assert journal.notes == [f"epoch {journal.epoch} begins, since there was no journal in {tmp_path}/data/here"]
    assert journal.declared() == []
    assert (journal.head("blocks"), journal.oldest("blocks")) == (0, 1)
    assert journal.read("blocks", 0, 10, 10, 1000) == StoredPage(1, [], [])
    assert journal.newest("blocks", 10, 1000) == list(journal.values("blocks")) == list(journal.publishers()) == []
    assert (journal.updates, journal.size_bytes, journal.failures) == (0, 0, 0)
    journal.close()


@pytest.mark.parametrize("sync", list(Sync))
@pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 23])
def test_what_was_appended_is_there_for_the_next_process(tmp_path: Path, sync: Sync, count: int) -> None:
    journal = open_journal(tmp_path, sync=sync, declare=[BLOCKS, ACCOUNTS])
    blocks, accounts = fill(journal, "blocks", count), fill(journal, "accounts", count, keys=3)
    epoch = journal.epoch
    for _ in range(3):
        assert (read_all(journal, "blocks"), read_all(journal, "accounts")) == (blocks, accounts)
        assert (journal.head("blocks"), journal.oldest("blocks")) == (count, 1)
        assert journal.updates == 2 * len(blocks)
        journal.close()
        journal = open_journal(tmp_path, sync=sync)
        assert (journal.epoch, journal.notes) == (epoch, [])
        assert journal.declared() == [BLOCKS, ACCOUNTS]
        blocks += fill(journal, "blocks", 1)
        accounts += fill(journal, "accounts", 1, keys=3)
        count += 1
    journal.close()


def test_it_goes_on_after_the_process_was_killed(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "a", declare=[BLOCKS])
    records = fill(journal, "blocks", 10)
    again = open_journal(leave(tmp_path / "a", tmp_path / "b"))
    assert (again.epoch, again.notes, read_all(again, "blocks")) == (journal.epoch, [], records)
    journal.close()
    again.close()


def test_a_segment_that_was_not_full_is_gone_on_with(tmp_path: Path) -> None:
    for _ in range(8):
        journal = open_journal(tmp_path, declare=[BLOCKS])
        fill(journal, "blocks", 1)
        journal.close()
    assert len(segments(tmp_path, "blocks")) == 2


# ---------------------------------------------------------------------- reading


@pytest.mark.parametrize(
    ("since", "until", "limit", "seqs"),
    [
        (0, 21, 100, range(1, 21)),
        (0, 99, 100, range(1, 21)),
        (0, 21, 7, range(1, 8)),
        (3, 21, 3, range(4, 7)),
        (7, 13, 100, range(8, 13)),
        (19, 21, 100, range(20, 21)),
        (20, 30, 100, ()),
        (25, 30, 100, ()),
        (5, 6, 100, ()),
        (9, 3, 100, ()),
        (0, 21, 0, ()),
    ],
)
def test_a_page_lies_between_since_and_until(tmp_path: Path, since: int, until: int, limit: int, seqs: range) -> None:
    journal = open_journal(tmp_path, declare=[BLOCKS])
    fill(journal, "blocks", 20)
    page = journal.read("blocks", since, until, limit, EVERYTHING)
    assert page == StoredPage(1, [record(seq) for seq in seqs], [])
    journal.close()


def test_a_page_is_bounded_in_bytes_but_has_one_update_at_least(tmp_path: Path) -> None:
    journal = open_journal(tmp_path, declare=[BLOCKS])
    for seq in range(1, 21):
        journal.append("blocks", record(seq, size=1000))
    size = journal.size_bytes // 20
    for wanted in (1, 2, 4, 5, 9, 20):
        page = journal.read("blocks", 0, 100, 100, wanted * 1100)
        assert len(page.records) == wanted
        assert [one.seq for one in journal.newest("blocks", 100, wanted * 1100)] == list(range(21 - wanted, 21))
    assert len(journal.read("blocks", 6, 100, 100, 1).records) == len(journal.newest("blocks", 100, 1)) == 1
    assert size < 1200
    journal.close()


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 19, 20, 21, 500])
def test_the_newest_are_bounded_in_number(tmp_path: Path, count: int) -> None:
    journal = open_journal(tmp_path, declare=[BLOCKS])
    records = fill(journal, "blocks", 20)
    assert journal.newest("blocks", count, EVERYTHING) == records[20 - min(count, 20) :]
    journal.close()


def test_every_field_of_a_record_is_kept(tmp_path: Path) -> None:
    journal = open_journal(tmp_path, declare=[ACCOUNTS])
    kept = record(1, "0xabc:DEF._-", publisher="p" * 128, publisher_seq=2**64 - 1)._replace(
        ordinal=2**63, time_ms=-5, raw=bytes(range(256))
    )
    empty = record(2, "k")._replace(raw=b"", time_ms=2**62)
    journal.append("accounts", kept)
    journal.append("accounts", empty)
    journal.close()
    journal = open_journal(tmp_path)
    assert read_all(journal, "accounts") == [kept, empty]
    journal.close()


def test_updates_larger_than_a_segment_or_a_window_are_kept(tmp_path: Path) -> None:
    limits = JournalLimits(segment_bytes=1000, segment_count=4)
    journal = open_journal(tmp_path / "a", limits, declare=[BLOCKS])
    records = [record(seq, size=size) for seq, size in enumerate((10, 5000, 3 << 20, 20, 2 << 20), 1)]
    for one in records:
        journal.append("blocks", one)
    assert read_all(journal, "blocks") == records
    killed = open_journal(leave(tmp_path / "a", tmp_path / "b"), limits)
    assert read_all(killed, "blocks") == records
    journal.close()
    killed.close()


# ---------------------------------------------------------------------- values


def test_values_are_the_newest_of_each_key_least_recently_changed_first(tmp_path: Path) -> None:
    journal = open_journal(tmp_path, declare=[ACCOUNTS, BLOCKS])
    keys = ["a", "b", "c", "a", "d", "e", "a", "b", "f", "g", "h", "i", "a"]
    for seq, key in enumerate(keys, 1):
        journal.append("accounts", record(seq, key))
    fill(journal, "blocks", 9)
    expected = [record(seq, key).raw for seq, key in ((3, "c"), (5, "d"), (6, "e"), (8, "b"), (9, "f"), (10, "g"),
                                                      (11, "h"), (12, "i"), (13, "a"))]  # fmt: skip
    assert list(journal.values("accounts")) == expected
    assert list(journal.values("blocks")) == [record(9).raw]
    journal.close()
    journal = open_journal(tmp_path)
    assert list(journal.values("accounts")) == expected
    journal.close()


def test_a_hundred_thousand_keys(tmp_path: Path) -> None:
    journal = open_journal(tmp_path, JournalLimits(), Sync.OFF, declare=[ACCOUNTS])
    for seq in range(1, 120_001):
        journal.append("accounts", record(seq, f"k{seq % 100_000}", size=10))
    journal.close()
    journal = open_journal(tmp_path, JournalLimits(), Sync.OFF)
    assert [int(raw.split(b"/")[0]) for raw in journal.values("accounts")] == list(range(20_001, 120_001))
    journal.close()


# ---------------------------------------------------------------------- what is refused


def test_what_cannot_be_kept_is_refused_with_a_sentence(tmp_path: Path) -> None:
    journal = open_journal(tmp_path, declare=[BLOCKS])
    fill(journal, "blocks", 2)
    for stream, bad, sentence in (
        ("blocks", record(2), "update 2 of stream 'blocks' cannot be kept: it is not the next of its stream"),
        ("blocks", record(4), "it is not the next"),
        ("blocks", record(0), "it is not the next"),
        ("unknown", record(1), "update 1 of stream 'unknown' cannot be kept: it was not declared"),
        ("blocks", record(3, "k" * 70_000), "a name that does not fit"),
        ("blocks", record(3, publisher="p", publisher_seq=1 << 64), "a number or a name that does not fit"),
        ("blocks", record(3, size=65 << 20), "it has 68157440 bytes, and a record has room for 67108864"),
    ):  # fmt: skip
        with pytest.raises(JournalError) as caught:
            journal.append(stream, bad)
        assert sentence in str(caught.value)
    assert len(fill(journal, "blocks", 3)) == len(read_all(journal, "blocks")) - 2
    journal.close()


def test_a_stream_with_updates_cannot_become_another(tmp_path: Path) -> None:
    journal = open_journal(tmp_path, declare=[WEATHER, WEATHER])
    other = Declared("weather", "rain", keyed=False, custom=True)
    journal.declare(other)  # it has no updates yet
    journal.declare(WEATHER)
    fill(journal, "weather", 1, keys=1)
    with pytest.raises(JournalError, match="has updates of it as weather_update with keys; that takes a new epoch"):
        journal.declare(other)
    journal.begin_epoch("other")
    journal.declare(other)
    journal.append("weather", record(1))
    journal.close()
    journal = open_journal(tmp_path)
    assert journal.declared() == [other]
    journal.close()


@pytest.mark.parametrize("name", ["", "../x", "A", "a.b", "a/b", "x" * 65])
def test_a_name_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    journal = open_journal(tmp_path)
    with pytest.raises(JournalError, match="its name must match"):
        journal.declare(Declared(name, "t", keyed=False, custom=True))
    journal.close()


def test_a_custom_stream_that_never_had_an_update_is_forgotten(tmp_path: Path) -> None:
    open_journal(tmp_path, declare=[BLOCKS, WEATHER]).close()
    journal = open_journal(tmp_path)
    assert journal.declared() == [BLOCKS]
    journal.close()


def test_a_journal_that_is_closed_takes_nothing_more(tmp_path: Path) -> None:
    journal = open_journal(tmp_path, declare=[BLOCKS])
    records = fill(journal, "blocks", 2)
    journal.close()
    journal.close()
    with pytest.raises(JournalError, match="it is closed"):
        fill(journal, "blocks", 1)
    journal = open_journal(tmp_path)
    assert read_all(journal, "blocks") == records
    journal.close()


# ---------------------------------------------------------------------- epochs


def test_an_epoch_begins_with_nothing(tmp_path: Path) -> None:
    journal = open_journal(tmp_path, JournalLimits(count=8, segment_count=2), declare=[BLOCKS, ACCOUNTS])
    fill(journal, "blocks", 30)
    journal.append("accounts", record(1, "k", publisher="p", publisher_seq=7))
    journal.keep_chain(b"genesis")
    journal.begin_epoch("second")
    for _ in range(2):
        assert (journal.epoch, journal.chain, journal.head("blocks"), journal.oldest("blocks")) == (
            "second",
            None,
            0,
            1,
        )
        assert list(journal.values("accounts")) == list(journal.publishers()) == read_all(journal, "blocks") == []
        assert (journal.declared(), journal.updates) == ([BLOCKS, ACCOUNTS], 0)
        journal.close()
        journal = open_journal(tmp_path)
    records = fill(journal, "blocks", 5)
    journal.close()
    journal = open_journal(tmp_path)
    assert (journal.epoch, read_all(journal, "blocks")) == ("second", records)
    journal.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["journal", "lock"]


def test_the_chain_of_an_epoch_is_kept(tmp_path: Path) -> None:
    journal = open_journal(tmp_path, declare=[BLOCKS])
    records = fill(journal, "blocks", 3)
    journal.keep_chain(b"\x00genesis")
    journal.keep_chain(b"\x00genesis")
    records += fill(journal, "blocks", 3)
    killed = open_journal(leave(tmp_path, tmp_path.with_name("killed")))
    assert (killed.chain, read_all(killed, "blocks")) == (b"\x00genesis", records)
    killed.close()
    journal.close()


# ---------------------------------------------------------------------- the folder


def test_a_folder_is_held_by_one_process(tmp_path: Path) -> None:
    journal = open_journal(tmp_path, declare=[BLOCKS])
    with pytest.raises(StartError) as caught:
        open_journal(tmp_path)
    assert str(caught.value) == (
        f"the data folder {tmp_path} is in use by another process ({os.getpid()}): "
        "give each state service a folder of its own"
    )
    fill(journal, "blocks", 1)
    journal.close()
    open_journal(tmp_path).close()


def test_a_folder_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "data" / "lock").mkdir(parents=True)
    for folder in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / "data"):
        with pytest.raises(StartError, match=f"the data folder {folder} cannot be used: .*; it must be a folder that"):
            open_journal(folder)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may go into."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


CHILD = """
import os, sys
from pathlib import Path
from bridge.store.journal import Journal
os.setgid(65534); os.setuid(65534)
try:
    journal = Journal.open(Path(sys.argv[1]), new_epoch=lambda: "new", clock_ms=lambda: 0, boot_id="boot-1")
except Exception as error:
    print(type(error).__name__, error)
else:
    print(*journal.notes)
    journal.close()
"""


def open_as_nobody(folder: Path) -> str:
    """Open a journal in a process that may not do everything, as a test that runs as root may."""
    code = CHILD if os.getuid() == 0 else CHILD.replace("os.setgid(65534); os.setuid(65534)", "")
    return subprocess.run(
        [sys.executable, "-c", code, folder], capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()


def test_a_folder_or_files_that_may_not_be_used(open_folder: Path) -> None:
    folder = open_folder / "data"
    open_journal(folder).close()
    folder.chmod(0o500)
    assert open_as_nobody(folder).startswith(f"StartError the data folder {folder} cannot be used: Permission denied")
    folder.chmod(0o777)
    for path in folder.iterdir():
        path.chmod(0o666)
    (folder / "journal").chmod(0o000)
    said = open_as_nobody(folder)
    assert said == (
        f"epoch new begins, since {folder}/journal/mark cannot be read: Permission denied; "
        f"what was there is kept in {folder}/ended"
    )


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "photos").mkdir()
    journal = open_journal(tmp_path, SMALL, declare=[BLOCKS])
    fill(journal, "blocks", 9)
    (tmp_path / "journal" / "README").write_text("mine too")
    journal.close()
    journal = open_journal(tmp_path)
    assert journal.notes == []
    journal.begin_epoch("other")
    journal.close()
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (tmp_path / "photos").is_dir()


def test_nobody_else_may_read_the_files(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    journal = open_journal(folder, JournalLimits(count=8), declare=[BLOCKS])
    fill(journal, "blocks", 40)
    journal.close()
    assert folder.stat().st_mode & 0o077 == 0
    for path in folder.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_million_updates(tmp_path: Path) -> None:
    journal = open_journal(tmp_path, JournalLimits(count=2_000_000), Sync.OFF, declare=[BLOCKS])
    for seq in range(1, 1_000_001):
        journal.append("blocks", record(seq, size=0))
    journal.close()
    journal = open_journal(tmp_path, JournalLimits(count=2_000_000), Sync.OFF)
    assert (journal.notes, journal.head("blocks"), journal.oldest("blocks")) == ([], 1_000_000, 1)
    for since in (0, 1, 16_380, 499_999, 999_995):
        records = journal.read("blocks", since, since + 6, 100, EVERYTHING).records
        assert records == [record(seq, size=0) for seq in range(since + 1, min(since + 6, 1_000_001))]
    assert [one.seq for one in journal.newest("blocks", 4096, EVERYTHING)] == list(range(995_905, 1_000_001))
    journal.close()
