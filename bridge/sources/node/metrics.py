"""Metrics: how the chain is doing, from the mempool, the node's telemetry, and what other parts know."""

from collections.abc import Callable

import msgspec

from bridge.sources.node.client import NodeClient, NodeUnusable, Unsigned
from bridge.sources.node.outlet import Outlet
from bridge.sources.node.promtext import parse
from bridge.sources.node.rates import Rate, Smoothed
from generated.theblock.state.v1 import metrics_pb2

ADMITTED = "tx_admitted_total"
WAITING = "mempool_size"
REWARD = "economics_block_reward_per_block"
FAMILIES = frozenset({ADMITTED, WAITING, REWARD})

UINT64 = 2**64


class _MempoolStats(msgspec.Struct):
    fee_p50: Unsigned


_decode_mempool = msgspec.json.Decoder(_MempoolStats).decode
_decode_text = msgspec.json.Decoder(str).decode


class Metrics:
    """Collects the metrics and publishes them when they changed.

    Attributes:
        latency: round-trip time to the node, smoothed, milliseconds.
        peers: how many peers the node knows, None: unknown.
    """

    def __init__(
        self,
        client: NodeClient,
        outlet: Outlet,
        accounts_tps: Callable[[], float | None],
        *,
        monotonic: Callable[[], float],
        metrics_url: str | None = None,
    ) -> None:
        """Know nothing.

        Args:
            client: asks the node.
            outlet: publishes.
            accounts_tps: returns transactions per second as the accounts show them, for nodes without telemetry.
            monotonic: returns seconds.
            metrics_url: Prometheus address of the node; None: its metrics are read by JSON-RPC.
        """
        self.latency = Smoothed()
        self.peers: int | None = None
        self._client = client
        self._outlet = outlet
        self._accounts_tps = accounts_tps
        self._monotonic = monotonic
        self._metrics_url = metrics_url
        self._height: int | None = None
        self._fees: int | None = None
        self._issuance: int | None = None
        self._telemetry = Throughput()

    def publish(self) -> None:
        """Publish what is known, if it changed."""
        tps = self._telemetry.tps
        update = metrics_pb2.MetricsUpdate(
            tps=_rounded(self._accounts_tps() if tps is None else tps, 2),
            fees=self._fees,
            latency_ms=_rounded(self.latency.value, 1),
            peers=self.peers,
            block_height=self._height,
            issuance=self._issuance,
        )
        if update.ListFields():
            self._outlet.put(update)

    def publish_height(self, height: int) -> None:
        """Publish a new block's height, before the block is published."""
        self._height = height
        self.publish()

    def begin_chain(self) -> None:
        """Forget what belongs to a chain, since another one begins."""
        self._height = None
        self._telemetry.forget()
        self._outlet.forget()

    async def read_mempool(self) -> None:
        """Ask for the median tip of the waiting transactions.

        Raises:
            UpstreamError: the node does not do what was asked.
        """
        result = await self._client.ask("mempool.stats", {"lane": "consumer"})
        try:
            self._fees = _decode_mempool(result).fee_p50
        except msgspec.DecodeError as error:
            raise NodeUnusable(f"the answer to mempool.stats is not as it must be: {error}") from error

    def forget_mempool(self) -> None:
        """Know nothing of the mempool."""
        self._fees = None

    async def read_telemetry(self) -> None:
        """Ask for the node's own metrics, from which throughput and issuance follow.

        Raises:
            UpstreamError: the node does not do what was asked.
        """
        if self._metrics_url is not None:
            text = await self._client.get(self._metrics_url)
        else:
            try:
                text = _decode_text(await self._client.ask("metrics", {}))
            except msgspec.DecodeError as error:
                raise NodeUnusable(f"the answer to metrics is no text: {error}") from error
        values = parse(text, FAMILIES)
        self._telemetry.observe(self._monotonic(), values.get(ADMITTED), values.get(WAITING))
        reward = values.get(REWARD)
        self._issuance = int(reward) if reward is not None and 0 <= reward < UINT64 else None

    def forget_telemetry(self) -> None:
        """Know nothing of the node's own metrics."""
        self._issuance = None
        self._telemetry.forget()


class Throughput:
    """Transactions per second that were included: those admitted less those that wait.

    Counters begin at 0 with every start of the node (measured), so what goes back begins anew.
    """

    def __init__(self) -> None:
        self._rate = Rate(0.0)
        self._admitted = 0.0

    @property
    def tps(self) -> float | None:
        """Transactions per second between the last two looks; None while unknown."""
        return self._rate.value

    def observe(self, now: float, admitted: float | None, waiting: float | None) -> None:
        """Take in the counter of admitted transactions and the size of the mempool at `now` (seconds)."""
        if admitted is None or waiting is None:
            self.forget()
            return
        if admitted < self._admitted:
            self._rate.forget()
        self._admitted = admitted
        self._rate.observe(now, admitted - waiting)

    def forget(self) -> None:
        """Know nothing."""
        self._rate.forget()
        self._admitted = 0.0


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
