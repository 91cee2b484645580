"""Where a client stands, step by step."""

import pytest

from bridge.client import Gap, Missed, Position, Progress, Started, StreamAt, Subscription, Updated
from bridge.client.counts import Counts
from bridge.client.positions import Positions

BLOCKS = Subscription("block_updates")


def begun(*subscriptions: Subscription, epoch: str = "e", seq: int = 5) -> tuple[Positions, list[Started]]:
    """Return positions as acknowledged."""
    positions = Positions(subscriptions, Counts())
    rows = [Started(stream=one.stream, key=one.key, declared=True, epoch=epoch, seq=seq) for one in subscriptions]
    positions.acknowledge(rows)
    return positions, rows


def update(seq: int, epoch: str = "e", stream: str = "block_updates", **members) -> Updated:
    return Updated(stream=stream, type="t", epoch=epoch, seq=seq, time_ms=1, data={}, **members)


def gap(first: int, last: int, reason: str = "trimmed", epoch: str = "e", key: str | None = None) -> Gap:
    return Gap(stream="block_updates", key=key, epoch=epoch, first=first, last=last, reason=reason)


def told(positions: Positions, *events) -> list:
    return [one for event in events for one in positions.take(event)]


def test_an_acknowledgement_counts_once_what_follows_it_has_come():
    positions, rows = begun(BLOCKS)
    assert positions.wanted() == [BLOCKS]
    positions.settle(rows)
    assert positions.wanted() == [Subscription("block_updates", since=Position("e", 5))]


@pytest.mark.parametrize(
    "asked", [Subscription("block_updates", last=3), Subscription("block_updates", since_height=2)]
)
def test_an_update_settles_too_and_what_was_asked_at_first_is_over(asked):
    positions, _ = begun(asked)
    told(positions, update(6))
    assert positions.wanted() == [Subscription("block_updates", since=Position("e", 6))]


def test_other_options_keep_the_place_and_a_place_asked_for_does_not():
    positions, rows = begun(BLOCKS)
    positions.settle(rows)
    positions.add(Subscription("block_updates", where={"height": 1}))
    assert positions.get("block_updates") == Position("e", 5)
    positions.add(Subscription("block_updates", last=3))
    assert positions.get("block_updates") is None


def test_what_stands_in_moves_the_position():
    positions, _ = begun(BLOCKS)
    stand_in = update(9, snapshot=True, missed=Missed(6, 9))
    assert told(positions, gap(6, 9)) == [gap(6, 9)]
    assert positions.get("block_updates") is None
    assert told(positions, stand_in, update(10)) == [stand_in, update(10)]
    assert positions.get("block_updates") == Position("e", 10)
    told(positions, gap(11, 14), update(12, snapshot=True, missed=Missed(11, 14)))
    assert positions.get("block_updates") == Position("e", 14)


def test_other_snapshots_do_not():
    positions, rows = begun(BLOCKS)
    positions.settle(rows)
    told(positions, update(9, snapshot=True))
    assert positions.get("block_updates") == Position("e", 5)
    assert told(positions, update(6)) == [update(6)]


def test_a_new_epoch_counts_once_something_new_has_come():
    positions, rows = begun(BLOCKS, seq=50)
    positions.settle(rows)
    told(positions, gap(0, 0, "epoch", "f"), update(7, "f", snapshot=True))
    assert positions.get("block_updates") == Position("e", 50)
    assert told(positions, update(8, "f")) == [update(8, "f")]
    assert positions.get("block_updates") == Position("f", 8)


def test_a_head_that_goes_back_within_an_epoch_is_no_repeat():
    positions, _ = begun(BLOCKS, seq=50)
    told(positions, gap(0, 0, "epoch"))
    assert told(positions, update(7)) == [update(7)]
    assert positions.get("block_updates") == Position("e", 7)


def test_a_new_epoch_and_then_too_slow():
    positions, _ = begun(BLOCKS, seq=50)
    stand_in = update(9, "f", snapshot=True, missed=Missed(6, 9))
    told(positions, gap(0, 0, "epoch", "f"), update(5, "f", snapshot=True), gap(6, 9, epoch="f"), stand_in)
    assert positions.get("block_updates") == Position("f", 9)
    assert told(positions, update(10, "f")) == [update(10, "f")]


def test_an_update_is_told_once_for_all_its_subscriptions_and_again_for_one_that_replays():
    positions, _ = begun(Subscription("account"), Subscription("account", key="a"))
    of_key = update(6, stream="account", key="a", prev=3)
    assert told(positions, of_key, of_key) == [of_key]
    positions.acknowledge([Started(stream="account", key="a", declared=True, epoch="e", seq=5)])
    assert told(positions, of_key) == [of_key]


def test_progress_moves_every_subscription_of_the_stream_and_never_back():
    positions, _ = begun(Subscription("account"), Subscription("account", key="a"))
    for seq in (9, 8):
        progress = Progress((StreamAt("account", seq, "e"), StreamAt("energy", 4, "e")))
        assert told(positions, progress) == [progress]
    assert positions.get("account") == positions.get("account", "a") == Position("e", 9)
    assert positions.get("energy") is None


@pytest.mark.parametrize(
    "asked", [Subscription("metrics"), Subscription("block_updates", where={"height": {"gt": 5}})], ids=str
)
def test_holes_that_need_no_explanation(asked):
    positions, _ = begun(asked)
    later = update(9, stream=asked.stream)
    assert told(positions, later) == [later]
