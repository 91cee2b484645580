"""The hub: live delivery, catching up, gaps, epochs; each case that a random history would rarely meet."""

import pytest

from bridge.core import catchup as catchup_module
from bridge.core.audience import Silent
from bridge.core.cursor import Cursor
from bridge.core.frames import text_frame
from bridge.core.history import HistoryLimits
from bridge.core.hub import Hub, State
from tests.core.world import CATALOGUE, NOW_MS, World, elsewhere, good, metrics_data
from tests.core.world import Client as WorldClient


def live(world: World, *streams, count: int = 1, **options) -> list[WorldClient]:
    clients = [world.client(f"client {number}", **options) for number in range(1, count + 1)]
    for client in clients:
        client.subscribe(*streams)
    world.run()
    assert world.hub.catching_up == 0
    return clients


# ---------------------------------------------------------------------- live delivery


def test_what_a_loop_turn_brings_is_one_write_a_client():
    world = World()
    clients = live(world, "block_updates", "account", count=3)
    for number in (1, 2):
        world.block(number)
        world.account("a", number)
    assert world.scheduled == 1
    before = [len(client.written) for client in clients]
    world.run()
    for client, writes in zip(clients, before, strict=True):
        assert len(client.written) == writes + 1
        assert client.updates == [("block_updates", 1), ("account", 1), ("block_updates", 2), ("account", 2)]
    assert clients[0].written[-1] is clients[1].written[-1], "they share one buffer"
    assert world.hub.deliveries == 12
    good(world)


def test_a_slice_writes_to_so_many_clients_and_no_more():
    world = World(slice_writes=2)
    clients = live(world, "block_updates", count=5)
    world.block(1)
    counts = []
    while world.scheduled:
        world.slice()
        counts.append(sum(client.updates == [("block_updates", 1)] for client in clients))
    assert counts == [2, 4, 5]


def test_what_is_published_while_a_sweep_goes_on_comes_in_the_next():
    world = World(slice_writes=1)
    clients = live(world, "block_updates", count=3)
    for number in range(1, 6):
        world.block(number)
        world.slice()
    world.run()
    assert all(client.updates == [("block_updates", n) for n in range(1, 6)] for client in clients)
    good(world)


@pytest.mark.parametrize("behind", [1, 2, 3, 4, 6, 9])
def test_a_client_that_catches_up_during_a_sweep_misses_nothing(monkeypatch, behind):
    """A client whose reading ends at the cut, while newer updates wait for the next sweep, is not live yet."""
    monkeypatch.setattr(catchup_module, "READ_UPDATES", 3)
    world = World(slice_writes=1)
    live(world, "block_updates", count=4)
    for number in range(1, 10):
        world.block(number)
    world.slice()  # a sweep has begun, up to 9
    late = world.client("late")
    late.subscribe({"stream": "block_updates", "last": behind, "fields": ["height"]})  # the first of its audience
    world.block(10)
    world.run()
    assert late.updates == [("block_updates", n) for n in range(10 - behind, 11)]
    world.block(11)
    world.run()
    good(world)


def test_who_joins_later_has_books_of_its_own():
    world = World()
    live(world, "metrics")
    for tps in range(6):
        world.metrics(float(tps))
        if tps % 3 == 2:
            world.run()
    late = world.client("late")
    late.subscribe("metrics", "block_updates")
    late.call("state_stream.unsubscribe", "block_updates")  # joins those who were there before
    world.run()
    for _ in range(2):
        world.metrics(7.0)
    world.block(1)
    world.run()
    world.block(2)
    world.run()
    (row,) = late.stats()
    assert (row["delivered"], row["skipped"], row["filtered"]) == (1, 1, 0)
    good(world)


def test_nothing_is_counted_twice_when_only_another_stream_moves():
    world = World()
    (client,) = live(world, "metrics", "block_updates")
    for _ in range(3):
        world.metrics(1.0)
    world.run()
    for height in (1, 2):
        world.block(height)
        world.run()
    row = client.stats()[0]
    assert (row["delivered"], row["skipped"], row["filtered"]) == (1, 2, 0)
    good(world)


