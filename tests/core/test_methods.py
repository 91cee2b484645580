"""Every method of the protocol: its answers and its refusals, the same in both encodings."""

import pytest

from bridge.core.history import HistoryLimits
from bridge.core.limits import Limits
from bridge.core.methods import METHODS
from bridge.core.where import IN_LIMIT
from generated.theblock.state.v1 import metrics_pb2
from tests.core.v1_clients import CLIENTS
from tests.core.world import NOW_MS, World

BLOCKS = "block_updates"
SUBSCRIBE, UNSUBSCRIBE = "state_stream.subscribe", "state_stream.unsubscribe"
LIST, HISTORY = "state_stream.list", "state_stream.history"
STATS, AUTHENTICATE = "session.stats", "session.authenticate"


def blocks(world: World, number: int) -> None:
    head = world.hub.histories[BLOCKS].head
    for height in range(head + 1, head + number + 1):
        world.now_ms = NOW_MS + 1000 * height
        world.block(height)
    world.run()


def seqs(frames: list[dict]) -> list[int]:
    return [frame["seq"] for frame in frames if "data" in frame]


def names(rows: list[dict]) -> list[tuple[str, str | None]]:
    return [(row["stream"], row.get("key")) for row in rows]


# subscribe


def test_subscribing_is_answered_then_comes_the_snapshot_then_what_is_new(world, join):
    blocks(world, 2)
    client = join()
    assert client.subscribe(BLOCKS, "metrics", {"stream": "account", "key": "a"}) == [
        {"stream": BLOCKS, "declared": True, "epoch": "e1", "seq": 2},
        {"stream": "metrics", "declared": True, "epoch": "e1", "seq": 0},
        {"stream": "account", "key": "a", "declared": True, "epoch": "e1", "seq": 0},
    ]
    world.block(3)
    world.account("a", 1)
    world.account("b", 1)
    response, snapshot, block, account = client.take()
    assert "result" in response
    assert (snapshot["snapshot"], snapshot["seq"], "missed" in snapshot) == (True, 2, False)
    assert (block["seq"], account["key"], account["seq"]) == (3, "a", 1)


def test_a_keyed_stream_read_whole_begins_with_the_value_of_every_key(world, join):
    for address in ("a", "b", "c"):
        world.account(address, 1)
    world.account("a", 2)
    client = join()
    client.subscribe("account")
    values = client.take()[1:]
    assert [(value["key"], value["seq"], value["snapshot"]) for value in values] == [
        ("b", 2, True), ("c", 3, True), ("a", 4, True),
    ]  # fmt: skip


def test_a_stream_that_nothing_has_declared_begins_with_its_first_update(world, join):
    client = join()
    (row,) = client.subscribe("wether")
    assert row == {"stream": "wether", "declared": False, "epoch": "e1", "seq": 0}
    world.custom("wether", {"t": 1})
    assert seqs(client.take()) == [1]


def test_the_nearest_declared_name_is_told(join):
    (row,) = join().subscribe("block_update")
    assert (row["declared"], row["did_you_mean"]) == (False, BLOCKS)


def test_a_stream_and_key_asked_for_twice_is_one_subscription_the_last_one(world, join):
    client = join()
    rows = client.subscribe(BLOCKS, {"stream": BLOCKS, "where": {"height": 2}})
    assert len(rows) == len(client.stats()) == 1
    blocks(world, 3)
    assert seqs(client.take()) == [2]


def test_subscribing_again_changes_the_options_in_place_without_a_gap_or_a_repeat(world, join):
    client = join()
    client.subscribe(BLOCKS)
    blocks(world, 3)
    assert seqs(client.take()) == [1, 2, 3]
    world.block(4)  # on its way while the options change
    (row,) = client.subscribe({"stream": BLOCKS, "where": {"height": {"gte": 6}}})
    blocks(world, 3)
    frames = client.take()
    assert seqs([frame for frame in frames if not frame.get("snapshot")]) == [6, 7]
    (books,) = client.stats()
    assert (books["start"], books["delivered"], books["filtered"]) == (0, 5, 2)
    assert row["seq"] == 3
    client.take()
    client.subscribe(BLOCKS)
    blocks(world, 1)
    assert seqs([frame for frame in client.take() if not frame.get("snapshot")]) == [8]


