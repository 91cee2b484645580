"""History: what it holds, what it lets go of, and what stands in for that."""

from hypothesis import given
from hypothesis import strategies as st

from bridge.core.history import History, HistoryLimits
from bridge.core.streams import Stream, custom_stream
from bridge.core.update import OVERHEAD_BYTES, Form, Update
from generated.theblock.state.v1 import update_pb2

PLAIN = custom_stream("notes", "note", keyed=False)
KEYED = custom_stream("rooms", "room", keyed=True)


def history(stream: Stream = PLAIN, **limits: int) -> History:
    return History(stream.name, stream, "e", HistoryLimits(**limits))


def add(
    to: History, *, key: str = "", seq: int | None = None, time_ms: int | None = None, size: int = 0, now_ms: int = 0
) -> Update:
    seq = to.head + 1 if seq is None else seq
    before = to.latest.get(key)
    prev = before.seq if before is not None and key else 0
    update = Update(to.stream, to.epoch, seq, seq * 10 if time_ms is None else time_ms, bytes(size), key, prev)
    to.append(update)
    to.trim(now_ms)
    return update


def seqs(updates: object) -> list[int]:
    return [update.seq for update in updates]


def test_an_empty_history():
    empty = history()
    assert (len(empty), empty.head, empty.oldest, empty.size_bytes) == (0, 0, 1, 0)
    assert empty.after(0, 10) == []
    assert empty.get(1) is None
    assert list(empty.backwards(9)) == []
    assert empty.value_at("", 5) is None
    assert empty.current(5) == []
    assert empty.first_since(lambda update: update.time_ms < 3) == 0


def test_what_is_held_is_read_from_anywhere():
    held = history(count=5)
    for _ in range(8):
        add(held)
    assert (len(held), held.oldest, held.head, held.taken) == (5, 4, 8, 8)
    assert seqs(held.after(0, 99)) == seqs(held.after(3, 99)) == [4, 5, 6, 7, 8]
    assert seqs(held.after(5, 2)) == [6, 7]
    assert held.after(8, 9) == held.after(99, 9) == []
    assert seqs(held.backwards(99)) == [8, 7, 6, 5, 4]
    assert seqs(held.backwards(6)) == [5, 4]
    assert list(held.backwards(4)) == []
    assert [seq for seq in range(-1, 12) if held.get(seq) is not None] == [4, 5, 6, 7, 8]


@given(st.lists(st.integers(1, 4), max_size=300), st.integers(1, 100))
def test_positions_that_were_never_taken_in_leave_holes(steps, count):
    held = history(count=count)
    for step in steps:
        add(held, seq=held.head + step)
    model = [update.seq for update in held.after(0, 999)]
    assert len(model) == min(count, len(steps))
    for seq in range(-1, held.head + 2):
        assert seqs(held.after(seq, 3)) == [one for one in model if one > seq][:3]
        assert seqs(held.backwards(seq)) == [one for one in reversed(model) if one < seq]
        found = held.get(seq)
        assert (found.seq if found else None) == (seq if seq in model else None)


def test_bytes_are_a_limit_and_encoded_forms_count():
    held = history(bytes=3 * OVERHEAD_BYTES + 300)
    first, second, third = (add(held, size=100) for _ in range(3))
    assert held.size_bytes == 3 * OVERHEAD_BYTES + 300
    third.raw = update_pb2.Update(custom=update_pb2.CustomUpdate(type="note", json=b"{}")).SerializeToString()
    frame = held.frame(third, Form())
    assert held.frame(third, Form()) is frame
    assert held.size_bytes == 3 * OVERHEAD_BYTES + 300 + len(frame)
    held.trim(0)
    assert seqs(held.after(0, 9)) == [2, 3]
    assert held.base[""] is first
    first.raw = third.raw
    held.frame(first, Form())  # a value that stands in is not held, and not counted
    assert held.size_bytes == second.size_bytes + third.size_bytes


def test_a_value_that_stands_in_does_not_wear_the_limit_out():
    held = history(count=2, bytes=1 << 20)
    raw = update_pb2.Update(custom=update_pb2.CustomUpdate(type="note", json=b"{}")).SerializeToString()
    for _ in range(50):
        add(held).raw = raw
        for update in [*held.base.values(), *held.after(0, 9)]:
            held.frame(update, Form(snapshot=True))
            held.frame(update, Form())
        assert held.size_bytes == sum(update.size_bytes for update in held.after(0, 9))