def test_audiences_are_told_apart_by_what_they_want():
    world = World()
    whole, one, some, none = (world.client(name) for name in ("whole", "one", "some", "none"))
    whole.subscribe("account")
    one.subscribe({"stream": "account", "key": "a"})
    some.subscribe({"stream": "account", "where": {"nonce": 2}}, {"stream": "account", "key": "b"})
    none.subscribe("trading")
    world.run()
    for key, nonce in (("a", 1), ("b", 1), ("a", 2), ("c", 2), ("b", 2)):
        world.account(key, nonce)
    world.run()
    assert [[seq for _, seq in client.updates] for client in (whole, one, some, none)] == [
        [1, 2, 3, 4, 5],
        [1, 3],
        [2, 3, 4, 5],
        [],
    ]
    assert some.stats()[0]["delivered"] == 3
    assert some.stats()[1]["delivered"] == 2
    good(world)


def test_of_a_latest_stream_only_the_newest_of_a_turn_is_sent():
    world = World()
    (client,) = live(world, "metrics")
    for tps in (1.0, 2.0, 3.0):
        world.metrics(tps)
    world.run()
    assert client.updates == [("metrics", 3)]
    (row,) = client.stats()
    assert (row["delivered"], row["skipped"]) == (1, 2)
    good(world)


# ---------------------------------------------------------------------- full sockets


def test_a_full_socket_stands_still_and_reads_on_in_the_same_connection():
    world = World()
    slow, fast = world.client("slow", capacity=3), world.client("fast")
    for client in (slow, fast):
        client.subscribe("block_updates")
    world.run()
    for number in range(1, 201):
        world.block(number)
        world.run()
    assert len(slow.updates) == 2, "the answer and two updates filled its socket"
    assert world.hub.catching_up == 1
    while slow.reader.blocked:
        slow.drain()
        world.run()
    assert slow.updates == fast.updates == [("block_updates", n) for n in range(1, 201)]
    assert world.hub.catching_up == 0
    good(world)


def test_a_client_that_is_blocked_is_not_written_to():
    world = World(limits=HistoryLimits(count=3))
    (client,) = live(world, "block_updates", "metrics")
    world.hub.block(client.reader)
    before = len(client.written)
    for number in range(50):
        world.block(number)
        world.metrics(1.0)
        world.run()
    assert len(client.written) == before
    client.drain()
    world.run()
    assert client.updates == [("block_updates", n) for n in (48, 49, 50)] + [("metrics", 50)]
    (gap,) = [frame for frame in client.frames if "missed" in frame]
    assert (gap["seq"], gap["missed"]) == (47, {"from": 1, "to": 47})
    good(world)


def test_a_client_that_leaves_in_the_middle_of_everything_is_let_go_of():
    world = World(slice_writes=1)
    clients = live(world, "block_updates", "undeclared", count=3)
    world.block(1)
    world.slice()
    clients[1].leave()
    clients[2].leave()
    world.run()
    assert (len(clients[0].updates), clients[1].updates, clients[2].updates) == (1, [], [])
    clients[0].leave()
    assert world.hub.catching_up == len(world.hub.readers) == 0
    assert "undeclared" not in world.hub.histories, "nobody subscribes to it and nothing declares it"
    world.hub.detach(clients[0].reader)  # again: no error
    good(world)


def test_the_last_of_an_audience_that_leaves_in_a_sweep_gets_its_share_first():
    world = World(slice_writes=1)
    first, second = live(world, "block_updates", count=2)
    world.block(1)
    world.slice()
    assert (len(first.updates), len(second.updates)) == (1, 0)
    second.subscribe("metrics")
    assert second.updates == [("block_updates", 1)], "before the answer"
    world.run()
    good(world)


def test_a_socket_that_is_full_with_its_share_of_a_sweep():
    world = World(slice_writes=1)
    first, second = live(world, "block_updates", count=2)
    world.block(1)
    world.slice()
    second.capacity, second.waiting = 1, 0
    second.stats()
    assert second.reader.blocked
    second.drain()
    world.block(2)
    world.run()
    second.drain()
    world.run()
    assert first.updates == second.updates == [("block_updates", 1), ("block_updates", 2)]
    good(world)


class Talkative(Silent):
    """Says something to everything, as the v1 dialect does."""

    def fell_behind(self, cursor: Cursor) -> list[bytes]:
        return [text_frame(b'{"type":"fell_behind","stream":"block_updates","seq":1,"head":2}')]

    def caught_up(self, cursor: Cursor) -> list[bytes]:
        return [text_frame(b'{"type":"caught_up","stream":"block_updates","seq":2}')]


