"""The oracle itself: it lets good histories pass, and objects to each way in which one can be wrong."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from bridge.verify.jsonvalues import read_json
from bridge.verify.oracle import Client, Oracle

Frame = dict[str, Any]


def block(seq: int, **more: Any) -> Frame:
    update: Frame = {
        "type": "block_update",
        "stream": "block_updates",
        "epoch": "e1",
        "seq": seq,
        "time": 1000 + seq,
        "data": {"height": seq, "hash": f"0x{seq:02x}"},
    }
    return update | more


def metrics(seq: int, **more: Any) -> Frame:
    return block(seq, type="metrics_update", stream="metrics", data={"tps": float(seq), "fees": None}) | more


def account(seq: int, key: str, prev: int, **more: Any) -> Frame:
    return block(seq, type="account_update", stream="account", key=key, prev=prev, data={"address": key}) | more


def snapshot(update: Frame, **more: Any) -> Frame:
    return update | {"snapshot": True} | more


def missed(update: Frame, first: int, last: int) -> Frame:
    return snapshot(update, missed={"from": first, "to": last})


ACCOUNTS = [account(1, "a", 0), account(2, "b", 0), account(3, "a", 1), account(4, "c", 0), account(5, "a", 3)]


@pytest.fixture
def oracle() -> Oracle:
    """Return an oracle that knows of ten blocks, ten metrics and five accounts."""
    oracle = Oracle()
    for seq in range(1, 11):
        oracle.published(block(seq))
        oracle.published(metrics(seq))
    for update in ACCOUNTS:
        oracle.published(json.dumps(update))
    return oracle


@pytest.fixture
def client(oracle: Oracle) -> Client:
    """Return a client that has subscribed to blocks from the beginning."""
    client = oracle.client("one")
    client.subscribed("block_updates", epoch="e1", seq=0)
    return client


def get(client: Client, *frames: Frame) -> None:
    for frame in frames:
        client.received(json.dumps(frame))


def row(**columns: Any) -> Frame:
    books = {
        "stream": "block_updates",
        "epoch": "e1",
        "start": 0,
        "head": 10,
        "delivered": 10,
        "filtered": 0,
        "skipped": 0,
        "missed": 0,
        "pending": 0,
    }
    return books | columns


def stats(client: Client, **columns: Any) -> None:
    get(client, {"jsonrpc": "2.0", "id": 9, "result": {"subscriptions": [row(**columns)]}})


BLOCKS = [block(seq) for seq in range(1, 11)]


def test_what_is_as_it_must_be_passes(oracle, client):
    get(client, *BLOCKS)
    stats(client)
    verdict = oracle.verdict()
    assert verdict.ok, verdict
    assert str(verdict) == (
        "0 lost, 0 repeated, in order, skipped accounted for: 1 clients, 25 updates published, 10 delivered"
    )


GOOD: dict[str, Callable[[Client], None]] = {
    "a snapshot repeats what the client has": lambda c: get(c, *BLOCKS[:4], snapshot(block(4)), *BLOCKS[4:]),
    "a snapshot stands in for a range": lambda c: get(c, *BLOCKS[:4], missed(block(7), 5, 7), *BLOCKS[7:]),
    "other frames do not matter": lambda c: get(c, {"type": "pong"}, {"type": "welcome"}, *BLOCKS),
    "a field set": lambda c: (
        c.subscribed("block_updates", epoch="e1", seq=0, fields=["height"]),
        get(c, *(update | {"data": {"height": update["seq"]}} for update in BLOCKS)),
    ),
    "a filter": lambda c: (
        c.subscribed("block_updates", epoch="e1", seq=0, where={"height": {"gte": 3, "lt": 5}}),
        get(c, *BLOCKS[2:4]),
        stats(c, delivered=2, filtered=8),
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_good_histories_pass(oracle, client, name):
    GOOD[name](client)
    verdict = oracle.verdict()
    assert verdict.ok, verdict


BAD: dict[str, tuple[str, list[Frame]]] = {
    "one is lost": ("lost", [*BLOCKS[:4], *BLOCKS[5:]]),
    "the first is lost": ("lost", BLOCKS[1:]),
    "the last is lost": ("lost", BLOCKS[:9]),
    "one comes twice": ("repeated", [*BLOCKS[:4], block(4), *BLOCKS[4:]]),
    "all come twice": ("repeated", BLOCKS + BLOCKS),
    "two change places": ("reordered", [*BLOCKS[:4], block(6), block(5), *BLOCKS[6:]]),
    "data is altered": ("altered", [*BLOCKS[:4], block(5, data={"height": 6, "hash": "0x05"}), *BLOCKS[5:]]),
    "true is not 1": ("altered", [block(1, data={"height": True, "hash": "0x01"}), *BLOCKS[1:]]),
    "a field is left out": ("altered", [block(1, data={"height": 1}), *BLOCKS[1:]]),
    "the type is altered": ("altered", [block(1, type="metrics_update"), *BLOCKS[1:]]),
    "the time is altered": ("altered", [block(1, time=5), *BLOCKS[1:]]),
    "a snapshot is altered": ("altered", [snapshot(block(4, data={})), *BLOCKS]),
    "a position was never given": ("invented", [*BLOCKS, block(11)]),
    "an epoch was never begun": ("invented", [*BLOCKS, block(1, epoch="e9")]),
    "a stream that nobody asked for": ("unasked", [*BLOCKS, metrics(1)]),
    "a snapshot ahead, its range not named": ("lost", [*BLOCKS[:4], snapshot(block(7)), *BLOCKS[7:]]),
    "a snapshot ahead at the end": ("lost", [*BLOCKS[:4], snapshot(block(10))]),
    "the range is too small": ("lost", [*BLOCKS[:3], missed(block(7), 5, 7), *BLOCKS[7:]]),
    "the range has been had": ("repeated", [*BLOCKS[:7], missed(block(7), 5, 7), *BLOCKS[7:]]),
    "an old value stands in": ("altered", [*BLOCKS[:4], missed(block(4), 5, 7), *BLOCKS[7:]]),
    "a range without a snapshot": ("malformed", [*BLOCKS[:4], block(7, missed={"from": 5, "to": 7}), *BLOCKS[7:]]),
    "an update of the missed range": ("repeated", [*BLOCKS[:4], missed(block(7), 5, 7), *BLOCKS[6:]]),
    "a frame that is no object": ("malformed", [*BLOCKS, 7]),  # type: ignore[list-item]
}


@pytest.mark.parametrize("name", BAD)
def test_what_must_not_be_is_told(oracle, client, name):
    kind, frames = BAD[name]
    get(client, *frames)
    verdict = oracle.verdict()
    assert kind in verdict.kinds, verdict
    assert not verdict.ok
    assert "one" in str(verdict)


@pytest.mark.parametrize("text", ["", "{", '{"a":1,"a":2}', '{"a":NaN}', '{"a":\n1}', b"\xff"])
def test_what_is_no_frame_is_told(oracle, client, text):
    get(client, *BLOCKS)
    client.received(text)
    assert oracle.verdict().kinds == {"malformed"}


@pytest.mark.parametrize(
    "columns",
    [
        {"delivered": 9},
        {"delivered": 9, "filtered": 1},
        {"delivered": 9, "skipped": 1},
        {"delivered": 9, "missed": 1},
        {"delivered": 9, "pending": 1},
        {"start": 1, "delivered": 9},
        {"head": 11, "pending": 1},
        {"head": 9, "delivered": 10, "filtered": -1},
    ],
)
def test_books_that_do_not_agree_with_the_frames_are_told(oracle, client, columns):
    get(client, *BLOCKS)
    stats(client, **columns)
    assert oracle.verdict().kinds == {"books"}


def test_books_of_what_is_not_subscribed_are_told(oracle, client):
    get(client, *BLOCKS)
    stats(client, stream="metrics")
    assert oracle.verdict().kinds == {"books"}


def test_books_tell_of_a_loss_before_the_next_update_does(oracle, client):
    get(client, *BLOCKS[:8])
    stats(client, delivered=8, filtered=2)
    assert oracle.verdict(settled=False).kinds == {"books", "lost"}


def test_what_is_still_to_come_is_not_lost_before_things_are_settled(oracle, client):
    get(client, *BLOCKS[:4])
    assert oracle.verdict(settled=False).ok
    assert oracle.verdict().kinds == {"lost"}
    client.closed()
    assert oracle.verdict().ok


def test_a_position_given_twice_is_told(oracle):
    oracle.published(block(3))
    assert oracle.verdict().ok
    oracle.published(block(3, data={}))
    assert oracle.verdict().kinds == {"repeated"}


def test_every_client_is_judged_by_itself(oracle):
    for name, frames in (("good", BLOCKS), ("bad", BLOCKS[:8] + BLOCKS[9:])):
        client = oracle.client(name)
        client.subscribed("block_updates", epoch="e1", seq=0)
        get(client, *frames)
    assert {violation.client for violation in oracle.verdict().violations} == {"bad"}


# ---------------------------------------------------------------------- latest


@pytest.fixture
def watcher(oracle: Oracle) -> Client:
    """Return a client that has subscribed to metrics from the beginning."""
    client = oracle.client("one")
    client.subscribed("metrics", epoch="e1", seq=0)
    return client


def test_a_latest_stream_may_skip_but_ends_with_the_newest(oracle, watcher):
    get(watcher, metrics(2), metrics(7))
    assert oracle.verdict(settled=False).ok
    assert oracle.verdict().kinds == {"lost"}
    get(watcher, metrics(10))
    assert oracle.verdict().ok
    stats(watcher, stream="metrics", delivered=3, skipped=7)
    assert oracle.verdict().ok


@pytest.mark.parametrize(
    ("frames", "kind"),
    [
        ([metrics(7), metrics(2), metrics(10)], "repeated"),
        ([metrics(10), metrics(10)], "repeated"),
        ([metrics(10, data={"tps": 9.0, "fees": None})], "altered"),
    ],
)
def test_a_latest_stream_never_goes_back(oracle, watcher, frames, kind):
    get(watcher, *frames)
    assert oracle.verdict().kinds == {kind}


def test_on_a_latest_stream_any_known_value_stands_in_for_a_range(oracle, watcher):
    get(watcher, missed(metrics(2), 1, 4), metrics(10))
    assert oracle.verdict().ok
    other = oracle.client("two")
    other.subscribed("metrics", epoch="e1", seq=0)
    get(other, missed(metrics(7), 1, 4), metrics(10))
    assert oracle.verdict().kinds == {"altered"}


# ---------------------------------------------------------------------- keys


@pytest.mark.parametrize(
    ("frames", "kinds"),
    [
        (ACCOUNTS, set()),
        ([ACCOUNTS[0], *ACCOUNTS[2:]], {"lost"}),
        (ACCOUNTS[:4], {"lost"}),
        ([*ACCOUNTS[:2], account(3, "a", 2), *ACCOUNTS[3:]], {"altered"}),
        ([ACCOUNTS[0], snapshot(account(2, "b", 0)), missed(account(3, "a", 1), 2, 3), *ACCOUNTS[3:]], set()),
        ([ACCOUNTS[0], missed(account(3, "a", 1), 2, 3), *ACCOUNTS[3:]], {"lost"}),  # nothing stands in for b
    ],
)
def test_a_keyed_stream_read_whole(oracle, frames, kinds):
    client = oracle.client("one")
    client.subscribed("account", epoch="e1", seq=0)
    get(client, *frames)
    assert oracle.verdict().kinds == kinds


@pytest.mark.parametrize(
    ("frames", "kinds"),
    [
        ([ACCOUNTS[0], ACCOUNTS[2], ACCOUNTS[4]], set()),
        ([ACCOUNTS[0], ACCOUNTS[4]], {"lost"}),
        ([ACCOUNTS[0], ACCOUNTS[1], ACCOUNTS[2], ACCOUNTS[4]], {"unasked"}),
        ([ACCOUNTS[0], missed(ACCOUNTS[2], 2, 3), ACCOUNTS[4]], set()),
    ],
)
def test_one_key(oracle, frames, kinds):
    client = oracle.client("one")
    client.subscribed("account", key="a", epoch="e1", seq=0)
    get(client, *frames)
    assert oracle.verdict().kinds == kinds


def test_prev_proves_a_loss_that_the_log_does_not_know_of():
    oracle = Oracle()
    oracle.published(account(1, "a", 0))
    oracle.published(account(7, "a", 4))
    client = oracle.client("one")
    client.subscribed("account", key="a", epoch="e1", seq=0)
    get(client, account(1, "a", 0), account(7, "a", 4))
    assert oracle.verdict().kinds == {"lost"}


def test_two_subscriptions_to_one_stream_share_its_frames(oracle):
    client = oracle.client("one")
    client.subscribed("account", epoch="e1", seq=3)
    client.subscribed("account", key="a", epoch="e1", seq=0)  # is replayed to, while the other one waits
    get(client, ACCOUNTS[0], ACCOUNTS[2], ACCOUNTS[3], ACCOUNTS[4])
    assert oracle.verdict().ok
    get(client, ACCOUNTS[2])
    assert oracle.verdict().kinds == {"repeated"}


def test_a_snapshot_for_one_of_two_subscriptions_is_nothing_to_the_other(oracle):
    client = oracle.client("one")
    client.subscribed("account", key="a", epoch="e1", seq=0)
    client.subscribed("account", epoch="e1", seq=5)
    get(client, *(snapshot(update) for update in (ACCOUNTS[1], ACCOUNTS[3], ACCOUNTS[4])))
    get(client, ACCOUNTS[0], ACCOUNTS[2], ACCOUNTS[4])
    assert oracle.verdict().ok


def test_of_two_subscriptions_each_has_its_range_named(oracle):
    client = oracle.client("one")
    client.subscribed("account", epoch="e1", seq=2)
    client.subscribed("account", key="a", epoch="e1", seq=0)
    get(client, missed(ACCOUNTS[2], 3, 3), missed(ACCOUNTS[2], 1, 3), *ACCOUNTS[3:])
    verdict = oracle.verdict()
    assert verdict.ok, verdict


# ---------------------------------------------------------------------- epochs


def test_a_new_epoch_begins_the_books_anew(oracle, client):
    get(client, *BLOCKS)
    for seq in (1, 2):
        oracle.published(block(seq, epoch="e2"))
    assert oracle.verdict().kinds == {"lost"}
    get(client, block(1, epoch="e2"))
    assert oracle.verdict().kinds == {"lost"}
    get(client, block(2, epoch="e2"))
    stats(client, epoch="e2", head=2, delivered=2)
    assert oracle.verdict().ok
    get(client, block(10))
    assert "reordered" in oracle.verdict().kinds


def test_an_epoch_may_begin_with_a_snapshot(oracle, client):
    for seq in (1, 2, 3):
        oracle.published(block(seq, epoch="e2"))
    get(client, *BLOCKS, snapshot(block(2, epoch="e2")), block(3, epoch="e2"))
    assert oracle.verdict().ok


def test_what_opens_an_epoch_may_stand_in_for_a_range(oracle):
    for update in ACCOUNTS:
        oracle.published(update | {"epoch": "e2"})
    accounts = [update | {"epoch": "e2"} for update in ACCOUNTS]
    client = oracle.client("one")
    client.subscribed("account", epoch="e1", seq=5)
    get(client, snapshot(accounts[1]), missed(accounts[2], 1, 3), *accounts[3:])
    assert oracle.verdict().ok
    get(client, {"jsonrpc": "2.0", "id": 9, "result": {"subscriptions": [
        row(stream="account", epoch="e2", head=5, delivered=2, missed=3)]}})  # fmt: skip
    assert oracle.verdict().ok


@pytest.mark.parametrize(
    ("opening", "then", "kinds"),
    [
        ([2], [6, 9], set()),  # it began at 4 or 5, where 3 was superseded already
        ([2], [9], {"lost"}),  # 6 was current until 7 came, and 2 no longer then
        ([3, 2], [6, 9], set()),  # it began at 3
        ([6], [9], set()),
        ([6], [], {"lost"}),
        ([2], [-6, 9], set()),  # it began at 4 or 5, and misses 6
    ],
)
def test_a_filtered_subscription_begins_in_an_epoch_where_what_it_selects_is_what_its_snapshots_say(
    oracle, opening, then, kinds
):
    data = {1: "a0", 2: "b1", 3: "c1", 4: "c0", 5: "d0", 6: "b1", 7: "b0", 8: "d0", 9: "d1"}
    before: dict[str, int] = {}
    accounts = {}
    for seq, value in data.items():
        accounts[seq] = account(seq, value[0], before.get(value[0], 0), epoch="e2", data={"n": int(value[1])})
        before[value[0]] = seq
        oracle.published(accounts[seq])
    client = oracle.client("one")
    client.subscribed("account", epoch="e1", seq=5, where={"n": {"gt": 0}})
    get(client, *(snapshot(accounts[seq]) for seq in opening))
    get(client, *(accounts[seq] if seq > 0 else missed(accounts[-seq], -seq, -seq) for seq in then))
    assert {violation.kind for violation in oracle.verdict().violations} == kinds


def test_options_changed_in_an_epoch_that_has_brought_nothing_yet(oracle, client):
    for seq in (1, 2, 3):
        oracle.published(block(seq, epoch="e2"))
    client.subscribed("block_updates", epoch="e1", seq=10, where={"height": {"gt": 2}})
    client.subscribed("block_updates", epoch="e2", seq=2, restart=False)
    get(client, snapshot(block(2, epoch="e2")), block(3, epoch="e2"))
    stats(client, epoch="e2", start=0, head=3, filtered=2, delivered=1)
    verdict = oracle.verdict()
    assert verdict.ok, verdict


def test_an_epoch_that_an_answer_tells_of(oracle, client):
    oracle.began("e2")
    get(client, *BLOCKS)
    stats(client, epoch="e2", head=0, delivered=0)
    get(client, block(10))
    assert oracle.verdict().kinds == {"reordered"}


# ---------------------------------------------------------------------- requests


def ask(*params: Any, method: str = "subscribe", **more: Any) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": f"state_stream.{method}", "params": params} | more)


def answer(*rows: Frame) -> Frame:
    return {"jsonrpc": "2.0", "id": 1, "result": {"subscriptions": rows}}


def test_requests_and_their_answers_are_understood(oracle):
    client = oracle.client("one")
    client.sent(ask("metrics", {"stream": "block_updates", "where": {"height": {"gt": 4}}, "fields": ["height"]}))
    get(
        client,
        answer(
            {"stream": "metrics", "declared": True, "epoch": "e1", "seq": 10},
            {"stream": "block_updates", "declared": True, "epoch": "e1", "seq": 7},
        ),
    )
    get(client, *(block(seq, data={"height": seq}) for seq in (8, 9, 10)))
    assert oracle.verdict().ok
    client.sent(ask({"stream": "block_updates", "since": {"epoch": "e1", "seq": 8}}))
    get(client, answer({"stream": "block_updates", "epoch": "e1", "seq": 8, "recovered": True, "replayed": 2}))
    get(client, block(9), block(10))
    assert oracle.verdict().ok
    client.sent(ask("block_updates", "metrics", method="unsubscribe"))
    get(client, {"jsonrpc": "2.0", "id": 1, "result": {"unsubscribed": ["block_updates", "metrics"]}})
    get(client, block(10))
    assert oracle.verdict().kinds == {"unasked"}


def test_a_subscription_changed_in_place_goes_on_without_a_gap(oracle, client):
    get(client, *BLOCKS[:4])
    client.sent(ask({"stream": "block_updates", "where": {"height": {"in": [6, 7]}}}))
    get(client, answer({"stream": "block_updates", "declared": True, "epoch": "e1", "seq": 4}))
    get(client, snapshot(block(4)), block(6), block(7))
    assert oracle.verdict().ok
    get(client, answer({"stream": "block_updates", "declared": True, "epoch": "e1", "seq": 9}))
    get(client, block(10))
    assert oracle.verdict().ok
    get(client, answer({"stream": "block_updates", "declared": True, "epoch": "e1", "seq": 10}))
    client.events.pop(-2)  # 10 did not come
    assert oracle.verdict().kinds == {"lost"}


def test_a_batch_is_understood(oracle):
    client = oracle.client("one")
    client.sent(f"[{ask({'stream': 'account', 'key': 'a'})}, {ask('account', id=2)}, 7]")
    rows = (
        [{"stream": "account", "key": "a", "epoch": "e1", "seq": 5}],
        [{"stream": "account", "epoch": "e1", "seq": 5}],
    )
    client.received(json.dumps([answer(*rows[0]), answer(*rows[1]) | {"id": 2}, {"jsonrpc": "2.0", "error": {}}]))
    client.sent(ask({"stream": "account", "key": "a"}, method="unsubscribe"))
    get(client, {"jsonrpc": "2.0", "id": 1, "result": {"unsubscribed": [{"stream": "account", "key": "a"}]}})
    get(client, ACCOUNTS[4])
    assert oracle.verdict().kinds == {"repeated"}


@pytest.mark.parametrize("before", [[], [snapshot(block(4))], [missed(block(4), 3, 4)]])
def test_a_request_without_an_answer_begins_with_its_first_frame(oracle, before):
    client = oracle.client("one")
    client.sent('{"method":"state_stream.subscribe","params":["block_updates"]}')
    get(client, *before, *BLOCKS[4:])
    assert oracle.verdict().ok
    client.sent('{"method":"state_stream.unsubscribe","params":{"stream":"block_updates"}}')
    get(client, block(10))  # was on its way
    assert oracle.verdict().ok
    client.events.pop(1 + len(before))  # without block 5
    assert oracle.verdict().ok is (not before)


def test_a_refused_request_without_an_answer_changes_nothing(oracle):
    client = oracle.client("one")
    client.sent('{"method":"state_stream.subscribe","params":["block_updates"],"id":"x"}')
    get(client, {"type": "error", "id": "x", "error": {"code": -32602, "message": "no"}}, block(1))
    assert oracle.verdict().kinds == {"unasked"}


def test_books_tell_where_a_subscription_without_an_answer_began(oracle):
    client = oracle.client("one")
    client.sent('{"method":"state_stream.subscribe","params":["block_updates"]}')
    get(client, snapshot(block(4)), *BLOCKS[4:])
    stats(client, start=4, delivered=6)
    assert oracle.verdict().ok
    client = oracle.client("two")
    client.sent('{"method":"state_stream.subscribe","params":[{"stream":"block_updates","last":2}]}')
    stats(client, start=8, delivered=0, pending=2)
    get(client, *BLOCKS[8:])
    assert oracle.verdict().ok


@pytest.mark.parametrize("text", ["no JSON", "7", '{"method":"state_stream.subscribe","params":7}', '{"id":1}'])
def test_nonsense_that_a_client_sends_is_not_judged(oracle, text):
    oracle.client("one").sent(text)
    assert oracle.verdict().ok


# ---------------------------------------------------------------------- integers as strings, filters


def test_integers_as_strings_are_the_same_where_they_were_asked_for(oracle):
    oracle.published(block(11, data={"height": 11, "list": [{"n": 2**60}], "d": 1.5}))
    frame = block(11, data={"height": 11, "list": [{"n": str(2**60)}], "d": 1.5})
    for client, kinds in ((oracle.client("one", int64_string=True), set()), (oracle.client("two"), {"altered"})):
        client.subscribed("block_updates", epoch="e1", seq=10)
        get(client, frame)
        assert oracle.verdict().kinds == kinds


@pytest.mark.parametrize(
    ("where", "seqs"),
    [
        ({"height": 3}, [3]),
        ({"height": True}, []),
        ({"none": None, "height": 4}, [4]),
        ({"hash": {"prefix": "0x0"}}, range(1, 11)),
        ({"hash": {"gt": "0x08"}}, [9, 10]),
        ({"height": {"gt": "0"}}, []),
        ({"height": {"prefix": "1"}}, []),
        ({"height": {"lte": 2.5}}, [1, 2]),
    ],
)
def test_filters_select(oracle, where, seqs):
    client = oracle.client("one")
    client.subscribed("block_updates", epoch="e1", seq=0, where=where)
    get(client, *(block(seq) for seq in seqs))
    verdict = oracle.verdict()
    assert verdict.ok, verdict
    get(client, *BLOCKS)
    assert not oracle.verdict().ok


def test_reading_is_strict():
    assert read_json(b'{"a":[1,2.5,null,"\xc3\xa4"]}') == {"a": [1, 2.5, None, "ä"]}
