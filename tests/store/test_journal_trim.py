"""Trimming: old segments go, the newest update and every current value stay."""

import threading
import time
from pathlib import Path

import pytest

from bridge.store.journal import Journal, JournalLimits, base, reading, stream
from bridge.store.journal import journal as journal_module
from tests.store.journals import (
    ACCOUNTS,
    BLOCKS,
    EVERYTHING,
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


def test_the_number_of_updates_is_bounded(tmp_path: Path) -> None:
    limits = JournalLimits(count=20, segment_count=4)
    journal = open_journal(tmp_path, limits, declare=[BLOCKS])
    for seq in range(1, 101):
        fill(journal, "blocks", 1)
        assert journal.updates <= 20
        assert journal.updates >= min(seq, 16)
    assert read_all(journal, "blocks") == [record(seq) for seq in range(journal.oldest("blocks"), 101)]
    wait_for(lambda: len(segments(tmp_path, "blocks")) <= 5)
    journal.close()
    journal = open_journal(tmp_path, limits)
    assert (journal.notes, journal.head("blocks"), journal.oldest("blocks")) == ([], 100, 81)
    journal.close()


def test_a_limit_below_a_segment_is_kept_to(tmp_path: Path) -> None:
    journal = open_journal(tmp_path, JournalLimits(count=8), declare=[BLOCKS])
    fill(journal, "blocks", 100)
    assert 6 <= journal.updates <= 8
    journal.close()


def test_the_size_is_bounded(tmp_path: Path) -> None:
    journal = open_journal(tmp_path, JournalLimits(bytes=64 << 10, age_ms=0), declare=[BLOCKS])
    for _ in range(500):
        journal.append("blocks", record(journal.head("blocks") + 1, size=1000))
    wait_until_idle(journal)
    assert 40 << 10 <= sum(path.stat().st_size for path in segments(tmp_path, "blocks")) <= 64 << 10
    on_disk = sum(path.stat().st_size for path in (tmp_path / "journal").iterdir() if path.name != "mark")
    assert journal.size_bytes == on_disk
    journal.close()


def test_old_updates_go_but_never_the_newest(tmp_path: Path) -> None:
    now = [NOW_MS]
    journal = open_journal(tmp_path, JournalLimits(age_ms=1000), clock_ms=lambda: now[0], declare=[BLOCKS])
    for seq in range(1, 3001):  # one in a millisecond
        now[0] = NOW_MS + seq
        journal.append("blocks", record(seq))
        if seq % 100 == 0:
            journal.trim(now[0])
            assert seq - 1500 <= journal.oldest("blocks") <= max(seq - 1000, 1)
    now[0] = NOW_MS + 60_000
    for _ in range(3):
        journal.trim(now[0])
    assert journal.newest("blocks", 1, EVERYTHING) == [record(3000)]
    assert journal.updates <= 400
    fill(journal, "blocks", 1)
    journal.trim(now[0])
    assert read_all(journal, "blocks") == [record(3001)]
    journal.close()


def test_nothing_grows_old_without_a_limit(tmp_path: Path) -> None:
    journal = open_journal(tmp_path, JournalLimits(age_ms=0, segment_count=4), declare=[BLOCKS])
    fill(journal, "blocks", 20)
    journal.trim(1 << 60)
    assert journal.oldest("blocks") == 1
    journal.close()


def test_a_single_large_update_stays(tmp_path: Path) -> None:
    journal = open_journal(tmp_path, JournalLimits(bytes=10_000), declare=[BLOCKS])
    for seq in range(1, 6):
        journal.append("blocks", record(seq, size=100_000))
        journal.trim(NOW_MS)
        assert read_all(journal, "blocks") == [record(seq, size=100_000)]
    journal.close()


# ---------------------------------------------------------------------- what stays


def test_current_values_survive_many_drops(tmp_path: Path) -> None:
    limits = JournalLimits(count=12, segment_count=3)
    journal = open_journal(tmp_path, limits, declare=[ACCOUNTS])
    current: dict[str, bytes] = {}
    for seq in range(1, 400):
        key = f"k{seq * seq % 37}" if seq > 20 else f"once{seq}"
        current.pop(key, None)
        journal.append("accounts", record(seq, key))
        current[key] = record(seq, key).raw
        if seq % 50 == 0:
            assert list(journal.values("accounts")) == list(current.values())
            journal.close()
            journal = open_journal(tmp_path, limits)
            assert journal.notes == []
    assert list(journal.values("accounts")) == list(current.values())
    killed = open_journal(leave(tmp_path, tmp_path.with_name("killed")), limits)
    assert list(killed.values("accounts")) == list(current.values())
    killed.close()
    journal.close()


def test_what_stands_in_is_the_newest_trimmed_value_of_each_key(tmp_path: Path) -> None:
    journal = open_journal(tmp_path, JournalLimits(count=8, segment_count=2), declare=[ACCOUNTS, BLOCKS])
    keys = ["a", "b", "c", "a", "b", "d", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]
    for seq, key in enumerate(keys, 1):
        journal.append("accounts", record(seq, key))
        journal.append("blocks", record(seq))
    assert journal.oldest("accounts") == 9
    trimmed = {key: seq for seq, key in enumerate(keys, 1) if seq < 9}
    for since in range(17):
        page = journal.read("accounts", since, 100, 2, EVERYTHING)
        stand_ins = sorted(seq for seq in trimmed.values() if seq > since) if since < 8 else []
        assert page.base == [record(seq, keys[seq - 1]).raw for seq in stand_ins]
        first = max(since + 1, 9)
        assert page.records == [record(seq, keys[seq - 1]) for seq in range(first, min(first + 2, 17))]
        assert journal.read("blocks", since, 100, 2, EVERYTHING).base == ([record(8).raw] if since < 8 else [])
    assert journal.read("accounts", 0, 5, 10, EVERYTHING).records == []
    journal.close()


def test_at_most_a_thousand_updates_stand_in_the_newest(tmp_path: Path) -> None:
    journal = open_journal(tmp_path, JournalLimits(count=40, segment_count=10), declare=[ACCOUNTS])
    for seq in range(1, 3001):
        journal.append("accounts", record(seq, f"k{seq}"))
    oldest = journal.oldest("accounts")
    page = journal.read("accounts", 0, 1, 10, EVERYTHING)
    assert page.base == [record(seq, f"k{seq}").raw for seq in range(oldest - 1000, oldest)]
    page = journal.read("accounts", oldest - 11, 1, 10, EVERYTHING)
    assert page.base == [record(seq, f"k{seq}").raw for seq in range(oldest - 10, oldest)]
    journal.close()


def test_the_base_is_written_anew_when_it_is_mostly_superseded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "SLACK_BYTES", 4000)
    limits = JournalLimits(count=12, segment_count=3)
    journal = open_journal(tmp_path, limits, declare=[ACCOUNTS])
    file = tmp_path / "journal" / "accounts.base"
    written = fill(journal, "accounts", 3000, keys=20)
    for _ in range(5):  # a base that is being written anew is left alone until the next trim
        journal.trim(NOW_MS)
        wait_for(lambda: file.stat().st_size < 20_000)
        written += fill(journal, "accounts", 100, keys=20)
    journal.trim(NOW_MS)
    assert list(journal.values("accounts")) == [one.raw for one in written[-20:]]
    stand_ins = journal.read("accounts", 0, 1, 1, EVERYTHING).base
    oldest = journal.oldest("accounts")
    assert stand_ins == [one.raw for one in written[oldest - 21 : oldest - 1]]
    journal.close()
    journal = open_journal(tmp_path, limits)
    assert (journal.notes, list(journal.values("accounts"))) == ([], [one.raw for one in written[-20:]])
    assert journal.read("accounts", 0, 1, 1, EVERYTHING).base == stand_ins
    journal.close()