def test_a_socket_that_fills_up_with_the_news_that_it_has_caught_up():
    world = World()
    client, _ = live(world, "block_updates", count=2)
    client.reader.events = Talkative()
    world.hub.block(client.reader)
    for height in range(catchup_module.BEHIND_UPDATES):
        world.block(height)
    world.run()
    client.waiting, client.capacity = 0, catchup_module.BEHIND_UPDATES + 2
    world.hub.unblock(client.reader)
    world.run()
    assert [frame["type"] for frame in client.frames if "data" not in frame and "type" in frame] == [
        "fell_behind",
        "caught_up",
    ]
    assert client.reader.blocked
    assert world.hub.catching_up == 1
    client.drain()
    world.block(1)
    world.run()
    assert world.hub.catching_up == 0
    assert len(client.updates) == catchup_module.BEHIND_UPDATES + 1
    good(world)


def test_of_two_audiences_the_one_that_is_left_gets_its_own_share():
    world = World(slice_writes=1)
    blocks, both = world.client("blocks"), world.client("both")
    blocks.subscribe("block_updates")
    both.subscribe("block_updates", "metrics")
    world.run()
    world.metrics(1.0)
    world.block(1)
    world.slice()
    waiting = blocks if both.updates else both
    waiting.stats()
    world.run()
    assert blocks.updates == [("block_updates", 1)]
    assert both.updates == [("metrics", 1), ("block_updates", 1)]
    good(world)


# ---------------------------------------------------------------------- gaps and epochs


def test_behind_a_gap_every_key_that_changed_is_stood_in_for():
    world = World()
    whole, one = world.client("whole"), world.client("one")
    whole.subscribe("account")
    one.subscribe({"stream": "account", "key": "a"})
    for key in "abc":
        world.account(key, 1)
    world.run()
    stream = CATALOGUE.get("account")
    payload = type(world.account("a", 1).message().account)
    values = [
        elsewhere(world, stream, seq, payload(address=key, nonce=9), {"address": key, "nonce": 9}, key=key, prev=prev)
        for seq, key, prev in ((5, "c", 3), (6, "b", 2))
    ]
    world.hub.begin("account", "e1", 6, values)
    world.account("a", 2)
    world.run()
    assert whole.snapshots == [("account", 5), ("account", 6)]
    assert whole.frames[-2]["missed"] == {"from": 5, "to": 6}
    assert one.snapshots == [], "it has not changed"
    assert one.frames[-1]["prev"] == 4
    good(world)


def test_what_stands_in_is_selected_too_but_for_the_one_that_names_the_range():
    world = World(limits=HistoryLimits(count=1))
    client = world.client()
    client.subscribe({"stream": "account", "where": {"nonce": 1}})
    world.run()
    world.hub.block(client.reader)
    for key, nonce in (("a", 1), ("b", 2), ("c", 1), ("d", 2), ("e", 1)):
        world.account(key, nonce)
    client.drain()
    world.run()
    assert client.snapshots == [("account", 1), ("account", 3), ("account", 4)]
    assert client.frames[-2]["missed"] == {"from": 1, "to": 4}
    assert client.updates == [("account", 5)]
    good(world)


def test_a_gap_without_values_is_still_told():
    world = World()
    (client,) = live(world, "block_updates")
    world.block(1)
    world.hub.begin("block_updates", "e1", 5)
    world.run()
    assert client.frames[-1]["missed"] == {"from": 2, "to": 5}
    assert client.frames[-1]["seq"] == 1, "the newest value that is known"
    assert client.stats()[0]["missed"] == 4


def test_behind_a_gap_a_latest_stream_goes_on_with_its_value():
    world = World()
    (client,) = live(world, "metrics")
    world.metrics(1.0)
    world.run()
    payload = type(world.metrics(2.0).message().metrics)
    value = elsewhere(world, CATALOGUE.get("metrics"), 7, payload(tps=7.0), metrics_data(7.0))
    world.hub.begin("metrics", "e1", 7, [value])
    world.run()
    assert client.updates == [("metrics", 1), ("metrics", 2), ("metrics", 7)]
    good(world)


