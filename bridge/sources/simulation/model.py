"""The simulated node as a whole: one step is one turn of the chain and everything that is published with it."""

from collections import deque
from itertools import zip_longest

from google.protobuf.message import Message

from bridge.sources.simulation.chain import REWARD, Block, Chain
from bridge.sources.simulation.chance import Chance
from bridge.sources.simulation.market import Market
from generated.theblock.state.v1 import account_pb2, block_pb2, energy_pb2, metrics_pb2, network_pb2

BUSY_BEGINS, BUSY_ENDS = 1 / 60, 1 / 20
"""Probability that a busy phase begins or ends, each step."""

REORG = 1 / 40
REORG_DEPTHS = (1, 1, 1, 1, 1, 1, 2, 2, 2, 3)
"""Probability of a reorganisation, each step, and its depths, one of which is drawn."""

TPS_STEPS = 30
"""Over how many steps transactions per second are counted."""

NETWORK_EVERY, ENERGY_EVERY = 4, 5
"""Steps between updates of the network and of the energy market."""


class Simulation:
    """A node that is not there. The same seed and the same times give the same payloads, byte for byte.

    No draw depends on the times: the hashes, balances and heights of a seed are always the same ones.

    Attributes:
        chain: the chain.
        market: the market.
        busy: whether a busy phase is on.
        steps: how many steps were done; the tip has one less as its height.
    """

    def __init__(self, seed: int) -> None:
        self._chance = Chance(seed)
        self.chain = Chain(self._chance)
        self.market = Market()
        self.busy = False
        self.steps = 0
        self._time_ms = 0
        self._counts: deque[tuple[int, int]] = deque(maxlen=TPS_STEPS + 1)  # (time in ms, transactions so far)
        self._peers = 24
        self._latency_ms = 12.0
        self._providers, self._supply, self._demand = 12, 4_000, 3_500

    def step(self, time_ms: int) -> list[Message]:
        """Do one step: the chain grows by one block, or loses some and grows by one more than it lost.

        Args:
            time_ms: the time, Unix milliseconds; one that lies before the last is taken for the last.

        Returns:
            The payloads in the order in which they are published: metrics before the blocks that they tell of.
        """
        chance, chain = self._chance, self.chain
        time_ms = self._time_ms = max(self._time_ms, time_ms)
        self.steps += 1
        self.busy = not chance.happens(BUSY_ENDS) if self.busy else chance.happens(BUSY_BEGINS)
        arrivals, urgency = (8 + chance.below(16), 8) if self.busy else (chance.below(4), 2)
        chain.add_transactions(chance, arrivals, urgency)
        blocks = self._blocks(time_ms)
        if (self.steps - 1) % NETWORK_EVERY == 0:
            self._peers = chance.walk(self._peers, 8, 64, 1)
            network = [self._network()]
        else:
            network = []
        payloads: list[Message] = [self._metrics(time_ms), *blocks, *self._accounts(), *network]
        if self.market.trade(chance, 1 + chance.below(4) if self.busy else chance.below(2), time_ms):
            payloads.append(self.market.payload(time_ms))
        if (self.steps - 1) % ENERGY_EVERY == 0:
            payloads.append(self._energy())
        return payloads

    def _blocks(self, time_ms: int) -> list[block_pb2.BlockUpdate]:
        """Let the chain grow; in a reorganisation the lowest new block says what it replaces, once for all of it."""
        chance, chain = self._chance, self.chain
        lost: list[Block] = []
        if chance.happens(REORG):
            depth = min(REORG_DEPTHS[chance.below(len(REORG_DEPTHS))], chain.reorg_limit)
            lost = chain.take_off(depth) if depth else []
        updates = []
        for gone, _ in zip_longest(lost, range(len(lost) + 1)):
            block = chain.add_block(chance, time_ms if gone is None else gone.timestamp)
            update = block_pb2.BlockUpdate(
                height=block.height,
                finalized_height=chain.finalized_height,
                hash=block.hash,
                parent_hash=block.parent_hash,
                timestamp=block.timestamp,
                tx_count=len(block.transactions),
            )
            if gone is not None and gone is lost[0]:
                replaced = block_pb2.ReplacedBlock(height=gone.height, hash=gone.hash, depth=len(lost))
                update.replaces.CopyFrom(replaced)
            updates.append(update)
        return updates

    def _metrics(self, time_ms: int) -> metrics_pb2.MetricsUpdate:
        tip = self.chain.tip
        assert tip is not None
        self._counts.append((time_ms, self.chain.transactions))
        elapsed_ms = time_ms - self._counts[0][0]
        count = max(0, self.chain.transactions - self._counts[0][1])
        self._latency_ms += 0.2 * (5 + 20 * self._chance.share() - self._latency_ms)
        return metrics_pb2.MetricsUpdate(
            tps=round(count * 1000 / elapsed_ms, 3) if elapsed_ms else None,
            fees=self.chain.median_tip(),
            latency_ms=round(self._latency_ms, 2),
            peers=self._peers,
            block_height=tip.height,
            issuance=REWARD,
        )

    def _accounts(self) -> list[account_pb2.AccountUpdate]:
        tip = self.chain.tip
        assert tip is not None
        accounts = self.chain.accounts
        return [
            account_pb2.AccountUpdate(
                address=address,
                balance=str(accounts[address].balance),
                nonce=accounts[address].nonce,
                height=tip.height,
            )
            for address in self.chain.take_changed()
        ]

    def _network(self) -> network_pb2.NetworkUpdate:
        traffic = 20_000 * self._peers * (3 if self.busy else 1)
        return network_pb2.NetworkUpdate(
            peers=self._peers,
            active_connections=self._peers - self._chance.below(4),
            bandwidth=network_pb2.Bandwidth(
                inbound=round(traffic * (0.8 + 0.4 * self._chance.share())),
                outbound=round(traffic * (0.6 + 0.4 * self._chance.share())),
            ),
        )

    def _energy(self) -> energy_pb2.EnergyUpdate:
        chance = self._chance
        if chance.happens(0.05):
            self._providers = chance.walk(self._providers, 6, 30, 1)
        self._supply = chance.walk(self._supply, 1_000, 9_000, 60)
        self._demand = chance.walk(self._demand, 1_000, 9_000, 60)
        return energy_pb2.EnergyUpdate(
            total_supply=self._supply,
            total_demand=self._demand,
            price=round(120 * self._demand / self._supply, 2),
            providers=self._providers,
        )
