"""Judging on the way: as far as the log reaches, and with what has been forgotten."""

import json

import pytest

from bridge.verify.log import Published
from bridge.verify.oracle import Client, Oracle
from tests.verify.test_oracle import Frame, account, block, missed, snapshot


@pytest.fixture
def oracle() -> Oracle:
    return Oracle()


@pytest.fixture
def client(oracle: Oracle) -> Client:
    client = oracle.client("one")
    client.subscribed("block_updates", epoch="e1", seq=0)
    return client


def get(client: Client, *frames: Frame) -> None:
    for frame in frames:
        client.received(json.dumps(frame))


def test_what_the_log_does_not_reach_yet_waits(oracle, client):
    get(client, block(1), block(2))
    assert oracle.advance() == 3 - 1  # the subscription is known
    oracle.published(block(2))
    assert oracle.advance() == 2  # 1 is still to be told of
    oracle.published(block(1))
    assert oracle.advance() == 0
    assert oracle.verdict().ok
    assert client.counts.delivered == 2


def test_what_an_ended_epoch_has_not_told_of_is_judged(oracle, client):
    oracle.published(block(1))
    get(client, block(1), block(2))
    assert oracle.advance() == 1
    oracle.close("e1")
    assert oracle.advance() == 0
    assert oracle.verdict().kinds == {"invented"}


def test_what_may_have_been_published_is_asked_for(oracle, client):
    oracle.published(block(1))
    oracle.close("e1")
    oracle.log.adopt = lambda frame: Published(frame["type"], frame["seq"], "", 0, frame["data"], frame["time"])
    get(client, block(1), block(2))
    assert oracle.verdict().ok


def test_a_verdict_on_the_way_changes_nothing(oracle, client):
    for seq in (1, 2, 3):
        oracle.published(block(seq))
    get(client, block(1))
    oracle.advance()
    assert oracle.verdict().kinds == {"lost"}
    get(client, block(2), block(3))
    assert oracle.verdict().ok
    oracle.advance()
    assert oracle.verdict().ok


def test_what_was_forgotten_is_not_judged(oracle, client):
    for seq in range(1, 101):
        oracle.published(block(seq))
        get(client, block(seq))
    oracle.advance()
    oracle.log.trim(10)
    assert len(oracle.log.run("block_updates", "e1").updates) == 10
    late = oracle.client("late")
    late.subscribed("block_updates", epoch="e1", seq=50)
    get(late, *(block(seq) for seq in range(51, 101)))
    assert oracle.verdict().ok
    get(late, block(101))
    assert oracle.verdict().kinds == {"invented"}


def test_times_that_the_log_does_not_know_are_the_same_for_all(oracle):
    oracle.published({name: value for name, value in block(1).items() if name != "time"})
    for time, kinds in ((5, set()), (5, set()), (6, {"altered"})):
        client = oracle.client(str(time))
        client.subscribed("block_updates", epoch="e1", seq=0)
        get(client, block(1, time=time))
        assert oracle.verdict().kinds == kinds


def test_prev_is_worked_out_where_nobody_tells_it(oracle):
    for seq, key, prev in ((1, "a", 0), (3, "a", 1), (2, "b", 0)):
        oracle.published({name: value for name, value in account(seq, key, prev).items() if name != "prev"})
    client = oracle.client("one")
    client.subscribed("account", epoch="e1", seq=0)
    get(client, account(1, "a", 0), account(2, "b", 0), account(3, "a", 1))
    assert oracle.verdict().ok
    get(client, snapshot(account(3, "a", 2)))
    assert oracle.verdict().kinds == {"altered"}


def resume(client: Client, since: int, **row: object) -> None:
    client.connected()
    entry = {"stream": "block_updates", "since": {"epoch": "e1", "seq": since}}
    client.sent(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "state_stream.subscribe", "params": [entry]}))
    get(client, {"jsonrpc": "2.0", "id": 1, "result": {"subscriptions": [{"stream": "block_updates", **row}]}})


@pytest.mark.parametrize(
    ("row", "kinds"),
    [
        ({"epoch": "e1", "seq": 2, "recovered": True}, set()),
        ({"epoch": "e1", "seq": 2, "recovered": False, "reason": "trimmed"}, set()),
        ({"epoch": "e1", "seq": 3, "recovered": True}, {"unrecovered"}),
        ({"epoch": "e1", "seq": 1, "recovered": False, "reason": "ahead"}, {"unrecovered"}),
        ({"epoch": "e1", "seq": 2, "recovered": False, "reason": "epoch"}, {"unrecovered"}),
        ({"epoch": "e2", "seq": 0, "recovered": False, "reason": "epoch"}, set()),
        ({"epoch": "e2", "seq": 0, "recovered": True}, {"unrecovered"}),
        ({"epoch": "e0", "seq": 0, "recovered": False, "reason": "epoch"}, {"reordered"}),
    ],
)
def test_a_position_that_a_client_was_given_is_gone_on_behind(oracle, client, row, kinds):
    for epoch in ("e0", "e1", "e2"):
        oracle.began(epoch)
    for seq in (1, 2, 3):
        oracle.published(block(seq))
    get(client, block(1), block(2))
    resume(client, 2, **row)
    assert oracle.verdict(settled=False).kinds == kinds


def test_a_position_that_was_never_given_may_be_ahead(oracle, client):
    oracle.published(block(1))
    get(client, block(1))
    resume(client, 9, epoch="e1", seq=1, recovered=False, reason="ahead")
    assert oracle.verdict().ok


def test_a_new_connection_has_no_subscription(oracle, client):
    oracle.published(block(1))
    client.connected()
    get(client, block(1))
    assert oracle.verdict().kinds == {"unasked"}


def test_a_plain_request_behind_a_position_tells_where_it_begins(oracle):
    for seq in (1, 2, 3, 4):
        oracle.published(block(seq))
    client = oracle.client("one")
    entry = {"stream": "block_updates", "since": {"epoch": "e1", "seq": 2}}
    client.sent(json.dumps({"method": "state_stream.subscribe", "params": [entry]}))
    get(client, block(4))
    assert oracle.verdict().kinds == {"lost"}


def test_progress_tells_no_more_than_was_sent(oracle, client):
    for seq in (1, 2, 3):
        oracle.published(block(seq))
    get(client, block(1), block(2))
    get(client, {"type": "progress", "positions": [{"stream": "block_updates", "epoch": "e1", "seq": 2}]})
    assert oracle.verdict(settled=False).ok
    get(client, {"type": "progress", "positions": [{"stream": "block_updates", "epoch": "e1", "seq": 3}]})
    assert oracle.verdict(settled=False).kinds == {"lost"}


def test_in_v1_a_range_that_is_missed_is_announced(oracle):
    for seq in range(1, 6):
        oracle.published(block(seq))
    for announced, kinds in ((True, set()), (False, {"unannounced"})):
        client = oracle.client(str(announced), announced=True)
        client.subscribed("block_updates", epoch="e1", seq=0)
        if announced:
            get(client, {"type": "gap", "stream": "block_updates", "epoch": "e1", "from": 1, "to": 3})
        get(client, missed(block(3), 1, 3), block(4), block(5))
        assert oracle.verdict().kinds == kinds
