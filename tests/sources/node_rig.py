"""A node source that follows a stand-in node, for the tests of both."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from bridge.core.hub import Hub, State
from bridge.core.origin import Origin
from bridge.core.streams import Catalogue
from bridge.core.update import Update
from bridge.sources.node import NodeSettings, NodeSource
from bridge.sources.node.settings import Intervals
from tests.standin.node import StandinNode

PATIENCE_SECONDS = 15.0

FAST = NodeSettings(
    poll_interval_ms=20, call_timeout_seconds=0.4, stale_after_seconds=0.6, ban_seconds=1.0, backfill_blocks=10
)
OFTEN = Intervals(mempool=0.05, telemetry=0.05, peers=0.05, energy=0.05, metrics=0.05, refused=0.2, silence=1.0)
PERMISSIVE = {"tokens_per_second": 1e6, "energy_read_tokens_per_second": 1e6, "state_stream_seconds": 0.1}


async def until(condition: Callable[[], object], what: str = "") -> None:
    """Wait for a condition, with a deadline."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited too long for {what or condition}"
        await asyncio.sleep(0.005)


@dataclass
class Rig:
    """A running source and what it feeds."""

    node: StandinNode
    hub: Hub
    source: NodeSource
    published: list[Update]
    origin: Origin
    run: Callable[[], asyncio.Task[None]]
    task: asyncio.Task[None]

    async def stop(self) -> None:
        """Stop the source, as when its process ends."""
        self.task.cancel()
        await asyncio.wait([self.task])

    def restart(self) -> None:
        """Run another source behind what was published, as a process does that finds it in its journal."""
        self.task = self.run()

    def updates(self, stream: str) -> list[dict[str, Any]]:
        """What was published on a stream, the oldest first."""
        return [update.data() for update in self.published if update.stream.name == stream]

    @property
    def blocks(self) -> list[dict[str, Any]]:
        return self.updates("block_updates")

    @property
    def heights(self) -> list[int]:
        """Heights of the blocks, each update that only adds a count left out."""
        return [block["height"] for block in self.blocks if "tx_count" not in block]

    @property
    def tip(self) -> int:
        return self.blocks[-1]["height"] if self.blocks else -1

    async def caught_up(self) -> None:
        """Wait until the newest block of the node was published."""
        chain = self.node.chain
        await until(lambda: self.blocks and self.blocks[-1]["hash"] == f"0x{chain.blocks[-1].hash}", "the newest block")

    async def state(self, state: State) -> str:
        """Wait for a state of the hub and return its sentence."""
        await until(lambda: self.hub.status.state is state, f"the state {state}; it is {self.hub.status}")
        return self.hub.status.detail


@asynccontextmanager
async def following(
    node: StandinNode, *, intervals: Intervals = OFTEN, requests_per_second: float = 1e4, **settings: Any
) -> AsyncIterator[Rig]:
    """Run a source on a stand-in node."""
    loop = asyncio.get_running_loop()
    published: list[Update] = []
    hub = Hub(Catalogue(), clock_ms=lambda: time.time_ns() // 10**6, schedule=lambda: loop.call_soon(hub.run))
    numbers = itertools.count()
    origin = Origin(hub, new_epoch=lambda: f"epoch{next(numbers)}")

    def note() -> None:
        for history in hub.histories.values():
            seen = max((u.seq for u in published if u.stream.name == history.name and u.epoch == history.epoch),
                       default=0)  # fmt: skip
            published.extend(history.after(seen, 100_000))
        published.sort(key=lambda update: update.ordinal)

    hub.listen(note)

    def make() -> NodeSource:
        return NodeSource(
            replace(FAST, url=node.url, **settings), intervals=intervals, requests_per_second=requests_per_second
        )

    source = make()
    rig = Rig(
        node,
        hub,
        source,
        published,
        origin,
        lambda: asyncio.create_task(make().run(origin)),
        asyncio.create_task(source.run(origin)),
    )
    try:
        yield rig
        assert not rig.task.done(), rig.task
    finally:
        await rig.stop()