def test_subscribing_again_while_everybody_is_served_neither_loses_nor_repeats(encoding):
    world = World(slice_writes=1)
    others = [CLIENTS[encoding](world) for _ in range(3)]
    client = CLIENTS[encoding](world)
    for one in (*others, client):
        one.subscribe(BLOCKS)
    world.run()
    got = []
    for height in range(1, 30):
        world.block(height)
        world.slice()  # a sweep is in progress, and this client is its last
        client.subscribe(BLOCKS, "metrics") if height % 3 else client.result(UNSUBSCRIBE, "metrics")
    world.run()
    got = [frame["seq"] for frame in client.frames if frame.get("stream") == BLOCKS and not frame.get("snapshot")]
    assert got == list(range(1, 30))


def test_a_rate_thins_a_latest_stream(world, join):
    client = join()
    client.subscribe({"stream": "metrics", "max_rate": 2})
    world.run()
    for number in range(1, 11):
        world.now_ms += 100
        world.metrics(float(number))
        world.run()
    got = seqs(client.take())
    assert 2 <= len(got) <= 3
    (books,) = client.stats()
    assert (books["delivered"], books["delivered"] + books["skipped"] + books["pending"]) == (len(got), 10)


BAD_SUBSCRIBES = [
    ([], "list of stream names"),
    (["Nope"], "[a-z]"),
    ([""], "[a-z]"),
    (["x" * 65], "[a-z]"),
    ([{"stream": "account", "key": "not a key"}], "[A-Za-z0-9:._-]"),
    ([{"stream": "account", "key": "x" * 129}], "[A-Za-z0-9:._-]"),
    ([{"stream": BLOCKS, "key": "a"}], "no keys"),
    ([{"stream": BLOCKS, "last": 1001}], "1000"),
    ([{"stream": BLOCKS, "since": {"height": 2**63 + 1}}], "height"),
    ([{"stream": BLOCKS, "since": {"time": -1}}], "time"),
    ([{"stream": BLOCKS, "since": {"epoch": "e1", "seq": 2**63 + 1}}], "seq"),
    ([{"stream": BLOCKS, "where": {"height": {"regex": "x"}}}], "where.height"),
    ([{"stream": BLOCKS, "where": {"height": {"gt": None}}}], "where.height.gt"),
    ([{"stream": BLOCKS, "where": {"height": {"gt": True}}}], "where.height.gt"),
    ([{"stream": BLOCKS, "where": {"hash": {"prefix": 5}}}], "where.hash.prefix"),
    ([{"stream": BLOCKS, "where": {"height": {"in": []}}}], "where.height.in"),
    ([{"stream": BLOCKS, "where": {"height": {"in": list(range(IN_LIMIT + 1))}}}], "100"),
    ([{"stream": BLOCKS, "where": {f"f{number}": 1 for number in range(17)}}], "16"),
    ([{"stream": BLOCKS, "max_rate": 5}], "max_rate"),
    ([{"stream": "never_declared", "max_rate": 5}], "max_rate"),
    ([{"stream": "metrics", "max_rate": 0}], "max_rate"),
    ([{"stream": "metrics", "max_rate": -1}], "max_rate"),
    ([{"stream": "metrics", "max_rate": 1001}], "1000"),
]


@pytest.mark.parametrize(("params", "told"), BAD_SUBSCRIBES, ids=lambda value: str(value)[:60])
def test_a_bad_entry_is_told_and_nothing_is_subscribed(world, join, params, told):
    client = join()
    client.subscribe("energy")
    for entries in (params, ["metrics", *params], [*params, "metrics"]) if params else [params]:
        error = client.error(SUBSCRIBE, *entries)
        assert error["code"] == -32602
        assert told in error["message"]
    assert names(client.stats()) == [("energy", None)]
    assert "never_declared" not in world.hub.histories


def test_limits_on_subscriptions_hold_for_all_requests_together(join):
    client = join(limits=Limits(subscriptions=4, undeclared=2))
    client.subscribe(BLOCKS, "one")
    error = client.error(SUBSCRIBE, "two", "three")
    assert (error["code"], "2" in error["message"]) == (-32602, True)
    client.subscribe("two", "metrics")
    error = client.error(SUBSCRIBE, "energy")
    assert (error["code"], "4" in error["message"]) == (-32602, True)
    client.subscribe(BLOCKS, "one", "two", "metrics")  # again: there are no more than before
    client.result(UNSUBSCRIBE, "one")
    client.subscribe("energy")


