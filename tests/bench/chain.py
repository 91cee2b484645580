"""From a block of the node to a WebSocket client: the stand-in node, the bridge in one process, a client.

The stand-in mines a block; the time until the client has its update is the rest of the poll interval, the node's
answer, and what `latency` measures. Blocks come at random moments of the interval, so half of it is the expectation.
ROUNDS is how many blocks there are.
"""

import asyncio
import json
import random
import time

import aiohttp

from tests.bench.processes import bridge
from tests.bench.report import Report
from tests.standin.chain import Chain
from tests.standin.node import StandinNode

POLL_INTERVAL_MS = 300
SECONDS = 10


def main() -> None:
    """Measure and print."""
    with Report("chain", rounds=100) as report:
        asyncio.run(measure(report))


async def measure(report: Report) -> None:
    """Mine blocks at random moments and wait for each."""
    async with StandinNode(Chain(), port=0) as node:
        node.chain.mine(3)
        arguments = ["up", "--node-url", node.url, "--listen", "127.0.0.1:0", "--grpc-listen", "off"]
        loop = asyncio.get_running_loop()
        process = bridge(*arguments, "--poll-interval-ms", str(POLL_INTERVAL_MS))
        running = await loop.run_in_executor(None, process.__enter__)
        try:
            waits_ms = await blocks(node, report.rounds, f"{running.addresses['websocket']}?subscribe=block_updates")
        finally:
            await loop.run_in_executor(None, process.__exit__, None, None, None)
    waits_ms.sort()
    report.row(
        blocks=report.rounds, poll_interval_ms=POLL_INTERVAL_MS, p50_ms=waits_ms[len(waits_ms) // 2],
        p99_ms=waits_ms[int(len(waits_ms) * 0.99)], max_ms=waits_ms[-1],
    )  # fmt: skip


async def blocks(node: StandinNode, number: int, url: str) -> list[float]:
    """Return how long each block took to the client, milliseconds."""
    waits_ms = []
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
        await until_height(socket, len(node.chain.blocks) - 1)
        for _ in range(number):
            await asyncio.sleep(random.uniform(0.5, 1.0))
            node.chain.mine(1)
            mined = time.monotonic()
            await until_height(socket, len(node.chain.blocks) - 1)
            waits_ms.append((time.monotonic() - mined) * 1000)
    return waits_ms


async def until_height(socket: aiohttp.ClientWebSocketResponse, height: int) -> None:
    """Wait for the update of a block."""
    async with asyncio.timeout(SECONDS):
        while json.loads(await socket.receive_str())["data"]["height"] < height:
            pass
