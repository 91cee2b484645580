"""What is known of publishers: nothing that was published is ever taken for new."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from bridge.store.journal import Journal, JournalLimits, base, place, publishers
from tests.store.journals import ACCOUNTS, BLOCKS, NOW_MS, fill, leave, open_journal, record, wait_for


def publish(journal: Journal, stream: str, publisher: str, seqs: Iterable[int]) -> None:
    """Append an update for each publisher_seq."""
    for publisher_seq in seqs:
        seq = journal.head(stream) + 1
        one = record(seq, "k" if stream == "accounts" else "", publisher=publisher, publisher_seq=publisher_seq)
        journal.append(stream, one._replace(time_ms=NOW_MS + journal.head("blocks") + journal.head("accounts")))


def known(journal: Journal) -> dict[str, tuple[int, list[tuple[int, str, int]]]]:
    """Return what is known, by name."""
    return {name: (forgotten, positions) for name, forgotten, positions in journal.publishers()}


def test_positions_are_told_of_what_is_held(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "a", declare=[BLOCKS, ACCOUNTS])
    fill(journal, "blocks", 3)  # the source's own
    publish(journal, "blocks", "alice", range(1, 6))
    publish(journal, "accounts", "bob", [7, 9])
    publish(journal, "accounts", "alice", [6])
    publish(journal, "accounts", "bob", [8])  # was refused at first
    expected = {
        "alice": (0, [(seq, "blocks", seq + 3) for seq in range(1, 6)] + [(6, "accounts", 3)]),
        "bob": (0, [(7, "accounts", 1), (8, "accounts", 4), (9, "accounts", 2)]),
    }
    assert known(journal) == expected
    assert list(known(journal)) == ["alice", "bob"]  # the one heard of longest ago first
    killed = open_journal(leave(tmp_path / "a", tmp_path / "b"))
    assert known(killed) == expected
    killed.close()
    journal.close()
    journal = open_journal(tmp_path / "a")
    assert known(journal) == expected
    journal.close()


def test_what_was_dropped_is_still_known_to_be_published(tmp_path: Path) -> None:
    limits = JournalLimits(count=8, segment_count=2)
    journal = open_journal(tmp_path, limits, declare=[BLOCKS])
    publish(journal, "blocks", "alice", [5, 3, 4])
    publish(journal, "blocks", "bob", range(1, 4))
    for _ in range(5):
        fill(journal, "blocks", 20)
        assert known(journal) == {"alice": (5, []), "bob": (3, [])}
        journal.close()
        journal = open_journal(tmp_path, limits)
    publish(journal, "blocks", "alice", [6])
    fill(journal, "blocks", 3)
    forgotten, positions = known(journal)["alice"]
    assert (forgotten, [seq for seq, _, _ in positions]) == (5, [6])
    journal.close()


def test_the_highest_of_each_is_known_through_drops_and_a_base_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "SLACK_BYTES", 3000)
    limits = JournalLimits(count=12, segment_count=3)
    journal = open_journal(tmp_path, limits, declare=[BLOCKS, ACCOUNTS])
    highest: dict[str, int] = {}
    for number in range(1, 1500):
        name = f"p{number * number % 31}"
        publish(journal, "blocks" if number % 3 else "accounts", name, [number])
        highest[name] = number
        if number % 100 == 0:
            journal.trim(NOW_MS)
        if number % 500 == 0:
            journal.close()
            journal = open_journal(tmp_path, limits)
    found = known(journal)
    assert {name: max([forgotten, *(seq for seq, _, _ in positions)]) for name, (forgotten, positions) in found.items()
            } == highest  # fmt: skip
    journal.close()


def test_the_ones_heard_of_longest_ago_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (base, place, __import__("bridge.store.journal.recovery", fromlist=["PUBLISHERS"])):
        monkeypatch.setattr(module, "PUBLISHERS", 10)
    monkeypatch.setattr(base, "SLACK_BYTES", 0)
    limits = JournalLimits(count=40, segment_count=5)
    journal = open_journal(tmp_path, limits, declare=[BLOCKS])
    for number in range(1, 301):
        publish(journal, "blocks", f"p{number}", [number])
        publish(journal, "blocks", "p1", [1000 + number])
        if number % 20 == 0:
            journal.trim(NOW_MS)
    expected = [f"p{number}" for number in range(292, 301)] + ["p1"]
    wait_for(lambda: len(journal._streams["blocks"].base.publishers) <= 40)
    for _ in range(2):
        assert list(known(journal)) == expected
        assert known(journal)["p1"][1][-1][0] == 1300
        journal.close()
        journal = open_journal(tmp_path, limits)
    journal.close()


def test_positions_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishers, "POSITIONS", 10)
    monkeypatch.setattr(publishers, "ALL_POSITIONS", 25)
    journal = open_journal(tmp_path, declare=[BLOCKS, ACCOUNTS])
    publish(journal, "blocks", "old", range(1, 9))
    for seq in range(1, 31):
        publish(journal, "blocks", "alice", [seq])
        publish(journal, "accounts", "bob", [seq])
    found = known(journal)
    assert found["alice"] == (20, [(seq, "blocks", seq + 8) for seq in range(21, 31)])
    assert found["bob"] == (20, [(seq, "accounts", seq) for seq in range(21, 31)])
    forgotten, positions = found["old"]
    assert [seq for seq, _, _ in positions] == [4, 5, 6, 7, 8]
    assert forgotten == 3
    journal.close()


def test_the_newest_positions_are_those_of_all_streams_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what was refused a moment ago would pass for published long ago, and be lost."""
    monkeypatch.setattr(publishers, "POSITIONS", 40)
    journal = open_journal(tmp_path, JournalLimits(segment_count=16), declare=[BLOCKS, ACCOUNTS])
    refused = 290
    for number in range(1, 301):
        if number != refused:
            stream, seq = ("accounts", journal.head("accounts")) if number % 3 else ("blocks", journal.head("blocks"))
            one = record(seq + 1, "k" if stream == "accounts" else "", publisher="alice", publisher_seq=number)
            journal.append(stream, one._replace(ordinal=number))
    journal.close()
    journal = open_journal(tmp_path)
    forgotten, positions = known(journal)["alice"]
    assert [seq for seq, _, _ in positions] == [number for number in range(260, 301) if number != refused]
    assert forgotten == 259
    journal.close()
