"""The node source's figures: what follows from counters, samples, texts and tables, without a node."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.hub import State as HubState
from bridge.sources.node.blocks import read_headers
from bridge.sources.node.chain import Ask
from bridge.sources.node.client import NodeBanned, NodeSilent, NodeUnreachable, NodeUnusable
from bridge.sources.node.energy import Provider, summary
from bridge.sources.node.health import Health
from bridge.sources.node.metrics import FAMILIES, Throughput
from bridge.sources.node.network import ACTIVE_SECONDS, Counters, Peer, PeerTable
from bridge.sources.node.pace import Ban, Bucket
from bridge.sources.node.promtext import parse
from bridge.sources.node.rates import Rate, Smoothed
from bridge.sources.node.state import read
from bridge.sources.node.transactions import Count, Counter, Sample
from tests.standin.recorded import recording

# ---------------------------------------------------------------------- pace


@given(st.lists(st.floats(0, 3), max_size=60), st.floats(0.5, 50), st.integers(1, 10))
def test_no_second_passes_more_than_a_burst_and_a_rate(pauses, rate, burst):
    bucket, now, passed = Bucket(rate, burst), 0.0, []
    for pause in pauses:
        now += pause
        passed.append(now + bucket.take(now))
    assert passed == sorted(passed)
    for index, start in enumerate(passed):
        assert sum(at < start + 1 - 1e-6 for at in passed[index:]) <= burst + rate + 1


def test_a_bucket_lets_a_burst_through_and_then_waits():
    bucket = Bucket(4, 2)
    assert [bucket.take(0), bucket.take(0), bucket.take(0), bucket.take(0)] == [0, 0, 0.25, 0.5]
    assert bucket.take(100) == 0


def test_a_ban_ends_by_itself_and_is_never_shortened():
    ban = Ban()
    assert ban.left(0) == 0
    ban.begin(0, 61)
    ban.begin(1, 10)
    assert ban.left(1) == 60
    assert ban.left(61) == 0


# ---------------------------------------------------------------------- rates


def test_a_rate_is_known_after_its_span_and_begins_anew_when_the_counter_goes_back():
    rate = Rate(5)
    rate.observe(0, 100)
    rate.observe(4, 200)
    assert rate.value is None
    rate.observe(10, 300)
    assert rate.value == 20
    rate.observe(12, 5)
    assert rate.value is None
    rate.observe(17, 10)
    assert rate.value == 1


def test_smoothing_follows_slowly():
    smoothed = Smoothed(0.25)
    assert smoothed.value is None
    for sample in (8, 4):
        smoothed.observe(sample)
    assert smoothed.value == 7


def test_throughput_counts_what_left_the_mempool():
    throughput = Throughput()
    throughput.observe(0, 10, 4)
    throughput.observe(5, 30, 9)
    assert throughput.tps == 3
    throughput.observe(10, 20, 0)  # the node restarted: more left than it knew before, by these figures
    assert throughput.tps is None
    throughput.observe(15, 25, 0)
    assert throughput.tps == 1
    throughput.observe(20, None, None)
    assert throughput.tps is None


def test_throughput_of_a_measured_node_is_what_its_blocks_held():
    admitted = [47, 51, 55, 59, 62, 66, 70, 74, 78, 83, 85, 89]  # read every 5 s from a node with transactions
    waiting = [2, 3, 1, 2, 2, 0, 1, 2, 0, 2, 1, 2]
    throughput, rates = Throughput(), []
    for look, (total, size) in enumerate(zip(admitted, waiting, strict=True)):
        throughput.observe(look * 5, total, size)
        rates.append(throughput.tps)
    assert rates[:6] == [None, 0.6, 1.2, 0.6, 0.6, 1.2]
    assert sum(rates[1:]) * 5 == pytest.approx(89 - 47)


# ---------------------------------------------------------------------- Prometheus text


def test_the_recorded_metrics_are_read():
    text = recording("metrics")["response"]["result"]
    assert parse(text, FAMILIES) == {
        "economics_block_reward_per_block": 1,
        "mempool_size": 0,
        "tx_admitted_total": 0,
    }
    assert parse("telemetry disabled", FAMILIES) == {}


def test_lines_with_labels_are_summed_and_strange_ones_left_out():
    text = '# TYPE a gauge\na{x="1 } {",y="\\""} 2\na 3 1700000000\na NaN\na{} +Inf\na{\nb 1\naa 5\na\nc{x="y"} 4'
    assert parse(text, {"a", "c"}) == {"a": 5, "c": 4}


@given(st.text(alphabet='ab{}" =,\n#1.eN-+\\'))
def test_any_text_can_be_read(text):
    assert all(isinstance(value, float) for value in parse(text, {"a", "b"}).values())


# ---------------------------------------------------------------------- transaction counts


def counts(samples):
    counter = Counter()
    return [counter.observe(sample) for sample in samples]


def test_a_block_alone_between_two_samples_is_counted():
    samples = [Sample(5, 3, 10, 0), Sample(6, 3, 13, 0), Sample(7, 4, 13, 0)]
    assert counts(samples) == [None, Count(6, 3, 0), Count(7, 0, 0)]


@pytest.mark.parametrize(
    "after",
    [Sample(5, 3, 13, 0), Sample(7, 3, 13, 0), Sample(4, 3, 13, 0), Sample(6, 2, 13, 0), Sample(6, 3, 9, 0),
     Sample(6, 3, 13, 1)],
    ids=["no block", "two blocks", "a shorter chain", "an account vanished", "a sum that fell", "another generation"],
)  # fmt: skip
def test_what_cannot_be_known_is_not_counted(after):
    assert counts([Sample(5, 3, 10, 0), after]) == [None, None]


def test_height_zero_may_be_an_empty_chain():
    assert counts([Sample(0, 3, 0, 0), Sample(1, 3, 5, 0)]) == [None, None]


def test_the_recorded_stream_gives_the_counts_of_its_blocks():
    samples = []
    for message in recording("ws.state_stream.devnode_txs")["messages"]:
        accounts = message["msg"]["accounts"]
        total = sum(account["account_seq"] for account in accounts)
        samples.append(Sample(message["msg"]["tip_height"], len(accounts), total, 0))
    found = [count.transactions for count in counts(samples) if count is not None]
    assert found
    assert set(found) == {3}  # measured: three in each block
    alone = sum(b.height == a.height + 1 and a.height > 0 for a, b in pairwise(samples))
    assert len(found) == alone


# ---------------------------------------------------------------------- messages of /state_stream

ADDRESSES = st.text(alphabet='ab{}[],:"\\ é', max_size=12) | st.sampled_from(
    ['},{"account_seq":', '"accounts":[', '],"compressed"', '\\"},{']
)


@given(st.lists(st.tuples(ADDRESSES, st.integers(0, 2**70), st.integers(0, 2**40))), st.integers(1, 300))
def test_a_message_read_in_slices_is_the_message(rows, slice_bytes):
    accounts = [{"account_seq": seq, "address": name, "balance": balance, "proof": []} for name, balance, seq in rows]
    message = {"accounts": accounts, "compressed": False, "root": [1, 2], "seq": 0, "tip_height": 7}
    for separators, sort in (((",", ":"), True), ((", ", ": "), False)):
        text = json.dumps(message, separators=separators, sort_keys=sort).encode()
        height, slices = read(text, slice_bytes)
        assert height == 7
        assert [(a.address, a.balance, a.account_seq) for some in slices for a in some] == rows


def test_a_large_message_is_read_in_many_slices():
    rows = [{"account_seq": 1, "address": f"a{n}", "balance": 1, "proof": [[[1] * 32, True]]} for n in range(5000)]
    text = json.dumps({"accounts": rows, "compressed": False, "tip_height": 1}, separators=(",", ":")).encode()
    sizes = [len(some) for some in read(text, 20_000).slices]
    assert sum(sizes) == 5000
    assert max(sizes) * len(text) / 5000 < 21_000


# ---------------------------------------------------------------------- headers


def test_the_recorded_headers_are_read():
    result = recording("light.headers")["response"]["result"]
    blocks = read_headers(Ask(141, 5), json.dumps(result).encode())
    assert [(block.height, block.hash.hex()) for block in blocks] == [(h["height"], h["hash"]) for h in result]
    assert read_headers(Ask(7, 5), b"[]") == []


@pytest.mark.parametrize(
    "wrong",
    [
        b"{",
        b'{"a":1}',
        b'"text"',
        b'[{"height":7}]',
        b'[{"height":-1,"hash":"%b"}]' % (b"0" * 64),
        b'[{"height":8,"hash":"%b"}]' % (b"0" * 64),
        b'[{"height":7,"hash":"%b"},{"height":9,"hash":"%b"}]' % (b"0" * 64, b"0" * 64),
        b'[{"height":7,"hash":"0x%b"}]' % (b"0" * 62),
        b'[{"height":7,"hash":"%b"}]' % (b"0" * 62),
        b'[{"height":7,"hash":"\xff"}]',
    ],
)
def test_headers_that_are_none_are_refused(wrong):
    with pytest.raises(NodeUnusable):
        read_headers(Ask(7, 5), wrong)


def test_more_headers_than_were_asked_for_are_refused():
    many = json.dumps([{"height": 7 + n, "hash": "0" * 64} for n in range(6)]).encode()
    with pytest.raises(NodeUnusable):
        read_headers(Ask(7, 5), many)


# ---------------------------------------------------------------------- peers


def peer(name, sent, updated, read_at):
    return Peer(name, Counters(sent, updated)), read_at


def test_bandwidth_is_what_each_peer_was_sent_since_it_was_last_looked_at():
    table = PeerTable()
    table.observe([peer("a", 1000, 100, 0.0), peer("b", 5000, 100, 0.0)], 0.0, 100)
    assert table.outbound is None
    table.observe([peer("a", 1400, 104, 4.0), peer("b", 5200, 104, 2.0), peer("c", 99_999, 104, 4.0)], 4.0, 104)
    assert table.outbound == 200
    table.observe([peer("a", 10, 106, 6.0), peer("b", 5600, 106, 6.0)], 6.0, 106)  # a began anew
    assert table.outbound == 100
    table.observe([], 8.0, 108)
    assert (table.peers, table.active, table.outbound) == (0, 0, None)


@pytest.mark.parametrize("skew", [-100_000, 0, 100_000])
def test_a_peer_is_active_while_its_time_moves_whatever_the_clocks_say(skew):
    table = PeerTable()
    for now in range(0, 100, 2):
        quiet = min(now, 10)
        table.observe([peer("a", 0, 1000 + now + skew, now), peer("b", 0, 1000 + quiet + skew, now)], now, 1000.0 + now)
        if now >= 2:
            assert table.active == (2 if now - 10 <= ACTIVE_SECONDS else 1)


def test_at_the_first_look_the_age_is_taken_from_the_clocks():
    table = PeerTable()
    table.observe([peer("a", 0, 975, 0.0), peer("b", 0, 965, 0.0), peer("c", 0, 0, 0.0)], 0.0, 1000.0)
    assert (table.peers, table.active) == (3, 1)


# ---------------------------------------------------------------------- energy


def test_supply_and_price_are_those_of_all_providers():
    update = summary([Provider(1000, 900, 50), Provider(3000, 100, 10)])
    assert (update.total_supply, update.price, update.providers) == (1000, 20, 2)
    assert not update.HasField("total_demand")


def test_a_market_without_providers_has_no_price():
    update = summary([])
    assert (update.total_supply, update.providers, update.HasField("price")) == (0, 0, False)


# ---------------------------------------------------------------------- health


def test_the_node_is_live_then_stale_when_it_stays_silent_and_live_again():
    health = Health("n:1", 10)
    assert health.following(0, 5).state is HubState.LIVE
    assert health.failed(4, NodeSilent("it did not answer"), "") is None
    assert health.check(9.9) is None
    verdict = health.check(10)
    assert verdict is not None
    assert verdict == (HubState.STALE, "The node at n:1 has given no usable answer for 10 s: it did not answer.")
    assert health.check(11) is None
    assert health.following(12, 5).state is HubState.LIVE


def test_a_node_that_cannot_be_reached_is_down_at_once():
    health = Health("n:1", 10)
    health.following(0, 5)
    assert health.failed(1, NodeUnreachable("The node at n:1 cannot be reached: refused"), "") == (
        HubState.DOWN,
        "The node at n:1 cannot be reached: refused.",
    )


def test_a_node_that_never_answered_is_down():
    verdict = Health("n:1", 10).failed(1, NodeUnusable("it ended the connection"), "")
    assert verdict == (HubState.DOWN, "The node at n:1 has not answered yet: it ended the connection.")


def test_a_ban_is_told_with_its_end():
    health = Health("n:1", 10)
    health.following(0, 5)
    verdict = health.failed(1, NodeBanned("light.headers", 61), "12:00:01 UTC")
    assert verdict is not None
    assert verdict.state is HubState.STALE
    assert "12:00:01 UTC" in verdict.detail
