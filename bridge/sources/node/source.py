"""The node source: one node's chain, accounts, metrics, network and energy market, read and published."""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from functools import partial

from bridge.core.origin import Origin
from bridge.sources.node.accounts import Accounts
from bridge.sources.node.blocks import Blocks
from bridge.sources.node.client import REQUESTS_PER_SECOND, NodeClient
from bridge.sources.node.energy import Energy
from bridge.sources.node.health import Verdict
from bridge.sources.node.metrics import Metrics
from bridge.sources.node.network import Network
from bridge.sources.node.outlet import Outlet
from bridge.sources.node.poller import Poller
from bridge.sources.node.settings import Intervals, NodeSettings

log = logging.getLogger("bridge.node")


class NodeSource:
    """Feeds the hub from a node. There is no source for trading: that stream stays silent.

    Attributes:
        streams: that it feeds.
        client: asks the node.
    """

    streams = frozenset({"block_updates", "metrics", "network", "energy", "account"})

    def __init__(
        self,
        settings: NodeSettings,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random.random,
        intervals: Intervals | None = None,
        requests_per_second: float = REQUESTS_PER_SECOND,
    ) -> None:
        """Make a source that has not begun.

        Args:
            settings: of the node.
            monotonic: returns seconds.
            random: returns a number in [0, 1), for waits.
            intervals: between calls.
            requests_per_second: of all kinds together.
        """
        self.client = NodeClient(settings, monotonic=monotonic, requests_per_second=requests_per_second)
        self._settings = settings
        self._monotonic = monotonic
        self._random = random
        self._intervals = intervals or Intervals()

    async def call(self, method: str, params: dict[str, object]) -> bytes:
        """Call a method of the node for somebody else, through the one client that stands before it.

        Args:
            method: name; whether it is allowed was checked before.
            params: by name.

        Returns:
            The result, JSON.

        Raises:
            NodeError: the node answered with an error of its own.
            UpstreamError: the node cannot be asked now, or its answer cannot be used.
        """
        return await self.client.call(method, params)

    async def run(self, origin: Origin) -> None:
        """Read the node and publish until cancelled, whatever the node does.

        Args:
            origin: gives updates their positions; its hub is told how the node does.
        """
        settings, intervals, monotonic = self._settings, self._intervals, self._monotonic
        clock_ms = origin.hub.clock_ms

        def begin_chain() -> None:
            origin.begin_epoch()
            accounts.forget()
            for part in (metrics, network, energy):
                part.begin_chain()

        def set_verdict(verdict: Verdict) -> None:
            if verdict != origin.hub.status[::2]:
                log.info("%s: %s", verdict.state, verdict.detail)
                origin.hub.set_status(verdict.state, verdict.detail)

        metrics = Metrics(
            self.client,
            Outlet(origin),
            lambda: accounts.tps.value,
            monotonic=monotonic,
            metrics_url=settings.metrics_url,
        )
        blocks = Blocks(
            self.client,
            origin,
            settings,
            monotonic=monotonic,
            random=self._random,
            before_block=metrics.publish_height,
            begin_chain=begin_chain,
            set_verdict=set_verdict,
        )
        accounts = Accounts(self.client, origin, blocks, settings, intervals, monotonic=monotonic, random=self._random)
        network = Network(
            self.client, Outlet(origin), partial(setattr, metrics, "peers"), monotonic=monotonic, clock_ms=clock_ms
        )
        energy = Energy(self.client, Outlet(origin))
        self.client.latency = metrics.latency.observe
        pollers = (
            ("the mempool", metrics.read_mempool, metrics.forget_mempool, intervals.mempool),
            ("the node's metrics", metrics.read_telemetry, metrics.forget_telemetry, intervals.telemetry),
            ("the peers", network.read, network.forget, intervals.peers),
            ("the energy market", energy.read, energy.forget, intervals.energy),
        )
        async with self.client, asyncio.TaskGroup() as tasks:
            tasks.create_task(blocks.run())
            tasks.create_task(blocks.watch())
            tasks.create_task(accounts.run())
            tasks.create_task(accounts.work())
            tasks.create_task(self._publish_metrics(metrics))
            for what, step, forget, interval in pollers:
                poller = Poller(
                    what,
                    step,
                    forget,
                    interval=interval,
                    refused=intervals.refused,
                    forget_after=settings.stale_after_seconds,
                    monotonic=monotonic,
                    random=self._random,
                )
                tasks.create_task(poller.run())

    async def _publish_metrics(self, metrics: Metrics) -> None:
        while True:
            await asyncio.sleep(self._intervals.metrics)
            metrics.publish()
