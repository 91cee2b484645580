"""A client that does what the dashboard does, in a browser's way."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from bridge.verify import oracle
from tests.frames import check_frame

KNOWN = ("block_update", "metrics_update", "network_update", "trading_update", "pong")
"""Types of frames that it can do something with."""


class Dashboard:
    """One page that is open.

    Attributes:
        frames: everything it was sent.
        warnings: frames of types that it does not know.
        metrics: what it shows; the height is in it.
        network: what it shows of the network.
        trading: what it shows of the market.
        blocks: block updates, in order.
        went_back: pairs of heights: shown before, and after a metrics update that was lower.
        pongs: timestamps that were echoed.
        custom: updates by type that a component asked for.
        code: close code; None while it is open.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, judged: oracle.Client) -> None:
        self._socket = socket
        self._judged = judged
        self.frames: list[dict[str, Any]] = []
        self.warnings: list[dict[str, Any]] = []
        self.metrics: dict[str, Any] = {}
        self.network: dict[str, Any] = {}
        self.trading: dict[str, Any] = {}
        self.blocks: list[dict[str, Any]] = []
        self.went_back: list[tuple[int, int]] = []
        self.pongs: list[int] = []
        self.custom: dict[str, list[dict[str, Any]]] = {}
        self.code: int | None = None

    async def subscribe(self, streams: Sequence[str]) -> None:
        """Send one message a stream, all in one millisecond and so with one id."""
        shared = time.time_ns() // 1_000_000
        for stream in streams:
            await self.send({"method": "state_stream.subscribe", "params": [stream], "id": shared})

    async def send(self, message: dict[str, Any]) -> None:
        """Send a message."""
        text = json.dumps(message)
        self._judged.sent(text)
        await self._socket.send_str(text)

    async def ping(self, every_seconds: float) -> None:
        """Ping until cancelled."""
        while True:
            await self.send({"type": "ping", "timestamp": time.time_ns() // 1_000_000})
            await asyncio.sleep(every_seconds)

    async def read(self) -> None:
        """Take in frames until the connection is closed."""
        async for message in self._socket:
            assert message.type is aiohttp.WSMsgType.TEXT, message
            self._judged.received(message.data)
            check_frame(message.data)
            frame = json.loads(message.data)
            self.frames.append(frame)
            self.route(frame)
        self.code = self._socket.close_code

    def route(self, frame: dict[str, Any]) -> None:
        """Do with a frame what the dashboard does."""
        data = frame.get("data")
        match frame["type"]:
            case "block_update":
                self.blocks.append(frame)
                for name in ("height", "finalized_height", "timestamp"):
                    self.metrics[name] = data.get(name)
            case "metrics_update":
                before, after = self.metrics.get("height"), data.get("blockHeight")
                if before is not None and after is not None and after < before:
                    self.went_back.append((before, after))
                self.metrics |= {"height" if name == "blockHeight" else name: value for name, value in data.items()}
            case "network_update":
                self.network = data
            case "trading_update":
                self.trading |= data
            case "pong":
                self.pongs.append(frame["timestamp"])
            case type_ if type_ in self.custom:
                self.custom[type_].append(frame)
            case _:
                self.warnings.append(frame)


@asynccontextmanager
async def dashboard(
    http: str, streams: Sequence[str], judged: oracle.Client, *, custom: Sequence[str] = (), ping_seconds: float = 0.3
) -> AsyncIterator[Dashboard]:
    """Open a page: find the backend as the dashboard does, connect, subscribe; close it when the block ends.

    Args:
        http: URL of the sidecar.
        streams: that are subscribed to, one message each.
        judged: who is told what it says and gets.
        custom: types of updates that a component knows.
        ping_seconds: how often it pings.
    """
    headers = {"Origin": "http://localhost:4173"}
    async with aiohttp.ClientSession(headers=headers) as session:
        async with session.get(f"{http}/health", timeout=aiohttp.ClientTimeout(total=1.0)) as response:
            assert response.status == 200
            assert (await response.json())["bootstrap"]["rpc_connected"] is True, "it would go into mock mode for good"
        async with session.ws_connect(f"{http}/ws", compress=15) as socket, asyncio.TaskGroup() as tasks:
            page = Dashboard(socket, judged)
            page.custom = {type_: [] for type_ in custom}
            await page.subscribe(streams)
            reading, pinging = tasks.create_task(page.read()), tasks.create_task(page.ping(ping_seconds))
            try:
                yield page
            finally:
                pinging.cancel()
                reading.cancel()