def test_age_is_a_limit_but_the_newest_stays():
    held = history(age_ms=100)
    for time_ms in (0, 50, 120):
        add(held, time_ms=time_ms, now_ms=120)
    assert seqs(held.after(0, 9)) == [2, 3]
    held.trim(150)
    assert seqs(held.after(0, 9)) == [2, 3]
    held.trim(10_000)
    assert seqs(held.after(0, 9)) == [3]
    forever = history(age_ms=0)
    add(forever, time_ms=0)
    add(forever, time_ms=10**12, now_ms=10**12)
    assert len(forever) == 2


def test_one_update_larger_than_the_limit_is_held():
    held = history(bytes=10)
    add(held, size=100)
    assert len(held) == 1


def test_keys_are_a_limit_on_values_that_stand_in_too():
    held = history(KEYED, keys=3, count=2)
    for key in "abcadefgh":
        add(held, key=key)
        assert len(held.latest) <= 3
        assert len(held.base) <= 3
    assert list(held.latest) == ["f", "g", "h"]
    assert list(held.base) == ["d", "e", "f"]


def test_updates_of_a_key_are_found_by_prev():
    held = history(KEYED, count=6)
    for key in "abacabad":
        add(held, key=key)
    assert seqs(held.of_key("a", 0, 9)) == [3, 5, 7]  # 1 is no longer held
    assert seqs(held.of_key("a", 3, 9)) == [5, 7]
    assert seqs(held.of_key("a", 0, 2)) == [3, 5]
    assert seqs(held.of_key("b", 0, 9)) == [6]
    assert held.of_key("z", 0, 9) == []
    assert held.of_key("d", 8, 9) == []


def test_the_value_at_a_position():
    held = history(KEYED, count=4)
    for key in "abacabad":
        add(held, key=key)
    assert [u.seq if (u := held.value_at("a", seq)) else None for seq in range(9)] == [
        None,
        None,
        None,
        3,
        3,
        5,
        5,
        7,
        7,  # 1 is no longer known, 3 stands in
    ]
    assert held.value_at("c", 8).seq == 4
    assert held.value_at("d", 7) is None
    plain = history(count=2)
    for _ in range(5):
        add(plain)
    assert [u.seq if (u := plain.value_at("", seq)) else None for seq in range(7)] == [None, None, None, 3, 4, 5, 5]


def test_values_in_the_order_of_their_last_change():
    held = history(KEYED)
    for key in "abca":
        add(held, key=key)
    assert seqs(held.current(9)) == [2, 3, 4]
    assert seqs(held.current(2)) == [3, 4]
    held.skip_to(10)
    held.put_snapshot(Update(KEYED, "e", 9, 0, b"", "b", 2))
    held.put_snapshot(Update(KEYED, "e", 1, 0, b"", "c", 0))  # older than what is known
    assert seqs(held.current(9)) == seqs(held.base.values()) == [3, 4, 9]
    add(held, key="c")
    assert seqs(held.current(9)) == [4, 9, 11]


def test_a_gap_keeps_the_values_and_forgets_the_updates():
    held = history(KEYED, count=2)
    for key in "abca":
        add(held, key=key)
    held.skip_to(20)
    assert (len(held), held.head, held.oldest, held.cut, held.size_bytes) == (0, 20, 21, 20, 0)
    assert {key: update.seq for key, update in held.base.items()} == {"a": 4, "b": 2, "c": 3}
    assert seqs(held.base.values()) == [2, 3, 4], "the newest comes last"


def test_a_new_epoch_forgets_everything():
    held = history(KEYED)
    add(held, key="a")
    held.reset("f", 7)
    assert (held.epoch, held.head, held.oldest, held.latest, held.base, len(held)) == ("f", 7, 8, {}, {}, 0)


def test_the_first_that_does_not_lie_before_what_is_looked_for():
    kept = history(count=3)
    for time_ms in (10, 20, 20, 30):
        add(kept, time_ms=time_ms)
    found = [kept.first_since(lambda update, ms=ms: update.time_ms < ms) for ms in (0, 15, 20, 21, 30, 31)]
    assert found == [1, 1, 1, 3, 3, 4]


def test_the_newest_update_of_a_key_that_is_no_longer_held():
    kept = history(KEYED, count=3)
    for key in "abcab":
        add(kept, key=key)
    assert [kept.trimmed(key) for key in "abcz"] == [1, 2, 0, 0]
    kept.base.clear()  # as in a process that has just begun, and knows of older updates by `prev` only
    assert [kept.trimmed(key) for key in "abcz"] == [1, 2, 0, 0]
    add(kept, key="c")
    add(kept, key="c")
    add(kept, key="c")
    kept.base.clear()
    assert [kept.trimmed(key) for key in "abc"] == [4, 5, 3]


def test_letting_go_costs_no_memory():
    held = history(count=3)
    for _ in range(1000):
        add(held)
        assert len(held) <= 3
    assert seqs(held.after(0, 9)) == [998, 999, 1000]
