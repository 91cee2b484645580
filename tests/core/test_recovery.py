"""How a client comes back: where it begins, what it is told of what is gone, and what an outage leaves valid."""

import pytest

from bridge.core.history import HistoryLimits
from generated.theblock.state.v1 import account_pb2
from tests.core.v1_clients import CLIENTS, V1Client, kinds, since
from tests.core.world import NOW_MS, World

BLOCKS = "block_updates"


@pytest.fixture
def small() -> World:
    """Return a world whose histories hold four updates."""
    return World(limits=HistoryLimits(count=4))


def put(world: World, encoding: str, **options) -> V1Client:
    return CLIENTS[encoding](world, **options)


def filled(world: World, blocks: int = 10) -> World:
    for height in range(1, blocks + 1):
        world.now_ms = NOW_MS + 1000 * height
        world.block(height)
    world.run()
    return world


@pytest.mark.parametrize(
    ("start", "seq", "replayed"),
    [
        (since(4), 4, 6),
        (since(0), 0, 10),
        (since(10), 10, 0),
        ({"height": 8}, 7, 3),
        ({"height": 0}, 0, 10),
        ({"height": 99}, 10, 0),
        ({"time": NOW_MS + 9000}, 8, 2),
        ({"time": NOW_MS + 8500}, 8, 2),
        ({"time": 0}, 0, 10),
        ({"time": NOW_MS + 99_000}, 10, 0),
    ],
    ids=str,
)
def test_everything_behind_a_start_that_history_holds_follows_once_then_what_is_live(world, join, start, seq, replayed):
    filled(world)
    client = join()
    row = {"stream": BLOCKS, "declared": True, "epoch": "e1", "seq": seq, "recovered": True, "replayed": replayed}
    assert client.subscribe({"stream": BLOCKS, "since": start}) == [row]
    world.block(11)
    assert kinds(client.take()) == ["response", *range(seq + 1, 12)]


@pytest.mark.parametrize(("last", "seq", "replayed"), [(3, 7, 3), (10, 0, 10), (1000, 0, 10), (1, 9, 1)])
def test_last_replays_the_last_ones(world, join, last, seq, replayed):
    client = join()
    filled(world)
    (row,) = client.subscribe({"stream": BLOCKS, "last": last})
    assert (row["seq"], row["replayed"], "recovered" in row) == (seq, replayed, False)
    assert kinds(client.take()) == ["response", *range(seq + 1, 11)]


def test_last_0_is_the_snapshot(world, join):
    client = join()
    filled(world)
    (row,) = client.subscribe({"stream": BLOCKS, "last": 0})
    assert row["seq"] == 10
    assert kinds(client.take()) == ["response", "snapshot"]


def test_last_of_a_key_counts_its_own_updates(world, join):
    for nonce in range(1, 6):
        world.account("a", nonce)
        world.account("b", nonce)
    client = join()
    (row,) = client.subscribe({"stream": "account", "key": "a", "last": 2})
    assert row["replayed"] == 2
    assert kinds(client.take()) == ["response", 7, 9]


@pytest.mark.parametrize("start", [since(2), {"height": 2}, {"time": NOW_MS}], ids=str)
def test_replayed_counts_the_updates_of_the_key(world, join, start):
    for nonce in range(1, 4):
        world.note(world.origin.publish(account(nonce, "a")), {"address": "a", "nonce": nonce, "height": nonce})
        world.note(world.origin.publish(account(nonce, "b")), {"address": "b", "nonce": nonce, "height": nonce})
    client = join()
    (row,) = client.subscribe({"stream": "account", "key": "a", "since": start})
    frames = client.take()[1:]
    assert (row["recovered"], row["replayed"]) == (True, len(frames))
    assert {frame["key"] for frame in frames} == {"a"}


def account(nonce: int, address: str):
    return account_pb2.AccountUpdate(address=address, nonce=nonce, height=nonce)


@pytest.mark.parametrize(
    ("start", "first"),
    [(since(2), 3), ({"height": 3}, 1), ({"time": NOW_MS + 6000}, 1), ({"height": 6}, 1), ({"time": 0}, 1)],
    ids=str,
)
def test_a_start_that_history_let_go_of_is_told_and_the_range_is_named(small, encoding, start, first):
    """Behind a position the range is known; of a height or a time only that it lies within what is gone."""
    filled(small)  # 7 to 10 are held
    client = put(small, encoding)
    (row,) = client.subscribe({"stream": BLOCKS, "since": start})
    assert (row["recovered"], row["reason"], "replayed" in row) == (False, "trimmed", False)
    _, gap, stand_in, *rest = client.take()
    assert (gap["from"], gap["to"], gap["reason"]) == (first, 6, "trimmed")
    assert stand_in["missed"] == {"from": first, "to": 6}
    assert kinds(rest) == [7, 8, 9, 10]


@pytest.mark.parametrize("start", [since(6), {"height": 7}, {"time": NOW_MS + 7000}], ids=str)
def test_a_start_at_the_oldest_update_is_whole(small, encoding, start):
    client = put(filled(small), encoding)
    (row,) = client.subscribe({"stream": BLOCKS, "since": start})
    assert (row["recovered"], row["replayed"], row["seq"]) == (True, 4, 6)
    assert kinds(client.take()) == ["response", 7, 8, 9, 10]