# unsubscribe


def test_unsubscribing_tells_what_there_was(world, join):
    client = join()
    client.subscribe(BLOCKS, "metrics", {"stream": "account", "key": "a"}, "account")
    result = client.result(
        UNSUBSCRIBE, BLOCKS, "energy", {"stream": "account", "key": "a"}, {"stream": "account", "key": "z"}
    )
    assert result == {"unsubscribed": [BLOCKS, {"stream": "account", "key": "a"}]}
    client.take()
    blocks(world, 1)
    world.account("a", 1)
    world.metrics(1.0)
    assert [frame["stream"] for frame in client.take()] == ["account", "metrics"]
    assert client.result(UNSUBSCRIBE, BLOCKS) == {"unsubscribed": []}


def test_the_key_and_the_whole_stream_are_two_subscriptions_one_frame(world, join):
    client = join()
    client.subscribe("account", {"stream": "account", "key": "a"})
    client.take()
    world.account("a", 1)
    assert seqs(client.take()) == [1]
    assert [row["delivered"] for row in client.stats()] == [1, 1]
    client.result(UNSUBSCRIBE, "account")
    client.take()
    world.account("a", 2)
    world.account("b", 1)
    assert seqs(client.take()) == [2]


@pytest.mark.parametrize("params", [[], ["Nope"], [{"stream": BLOCKS, "key": "not a key"}]], ids=str)
def test_unsubscribing_badly_ends_nothing(join, params):
    client = join()
    client.subscribe(BLOCKS)
    error = client.error(UNSUBSCRIBE, *([BLOCKS, *params] if params else []))
    assert error["code"] == -32602
    assert names(client.stats()) == [(BLOCKS, None)]


# list


def test_every_stream_is_listed(world, join):
    blocks(world, 3)
    world.custom("weather", {"t": 1}, key="here", type_="weather_update")
    client = join()
    client.subscribe("never_declared")
    streams = {row["stream"]: row for row in client.result(LIST)["streams"]}
    assert list(streams) == [BLOCKS, "metrics", "network", "trading", "energy", "account", "weather"]
    assert streams[BLOCKS] == {
        "stream": BLOCKS,
        "type": "block_update",
        "delivery": "every",
        "keyed": False,
        "message": "theblock.state.v1.BlockUpdate",
        "oldest": {"epoch": "e1", "seq": 1},
        "newest": {"epoch": "e1", "seq": 3},
    }
    assert (streams["metrics"]["delivery"], streams["metrics"]["oldest"]) == ("latest", None)
    assert streams["metrics"]["newest"] == {"epoch": "e1", "seq": 0}
    assert (streams["weather"]["type"], streams["weather"]["keyed"]) == ("weather_update", True)
    assert streams["weather"]["message"] == "theblock.state.v1.CustomUpdate"


# history


def page(client, **asked) -> tuple[list[int], dict | None, dict | None]:
    result = client.result(HISTORY, {"stream": BLOCKS, **asked})
    assert not any("snapshot" in update for update in result["updates"])
    return seqs(result["updates"]), result.get("next"), result.get("missed")


def test_pages_follow_one_another_forwards(world, join):
    blocks(world, 10)
    client = join()
    assert page(client, limit=4) == ([1, 2, 3, 4], {"epoch": "e1", "seq": 4}, None)
    assert page(client, limit=4, since={"epoch": "e1", "seq": 4}) == ([5, 6, 7, 8], {"epoch": "e1", "seq": 8}, None)
    assert page(client, limit=4, since={"epoch": "e1", "seq": 8}) == ([9, 10], None, None)
    assert page(client, limit=10)[1:] == (None, None)  # it is the end, though the page is full


def test_pages_follow_one_another_backwards(world, join):
    blocks(world, 10)
    client = join()
    assert page(client, limit=4, reverse=True) == ([10, 9, 8, 7], {"epoch": "e1", "seq": 7}, None)
    until = {"epoch": "e1", "seq": 7}
    assert page(client, limit=4, reverse=True, until=until) == ([6, 5, 4, 3], {"epoch": "e1", "seq": 3}, None)
    until = {"epoch": "e1", "seq": 3}
    assert page(client, limit=4, reverse=True, until=until) == ([2, 1], None, None)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("key", [None, "b"])
