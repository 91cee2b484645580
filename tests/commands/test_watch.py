"""`watch` as a process: against the demo, and against a sidecar that comes and goes."""

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from bridge.cli import PROG
from bridge.core.history import HistoryLimits
from bridge.core.hub import State
from tests.client.fake import answering
from tests.client.world import World, serving
from tests.edges.rig import Options, until, within
from tests.system.processes import ANY, COMPLAINT, ROOT, Running, bridge, environment, run

WATCH = (sys.executable, "-m", "bridge", "watch")


@pytest.fixture(scope="module")
def demo() -> Iterator[Running]:
    with bridge("demo", "--listen", ANY, "--grpc-listen", "off", "--blocks-per-second", "10") as running:
        yield running


class Watcher:
    """A process that watches a sidecar in this one."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.out: list[str] = []
        self.err: list[str] = []
        self.tasks = [
            asyncio.create_task(self.read(process.stdout, self.out)),
            asyncio.create_task(self.read(process.stderr, self.err)),
        ]

    @staticmethod
    async def read(stream: asyncio.StreamReader, lines: list[str]) -> None:
        while line := await stream.readline():
            lines.append(line.decode().rstrip("\n"))

    async def shows(self, pattern: str) -> re.Match[str]:
        """Wait for a line on standard output."""
        return await self.found(self.out, pattern)

    async def says(self, pattern: str) -> re.Match[str]:
        """Wait for a line on standard error."""
        return await self.found(self.err, pattern)

    async def found(self, lines: list[str], pattern: str) -> re.Match[str]:
        matches: list[re.Match[str]] = []

        def look() -> bool:
            matches[:] = [match for line in lines if (match := re.search(pattern, line))]
            return bool(matches) or self.process.returncode is not None

        await until(look, f"{pattern!r} is among the lines")
        assert matches, (pattern, self.out, self.err)
        return matches[0]

    async def end(self, number: signal.Signals = signal.SIGINT) -> int:
        if self.process.returncode is None:
            self.process.send_signal(number)
        code = await within(self.process.wait())
        await asyncio.wait(self.tasks)
        return code


@asynccontextmanager
async def watching(url: str, *arguments: str) -> AsyncIterator[Watcher]:
    process = await asyncio.create_subprocess_exec(
        *WATCH, url, *arguments,
        cwd=ROOT, env=environment(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    watcher = Watcher(process)
    try:
        yield watcher
    finally:
        await watcher.end(signal.SIGKILL)
        assert not COMPLAINT.search("\n".join(watcher.err)), watcher.err


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with serving(Options(history=HistoryLimits(count=10))) as world:
        yield world


# Against the demo


@pytest.mark.parametrize("format_", ["json", "proto"])
def test_json_is_one_update_a_line_in_either_format(demo, format_):
    arguments = ("block_updates", "account", "--json", "--last", "3", "--count", "6", "--format", format_)
    result = run("watch", demo.http, *arguments)
    assert (result.returncode, result.stderr) == (0, "")
    updates = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(updates) == 6
    for update in updates:
        assert list(update)[:5] == ["type", "stream", "epoch", "seq", "time"]
        assert isinstance(update["data"]["height"], int)


def test_raw_in_protobuf_is_hexadecimal(demo):
    from generated.theblock.state.v1 import frames_pb2

    result = run("watch", demo.http, "block_updates", "--raw", "--format", "proto", "--last", "2", "--count", "2")
    frames = [frames_pb2.ServerFrame.FromString(bytes.fromhex(line)) for line in result.stdout.splitlines()]
    assert [frame.update.stream for frame in frames] == ["block_updates"] * 2


@pytest.mark.parametrize("format_", ["json", "proto"])
def test_int64(demo, format_):
    result = run("watch", demo.http, "block_updates", "--json", "--int64", "--count", "1", "--format", format_)
    assert isinstance(json.loads(result.stdout)["data"]["height"], str)


def test_key(demo):
    some = run("watch", demo.http, "account", "--json", "--last", "1", "--count", "1")
    key = json.loads(some.stdout)["key"]
    result = run("watch", demo.http, "account", "--key", key, "--json", "--last", "1", "--count", "1")
    assert json.loads(result.stdout)["key"] == key


def test_key_is_of_a_stream(demo):
    result = run("watch", demo.http, "--key", "k")
    assert (result.returncode, result.stdout, result.stderr) == (2, "", f"{PROG}: --key is of a stream: name it\n")


@pytest.mark.parametrize("output", [(), ("--json",), ("--raw",)])
def test_a_closed_pipe_is_no_trouble(demo, output):
    command = (*WATCH, demo.http, "block_updates", *output)
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""  # it ends by itself, at the next update
        assert process.wait(10) == 1


@pytest.mark.parametrize("no_color", ["", "1"])
def test_colours_are_for_terminals(demo, no_color):
    ours, theirs = pty.openpty()
    more = {"NO_COLOR": no_color, "TERM": "xterm", "COLUMNS": "60"}
    command = (*WATCH, demo.http, "block_updates", "--count", "2")
    with subprocess.Popen(command, cwd=ROOT, env=environment(**more), stdout=theirs, stderr=subprocess.PIPE) as process:
        os.close(theirs)
        assert process.stderr.read() == b""
        shown = os.read(ours, 65536).decode()
        assert process.wait(10) == 0
    os.close(ours)
    assert ("\x1b[" in shown) is (no_color == "")
    lines = re.sub("\x1b\\[[0-9]*m", "", shown).splitlines()
    assert lines[1].startswith("*block_updates #")
    assert max(map(len, lines[1:])) <= 60


# Against a sidecar that comes and goes


async def test_reconnects_and_gaps_are_told_apart_from_updates(world):
    async with watching(world.url, "block_updates") as watcher:
        await watcher.shows("watching block_updates from epoch1-0")
        await world.blocks(2)
        await watcher.shows("block_updates #2 ")
        await world.stop()
        await watcher.says(r"^the connection was lost; next try in [0-9.]+ s$")
        await world.blocks(2)
        await world.start()
        await watcher.says("^connected again$")
        await watcher.shows("block_updates #4 ")
        await world.stop()
        await world.blocks(16)
        await world.start()
        await watcher.says("^block_updates: #5 to #10 will not come: history no longer holds them$")
        await watcher.shows(r"^\*block_updates #10 ")
        await watcher.shows("^ block_updates #20 ")
        world.origin.begin_epoch()
        await watcher.says("^block_updates: begins anew in epoch epoch2$")
        world.hub.set_status(State.DOWN, "x")
        await watcher.says("^nothing is heard of the node$")
        world.hub.set_status(State.LIVE, "x")
        await watcher.says("^the streams follow the node again$")
        assert await watcher.end() == 130
        seqs = [int(re.search("#([0-9]+)", line).group(1)) for line in watcher.out[1:]]
        assert seqs == [1, 2, 3, 4, *range(10, 21)]


async def test_json_over_a_reconnect_is_complete(world):
    async with watching(world.url, "ticks", "--json", "--count", "4") as watcher:
        await watcher.says("^ticks .not declared yet; did you mean metrics")
        world.tick(1)
        await watcher.shows('"seq":1,')
        for index in range(2, 5):
            world.cut()
            world.tick(index)
            await watcher.shows(f'"seq":{index},')
        assert await within(watcher.process.wait()) == 0
        assert [json.loads(line)["data"]["number"] for line in watcher.out] == [1, 2, 3, 4]


async def test_a_value_with_line_breaks_is_still_one_line(world):
    world.origin.publish_custom("ticks", "tick", b'{\n "long": 123456789012345678901234567890\n}')
    async with watching(world.url, "ticks", "--json", "--count", "1") as watcher:
        assert await within(watcher.process.wait()) == 0
        await asyncio.wait(watcher.tasks)
        assert [json.loads(line)["data"] for line in watcher.out] == [{"long": 123456789012345678901234567890}]


async def test_nothing_that_a_publisher_writes_reaches_the_terminal_as_a_command(world):
    world.origin.publish_custom("ticks", "tick", json.dumps({"\x1b[2J": "\x1b]0;title\x07"}).encode())
    async with watching(world.url, "ticks", "--count", "1") as watcher:
        assert await within(watcher.process.wait()) == 0
        await asyncio.wait(watcher.tasks)
        assert not any("\x1b" in line or "\x07" in line for line in watcher.out)
        assert "]0;title" in watcher.out[1]


@pytest.mark.parametrize("state", ["connected", "waiting"])
async def test_ctrl_c_ends_it_without_a_word(world, state):
    url = world.url if state == "connected" else "http://127.0.0.1:9"
    async with watching(url, "block_updates") as watcher:
        await (watcher.shows("watching") if state == "connected" else watcher.says("next try in"))
        assert await watcher.end() == 130
        assert all("next try in" in line for line in watcher.err)


async def test_a_sidecar_that_knows_no_v1_is_one_sentence():
    from aiohttp import web

    async def handle(_request: web.Request) -> web.Response:
        return web.json_response({"error": {"message": "no such subprotocol"}}, status=400)

    async with answering(handle) as url, watching(url, "metrics") as watcher:
        assert await within(watcher.process.wait()) == 1
        await asyncio.wait(watcher.tasks)
        assert watcher.err == [f"{PROG}: the server answered the handshake with HTTP 400: no such subprotocol"]
        assert watcher.out == []