def test_a_key_that_did_not_change_in_what_is_gone_is_recovered(small, encoding):
    small.account("a", 1)
    for nonce in range(1, 7):
        small.account("b", nonce)
    small.account("a", 2)
    client = put(small, encoding)
    (row,) = client.subscribe({"stream": "account", "key": "a", "since": since(1)})
    assert (row["recovered"], row["replayed"]) == (True, 1)
    assert kinds(client.take()) == ["response", 8]


@pytest.mark.parametrize(
    ("position", "reason"), [(since(3, "e0"), "epoch"), (since(11), "ahead"), (since(1, ""), "epoch")]
)
def test_a_position_of_elsewhere_gets_the_snapshot(world, join, position, reason):
    filled(world)
    client = join()
    (row,) = client.subscribe({"stream": BLOCKS, "since": position})
    assert row == {
        "stream": BLOCKS, "declared": True, "epoch": "e1", "seq": 10, "recovered": False, "reason": reason,
    }  # fmt: skip
    world.block(11)
    frames = client.take()
    assert kinds(frames) == ["response", "snapshot", 11]
    assert "missed" not in frames[1]


def test_on_a_latest_stream_the_newest_is_sent_if_it_is_newer(world, join):
    for number in range(1, 6):
        world.metrics(float(number))
    client = join()
    rows = client.subscribe({"stream": "metrics", "since": since(2)})
    assert (rows[0]["recovered"], rows[0]["replayed"]) == (True, 1)
    assert kinds(client.take()) == ["response", 5]
    rows = client.subscribe({"stream": "metrics", "since": since(5)})
    assert (rows[0]["recovered"], rows[0]["replayed"]) == (True, 0)
    assert kinds(client.take()) == ["response"]


def test_a_stream_without_an_update_has_a_position_too(world, join):
    client = join()
    (row,) = client.subscribe("energy")
    assert (row["epoch"], row["seq"]) == ("e1", 0)
    (row,) = client.subscribe({"stream": "energy", "since": since(0)})
    assert (row["recovered"], row["replayed"]) == (True, 0)


# an outage


UNDECIDED = {"code": -32010, "data": {"retry_after_ms": 1000}}


def undecided(error: dict) -> bool:
    return {"code": error["code"], "data": error.get("data")} == UNDECIDED


@pytest.mark.parametrize("position", [since(3, "e7"), since(99)], ids=str)
def test_an_outage_voids_no_position(world, join, position):
    filled(world)
    world.hub.upstream_reached = False
    client = join()
    assert undecided(client.error("state_stream.subscribe", "metrics", {"stream": BLOCKS, "since": position}))
    assert undecided(client.error("state_stream.history", {"stream": BLOCKS, "since": position}))
    assert client.stats() == []  # all or nothing
    world.hub.upstream_reached = True
    (row,) = client.subscribe({"stream": BLOCKS, "since": position})
    assert row["recovered"] is False


def test_a_position_that_can_be_decided_on_is_answered_during_an_outage(world, join):
    filled(world)
    world.hub.upstream_reached = False
    client = join()
    (row,) = client.subscribe({"stream": BLOCKS, "since": since(4)})
    assert (row["recovered"], row["replayed"]) == (True, 6)
    assert len(client.result("state_stream.history", {"stream": BLOCKS, "since": since(4)})["updates"]) == 6


@pytest.mark.parametrize("start", [since(4), {"height": 4}, {"time": NOW_MS}], ids=str)
def test_before_the_first_epoch_is_known_nothing_can_be_decided(encoding, start):
    world = World()
    world.hub.set_epoch("")  # as a sidecar is before it has reached the state service
    world.hub.upstream_reached = False
    client = put(world, encoding)
    assert undecided(client.error("state_stream.subscribe", {"stream": BLOCKS, "since": start}))
    assert undecided(client.error("state_stream.subscribe", {"stream": "a_custom_one", "since": start}))
    assert client.subscribe(BLOCKS)[0]["seq"] == 0  # without a position there is nothing to lose


def test_a_position_stays_valid_through_an_outage(world, join):
    filled(world)
    world.hub.upstream_reached = False
    client = join()
    assert undecided(client.error("state_stream.subscribe", {"stream": BLOCKS, "since": since(12)}))
    for height in range(11, 16):  # what this sidecar had not got before it lost the state service
        world.block(height)
    world.hub.upstream_reached = True
    (row,) = client.subscribe({"stream": BLOCKS, "since": since(12)})
    assert (row["recovered"], row["replayed"]) == (True, 3)
    assert kinds(client.take())[1:] == ["response", 13, 14, 15]


def test_an_outage_is_not_the_clients_doing(world, join):
    world.hub.upstream_reached = False
    client = join()
    for _ in range(30):
        assert undecided(client.error("state_stream.subscribe", {"stream": BLOCKS, "since": since(1, "gone")}))
    assert client.shut is None
