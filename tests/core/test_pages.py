"""Pages of history, and where reading begins."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.history import HistoryLimits
from bridge.core.pages import Since, obstacle, read_page
from bridge.core.position import Position
from tests.core.world import NOW_MS, World


def filled(count: int = 6, of: int = 10) -> World:
    """Return a world whose history holds the last `count` of `of` blocks and of as many notes of three keys."""
    world = World(limits=HistoryLimits(count=count))
    for number in range(1, of + 1):
        world.now_ms = NOW_MS + 1000 * number
        world.block(number)
        world.custom("rooms", {"n": number}, "abc"[number % 3])
    return world


FILLED = filled()
BLOCKS, ROOMS = FILLED.hub.histories["block_updates"], FILLED.hub.histories["rooms"]


def test_whether_a_position_can_be_resumed_from():
    reasons = [obstacle(BLOCKS, Position("e1", seq)) for seq in (0, 3, 4, 10, 11)]
    assert reasons == ["trimmed", "trimmed", None, None, "ahead"]
    assert obstacle(BLOCKS, Position("e0", 5)) == "epoch"
    empty = World().hub.histories["trading"]
    assert obstacle(empty, Position("e1", 0)) is None
    assert obstacle(empty, Position("e1", 1)) == "ahead"


@pytest.mark.parametrize(
    ("since", "seq"),
    [
        (Since(), 4),
        (Since(Position("e1", 2)), 2),
        (Since(height=7), 6),
        (Since(height=5), 4),
        (Since(height=4), 0),
        (Since(height=99), 10),
        (Since(time_ms=NOW_MS + 7000), 6),
        (Since(time_ms=NOW_MS + 4001), 4),
        (Since(time_ms=NOW_MS), 0),
        (Since(time_ms=2 * NOW_MS), 10),
    ],
)
def test_where_reading_begins(since, seq):
    assert since.seq(BLOCKS) == seq


def test_a_height_on_a_stream_without_heights_begins_with_what_is_held():
    world = World(limits=HistoryLimits(count=2))
    for number in range(3):
        world.custom("notes", {"n": number})
    assert Since(height=5).seq(world.hub.histories["notes"]) == 0
    world.hub.begin("notes", "e1", 9, [])
    assert Since(height=5).seq(world.hub.histories["notes"]) == 0, "what lies before is not known"


@given(
    key=st.sampled_from([None, "a", "b", "z"]),
    since=st.integers(0, 12),
    until=st.none() | st.integers(0, 12),
    limit=st.integers(1, 8),
    reverse=st.booleans(),
)
def test_pages_against_a_model(key, since, until, limit, reverse):
    page = read_page(ROOMS, key, since, until, limit, reverse=reverse)
    held = [u for u in ROOMS.after(0, 99) if since < u.seq < (99 if until is None else until) and key in (None, u.key)]
    if reverse:
        held.reverse()
    assert page.updates == held[:limit]
    assert page.next == (held[limit - 1].position if len(held) > limit else None)
    gone = [seq for seq in range(1, ROOMS.oldest) if since < seq < (99 if until is None else until)]
    assert page.missed == ((gone[0], gone[-1]) if gone else None)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("key", [None, "a"])
def test_page_after_page_is_everything_once(key, reverse):
    seqs, since, until = [], 0, None
    while True:
        page = read_page(ROOMS, key, since, until, 2, reverse=reverse)
        seqs += [update.seq for update in page.updates]
        if page.next is None:
            break
        if reverse:
            until = page.next.seq
        else:
            since = page.next.seq
    held = [update.seq for update in ROOMS.after(0, 99) if key in (None, update.key)]
    assert seqs == (held[::-1] if reverse else held)
