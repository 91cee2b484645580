"""The whole way: node, state service, sidecar, and a client that behaves as the dashboard does."""

import asyncio
import json
import signal
import urllib.request
from contextlib import ExitStack

from bridge.verify.oracle import Oracle
from tests.edges.rig import until
from tests.standin.node import StandinNode
from tests.system.dashboard import Dashboard, dashboard
from tests.system.processes import ANY, Running, enter, run
from tests.system.publisher import read_log

STREAMS = ("block_updates", "metrics", "network", "trading", "test")


def health(sidecar: Running) -> dict:
    with urllib.request.urlopen(f"{sidecar.http}/health", timeout=5) as response:
        return json.load(response)


async def followed(sidecar: Running) -> None:
    """Wait until the sidecar says that the node is followed."""
    async with asyncio.timeout(20):
        while (await asyncio.to_thread(health, sidecar))["status"] != "ok":
            await asyncio.sleep(0.05)


async def test_a_dashboard_sees_every_block_of_a_node():
    oracle = Oracle()
    async with StandinNode(blocks_per_second=8, txs_per_block=2) as node:
        node.chain.mine(5, txs=1)
        node.peers.add("peer", requests_per_second=1.2, bytes_per_second=400)
        with ExitStack() as stack:
            state = await enter(stack, "state", "--node-url", node.url, "--ingest", "--listen", ANY)
            sidecar = await enter(stack, "sidecar", "--upstream", state.grpc, "--listen", ANY)
            await followed(sidecar)
            async with dashboard(sidecar.http, STREAMS, oracle.client("dashboard"), custom=["test_type"]) as page:
                await publish(state, '{"n":1,"big":9007199254740993}', '{"n":2}')
                await until(lambda: len(page.blocks) > 25, "25 blocks")
                node.grow(0)
                tip = node.chain.tip
                await until(lambda: page.blocks[-1]["data"]["height"] == tip.height, "the newest block")
                await until(lambda: page.metrics["height"] == tip.height, "its height among the metrics")
                await until(lambda: page.network.get("peers") == 1, "the network")
                await until(lambda: len(page.custom["test_type"]) == 2, "what was published")
                await read_log(state.grpc, oracle)
                check(page, node)
            verdict = oracle.verdict(settled=False)
            assert verdict.ok, verdict
            assert verdict.delivered > 25
            for running in (sidecar, state):
                assert await running.ended(signal.SIGTERM) == 0
                assert "warning" not in running.stderr


async def publish(state: Running, *lines: str) -> None:
    arguments = ("--upstream", state.grpc, "--stream", "test", "--type", "test_type", "--data", "-")
    done = await asyncio.to_thread(run, "publish", *arguments, text="\n".join(lines))
    assert done.returncode == 0, done


def check(page: Dashboard, node: StandinNode) -> None:
    """Check what a page was sent."""
    seen = [(block["data"]["height"], block["data"]["hash"]) for block in page.blocks]
    blocks = list(dict.fromkeys(seen))  # one that came again said more: the number of its transactions
    first = blocks[0][0]
    assert blocks == [(block.height, f"0x{block.hash}") for block in node.chain.blocks[first:]]
    assert [height for height, _ in seen] == sorted(height for height, _ in seen)
    again = [block for before, block in zip(page.blocks, page.blocks[1:], strict=False)
             if before["data"]["height"] == block["data"]["height"]]  # fmt: skip
    assert all(block["data"]["tx_count"] == node.chain.blocks[block["data"]["height"]].txs for block in again)
    assert page.went_back == []
    assert page.warnings == []
    assert [update["data"] for update in page.custom["test_type"]] == [{"n": 1, "big": 9007199254740993}, {"n": 2}]
    assert page.trading == {}
    assert not any(frame.get("stream") == "trading" for frame in page.frames)
    assert page.code is None
    assert len(page.pongs) > 2
    assert page.pongs == sorted(page.pongs)