def test_the_number_of_keys_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (base, reading):
        monkeypatch.setattr(module, "KEYS", 100)
    monkeypatch.setattr(base, "SLACK_BYTES", 0)
    limits = JournalLimits(count=40, segment_count=10)
    journal = open_journal(tmp_path, limits, declare=[ACCOUNTS])
    for seq in range(1, 2001):
        journal.append("accounts", record(seq, f"k{seq}"))
        if seq % 100 == 0:
            wait_for(lambda: not journal._streams["accounts"].base.frozen)
            assert [int(raw.split(b"/")[0]) for raw in journal.values("accounts")] == list(range(seq - 99, seq + 1))
    wait_for(lambda: len(journal._streams["accounts"].base) <= 125)
    journal.close()
    journal = open_journal(tmp_path, limits)
    assert [int(raw.split(b"/")[0]) for raw in journal.values("accounts")] == list(range(1901, 2001))
    journal.close()


def test_the_base_is_bounded_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "SLACK_BYTES", 1000)
    journal = open_journal(tmp_path, JournalLimits(bytes=20_000, segment_count=4), declare=[ACCOUNTS])
    for seq in range(1, 1001):
        journal.append("accounts", record(seq, f"k{seq}", size=500))
        if seq % 50 == 0:
            wait_for(lambda: not journal._streams["accounts"].base.frozen)
            journal.trim(NOW_MS)
    wait_for(lambda: (tmp_path / "journal" / "accounts.base").stat().st_size < 60_000)
    values = [int(raw.split(b"/")[0]) for raw in journal.values("accounts")]
    assert values == list(range(values[0], 1001))
    assert len(values) > 30
    journal.close()