@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_all_pages_together_are_the_history(world, join, reverse, key, limit):
    for number in range(20):
        world.account("abc"[number % 3], number)
    client = join()
    asked: dict = {"stream": "account", "limit": limit, "reverse": reverse, **({"key": key} if key else {})}
    got = []
    for _ in range(30):
        result = client.result(HISTORY, asked)
        got += seqs(result["updates"])
        if "next" not in result:
            break
        assert len(result["updates"]) == limit
        asked["until" if reverse else "since"] = result["next"]
    wanted = [seq for seq in range(1, 21) if key is None or "abc"[(seq - 1) % 3] == key]
    assert got == (wanted[::-1] if reverse else wanted)


def test_limit_1_backwards_is_the_current_value(world, join):
    blocks(world, 3)
    client = join()
    assert page(client, limit=1, reverse=True)[0] == [3]
    assert client.result(HISTORY, {"stream": "energy", "limit": 1, "reverse": True}) == {"updates": []}


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({"since": {"height": 8}}, [8, 9, 10]),
        ({"since": {"time": NOW_MS + 9000}}, [9, 10]),
        ({"since": {"epoch": "e1", "seq": 2}, "until": {"epoch": "e1", "seq": 5}}, [3, 4]),
        ({"since": {"epoch": "e1", "seq": 2}, "until": {"epoch": "e1", "seq": 5}, "reverse": True}, [4, 3]),
        ({"since": {"epoch": "e1", "seq": 5}, "until": {"epoch": "e1", "seq": 5}}, []),
        ({"since": {"epoch": "e1", "seq": 10}}, []),
        ({"since": {"epoch": "e1", "seq": 99}}, []),
        ({"until": {"epoch": "e1", "seq": 99}, "since": {"epoch": "e1", "seq": 8}}, [9, 10]),
        ({"until": {"epoch": "e1", "seq": 0}}, []),
    ],
    ids=str,
)
def test_bounds_of_a_page(world, join, asked, wanted):
    blocks(world, 10)
    assert page(join(), **asked) == (wanted, None, None)


@pytest.mark.parametrize("start", [{"epoch": "e1", "seq": 0}, {"height": 1}, {"time": 0}], ids=str)
def test_what_is_no_longer_held_is_named(encoding, start):
    world = World(limits=HistoryLimits(count=4))
    blocks(world, 10)
    client = CLIENTS[encoding](world)
    assert page(client, since=start, limit=2) == ([7, 8], {"epoch": "e1", "seq": 8}, {"from": 1, "to": 6})
    assert page(client, since=start, reverse=True)[2] == {"from": 1, "to": 6}
    assert page(client, since=start, until={"epoch": "e1", "seq": 4}) == ([], None, {"from": 1, "to": 3})
    assert page(client, limit=2) == ([7, 8], {"epoch": "e1", "seq": 8}, None)  # nothing older was asked for
    assert page(client, since={"height": 7}) == ([7, 8, 9, 10], None, None)


def test_history_leaves_subscriptions_alone(world, join):
    client = join()
    client.subscribe(BLOCKS)
    blocks(world, 5)
    client.take()
    page(client, limit=2)
    client.take()
    blocks(world, 1)
    assert seqs(client.take()) == [6]


BAD_HISTORIES = [
    ({"stream": "Nope"}, "[a-z]"),
    ({"stream": "never_declared"}, "not declared"),
    ({"stream": "block_update"}, "did you mean 'block_updates'"),
    ({"stream": BLOCKS, "key": "a"}, "no keys"),
    ({"stream": "account", "key": "not a key"}, "[A-Za-z0-9:._-]"),
    ({"stream": BLOCKS, "limit": 1001}, "1000"),
    ({"stream": BLOCKS, "since": {"epoch": "e9", "seq": 1}}, "e9-1 is not of epoch e1"),
    ({"stream": BLOCKS, "until": {"epoch": "e9", "seq": 1}}, "e9-1 is not of epoch e1"),
    ({"stream": BLOCKS, "until": {"epoch": "e1", "seq": 2**63 + 1}}, "seq"),
]