def test_a_new_epoch_begins_the_books_anew_with_the_current_value():
    world = World()
    (client,) = live(world, "block_updates")
    world.block(1)
    world.begin_epoch()
    assert client.updates == [("block_updates", 1)], "what is pending comes first"
    world.block(2)
    world.run()
    assert client.frames[-1]["epoch"] == "e2"
    (row,) = client.stats()
    assert (row["epoch"], row["start"], row["head"], row["delivered"]) == ("e2", 0, 1, 1)
    stream = CATALOGUE.get("block_updates")
    world.oracle.began("e3")
    payload = type(world.block(3).message().block)
    history = world.hub.histories["block_updates"]
    history.epoch, before = "e3", history.epoch
    value = elsewhere(world, stream, 40, payload(height=9, hash=b"\1"), {"height": 9, "hash": "0x01"})
    history.epoch = before
    world.hub.begin("block_updates", "e3", 40, [value])
    assert client.snapshots == [("block_updates", 40)]
    world.run()
    good(world)


def test_a_head_that_goes_back_is_a_new_beginning():
    world = World()
    (client,) = live(world, "block_updates")
    for number in (1, 2, 3):
        world.block(number)
    world.run()
    world.hub.begin("block_updates", "e1", 1)
    assert world.hub.histories["block_updates"].head == 1
    (row,) = client.stats()
    assert (row["start"], row["head"], row["delivered"]) == (1, 1, 0)


def test_an_epoch_that_begins_in_the_middle_of_a_sweep():
    world = World(slice_writes=1)
    clients = live(world, "block_updates", count=3)
    world.block(1)
    world.slice()
    world.begin_epoch()
    assert all(client.updates == [("block_updates", 1)] for client in clients)
    world.block(2)
    world.run()
    good(world)


def test_streams_that_are_in_the_epoch_already_go_on():
    world = World()
    world.hub.begin("block_updates", "e2", 30)
    world.hub.set_epoch("e2")
    assert world.hub.histories["block_updates"].head == 30
    assert world.hub.histories["metrics"].epoch == "e2"
    assert world.hub.history("unheard_of").epoch == "e2"


# ---------------------------------------------------------------------- status and listeners


def test_a_state_keeps_the_time_since_when_it_is():
    world = World()
    hub = world.hub
    assert hub.status == (State.DOWN, NOW_MS, "nothing has been heard yet")
    world.now_ms += 5
    hub.set_status(State.LIVE, "all is well")
    world.now_ms += 5
    hub.set_status(State.LIVE, "all is very well")
    assert hub.status == (State.LIVE, NOW_MS + 5, "all is very well")
    hub.set_status(State.LIVE, "all is very well")
    hub.set_status(State.LIVE, "since long", since_ms=7)
    assert hub.status == (State.LIVE, 7, "since long")


def test_listeners_are_told_once_of_all_that_is_new():
    world = World()
    told = []
    world.hub.listen(lambda: told.append(1))
    listener = told.clear
    world.hub.listen(listener)
    world.hub.unlisten(listener)
    world.hub.unlisten(listener)
    for number in range(3):
        world.block(number)
        world.metrics(1.0)
    world.run()
    assert told == [1]
    world.hub.wake()
    world.run()
    assert told == [1], "there is nothing new"
    for news in (lambda: world.hub.set_status(State.LIVE, ""), lambda: world.hub.begin("metrics", "e1", 9)):
        told.clear()
        news()
        world.run()
        assert told == [1]


def test_listeners_are_told_while_a_sweep_goes_on():
    world = World(slice_writes=1)
    live(world, "block_updates", count=3)
    told = []
    world.hub.listen(lambda: told.append(world.hub.status.state))
    world.block(1)
    world.slice()
    world.hub.set_status(State.STALE, "no news")
    world.run()
    assert told == [State.DOWN, State.STALE]


def test_the_lag_of_the_newest_update_is_known():
    world = World()
    world.now_ms += 250
    world.origin.publish(type(world.block(1).message().block)(height=2), time_ms=NOW_MS)
    assert world.hub.lag_ms == 250


def test_a_stream_is_declared_once():
    hub = World().hub
    assert hub.find_stream("metrics", "other", keyed=True) is CATALOGUE.get("metrics")
    notes = hub.find_stream("notes", "note", keyed=False)
    assert hub.find_stream("notes", "other", keyed=True) is notes
    assert hub.history("notes").stream is notes


def test_a_hub_has_limits_of_its_own():
    hub = Hub(CATALOGUE, clock_ms=lambda: 0, schedule=lambda: None)
    assert hub.limits == HistoryLimits()
    assert hub.epoch == ""


def test_listeners_are_told_when_upstream_is_reached_again():
    world = World()
    told = []
    world.hub.listen(lambda: told.append(world.hub.upstream_reached))
    for reached in (False, False, True, True):
        world.hub.upstream_reached = reached
        world.run()
    assert told == [False, True]