def test_a_segment_with_many_keys_is_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "SEGMENT_KEYS", 10)
    journal = open_journal(tmp_path, JournalLimits(), declare=[ACCOUNTS])
    fill(journal, "accounts", 100, keys=100)
    assert len(segments(tmp_path, "accounts")) == 10
    fill(journal, "accounts", 100, keys=5)
    journal.close()
    journal = open_journal(tmp_path, JournalLimits())
    fill(journal, "accounts", 1, keys=5)
    assert len(segments(tmp_path, "accounts")) == 11
    assert [one.seq for one in read_all(journal, "accounts")] == list(range(1, 202))
    journal.close()


# ---------------------------------------------------------------------- while others read


def test_pages_are_right_while_it_is_appended_to_and_trimmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "SLACK_BYTES", 2000)
    journal = open_journal(tmp_path, JournalLimits(count=60, segment_count=5), declare=[ACCOUNTS])
    done = threading.Event()
    faults: list[object] = []
    pages = [0, 0]  # without and with updates that stand in

    def read() -> None:
        since = 0
        while not done.is_set():
            head = journal.head("accounts")
            page = journal.read("accounts", since, head + 1, 7, EVERYTHING)
            first = max(since + 1, page.oldest)
            seqs = [one.seq for one in page.records]
            if seqs != list(range(first, first + len(seqs))) or (not seqs and first <= head):
                faults.append((since, head, page))
            for raw in page.base:
                seq, key, _, _ = raw.split(b"/")
                if raw != record(int(seq), key.decode()).raw or not since < int(seq) < page.oldest:
                    faults.append((since, head, page))
            pages[bool(page.base)] += 1
            since = seqs[-1] if seqs and seqs[-1] < head else max(0, head - 90)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    while (journal.head("accounts") < 1000 or min(pages) < 50) and time.monotonic() < deadline and not faults:
        fill(journal, "accounts", 20, keys=23)
        journal.trim(NOW_MS)
    done.set()
    for thread in threads:
        thread.join()
    assert faults == []
    assert min(pages) >= 50
    journal.close()


def test_an_epoch_that_begins_while_a_page_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = open_journal(tmp_path, declare=[BLOCKS])
    fill(journal, "blocks", 8)

    def late(plan: object) -> object:
        monkeypatch.undo()
        journal.begin_epoch("other")
        journal.append("blocks", record(1, "other"))
        return journal_module.read_page(plan)

    monkeypatch.setattr(journal_module, "read_page", late)
    assert journal.read("blocks", 0, 9, 100, EVERYTHING).records == [record(1, "other")]
    journal.close()