@pytest.mark.parametrize(("asked", "told"), BAD_HISTORIES, ids=lambda value: str(value)[:60])
def test_a_page_that_cannot_be_is_refused(world, join, asked, told):
    blocks(world, 2)
    error = join().error(HISTORY, asked)
    assert error["code"] == -32602
    assert told in error["message"]
    assert error.get("data") == ({"reason": "epoch", "epoch": "e1"} if "of epoch" in told else None)


def test_the_limit_of_a_page_is_the_default(world, encoding):
    client = CLIENTS[encoding](world, limits=Limits(page=3))
    blocks(world, 5)
    assert page(client) == ([1, 2, 3], {"epoch": "e1", "seq": 3}, None)


# stats


def test_the_books_add_up_at_any_time(encoding):
    world = World(limits=HistoryLimits(count=8))
    client = CLIENTS[encoding](world, capacity=5)
    client.subscribe(
        BLOCKS,
        "metrics",
        {"stream": "account", "key": "a"},
        {"stream": "trading", "where": {"volume24h": 5}},
    )
    for number in range(1, 60):
        world.block(number)
        world.metrics(float(number))
        world.account("ab"[number % 2], number)
        if number % 3 == 0:
            world.run()
        if number % 10 == 0:
            client.drain()
        for row in client.stats():
            books = sum(row[name] for name in ("delivered", "filtered", "skipped", "missed", "pending"))
            assert row["head"] - row["start"] == books, row
    client.capacity = None
    client.drain()
    world.run()
    rows = {row["stream"]: row for row in client.stats()}
    assert all(row["pending"] == 0 for row in rows.values())
    assert rows[BLOCKS]["head"] == 59
    assert rows[BLOCKS]["missed"] > 0
    assert rows["metrics"]["skipped"] > 0
    assert rows["account"]["filtered"] > 0
    assert list(rows[BLOCKS]) == [
        "stream", "epoch", "start", "head", "delivered", "filtered", "skipped", "missed", "pending",
    ]  # fmt: skip


def test_the_books_count_what_was_handed_to_the_socket_and_no_snapshot(world, join):
    blocks(world, 3)
    client = join()
    client.subscribe({"stream": BLOCKS, "where": {"height": {"gt": 4}}})
    blocks(world, 3)
    client.take()
    (row,) = client.stats()
    assert row == {
        "stream": BLOCKS, "epoch": "e1", "start": 3, "head": 6,
        "delivered": 2, "filtered": 1, "skipped": 0, "missed": 0, "pending": 0,
    }  # fmt: skip


def test_the_books_begin_anew_with_an_epoch(world, join):
    client = join()
    client.subscribe(BLOCKS)
    blocks(world, 3)
    world.begin_epoch()
    world.block(1)
    world.run()
    (row,) = client.stats()
    assert (row["epoch"], row["start"], row["head"], row["delivered"]) == ("e2", 0, 1, 1)


# the rest


def test_without_access_control_there_is_nothing_to_authenticate(join):
    error = join().error(AUTHENTICATE, {"token": "abc"})
    assert (error["code"], error["data"]) == (-32601, {"methods": list(METHODS)})


def test_a_method_called_without_an_id_is_done_without_an_answer(world, join):
    client = join()
    assert client.notify(SUBSCRIBE, BLOCKS) == []
    blocks(world, 1)
    assert seqs(client.take()) == [1]
    assert client.notify(HISTORY, {"stream": "never_declared"}) == []
    assert client.notify(LIST) == []
    assert client.notify(UNSUBSCRIBE, BLOCKS) == []
    assert client.stats() == []


def test_values_that_are_no_number_are_null_to_filters_too(world, join):
    """JSON writes NaN and infinities as null, so that is what a filter sees."""
    client = join()
    client.subscribe({"stream": "metrics", "where": {"tps": None}})
    client.take()
    for tps in (float("nan"), float("inf"), 1.0):
        world.origin.publish(metrics_pb2.MetricsUpdate(tps=tps))
        world.run()
    frames = client.take()
    assert seqs(frames) == [1, 2]
    assert [frame["data"]["tps"] for frame in frames] == [None, None]
