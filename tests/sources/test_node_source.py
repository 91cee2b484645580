"""The node source on a stand-in node: what is published, and what becomes of it when the node misbehaves."""

import asyncio
import logging
import time

import pytest
from aiohttp import web

from bridge.core.errors import UpstreamError
from bridge.core.hub import State
from bridge.sources.node import NodeError
from bridge.sources.node.client import REQUESTS_PER_SECOND
from bridge.sources.node.settings import Intervals
from tests.sources.node_rig import PERMISSIVE, following, until
from tests.standin.chain import Account, Chain
from tests.standin.node import StandinNode


def node_with(blocks: int, txs: int = 0, **options: object) -> StandinNode:
    chain = Chain()
    chain.mine(blocks, txs=txs)
    return StandinNode(chain, **{**PERMISSIVE, **options})


def check_blocks(rig) -> None:
    """Each block once and in order with its hash; a second time only with its count, while it is the newest."""
    tip, held = None, {}
    for block in rig.blocks:
        height, known = block["height"], held.get(block["height"])
        if known is not None and "replaces" not in block:
            assert height == tip, "a block was sent again below the newest"
            assert "tx_count" in block
            assert "tx_count" not in known
            assert {**known, "tx_count": block["tx_count"]} == block
        elif "replaces" in block:
            assert block["replaces"] == {"height": height, "hash": known["hash"], "depth": tip + 1 - height}
            held = {at: value for at, value in held.items() if at < height}
        else:
            assert tip is None or height == tip + 1
        held[height] = {key: value for key, value in block.items() if key != "replaces"}
        tip = height
    for height, block in held.items():
        assert block["hash"] == f"0x{rig.node.chain.blocks[height].hash}"
        if "tx_count" in block:
            assert block["tx_count"] == rig.node.chain.blocks[height].txs


def check_heights(rig) -> None:
    """The height in the metrics is never below the block that is published next."""
    height = -1
    for update in rig.published:
        if update.stream.name == "metrics":
            height = update.data()["blockHeight"] if update.data()["blockHeight"] is not None else -1
        elif update.stream.name == "block_updates":
            assert height >= update.data()["height"]


# ---------------------------------------------------------------------- blocks


async def test_each_block_is_published_once_in_order_with_its_hash():
    async with node_with(30) as node, following(node) as rig:
        await rig.caught_up()
        assert rig.heights == list(range(20, 30))
        assert all("timestamp" not in block for block in rig.blocks if "tx_count" not in block)
        node.grow(60, txs_per_block=2)
        await until(lambda: rig.tip > 90)
        check_blocks(rig)
        check_heights(rig)
        live = [block for block in rig.blocks if block["height"] >= 30]
        assert all(abs(block["timestamp"] - time.time() * 1000) < 60_000 for block in live)
        assert not any({"finalized_height", "parent_hash"} & block.keys() for block in rig.blocks)
        assert node.requests.count("light.latest_header") == 0


async def test_an_empty_chain_is_calm_and_its_first_block_is_seen():
    async with node_with(0) as node, following(node) as rig:
        assert "empty" in await rig.state(State.LIVE)
        await until(lambda: rig.updates("account") and rig.updates("metrics"))
        assert rig.blocks == []
        assert all("height" not in account for account in rig.updates("account"))
        assert all(metrics["blockHeight"] is None for metrics in rig.updates("metrics"))
        node.chain.mine(1)
        await rig.caught_up()
        assert "timestamp" in rig.blocks[0]
        assert not node.chain.poisoned
        assert node.requests.count("light.latest_header") == 0


async def test_a_block_alone_between_two_samples_has_its_count_and_others_have_none():
    async with node_with(5) as node, following(node) as rig:
        await rig.caught_up()
        await until(lambda: rig.updates("account"))
        for height, txs in ((5, 3), (6, 0)):
            node.chain.mine(1, txs=txs)
            await until(lambda height=height: any(b["height"] == height and "tx_count" in b for b in rig.blocks))
        node.chain.mine(2, txs=2)
        await rig.caught_up()
        await until(lambda: rig.updates("account")[-1]["height"] == 8)
        node.chain.mine(1, txs=1)
        await until(lambda: any(b["height"] == 9 and "tx_count" in b for b in rig.blocks))
        check_blocks(rig)
        assert {b["height"]: b["tx_count"] for b in rig.blocks if "tx_count" in b} == {5: 3, 6: 0, 9: 1}


