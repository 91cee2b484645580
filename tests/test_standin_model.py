"""The stand-in node's model: its chain, what follows from it, its stream, and its faults."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.standin.chain import Chain, ChainPoisoned
from tests.standin.client import DEADLINE_SECONDS, ask, connected, post, served, streaming, until, upgrade
from tests.standin.clock import ManualClock
from tests.standin.node import StandinNode
from tests.standin.recorded import masked, recording, shape

# -- the chain -------------------------------------------------------------------------------------------------------


def hashes(chain: Chain) -> list[str]:
    return [block.hash for block in chain.blocks]


def test_a_chain_is_the_same_for_the_same_genesis() -> None:
    chain, twin, other = Chain(), Chain(), Chain("another")
    for each in (chain, twin, other):
        each.mine(10, txs=2)
    assert hashes(chain) == hashes(twin)
    assert not set(hashes(chain)) & set(hashes(other))
    chain.replace_genesis("another")
    assert chain.tip is None
    chain.mine(10, txs=2)
    assert hashes(chain) == hashes(other)
    assert chain.accounts == other.accounts


def test_a_resync_brings_the_same_blocks_back() -> None:
    chain, twin = Chain(), Chain()
    for each in (chain, twin):
        each.mine(10, txs=2)
    chain.resync(3)
    assert hashes(chain) == hashes(twin)[:4]
    assert sum(account.account_seq for account in chain.accounts.values()) == 4 * 2
    chain.mine(2)
    chain.resync(-1)
    assert chain.tip is None
    chain.mine(10)
    assert hashes(chain) == hashes(twin)
    assert chain.accounts == twin.accounts
    assert chain.mine(txs=1)[0].height == 10


def test_a_reorg_replaces_the_last_blocks() -> None:
    chain = Chain()
    chain.mine(10, txs=2)
    before = hashes(chain)
    chain.reorg(3, blocks=5)
    assert hashes(chain)[:7] == before[:7]
    assert not set(hashes(chain)[7:]) & set(before)
    assert [block.height for block in chain.blocks] == list(range(12))
    assert sum(account.account_seq for account in chain.accounts.values()) == 7 * 2
    with pytest.raises(ValueError, match="a reorg of 13 blocks does not fit a chain of 12"):
        chain.reorg(13)


async def test_an_empty_chain_kills_the_handler_and_poisons_the_lock() -> None:
    async with StandinNode() as node:
        for method, status in (
            ("light.headers", 200),
            ("light.latest_header", 0),  # recorded in default_node.light.latest_header.empty_chain
            ("light.headers", 0),  # recorded in default_node.light.headers.after_poison
            ("mempool.stats", 200),
            ("consensus.difficulty", 200),
        ):
            assert (await ask(node, post(json.dumps({"method": method}))))[0] == status
        async with streaming(node) as stream:
            assert await stream.rest() == b""
        with pytest.raises(ChainPoisoned):
            node.chain.mine()
        await node.restart()
        node.chain.mine()
        async with connected(node) as client:
            assert (await client.call("light.latest_header"))["result"]["height"] == 0


async def test_a_restart_keeps_chain_and_port_and_loses_the_rest() -> None:
    chain = Chain()
    chain.mine(5, txs=2)
    chain.submit(3)
    async with served(chain) as (node, client), streaming(node) as stream:
        node.energy.settle(node.energy.add_provider())
        node.peers.add("bob")
        node.peers.exchange("bob", requests=3, bytes_sent=500)
        headers, url = await client.call("light.headers"), node.url
        assert "\nblock_mined_total 5\n" in (await client.call("metrics"))["result"]
        node.freeze()
        await node.restart()
        await stream.rest()
        assert await client.rest() == b""
        assert node.url == url
        async with connected(node) as client:
            assert await client.call("light.headers") == headers
            assert await client.call("mempool.stats") == recording("after_restart.mempool")["response"]
            empty = recording("after_restart.energy.receipts.populated.NOT_RELOADED")["response"]
            assert await client.call("energy.receipts") == empty
            text = (await client.call("metrics"))["result"]
            assert "\nblock_mined_total 0\n" in text
            assert "\ntx_admitted_total 0\n" in text
            (peer,) = (await client.call("net.peer_stats_all"))["result"]
            assert (peer["metrics"]["bytes_sent"], peer["metrics"]["requests"]) == (0, 0)
        await node.stop()
        with pytest.raises(ConnectionRefusedError):
            await ask(node, b"")


async def test_metrics_and_governor_follow_the_chain() -> None:
    chain = Chain(epoch_blocks=4, block_reward=7)
    async with served(chain) as (_, client):

        async def samples() -> dict[str, str]:
            text = (await client.call("metrics"))["result"]
            return dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))

        chain.mine(3, txs=2)
        assert "economics_block_reward_per_block" not in await samples()
        assert (await client.call("governor.status"))["result"]["economics_sample"]["block_reward"] == 50_000
        chain.submit(5)
        chain.submit(1, lane="industrial")
        waiting = await samples()
        assert (waiting['mempool_size{lane="consumer"}'], waiting['mempool_size{lane="industrial"}']) == ("5", "1")
        chain.mine()
        after = await samples()
        assert chain.blocks[-1].txs == 6
        assert (after["tx_admitted_total"], after['mempool_size{lane="consumer"}']) == ("12", "0")
        assert (after["economics_block_reward_per_block"], after["block_mined_total"]) == ("7", "4")
        status = (await client.call("governor.status"))["result"]
        assert (status["epoch"], status["economics_sample"]["epoch_tx_count"]) == (1, 12)


async def test_the_mempool_ages_as_recorded() -> None:
    clock = ManualClock()
    chain = Chain(clock=clock)
    for tip, age_ms in ((1011, 3449), (1012, 2497), (1013, 0)):
        clock.advance(3.449 - age_ms / 1000 - clock.now())
        chain.submit(tip=tip)
    async with served(chain) as (_, client):
        answer = await client.call("mempool.stats", {"lane": "consumer"})
    assert answer == recording("devnode.mempool.stats.populated")["response"]


async def test_the_energy_market_as_recorded() -> None:
    chain = Chain()
    async with served(chain) as (node, client):
        acme = node.energy.add_provider()
        node.energy.add_provider(
            owner="wind-co", capacity_kwh=2500, price_per_kwh=42, jurisdiction="EU_DE", staked_balance=8000
        )
        for height in (9, 19, 29):
            chain.mine(height - chain.tip_height + (chain.tip is None))
            receipt = node.energy.settle(acme)
            if height == 19:
                node.energy.dispute(receipt["meter_hash"])
            assert (await client.call("energy.market_state"))["result"]["receipts"] == [receipt]
        assert (receipt["price_paid"], receipt["treasury_fee"], receipt["block_settled"]) == (750, 7, 29)
        chain.mine()  # drains the receipts
        state = (await client.call("energy.market_state"))["result"]
        wanted = recording("devnode.energy.market_state.populated")["response"]["result"]
        for each in (state, wanted):
            each["credits"].sort(key=lambda credit: credit["timestamp"])  # the node's order is random
        assert masked(state) == masked(wanted)
        for method in ("energy.credits", "energy.disputes"):
            answer = await client.call(method)
            assert masked(answer) == masked(recording(f"devnode.{method}.populated")["response"])


async def test_peers_as_recorded_with_counters_that_grow() -> None:
    expected = recording("devnode_p2p.net.peer_stats_all")["response"]
    clock = ManualClock()
    async with served(Chain(clock=clock)) as (node, client):
        node.peers.add("growing", requests_per_second=1.5, bytes_per_second=500)
        for name in ("quiet", "third"):
            node.peers.add(name)
        first = await client.call("net.peer_stats_all")
        assert shape(first) == shape(expected)
        assert len(first["result"][0]["peer_id"]) == len(expected["result"][0]["peer_id"])
        clock.advance(10)
        growing, quiet, _ = (await client.call("net.peer_stats_all"))["result"]
        assert (growing["metrics"]["requests"], growing["metrics"]["bytes_sent"]) == (15, 5000)
        assert growing["metrics"]["last_updated"] - quiet["metrics"]["last_updated"] == 10
        page = await client.call("net.peer_stats_all", {"offset": 1, "limit": 1})
        assert page["result"] == [quiet]
        (row,) = recording("devnode_p2p.net.peer_stats_export_all")["response"]["result"].values()
        rows = (await client.call("net.peer_stats_export_all"))["result"]
        assert shape(rows[growing["peer_id"]]) == shape(row)
        assert await client.call("net.gossip_status") == recording("devnode_p2p.net.gossip_status")["response"]


# -- the stream ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "request_bytes"),
    [
        (recording("ws.state_stream")["response_head"] + "\r\n\r\n", upgrade()),
        (recording("ws.misc")["state_stream_bad_host"] + "\r\n\r\n", upgrade(host="example.com")),
        (recording("ws.misc")["version_8"], upgrade(version=8)),
    ],
    ids=["accepted", "bad_host", "version_8"],
)
async def test_state_stream_handshakes_as_recorded(expected: str, request_bytes: bytes) -> None:
    head, _, body = expected.partition("\r\n\r\n")
    status_line, *headers = head.split("\r\n")
    async with StandinNode() as node:
        answer = await ask(node, request_bytes)
    assert answer == (int(status_line.split()[1]), dict(line.split(": ", 1) for line in headers), body.encode())


async def test_state_stream_messages_as_recorded_and_deaf() -> None:
    expected = json.loads(recording("ws.state_stream")["messages"][0]["text"])
    clock = ManualClock()
    chain = Chain(clock=clock, wallets=0)
    chain.mine(312)
    async with served(chain) as (node, _), streaming(node) as stream:
        first = await stream.message()
        assert shape(first) == shape(expected)
        assert (first["seq"], first["tip_height"]) == (expected["seq"], expected["tip_height"]) == (0, 311)
        assert len(first["root"]) == len(expected["root"])
        await stream.send(b"\x89\x82\0\0\0\0hi" + b"\x88\x82\0\0\0\0\x03\xe8")  # PING, CLOSE 1000
        for seq in range(1, 20):
            chain.mine()
            clock.advance(1)
            message = await stream.message()  # and nothing but messages
            assert (message["seq"], message["tip_height"]) == (seq, 311 + seq)
            assert message["accounts"][0]["balance"] == first["accounts"][0]["balance"] + seq
        async with streaming(node) as again:
            assert (await again.message())["seq"] == 0


def deltas(messages: list[Any]) -> set[tuple[int, int]]:
    """Return (transactions, supply) of each message whose tip is one above that of the message before."""
    found = set()
    for old, new in itertools.pairwise(messages):
        if new["tip_height"] - old["tip_height"] == 1:
            txs, supply = (
                sum(account[key] for account in new["accounts"]) - sum(account[key] for account in old["accounts"])
                for key in ("account_seq", "balance")
            )
            found.add((txs, supply))
    return found


async def test_account_sums_tell_transactions_and_supply_as_recorded() -> None:
    recorded = [each["msg"] for each in recording("ws.state_stream.devnode_txs")["messages"]]
    clock = ManualClock()
    chain = Chain(clock=clock, wallets=1)
    async with served(chain) as (node, _), streaming(node) as stream:
        messages = [await stream.message()]
        for _ in range(4):
            chain.mine(txs=3)
            clock.advance(1)
            messages.append(await stream.message())
    assert (3, -2) in deltas(recorded)
    assert deltas(messages) == {(3, -2)}
    assert messages[0]["tip_height"] == recorded[0]["tip_height"] == 0  # with no block at all
    assert shape(messages[1]) == shape(recorded[0])
    for left, right in (messages[1]["accounts"], recorded[0]["accounts"]):
        assert [side for _, side in left["proof"] + right["proof"]] == [False, True]


async def test_large_account_sets() -> None:
    clock = ManualClock()
    chain = Chain(clock=clock, wallets=100_000)
    async with served(chain) as (node, _), streaming(node) as stream:
        assert len((await stream.message())["accounts"]) == 100_000
        chain.mine(txs=7)
        clock.advance(1)
        message = await stream.message()
        assert sum(account["account_seq"] for account in message["accounts"]) == 7
        assert len(message["accounts"]) == 100_001


async def test_bytes_behind_the_handshake_are_lost() -> None:
    async with served(state_stream_seconds=0.01) as (_, client):
        await client.send(upgrade() + post('{"method":"light.headers"}'))
        assert (await client.response())[0] == 101
        assert [(await client.message())["seq"] for _ in range(3)] == [0, 1, 2]


async def test_an_ordinary_client_copes() -> None:
    chain = Chain()
    chain.mine(2)
    closing = aiohttp.ClientWSTimeout(ws_close=0.01)  # the node never answers a close
    async with StandinNode(chain, state_stream_seconds=0.01) as node, aiohttp.ClientSession() as session:
        async with session.ws_connect(f"{node.url}/state_stream", timeout=closing) as stream:
            assert [(await stream.receive_json())["seq"] for _ in range(3)] == [0, 1, 2]
        async with session.post(node.url, json={"method": "light.headers", "id": 5}) as response:
            assert len((await response.json())["result"]) == 2


# -- faults ----------------------------------------------------------------------------------------------------------


async def test_a_frozen_node_accepts_and_answers_nothing_until_it_thaws() -> None:
    clock = ManualClock()
    chain = Chain(clock=clock)
    async with (
        served(chain, blocks_per_second=1) as (node, client),
        connected(node) as other,
        streaming(node) as stream,
    ):
        await stream.message()
        node.freeze()
        await client.send(post('{"method":"light.headers"}'))
        await other.send("GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await until(lambda: node.in_flight == 3)
        clock.advance(20)
        waiting = [asyncio.create_task(each.reader.read(1)) for each in (client, other, stream)]
        for _ in range(20):
            await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        assert chain.tip is None
        node.thaw()
        assert await asyncio.gather(*waiting) == [b"H", b"H", b"\x81"]
        clock.advance(1)
        await until(lambda: chain.tip is not None)


async def test_latency_panics_and_other_results() -> None:
    clock = ManualClock()
    async with served(Chain(clock=clock)) as (node, client):
        node.faults.latency_seconds = 3
        node.faults.method_latency_seconds["metrics"] = 0
        node.faults.results["compute_market.stats"] = {"recent_matches": {"consumer": []}}
        node.faults.panics.add("inflation.params")
        assert "result" in await client.call("metrics")
        answer = asyncio.create_task(client.call("compute_market.stats"))
        await until(lambda: node.in_flight == 1)
        clock.advance(2.9)
        for _ in range(20):
            await asyncio.sleep(0)
        assert node.in_flight == 1
        clock.advance(0.1)
        assert (await answer)["result"] == {"recent_matches": {"consumer": []}}
        node.faults.latency_seconds = 0
        assert await ask(node, post('{"method":"inflation.params"}')) == (0, {}, b"")


async def test_the_chain_grows_by_the_clock() -> None:
    clock = ManualClock()
    chain = Chain(clock=clock)
    async with StandinNode(chain, blocks_per_second=4, txs_per_block=2) as node:
        chain.submit(3)
        clock.advance(2.5)
        await until(lambda: len(chain.blocks) == 10)
        assert [block.txs for block in chain.blocks] == [5] + [2] * 9
        node.grow(0)
        clock.advance(10)
        await node.restart()
        async with connected(node) as client:
            assert len((await client.call("light.headers"))["result"]) == 10


async def test_a_failure_of_the_stand_in_itself_is_told() -> None:
    clock = ManualClock()
    chain = Chain(clock=clock, wallets=1, balance=1)
    with pytest.raises(ExceptionGroup, match="the stand-in node failed"):
        async with StandinNode(chain, blocks_per_second=1, txs_per_block=1) as node:
            clock.advance(1)
            await until(lambda: node.failed)


async def test_it_runs_as_a_process() -> None:
    arguments = ["-m", "tests.standin.node", "--port", "0", "--blocks", "3", "--providers", "2", "--peers", "1"]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        cwd=Path(__file__).parent.parent,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(DEADLINE_SECONDS), aiohttp.ClientSession() as session:
            url = (await process.stdout.readline()).decode().removeprefix("listening on ").strip()
            for method, rows in (("light.headers", 3), ("net.peer_stats_all", 1)):
                async with session.post(url, json={"method": method}) as response:
                    assert len((await response.json())["result"]) == rows
            process.send_signal(signal.SIGTERM)
            _, errors = await process.communicate()
        assert (process.returncode, errors) == (0, b"")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
