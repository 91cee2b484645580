"""A dashboard that polls, what it polls, and a sidecar that answers it."""

import asyncio
import io
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from bridge.core.history import HistoryLimits
from bridge.core.limits import Limits
from bridge.edges.rpc import RpcEdge
from bridge.ops.call_cache import CallCache
from bridge.ops.node_gate import NodeGate
from bridge.settings.fields import NODE_METHODS
from bridge.sources.grpc import UpstreamSource
from bridge.sources.node.client import NodeClient
from bridge.sources.node.settings import NodeSettings
from tests.edges.rig import Options, Rig
from tests.standin.node import StandinNode

PROBES = (
    "consensus.block_height",
    "consensus.stats",
    "governor.status",
    "energy.market_state",
    "compute_market.jobs",
    "storage.list",
    "ad_market.policy_snapshot",
    "dex.order_book",
    "treasury.status",
)
"""What the dashboard asks for at its start, one after the other, with params `[]`."""

POLL = (
    ("consensus.block_height", []),
    ("consensus.finality_status", []),
    ("consensus.stats", []),
    ("net.overlay_status", []),
    ("net.peer_stats_all", [{"offset": 0, "limit": 50}]),
    ("compute_market.scheduler_stats", []),
    ("governor.status", []),
    ("analytics", [{}]),
)
"""What it polls."""

LONG = 30.0
"""Patience, seconds, where no test should run out of it."""


class Nobody:
    """A node that answers `{}` to everything, when it is let."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict]] = []
        self.running = asyncio.Event()
        self.running.set()
        self.results: dict[str, bytes | Exception] = {}

    async def call(self, method: str, params: dict[str, object]) -> bytes:
        self.asked.append((method, params))
        await self.running.wait()
        result = self.results.get(method, b"{}")
        if isinstance(result, Exception):
            raise result
        return result


class Poller:
    """A dashboard, as far as /rpc is concerned."""

    def __init__(self, rig: Rig, cache: CallCache | None, edge: RpcEdge, session: aiohttp.ClientSession) -> None:
        self.rig, self.cache, self.edge, self.session = rig, cache, edge, session
        self.numbers = itertools.count(1)

    async def post(self, body: bytes | str, **headers: str) -> tuple[int, object]:
        """Send a body; return status and JSON of the answer, None where it is empty."""
        data = io.BytesIO(body.encode() if isinstance(body, str) else body)
        async with self.session.post("/rpc", data=data, headers=headers) as response:
            text = await response.text()
            if text:
                assert response.content_type == "application/json"
            return response.status, json.loads(text) if text else None

    async def answers(self, *calls: tuple[str, object]) -> list[dict]:
        """Send a batch; return the answers, of which every one has its id."""
        ids = [next(self.numbers) for _ in calls]
        batch = [
            {"jsonrpc": "2.0", "method": method, "params": params, "id": id_}
            for (method, params), id_ in zip(calls, ids, strict=True)
        ]
        status, answered = await self.post(json.dumps(batch))
        assert status == 200
        assert [answer["id"] for answer in answered] == ids
        assert all(answer.keys() in ({"jsonrpc", "result", "id"}, {"jsonrpc", "error", "id"}) for answer in answered)
        return answered

    async def answer(self, method: str, params: object = ()) -> dict:
        """Send one request; return the answer."""
        request = {"jsonrpc": "2.0", "method": method, "params": params, "id": "one"}
        status, answered = await self.post(json.dumps(request))
        assert (status, answered["id"], answered["jsonrpc"]) == (200, "one", "2.0")
        return answered

    async def result(self, method: str, params: object = ()) -> object:
        """Send one request; return its result."""
        return (await self.answer(method, params))["result"]

    async def code(self, method: str, params: object = ()) -> int:
        """Send one request; return its error's code."""
        error = (await self.answer(method, params))["error"]
        assert error["message"]
        return error["code"]


@asynccontextmanager
async def polling(
    call: Callable | None = None,
    *,
    monotonic: Callable[[], float] = lambda: 0.0,
    limits: Limits | None = None,
    patience_seconds: float = LONG,
    grace_seconds: float = LONG,
    history: HistoryLimits | None = None,
) -> AsyncIterator[Poller]:
    """Serve /rpc beside the other edges. By default the clock of the cache stands still: every answer is kept."""
    options = Options(limits=limits or Limits(), history=history or HistoryLimits())
    rig = Rig(options)
    cache = None if call is None else CallCache(call, keep_seconds=1.0, monotonic=monotonic)
    edge = RpcEdge(rig.hub, cache, options.limits, patience_seconds=patience_seconds, grace_seconds=grace_seconds)
    rig.app.add_routes(edge.routes())
    runner = web.AppRunner(rig.app, access_log=None, shutdown_timeout=1, auto_decompress=False)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    rig.port = runner.addresses[0][1]
    try:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(rig.url, connector=connector) as session:
            yield Poller(rig, cache, edge, session)
    finally:
        if cache is not None:
            await cache.close()
        await runner.cleanup()


@asynccontextmanager
async def asking(node: StandinNode) -> AsyncIterator[Callable]:
    """Yield what a state service calls the node by."""
    async with NodeClient(NodeSettings(url=node.url)) as client:
        yield NodeGate(client.call, NODE_METHODS).call


def height_of(answer: dict) -> int:
    return answer["result"]["height"]


@asynccontextmanager
async def sidecar(state, **options) -> AsyncIterator[Poller]:
    """Serve /rpc of a sidecar."""
    rig = Rig(Options(began=False))
    upstream = UpstreamSource([state.address], rig.hub)
    running = asyncio.create_task(upstream.run())
    try:
        async with polling(upstream.call_node, **options) as poller:
            yield poller
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