def test_a_reader_that_comes_too_late_reads_what_is_there_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = open_journal(tmp_path, JournalLimits(count=8, segment_count=2), declare=[BLOCKS])
    fill(journal, "blocks", 8)

    def late(plan: object) -> object:
        monkeypatch.undo()
        fill(journal, "blocks", 50)
        wait_for(lambda: len(segments(tmp_path, "blocks")) <= 4)
        return journal_module.read_page(plan)

    monkeypatch.setattr(journal_module, "read_page", late)
    page = journal.read("blocks", 0, 9, 100, EVERYTHING)
    assert (page.oldest, page.records, len(page.base)) == (51, [], 1)
    journal.close()


# ---------------------------------------------------------------------- when the disk will not


def test_what_cannot_be_dropped_stays_until_it_can(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal: Journal = open_journal(tmp_path, JournalLimits(count=8, segment_count=2), declare=[BLOCKS])
    (tmp_path / "journal" / "blocks.base").mkdir()
    fill(journal, "blocks", 30)
    for _ in range(3):
        journal.trim(NOW_MS)
    assert journal.oldest("blocks") == 1
    assert [one.getMessage() for one in caplog.records] == [
        f"the journal in {tmp_path} grows: stream 'blocks' cannot be trimmed: Is a directory"
    ]
    assert journal.failures >= 3
    (tmp_path / "journal" / "blocks.base").rmdir()
    for _ in range(3):
        journal.trim(NOW_MS)
    assert journal.oldest("blocks") == 23
    journal.close()


def test_a_base_that_cannot_be_written_anew_grows_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(base, "SLACK_BYTES", 1000)
    journal = open_journal(tmp_path, JournalLimits(count=12, segment_count=3), declare=[ACCOUNTS])
    path = tmp_path / "journal" / "accounts.base"
    (tmp_path / "journal" / "accounts.base.new").mkdir()
    written = fill(journal, "accounts", 200, keys=5)
    wait_for(lambda: journal.failures > 0)
    assert f"{path} cannot be written anew: Is a directory; it grows until it can" in caplog.text
    (tmp_path / "journal" / "accounts.base.new").rmdir()
    written += fill(journal, "accounts", 12, keys=5)
    wait_for(lambda: path.stat().st_size < 3000)
    assert list(journal.values("accounts")) == [one.raw for one in written[-5:]]
    journal.close()


def test_a_damaged_value_is_left_out_when_the_base_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    journal = open_journal(tmp_path, JournalLimits(count=12, segment_count=3), declare=[ACCOUNTS])
    path = tmp_path / "journal" / "accounts.base"
    for seq in range(1, 31):
        journal.append("accounts", record(seq, f"k{seq}"))
    before = journal.read("accounts", 0, 1, 1, EVERYTHING).base
    data = bytearray(path.read_bytes())
    data[data.index(before[4])] ^= 1
    with path.open("r+b") as file:
        file.write(data)
    monkeypatch.setattr(base, "SLACK_BYTES", 0)
    for seq in range(31, 34):
        journal.append("accounts", record(seq, f"k{seq}"))
    wait_for(lambda: "accounts.base is damaged: 1 current values are lost" in caplog.text)
    wait_for(lambda: not journal._streams["accounts"].base.frozen)
    assert journal.read("accounts", 0, 1, 1, EVERYTHING).base[: len(before) - 1] == before[:4] + before[5:]
    journal.close()


def test_a_damaged_segment_is_dropped_without_what_it_held(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    limits = JournalLimits(count=8, segment_count=2)
    journal = open_journal(tmp_path, limits, declare=[BLOCKS])
    fill(journal, "blocks", 4)
    path = segments(tmp_path, "blocks")[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    with path.open("r+b") as file:
        file.write(data)
    fill(journal, "blocks", 6)
    assert journal.oldest("blocks") == 3
    assert journal.read("blocks", 0, 5, 10, EVERYTHING).base == []
    assert "current values that only stood in blocks.1.segment are lost" in caplog.text
    journal.close()
    journal = open_journal(tmp_path, limits)
    assert (journal.notes, [one.seq for one in read_all(journal, "blocks")]) == ([], list(range(3, 11)))
    journal.close()