async def test_the_newest_blocks_of_a_long_chain_are_found_without_reading_it():
    async with node_with(20_000) as node, following(node) as rig:
        await rig.caught_up()
        assert rig.heights == list(range(19_990, 20_000))
        assert sum(e.params["limit"] for e in node.requests.entries if e.method == "light.headers") < 3000


# ---------------------------------------------------------------------- chains that change


async def test_a_fork_is_published_as_blocks_that_replace_others():
    async with node_with(30) as node, following(node) as rig:
        await rig.caught_up()
        node.chain.reorg(3, 5, txs=1)
        await rig.caught_up()
        replacing = [block for block in rig.blocks if "replaces" in block]
        assert [(block["height"], block["replaces"]["depth"]) for block in replacing] == [(27, 3)]
        node.chain.reorg(4, 2)  # to a shorter chain
        await rig.caught_up()
        node.chain.mine(3)
        await rig.caught_up()
        check_blocks(rig)
        check_heights(rig)
        assert rig.hub.epoch == "epoch0"


async def test_a_source_that_is_run_again_goes_on_where_it_was_and_reads_what_came_meanwhile():
    async with node_with(30) as node, following(node) as rig:
        await rig.caught_up()
        await until(lambda: rig.updates("account") and rig.updates("network"))
        await rig.stop()
        published = {update.position for update in rig.published if update.stream.name in ("account", "network")}
        node.chain.mine(500)  # far more than are read at the beginning of a chain that is new
        rig.restart()
        await rig.caught_up()
        assert rig.heights == list(range(20, 530))
        check_blocks(rig)
        known = {update.key: update.data() for update in rig.published if update.position in published}
        again = [u for u in rig.published if u.stream.name == "account" and u.position not in published]
        assert all((u.data()["balance"], u.data()["nonce"]) != (known[u.key]["balance"], known[u.key]["nonce"])
                   for u in again if u.key in known)  # fmt: skip


async def test_another_chain_that_began_while_no_source_ran_begins_an_epoch():
    async with node_with(300) as node, following(node) as rig:
        await rig.caught_up()
        await rig.stop()
        node.chain.replace_genesis("another")
        node.chain.mine(5)
        rig.restart()
        await until(lambda: rig.origin.epoch == "epoch1" and rig.blocks[-1]["height"] == 4, "the other chain")
        assert rig.blocks[-1]["hash"] == f"0x{node.chain.blocks[-1].hash}"


async def test_a_chain_that_became_shorter_is_waited_for():
    async with node_with(300) as node, following(node) as rig:
        await rig.caught_up()
        await until(lambda: len(rig.updates("account")) >= 4)
        node.chain.resync(40)
        detail = await rig.state(State.STALE)
        assert "below height 299" in detail
        await until(lambda: "height 40" in rig.hub.status.detail)
        before = len(rig.blocks), len(rig.updates("account"))
        node.chain.mine(259)
        await until(lambda: rig.hub.status.state is State.LIVE)
        assert (len(rig.blocks), len(rig.updates("account"))) == before
        node.chain.mine(3)
        await rig.caught_up()
        check_blocks(rig)
        assert not any("replaces" in block for block in rig.blocks)
        assert rig.hub.epoch == "epoch0"


async def test_another_first_block_begins_an_epoch():
    async with node_with(300) as node, following(node) as rig:
        await rig.caught_up()
        await until(lambda: len(rig.updates("account")) >= 4)
        node.chain.replace_genesis("another")
        node.chain.mine(25)
        await until(lambda: rig.hub.epoch == "epoch1")
        await rig.caught_up()
        wanted = {"account", "network", "energy"}
        await until(lambda: wanted <= {u.stream.name for u in rig.published if u.epoch == "epoch1"})
        await until(lambda: len({u.key for u in rig.published if u.epoch == "epoch1" and u.key}) == 4)
        anew = [update for update in rig.published if update.epoch == "epoch1"]
        heights = [u.data()["height"] for u in anew if u.stream.name == "block_updates"]
        assert heights[:10] == list(range(15, 25))
        assert {u.key for u in anew if u.stream.name == "account"} == set(node.chain.accounts)
        check_heights(rig)


