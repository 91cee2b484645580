"""A client that behaves, beside others that do not: it must not feel any of it."""

import asyncio
import json

from tests.edges.rawclient import PING, PONG, TEXT, Hung, RawClient, frame
from tests.edges.rig import Rig, until


class Witness:
    """Reads every block from its first subscription on."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.updates: list[dict] = []
        self.start = 0
        self.ended = False

    async def begin(self) -> None:
        """Connect and subscribe."""
        self.start = self.rig.hub.histories["block_updates"].head
        self.client = await RawClient.connect(self.rig.port)
        await self.client.subscribe(
            {"stream": "block_updates", "since": {"epoch": self.rig.hub.epoch, "seq": self.start}}
        )
        await self.client.pong()
        self.task = asyncio.create_task(self.read())
        self.rig.keep_up.append(lambda: self.updates[-1]["data"]["height"] if self.updates else self.start)

    async def read(self) -> None:
        """Read until there is no more."""
        try:
            while True:
                received = await self.client.read()
                if received.opcode == TEXT:
                    self.updates.append(json.loads(received.payload))
                else:
                    assert received.opcode == PING, received
                    await self.client.send(frame(PONG, received.payload))
        except Hung:
            self.ended = True

    async def judge(self) -> None:
        """Publish one more block, and see that this client has got every one, once, in order, and nothing else."""
        self.rig.block(self.rig.hub.histories["block_updates"].head + 1)
        head = self.rig.hub.histories["block_updates"].head
        await until(
            lambda: self.ended or self.task.done() or (self.updates and self.updates[-1].get("seq") == head),
            "the witness gets the last block",
        )
        if self.task.done():
            self.task.result()  # raises what it raised
        assert not self.ended, "the witness was sent away"
        assert [update["seq"] for update in self.updates] == list(range(self.start + 1, head + 1))
        assert all(update["type"] == "block_update" and "snapshot" not in update for update in self.updates)

    def end(self) -> None:
        """Close the connection."""
        self.task.cancel()
        self.client.hang_up()
