"""Which address is next, when, and for how long one is doubted."""

import pytest

from bridge.settings.address import Address
from bridge.sources.faults import Doubt, Doubted
from bridge.sources.patience import Patience
from bridge.sources.upstreams import LEFT_LIMIT, Upstream, Upstreams

PATIENCE = Patience(doubt=10, left=60)


def upstreams(count: int = 3) -> Upstreams:
    return Upstreams([Address("127.0.0.1", port) for port in range(1, count + 1)], PATIENCE, lambda: 0.5)


def fail(upstream: Upstream, now: float, seconds: float = 5.0) -> None:
    upstream.problem = "is not well"
    upstream.ready_at = now + seconds


def tried(several: Upstreams, now: float) -> int:
    """Return the number of the one that is tried at once."""
    upstream, pause = several.next(now)
    assert pause == 0
    return upstream.number


def test_addresses_are_tried_in_order_then_round():
    several = upstreams()
    assert [tried(several, 100) for _ in range(7)] == [1, 2, 3, 1, 2, 3, 1]


def test_one_that_has_to_wait_is_passed_over_and_when_all_have_to_the_first_that_may_is_waited_for():
    several = upstreams()
    first, second, third = several
    assert tried(several, 100) == 1
    fail(first, 100)
    fail(second, 99)
    assert tried(several, 100) == 3
    fail(third, 100)
    assert several.next(101) == (second, 3)


def test_the_only_address_is_waited_for():
    several = upstreams(1)
    (only,) = several
    assert several.next(100) == (only, 0)
    fail(only, 100, 2.5)
    assert several.next(101) == (only, 1.5)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_one_that_is_turned_to_is_next_whatever_it_had_to_wait_for(number):
    several = upstreams()
    chosen = list(several)[number - 1]
    fail(chosen, 100)
    several.turn_to(chosen)
    assert tried(several, 100) == number
    assert tried(several, 100) == number % 3 + 1


def test_an_address_that_was_followed_for_a_while_lets_the_others_be_tried_at_once():
    several = upstreams(2)
    first, second = several
    fail(second, 100, 30)
    several.note_steady(first)
    fail(first, 110)
    assert several.next(110) == (second, 0)
    assert first.backoff.next() == 0.05


def test_a_failover_is_another_address_than_before_not_the_first_that_works():
    several = upstreams()
    first, second, _ = several
    assert several.in_use is first
    assert [several.note_success(one) for one in (second, second, first, second)] == [False, False, True, True]
    assert (several.failovers, several.in_use) == (2, second)


def test_none_is_of_use_only_once_each_has_failed():
    several = upstreams(2)
    first, second = several
    fail(first, 100)
    assert several.problem == ""
    fail(second, 100)
    assert several.problem == (
        "no state service can be followed: the one at 127.0.0.1:1 is not well; the one at 127.0.0.1:2 is not well"
    )
    several.note_success(first)
    assert several.problem == ""


def test_a_single_address_is_named_alone():
    several = upstreams(1)
    fail(several.in_use, 100)
    assert several.problem == "the state service at 127.0.0.1:1 is not well"


EPOCH = Doubted(Doubt.EPOCH, frozenset(), "new")
BEHIND = Doubted(Doubt.BEHIND, frozenset(), "ours")


@pytest.mark.parametrize(
    ("number", "doubted", "follows", "wait"),
    [(1, EPOCH, True, 0), (1, EPOCH, False, 10), (2, EPOCH, True, 10), (1, BEHIND, True, 10), (2, BEHIND, True, 10)],
)
def test_only_an_epoch_that_begins_where_our_positions_come_from_is_believed_at_once(number, doubted, follows, wait):
    several = upstreams(2)
    upstream = list(several)[number - 1]
    assert several.wait_for(upstream, doubted, 100, follows=follows) == wait
    assert several.wait_for(upstream, doubted, 104, follows=follows) == max(0, wait - 4)
    assert several.wait_for(upstream, doubted, 110, follows=follows) == 0


def test_doubts_begin_anew_once_something_works():
    several = upstreams(2)
    _, second = several
    several.wait_for(second, EPOCH, 100, follows=True)
    several.settle_doubts()
    assert several.wait_for(second, EPOCH, 200, follows=True) == 10


def test_an_epoch_that_was_left_is_doubted_for_longer_also_where_our_positions_come_from():
    several = upstreams(2)
    first, second = several
    for epoch in ("old", "now"):
        several.epochs.note(epoch)
    old = Doubted(Doubt.EPOCH, frozenset(), "old")
    assert several.wait_for(first, old, 100, follows=True) == 60
    assert several.wait_for(second, old, 100, follows=True) == 60


def test_epochs_that_were_left_are_remembered_up_to_a_limit_and_one_gone_back_to_was_not_left():
    epochs = upstreams().epochs
    for number in range(LEFT_LIMIT + 2):
        epochs.note(f"e{number}")
        epochs.note(f"e{number}")
    assert [number for number in range(LEFT_LIMIT + 2) if epochs.was_left(f"e{number}")] == list(
        range(1, LEFT_LIMIT + 1)
    )
    epochs.note("e5")
    assert not epochs.was_left("e5")
    assert epochs.was_left(f"e{LEFT_LIMIT + 1}")