# ---------------------------------------------------------------------- a node that misbehaves


async def test_after_a_ban_nothing_is_asked_until_it_ends():
    async with node_with(20, tokens_per_second=5000, ban_seconds=0.9) as node, following(node) as rig:
        await rig.caught_up()
        while not node.model.limiter.is_banned("127.0.0.1"):
            node.model.limiter.check("127.0.0.1")
        detail = await rig.state(State.STALE)
        assert "left alone until" in detail
        stale_at = time.monotonic()
        node.chain.mine(3)
        await rig.state(State.LIVE)
        await rig.caught_up()
        asked = [at for at in node.requests.times() if stale_at + 0.1 < at < stale_at + 0.85]
        assert asked == []
        assert node.requests.refused <= 6
        check_blocks(rig)
        missed = [block for block in rig.blocks if block["height"] in (20, 21, 22) and "tx_count" not in block]
        assert len(missed) == 3
        assert not any("timestamp" in block for block in missed)


async def test_a_frozen_node_is_told_and_followed_again():
    async with node_with(20) as node, following(node) as rig:
        await rig.caught_up()
        node.freeze()
        assert "no usable answer" in await rig.state(State.STALE)
        node.thaw()
        await rig.state(State.LIVE)
        node.chain.mine(2)
        await rig.caught_up()
        check_blocks(rig)


async def test_a_node_that_stops_and_starts_is_told_and_followed_again():
    async with node_with(20) as node, following(node) as rig:
        await rig.caught_up()
        await until(lambda: node.streams == 1)
        await node.stop()
        assert "cannot be reached: Connection refused" in await rig.state(State.DOWN)
        node.chain.mine(4)
        await node.start()
        await rig.state(State.LIVE)
        await rig.caught_up()
        check_blocks(rig)
        assert not any("timestamp" in block for block in rig.blocks if block["height"] in range(20, 24))
        accounts = len(rig.updates("account"))
        await until(lambda: node.streams == 1)
        node.chain.mine(1, txs=1)
        await until(lambda: len(rig.updates("account")) > accounts)
        assert node.streams == 1


async def test_a_restarted_node_counts_from_zero_and_nothing_is_made_of_it():
    async with node_with(20) as node, following(node) as rig:
        node.grow(20, txs_per_block=3)
        await until(lambda: (rig.updates("metrics") or [{"tps": None}])[-1]["tps"])
        await node.restart()
        tip = rig.tip
        await until(lambda: rig.tip >= tip + 20)
        check_blocks(rig)
        check_heights(rig)
        assert all(metrics["tps"] is None or metrics["tps"] >= 0 for metrics in rig.updates("metrics"))


async def test_answers_that_cannot_be_used_are_told():
    async with node_with(20) as node, following(node) as rig:
        await rig.caught_up()
        node.faults.results["light.headers"] = [{"height": 3, "hash": "00" * 32}]
        assert "not the blocks from" in await rig.state(State.STALE)
        del node.faults.results["light.headers"]
        await rig.state(State.LIVE)
        check_blocks(rig)
        node.faults.panics.add("light.headers")
        assert "ended the connection" in await rig.state(State.STALE)


HUGE = 10**400
STRANGE = [
    {method: [{"unexpected": None}] for method in ("mempool.stats", "metrics", "net.peer_stats_all")},
    {
        "mempool.stats": {"fee_p50": HUGE},
        "metrics": f"tx_admitted_total {HUGE}\nmempool_size -1e308\neconomics_block_reward_per_block -1\n",
        "net.peer_stats_all": [{"peer_id": "a", "metrics": {"bytes_sent": HUGE, "last_updated": -1}}],
    },
]


@pytest.mark.parametrize("answers", STRANGE, ids=["other shapes", "figures beyond all bounds"])
async def test_strange_answers_of_other_methods_hurt_nothing(answers):
    async with node_with(20) as node:
        node.faults.results |= answers
        node.faults.results["energy.market_state"] = {"providers": [{"capacity_kwh": "much"}]}
        node.chain.accounts["x"] = Account(HUGE, -1)
        async with following(node) as rig:
            await rig.caught_up()
            node.chain.mine(2)
            await rig.caught_up()
            await until(lambda: node.requests.count("metrics") > 2)
            metrics = rig.updates("metrics")[-1]
            assert (metrics["fees"], metrics["issuance"], metrics["peers"]) == (None, None, None)
            assert rig.updates("network") == rig.updates("energy") == rig.updates("account") == []


