"""What docs/migration.md tells people to type works, and answers as the page says."""

import asyncio
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import ExitStack

import aiohttp
import pytest

from bridge.cli import PROG
from tests.edges.rig import within
from tests.standin.node import StandinNode
from tests.system.processes import ANY, ROOT, Running, enter, environment, run

PAGE = (ROOT / "docs/migration.md").read_text()
PROGRAM = f".venv/bin/{PROG}"
HTTP, NODE = "http://127.0.0.1:5000", "http://127.0.0.1:3030"
"""Addresses that the page names; tests put those of their own processes in their place."""

LINES = [
    line for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL) for line in block.splitlines()
]
SERVERS = [line for line in LINES if line.startswith(f"{PROGRAM} up ")]
CURLS = [line for line in LINES if line.startswith("curl ")]
COMMANDS = [line for line in LINES if line.startswith(PROGRAM) and line not in SERVERS]


@pytest.fixture
async def up() -> AsyncIterator[tuple[Running, StandinNode]]:
    """Run the first line of the page beside a node."""
    async with StandinNode() as node:
        node.chain.mine(3)
        with ExitStack() as stack:
            running = await enter(stack, *arguments(SERVERS[0], node.url))
            async with aiohttp.ClientSession(running.http) as http:
                await within(until_read(http, height=2))
            yield running, node


async def until_read(http: aiohttp.ClientSession, *, height: int) -> None:
    """Wait until the newest block of the node has come."""
    while True:
        async with http.get("/state/block_updates") as response:
            if response.status == 200 and (await response.json())["data"]["height"] == height:
                return
        await asyncio.sleep(0.02)


def arguments(line: str, node: str) -> list[str]:
    """Return the arguments of a server, with its ports free ones."""
    return [*shlex.split(line.replace(NODE, node))[1:], "--listen", ANY, "--grpc-listen", ANY]


async def curl(line: str, http: str) -> str:
    """Run curl as a line says, while the node goes on; return what it prints."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    command, clean = shlex.split(line.replace(HTTP, http)), environment(no_proxy="*")
    done = await asyncio.to_thread(subprocess.run, command, env=clean, capture_output=True, timeout=20, check=False)
    assert done.returncode in ((0, 28) if "--max-time" in line else (0,)), (line, done)
    return done.stdout.decode(errors="replace")


def test_every_line_is_tried():
    assert sorted(LINES) == sorted(SERVERS + CURLS + COMMANDS)
    assert len(SERVERS) == 2
    assert len(CURLS) == len(set(CURLS)) + 1, "/health is asked twice"


async def test_what_a_dashboard_asks_for_is_answered(up):
    running, _ = up
    (health, *_), (height,) = ([line for line in CURLS if path in line] for path in ("/health", "/rpc"))
    assert json.loads(await curl(health, running.http))["bootstrap"]["rpc_connected"] is True
    assert json.loads(await curl(height, running.http))["result"]["height"] == 2


async def test_a_handshake_by_hand(up):
    running, node = up
    (line,) = (line for line in CURLS if "Sec-WebSocket-Key" in line)
    answer = await curl(line, running.http)
    assert "101 Switching Protocols" in answer
    assert "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in answer
    assert f'"hash":"0x{node.chain.blocks[2].hash}"' in answer


async def test_a_page_that_is_not_let_in_is_let_in_by_the_setting(up):
    running, node = up
    (line,) = (line for line in CURLS if "Origin" in line)
    refused = await curl(line, running.http)
    assert "403 Forbidden" in refused
    assert "add it to the setting allowed_origins" in refused
    with ExitStack() as stack:
        other = await enter(stack, *arguments(SERVERS[1], node.url))
        assert "403 Forbidden" not in await curl(line, other.http)
        allowed = re.search(r"--allowed-origins (\S+)", SERVERS[1])
        assert f"Origin: {allowed[1]}" in line


async def test_what_tells_why_no_messages_come(up):
    running, _ = up
    state, metrics = (next(line for line in CURLS if path in line) for path in ("/state/block_updates", "/metrics"))
    assert json.loads(await curl(state, running.http))["type"] == "block_update"
    shown = await curl(metrics, running.http)
    for name in re.findall(r"`(theblock_bridge_\w+)", PAGE.split("### It is connected")[1]):
        assert name in shown


async def test_commands_end_well(up):
    running, node = up
    for line in COMMANDS:
        given = shlex.split(line.replace(HTTP, running.http).replace(NODE, node.url))[1:]
        done = await asyncio.to_thread(run, *given, seconds=30)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
