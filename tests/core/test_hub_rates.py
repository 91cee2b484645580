"""Subscriptions of a limited rate: the newest when it is due, and nothing forgotten in between."""

import pytest

from bridge.core import catchup as catchup_module
from tests.core.world import World, good


def test_a_limited_rate_gives_the_newest_when_it_is_due():
    world = World()
    paced, plain = world.client("paced"), world.client("plain")
    paced.subscribe({"stream": "metrics", "max_rate": 1}, "block_updates")
    plain.subscribe("metrics")
    world.run()
    for number in range(1, 26):
        world.metrics(float(number))
        world.block(number)
        world.run()
        world.wait(100)
        world.run()
    assert [seq for stream, seq in paced.updates if stream == "metrics"] == [1, 11, 21]
    assert len(world.reminders) == 1, "it is reminded of once, however much comes"
    world.wait(1000)
    world.run()
    assert paced.updates[-1] == ("metrics", 25)
    assert not world.reminders
    assert [seq for stream, seq in paced.updates if stream == "block_updates"] == list(range(1, 26))
    row = next(row for row in paced.stats() if row["stream"] == "metrics")
    assert (row["delivered"], row["skipped"], row["pending"]) == (4, 21, 0)
    good(world)


@pytest.mark.parametrize("step_ms", [-3_600_000, 3_600_000])
def test_the_time_of_the_machine_may_be_set_meanwhile(step_ms):
    world = World()
    client = world.client()
    client.subscribe({"stream": "metrics", "max_rate": 1})
    world.run()
    world.metrics(1.0)
    world.run()
    world.wrong_ms = step_ms
    world.metrics(2.0)
    world.run()
    assert client.updates == [("metrics", 1)]
    world.wait(1001)
    world.run()
    assert client.updates == [("metrics", 1), ("metrics", 2)]
    good(world)


def test_a_limited_rate_waits_for_what_was_published_before(monkeypatch):
    """The newest of a stream comes behind older updates of others that a client still reads: it is not forgotten."""
    monkeypatch.setattr(catchup_module, "READ_UPDATES", 2)
    world = World()
    client = world.client()
    client.subscribe("block_updates", {"stream": "metrics", "max_rate": 20})
    world.run()
    world.hub.block(client.reader)
    for number in range(1, 6):
        world.block(number)
    world.metrics(1.0)
    world.run()
    client.drain()
    world.run()
    for _ in range(5):
        world.wait(100)
        world.run()
    assert client.updates[-1] == ("metrics", 1)
    good(world)


def test_a_replay_goes_on_at_its_rate(monkeypatch):
    monkeypatch.setattr(catchup_module, "READ_UPDATES", 2)
    world = World()
    for tps in range(1, 6):
        world.metrics(float(tps))
    client = world.client()
    client.subscribe({"stream": "metrics", "max_rate": 20, "last": 5})
    world.run()
    assert len(client.updates) == 2
    for _ in range(3):
        world.wait(60)
        world.run()
    assert client.updates == [("metrics", n) for n in range(1, 6)]
    good(world)


@pytest.mark.parametrize("rate", [5e-324, 1e-300, 1000, 0.5])
def test_no_rate_stops_the_hub(rate):
    world = World()
    client, other = world.client("one"), world.client("other")
    client.subscribe({"stream": "metrics", "max_rate": rate})
    other.subscribe("metrics")
    for tps in (1.0, 2.0, 3.0):
        world.metrics(tps)
        world.run()
    assert other.updates == [("metrics", n) for n in (1, 2, 3)]
    assert client.updates == [("metrics", 1)]
    assert all(0 < time - world.now_ms <= 86_400_001 for time in world.reminders)


def test_a_rate_that_is_taken_back_or_a_client_that_leaves_is_not_reminded_of():
    world = World()
    changing, leaving = world.client("changing"), world.client("leaving")
    for client in (changing, leaving):
        client.subscribe({"stream": "metrics", "max_rate": 1})
    for tps in (1.0, 2.0):
        world.metrics(tps)
        world.run()
    changing.subscribe("metrics")
    leaving.leave()
    world.run()
    assert changing.updates == [("metrics", 1), ("metrics", 2)]
    world.wait(5000)
    world.run()
    assert leaving.updates == [("metrics", 1)]
    good(world)