async def test_requests_stay_below_a_tenth_of_the_limit():
    async with node_with(2000, blocks_per_second=2) as node:
        pace = {"intervals": Intervals(), "requests_per_second": REQUESTS_PER_SECOND, "poll_interval_ms": 300}
        async with following(node, call_timeout_seconds=4.0, **pace) as rig:
            await rig.caught_up()
            calls = [asyncio.create_task(rig.source.call("governor.status", {})) for _ in range(30)]
            await until(lambda: node.requests.count("governor.status") >= 6)
            await asyncio.gather(*calls, return_exceptions=True)
            await until(lambda: rig.tip >= 2004)
        assert node.requests.busiest() < 10


# ---------------------------------------------------------------------- accounts


async def test_accounts_are_published_once_and_then_on_change():
    async with node_with(5) as node, following(node) as rig:
        await until(lambda: len(rig.updates("account")) == 4)
        node.chain.mine(1, txs=1)
        await until(lambda: rig.updates("account")[-1]["height"] == 5)
        latest = {account["address"]: account for account in rig.updates("account")}
        assert {a: (int(v["balance"]), v["nonce"]) for a, v in latest.items()} == {
            address: (account.balance, account.account_seq) for address, account in node.chain.accounts.items()
        }
        assert len(rig.updates("account")) == 4 + sum(v["height"] == 5 for v in latest.values())
        newest = next(u.ordinal for u in rig.published if u.stream.name == "block_updates" and u.data()["height"] == 5)
        assert all(u.ordinal > newest for u in rig.published if u.key and u.data()["height"] == 5)


async def test_accounts_that_are_no_keys_or_too_many_are_left_out(caplog):
    caplog.set_level(logging.WARNING, "bridge.node")
    async with node_with(5) as node:
        node.chain.accounts["no key!"] = Account(1)
        async with following(node, account_limit=2) as rig:
            await until(lambda: "account_limit" in caplog.text)
            assert "no keys" in caplog.text
            assert len(rig.updates("account")) == 2
            node.chain.mine(1, txs=2)
            await until(lambda: any("tx_count" in block for block in rig.blocks))
            check_blocks(rig)


async def test_messages_beyond_the_limit_are_told_and_the_rest_goes_on(caplog):
    caplog.set_level(logging.WARNING, "bridge.node")
    async with node_with(5) as node, following(node, message_limit_bytes=200) as rig:
        await until(lambda: "account_message_limit_bytes" in caplog.text)
        node.chain.mine(1)
        await rig.caught_up()
        assert rig.updates("account") == []


# ---------------------------------------------------------------------- metrics, network, energy


async def test_metrics_come_from_what_the_node_says():
    async with node_with(130) as node, following(node) as rig:
        node.peers.add("a")
        node.chain.submit(3, tip=700)
        await until(lambda: rig.updates("metrics") and rig.updates("metrics")[-1]["fees"] == 700)
        await until(lambda: rig.updates("metrics")[-1]["peers"] == 1)
        metrics = rig.updates("metrics")[-1]
        assert (metrics["issuance"], metrics["blockHeight"]) == (1, 129)
        assert 0 < metrics["latencyMs"] < 5000
        node.grow(20, txs_per_block=1)
        await until(lambda: (rig.updates("metrics")[-1]["tps"] or 0) > 0)


async def test_without_telemetry_issuance_is_unknown():
    async with node_with(130, telemetry=False) as node, following(node) as rig:
        await until(lambda: rig.updates("metrics") and rig.updates("metrics")[-1]["fees"] is not None)
        assert rig.updates("metrics")[-1]["issuance"] is None


async def test_metrics_can_be_read_from_the_metrics_port():
    seen = []

    async def text(request: web.Request) -> web.Response:
        seen.append(dict(request.headers))
        return web.Response(text="economics_block_reward_per_block 42\n")

    application = web.Application()
    application.router.add_get("/metrics", text)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        url = f"http://127.0.0.1:{port}/metrics"
        async with node_with(1) as node, following(node, metrics_url=url, token="secret") as rig:
            await until(lambda: rig.updates("metrics") and rig.updates("metrics")[-1]["issuance"] == 42)
            assert node.requests.count("metrics") == 0
        assert "Authorization" not in seen[0]
    finally:
        await runner.cleanup()


