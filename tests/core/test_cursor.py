"""Cursors: reading on from where a subscription stands, and its books."""

from bridge.core.cursor import Cursor, Spec, gather
from bridge.core.history import HistoryLimits
from bridge.core.where import parse_where
from tests.core.world import World


def cursor(world: World, stream: str, at: int = 0, **options) -> Cursor:
    return Cursor(Spec(stream, **options), world.hub.history(stream), at)


def read(*cursors: Cursor, limit: int = 100) -> list[tuple[str, int]]:
    return [(update.stream.name, update.seq) for update, _ in gather(cursors, limit)]


def adds_up(*cursors: Cursor) -> bool:
    return all(b.head - b.start == sum(b[2:]) and min(b[2:]) >= 0 for b in (one.books() for one in cursors))


def test_several_streams_are_read_in_the_order_of_publication():
    world = World()
    for number in range(1, 4):
        world.block(number)
        world.account("a", number)
        world.custom("notes", {"n": number})
    cursors = [cursor(world, name) for name in ("notes", "account", "block_updates")]
    assert read(*cursors) == [(name, n) for n in (1, 2, 3) for name in ("block_updates", "account", "notes")]
    assert all(one.at_head for one in cursors)
    assert read(*cursors) == []
    assert read() == []
    assert adds_up(*cursors)


def test_the_order_holds_however_little_is_looked_at():
    world = World()
    for number in range(1, 20):
        world.block(number)
        if number % 5 == 0:
            world.custom("notes", {"n": number})
    whole = read(cursor(world, "notes"), cursor(world, "block_updates"))
    for limit in (1, 2, 3, 7):
        cursors = [cursor(world, "notes"), cursor(world, "block_updates")]
        got = []
        while part := read(*cursors, limit=limit):
            got += part
            assert adds_up(*cursors)
        assert got == whole


def test_an_update_wanted_twice_is_given_once_and_counted_twice():
    world = World()
    for key in "aba":
        world.account(key, 1)
    whole, one = cursor(world, "account"), cursor(world, "account", key="a")
    assert read(whole, one) == [("account", seq) for seq in (1, 2, 3)]
    assert whole.books().delivered == 3
    assert one.books()[2:4] == (2, 1)  # delivered, filtered
    assert adds_up(whole, one)


def test_a_latest_stream_gives_the_newest_and_counts_the_others_as_skipped():
    world = World()
    for tps in (1.0, 2.0, 3.0):
        world.metrics(tps)
    newest = cursor(world, "metrics")
    assert read(newest) == [("metrics", 3)]
    assert newest.books() == (0, 3, 1, 0, 2, 0, 0)


def test_a_latest_stream_can_be_replayed_update_by_update():
    world = World()
    for tps in (1.0, 2.0, 3.0):
        world.metrics(tps)
    replay = cursor(world, "metrics")
    replay.restart(0, replay_to=2)
    assert replay.replayed() == 3
    assert read(replay, limit=1) == [("metrics", 1)]
    assert read(replay, limit=1) == [("metrics", 2)]
    world.metrics(4.0)
    assert read(replay, limit=1) == [("metrics", 4)]
    assert replay.books() == (0, 4, 3, 0, 1, 0, 0)


def test_positions_that_were_never_had_are_skipped_on_a_latest_stream():
    world = World()
    for tps in (1.0, 2.0):
        update = world.metrics(tps)
        update.seq += 3
        world.hub.histories["metrics"].head += 3
    replay = cursor(world, "metrics")
    replay.restart(4, replay_to=8)
    assert read(replay) == [("metrics", 8)]
    assert replay.books() == (4, 8, 1, 0, 3, 0, 0)


def test_a_filter_on_a_latest_stream_selects_the_newest_that_it_matches():
    world = World()
    for tps in (1.0, 2.0, 1.0, 2.0):
        world.metrics(tps)
    where = parse_where({"tps": 1}, 16)
    selecting = cursor(world, "metrics", where=where)
    assert read(selecting) == [("metrics", 3)]
    assert selecting.books() == (0, 4, 1, 3, 0, 0, 0)


def test_what_history_let_go_of_is_passed_over_and_named():
    world = World(limits=HistoryLimits(count=2))
    for key in "abba":
        world.account(key, 1)
    whole, a, b, c = (cursor(world, "account", key=key) for key in (None, "a", "b", "c"))
    assert [one.loses() for one in (whole, a, b, c)] == [True, True, True, False]
    assert [one.pass_gap().missed for one in (whole, a, b)] == [(1, 2)] * 3
    assert c.pass_gap() is None
    assert [one.at for one in (whole, a, b, c)] == [2, 2, 2, 2]
    assert [one.pass_gap() for one in (whole, a, b, c)] == [None] * 4
    assert [one.books().missed for one in (whole, a, b, c)] == [2, 2, 2, 0]
    assert read(a) == [("account", 4)]
    assert adds_up(whole, a, b, c)
    later = cursor(world, "account", at=1, key="a")
    assert later.pass_gap() is None, "a has not changed in 2"
    assert later.at == 2


def test_a_latest_stream_has_no_gaps_but_its_newest_even_if_it_is_not_held_any_more():
    world = World(limits=HistoryLimits(count=2))
    for tps in (1.0, 2.0, 3.0):
        world.metrics(tps)
    newest = cursor(world, "metrics")
    assert newest.pass_gap() is None
    history = world.hub.histories["metrics"]
    history.skip_to(7)
    assert read(newest) == [("metrics", 3)], "which the client does not have"
    assert newest.books() == (0, 7, 1, 0, 6, 0, 0)
    assert read(newest) == []


def test_how_many_will_be_replayed():
    world = World()
    for key in "aab":
        world.account(key, 1)
    assert cursor(world, "account").replayed() == 3
    assert cursor(world, "account", at=2).replayed() == 1
    assert cursor(world, "account", key="a").replayed() == 2
    assert cursor(world, "account", key="a", at=1).replayed() == 1
    world.metrics(1.0)
    world.metrics(2.0)
    assert cursor(world, "metrics").replayed() == 1
    assert cursor(world, "metrics", at=2).replayed() == 0


def test_what_a_subscription_wants():
    world = World()
    a, b = world.account("a", 1), world.account("b", 2)
    assert Spec("account").matches(a)
    assert [Spec("account", "a").matches(update) for update in (a, b)] == [True, False]
    where = parse_where({"nonce": {"gt": 1}}, 16)
    assert [Spec("account", None, where).matches(update) for update in (a, b)] == [False, True]
    assert not Spec("account", "a", where).matches(b)