async def test_peers_are_counted_over_all_pages():
    async with node_with(1) as node:
        for number in range(230):
            node.peers.add(f"peer-{number}", bytes_per_second=100)
        async with following(node) as rig:
            await until(lambda: rig.updates("network") and "bandwidth" in rig.updates("network")[-1])
            network = rig.updates("network")[-1]
            assert (network["peers"], network["activeConnections"]) == (230, 230)
            assert network["bandwidth"].keys() == {"outbound"}


async def test_the_energy_market_is_published_on_change():
    async with node_with(1) as node, following(node) as rig:
        node.energy.add_provider(capacity_kwh=1000, price_per_kwh=50)
        node.energy.add_provider(capacity_kwh=3000, price_per_kwh=10)
        await until(lambda: rig.updates("energy") and rig.updates("energy")[-1]["providers"] == 2)
        assert rig.updates("energy")[-1] == {"totalSupply": 4000, "price": 20, "providers": 2}
        seen, asked = len(rig.updates("energy")), node.requests.count("energy.market_state")
        await until(lambda: node.requests.count("energy.market_state") > asked + 3)
        assert len(rig.updates("energy")) == seen
        assert rig.updates("trading") == []


async def test_energy_that_needs_a_token_is_silent_and_told_once(caplog):
    caplog.set_level(logging.WARNING, "bridge.node")
    async with node_with(1, energy_token="secret") as node:
        async with following(node) as rig:
            await until(lambda: node.requests.count("energy.market_state") >= 3)
            assert rig.updates("energy") == []
            assert caplog.text.count("-33009") == 1
            assert rig.hub.status.state is State.LIVE
        async with following(node, token="secret") as rig:
            await until(lambda: rig.updates("energy"))
    assert "secret" not in caplog.text


async def test_a_ban_of_energy_stops_energy_only():
    async with node_with(1, energy_read_tokens_per_second=2.0) as node, following(node) as rig:
        await until(lambda: node.requests.energy_refused == 1)
        asked, blocks_asked = node.requests.count("energy.market_state"), node.requests.count("light.headers")
        node.chain.mine(1)
        await rig.caught_up()
        await until(lambda: node.requests.count("light.headers") >= blocks_asked + 10)
        assert node.requests.count("energy.market_state") == asked
        assert rig.hub.status.state is State.LIVE


# ---------------------------------------------------------------------- calls for others


async def test_a_call_returns_the_nodes_result_or_its_error():
    async with node_with(3) as node, following(node) as rig:
        await rig.caught_up()
        assert await rig.source.call("consensus.difficulty", {}) == b'{"difficulty":1}'
        with pytest.raises(NodeError) as raised:
            await rig.source.call("consensus.stats", {})
        assert (raised.value.code, raised.value.message) == (-32601, "method not found")
        with pytest.raises(UpstreamError, match="never called"):
            await rig.source.call("light.latest_header", {})


async def test_calls_have_a_deadline_and_wait_in_a_queue_that_ends():
    async with node_with(3) as node, following(node) as rig:
        await rig.caught_up()
        node.faults.method_latency_seconds["governor.status"] = 30.0
        calls = [asyncio.create_task(rig.source.call("governor.status", {})) for _ in range(80)]
        done, _ = await asyncio.wait(calls)
        sentences = [str(call.exception()) for call in done]
        assert sum("calls wait" in sentence for sentence in sentences) == 80 - 64
        assert sum("did not answer" in sentence for sentence in sentences) == 64


async def test_no_call_is_made_before_the_source_runs():
    async with node_with(3) as node, following(node) as rig:
        pass
    with pytest.raises(UpstreamError, match="not running"):
        await rig.source.call("governor.status", {})


async def test_the_host_header_can_be_set():
    async with node_with(3, allowed_hosts=("node.internal",)) as node:
        async with following(node) as rig:
            await until(lambda: "Host header" in rig.hub.status.detail)
            assert rig.hub.status.state is State.DOWN
        async with following(node, host_header="node.internal") as rig:
            await rig.caught_up()
            await until(lambda: rig.updates("account"))
