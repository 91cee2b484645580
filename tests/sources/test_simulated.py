"""The simulated source: the model's promises, and the source that clocks it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from itertools import count, islice, pairwise
from typing import TypeVar

import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.core.history import HistoryLimits
from bridge.core.hub import Hub, State
from bridge.core.origin import Origin
from bridge.core.streams import Catalogue
from bridge.sources.simulated import PAST_BLOCKS, SLICE_STEPS, STREAMS, SimulatedSource, updates
from bridge.sources.simulation.chain import FINALITY_LAG, Chain
from bridge.sources.simulation.chance import Chance
from bridge.sources.simulation.model import REORG_DEPTHS, Simulation
from generated.theblock.state.v1.account_pb2 import AccountUpdate
from generated.theblock.state.v1.block_pb2 import BlockUpdate
from generated.theblock.state.v1.metrics_pb2 import MetricsUpdate
from generated.theblock.state.v1.network_pb2 import NetworkUpdate
from generated.theblock.state.v1.trading_pb2 import TradingUpdate

M = TypeVar("M", bound=Message)

SEEDS = range(5)
START_MS = 1_700_000_000_000


def payloads(seed: int, steps: int) -> list[Message]:
    """The payloads of the first `steps` steps."""
    simulation = Simulation(seed)
    return [payload for n in range(steps) for payload in simulation.step(START_MS + n * 1000)]


def serialized(messages: Iterable[Message]) -> list[bytes]:
    return [message.DESCRIPTOR.name.encode() + message.SerializeToString(deterministic=True) for message in messages]


def of_type(messages: Iterable[Message], kind: type[M]) -> list[M]:
    return [message for message in messages if isinstance(message, kind)]


class ClientChain:
    """What a client that follows the contract holds: a later block of a height supersedes the earlier one, and
    `replaces` voids the heights above."""

    def __init__(self) -> None:
        self.blocks: dict[int, BlockUpdate] = {}
        self.reorgs: list[int] = []

    def take(self, block: BlockUpdate) -> None:
        if block.HasField("replaces"):
            replaced = block.replaces
            assert replaced.height == block.height
            assert replaced.hash == self.blocks[block.height].hash != block.hash
            above = [height for height in self.blocks if height >= block.height]
            assert replaced.depth == len(above)
            for height in above:
                del self.blocks[height]
            self.reorgs.append(replaced.depth)
        assert block.height not in self.blocks, "another block of this height without replaces"
        self.blocks[block.height] = block

    def check_links(self) -> None:
        heights = sorted(self.blocks)
        assert heights == list(range(len(heights)))
        for below, above in pairwise(heights):
            assert self.blocks[above].parent_hash == self.blocks[below].hash


class FakeTime:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


def new_origin(clock_ms: Callable[[], int] = lambda: START_MS, keys: int = 1000) -> Origin:
    """An origin whose epochs are e1, e2 and so on."""
    numbers = iter(range(1, 1000))
    hub = Hub(Catalogue(), clock_ms=clock_ms, schedule=lambda: None, limits=HistoryLimits(keys=keys))
    return Origin(hub, new_epoch=lambda: f"e{next(numbers)}")


def published(origin: Origin, stream: str) -> list[Message]:
    """The payloads of a stream, as subscribers get them."""
    history = origin.hub.histories[stream]
    assert history.stream is not None
    field = history.stream.field
    return [getattr(update.message(), field) for update in history.after(0, 1_000_000)]


def height_of(origin: Origin) -> int:
    latest = origin.hub.histories["block_updates"].latest.get("")
    return -1 if latest is None else latest.message().block.height


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0)


@asynccontextmanager
async def running(source: SimulatedSource, origin: Origin) -> AsyncIterator["asyncio.Task[None]"]:
    task = asyncio.create_task(source.run(origin))
    try:
        yield task
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# ---------------------------------------------------------------------- the model


@given(seed=st.integers(0, 2**63 - 1), steps=st.integers(1, 150))
@settings(max_examples=40, deadline=None)
def test_money_is_conserved_after_every_step(seed: int, steps: int) -> None:
    simulation = Simulation(seed)
    for n in range(steps):
        simulation.step(n * 1000)
        chain = simulation.chain
        balances = [account.balance for account in chain.accounts.values()]
        assert min(balances) >= 0
        assert sum(balances) + chain.burned == chain.genesis + chain.issued
        assert sum(account.nonce for account in chain.accounts.values()) == chain.transactions


@given(seed=st.integers(0, 2**32), depth=st.integers(1, FINALITY_LAG), length=st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_taking_blocks_off_restores_what_was_before_them(seed: int, depth: int, length: int) -> None:
    chance = Chance(seed)
    chain = Chain(chance)
    states = []
    for n in range(length):
        chain.add_transactions(chance, 5, 2)
        chain.add_block(chance, n)
        states.append((dict(chain.accounts), chain.burned, chain.issued, chain.tip))
    depth = min(depth, chain.reorg_limit)
    if depth == 0:
        assert length == 1, "only the first block is final at once"
        return
    lost = chain.take_off(depth)
    assert (chain.accounts, chain.burned, chain.issued, chain.tip) == states[-1 - depth]
    assert [block.height for block in lost] == list(range(length - depth, length))
    assert chain.tip is not None
    assert chain.tip.height >= chain.finalized_height


def test_published_accounts_add_up_to_the_money_there_is() -> None:
    simulation = Simulation(7)
    known: dict[str, int] = {}
    nonces: dict[str, int] = {}
    for n in range(400):
        step = simulation.step(n * 1000)
        tip = of_type(step, BlockUpdate)[-1].height
        for account in of_type(step, AccountUpdate):
            assert account.height == tip
            known[account.address] = int(account.balance)
            nonces[account.address] = account.nonce
        chain = simulation.chain
        assert sum(known.values()) == chain.genesis + chain.issued - chain.burned
        assert sum(nonces.values()) == chain.transactions


@pytest.mark.parametrize("seed", SEEDS)
def test_blocks_make_a_chain_for_a_client_that_follows_the_rules(seed: int) -> None:
    client = ClientChain()
    finalized: dict[int, bytes] = {}
    newest_final = 0
    for block in of_type(payloads(seed, 600), BlockUpdate):
        if block.HasField("replaces"):
            assert block.height > newest_final
        client.take(block)
        assert newest_final <= block.finalized_height <= block.height
        newest_final = block.finalized_height
        for height in range(len(finalized), newest_final + 1):
            finalized[height] = client.blocks[height].hash
        assert block.HasField("parent_hash") == (block.height > 0)
    client.check_links()
    assert all(client.blocks[height].hash == hash_ for height, hash_ in finalized.items())
    assert len(client.blocks) == 600, "each step ends one block higher"
    assert newest_final == 599 - FINALITY_LAG
    assert client.reorgs


def test_every_depth_of_reorganisation_occurs_and_none_is_deeper() -> None:
    replaced = [b.replaces for b in of_type(payloads(1, 3000), BlockUpdate) if b.HasField("replaces")]
    assert {r.depth for r in replaced} == set(REORG_DEPTHS) == {1, 2, 3}
    assert len(replaced) < 3000 / 20, "occasional"


@pytest.mark.parametrize("seed", SEEDS)
def test_timestamps_never_go_down_the_chain(seed: int) -> None:
    client = ClientChain()
    for block in of_type(payloads(seed, 600), BlockUpdate):
        client.take(block)
    stamps = [client.blocks[height].timestamp for height in sorted(client.blocks)]
    assert stamps == sorted(stamps)


def test_time_that_goes_back_is_taken_for_the_last() -> None:
    simulation = Simulation(1)
    simulation.step(5000)
    assert of_type(simulation.step(4000), BlockUpdate)[0].timestamp == 5000


@pytest.mark.parametrize("seed", SEEDS)
def test_the_height_of_metrics_is_never_below_a_block_and_never_goes_back(seed: int) -> None:
    highest = -1
    announced = -1
    for payload in payloads(seed, 600):
        if isinstance(payload, MetricsUpdate):
            assert payload.block_height >= announced
            announced = payload.block_height
            assert announced >= highest
        elif isinstance(payload, BlockUpdate):
            highest = max(highest, payload.height)
            assert announced >= highest


def test_metrics_and_network_agree_on_peers() -> None:
    metrics = network = 0
    for payload in payloads(2, 200):
        if isinstance(payload, NetworkUpdate):
            network = payload.peers
            assert payload.active_connections <= payload.peers
            assert network == metrics
        elif isinstance(payload, MetricsUpdate):
            metrics = payload.peers


def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not() -> None:
    first, again, other = (serialized(islice(updates(seed), 3000)) for seed in (11, 11, 12))
    assert first == again
    assert first != other


def test_a_seed_is_the_same_chain_at_any_rate() -> None:
    slow, fast = (
        [block.hash for block in of_type(islice(updates(4, blocks_per_second=rate), 3000), BlockUpdate)]
        for rate in (0.01, 1000)
    )
    assert slow == fast


@pytest.mark.parametrize("seed", SEEDS)
def test_the_past_has_a_value_for_every_stream(seed: int) -> None:
    catalogue = Catalogue()
    assert {catalogue.of_message(payload).name for payload in payloads(seed, PAST_BLOCKS)} == STREAMS
    assert {stream.name for stream in catalogue} == STREAMS


def test_there_are_calm_and_busy_phases() -> None:
    simulation = Simulation(3)
    counts: dict[bool, Counter[int]] = {True: Counter(), False: Counter()}
    tips: dict[bool, list[int]] = {True: [], False: []}
    phases = 0
    for n in range(1500):
        before = simulation.busy
        step = simulation.step(n * 1000)
        phases += simulation.busy != before
        counts[simulation.busy][of_type(step, BlockUpdate)[-1].tx_count] += 1
        tips[simulation.busy].append(of_type(step, MetricsUpdate)[0].fees)
    mean = {busy: sum(k * v for k, v in c.items()) / c.total() for busy, c in counts.items()}
    assert phases >= 10
    assert mean[True] > 3 * mean[False]
    assert max(tips[True]) > 0
    assert sorted(tips[False])[len(tips[False]) // 2] == 0, "nothing waits in calm times"


@pytest.mark.parametrize("seed", SEEDS)
def test_trading_adds_up(seed: int) -> None:
    seen: dict[str, float] = {}  # quantity by order
    executed: dict[str, float] = {}  # quantity by execution
    traded: Counter[str] = Counter()  # hundredths by order
    statuses: set[str] = set()
    trades = of_type(payloads(seed, 500), TradingUpdate)
    for update in trades:
        assert len(update.executions) <= 20
        assert len(update.orders) <= 20
        for order in update.orders:
            seen[order.id] = order.qty
            statuses.add(order.status)
            assert 0 <= order.filled <= order.qty
            assert (order.status == "filled") == (order.filled == order.qty)
            assert order.status != "partial" or order.filled > 0
        for execution in update.executions:
            if execution.id in executed:
                continue
            assert {execution.buy_order_id, execution.sell_order_id} <= seen.keys()
            assert execution.qty > 0
            executed[execution.id] = execution.qty
            traded[execution.buy_order_id] += round(execution.qty * 100)
            traded[execution.sell_order_id] += round(execution.qty * 100)
        for order in update.orders:
            assert traded[order.id] == round(order.filled * 100)
        assert update.volume_24h == pytest.approx(sum(executed.values()))
        assert update.HasField("last_price") == bool(executed)
        if update.executions:
            assert update.last_price == update.executions[-1].price
            ids = [int(execution.id[1:]) for execution in update.executions]
            assert ids == list(range(ids[0], ids[0] + len(ids))), "the newest ones, none left out"
        standing = [order for order in update.orders if order.status in ("open", "partial")]
        bids = [order.price for order in standing if order.side == "buy"]
        asks = [order.price for order in standing if order.side == "sell"]
        assert max(bids, default=0) < min(asks, default=1e9), "what crosses has traded"
    assert statuses == {"open", "partial", "filled", "cancelled"}
    assert len(executed) > 50


def test_volume_is_that_of_a_day() -> None:
    simulation = Simulation(5)
    day_ms = 24 * 3600 * 1000
    last: TradingUpdate | None = None
    for n in range(300):
        last = next(iter(of_type(simulation.step(n * 1000), TradingUpdate)), last)
    assert last is not None
    assert last.volume_24h > 0
    newest = simulation.market.payload(300_000 + 2 * day_ms)
    assert newest.volume_24h == 0
    assert newest.last_price == last.last_price


# ---------------------------------------------------------------------- the source


async def test_a_little_past_is_there_at_once_and_the_status_is_live() -> None:
    origin = new_origin()
    waiting = asyncio.Event()

    async def sleep(seconds: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    async with running(SimulatedSource(1, 2.0, sleep=sleep), origin):
        await waiting.wait()
        assert height_of(origin) == PAST_BLOCKS - 1
        assert all(origin.hub.histories[name].head for name in STREAMS)
        assert origin.hub.status.state is State.LIVE
        blocks = [b for b in published(origin, "block_updates") if isinstance(b, BlockUpdate)]
        assert blocks[0].timestamp == START_MS - (PAST_BLOCKS - 1) * 500
        assert blocks[-1].timestamp == START_MS


async def test_a_run_publishes_what_the_iterator_gives_byte_for_byte() -> None:
    origin, fake = new_origin(), FakeTime()
    source = SimulatedSource(9, 3.0, start_ms=START_MS, clock=fake.clock, sleep=fake.sleep)
    async with running(source, origin):
        await until(lambda: height_of(origin) >= 100)
    expected = list(islice(updates(9, blocks_per_second=3.0, start_ms=START_MS), 5000))
    for stream in Catalogue():
        got = published(origin, stream.name)
        wanted = [payload for payload in expected if payload.DESCRIPTOR.full_name == stream.message]
        assert got
        assert serialized(got) == serialized(wanted[: len(got)])


@pytest.mark.parametrize("rate", [0.01, 1.0, 1000.0])
async def test_the_rate_is_kept_without_drift(rate: float) -> None:
    """Each sleep takes a little longer than asked for; the plan is not moved by that."""
    origin, fake = new_origin(), FakeTime()

    async def oversleep(seconds: float) -> None:
        await fake.sleep(seconds * 1.3 + 0.0001)

    async with running(SimulatedSource(0, rate, clock=fake.clock, sleep=oversleep), origin):
        begun = fake.now
        await until(lambda: height_of(origin) >= PAST_BLOCKS - 1 + 200)
        steps = height_of(origin) - PAST_BLOCKS + 1
        assert (fake.now - begun) * rate == pytest.approx(steps, abs=1.5)


async def test_catching_up_gives_the_loop_its_turn_and_gives_up_what_was_slept_through() -> None:
    origin, fake = new_origin(), FakeTime()
    async with running(SimulatedSource(2, 100.0, clock=fake.clock, sleep=fake.sleep), origin):
        await until(lambda: height_of(origin) >= PAST_BLOCKS + 5)
        before, begun = height_of(origin), fake.now
        fake.now += 3600
        leaps = []
        async with asyncio.timeout(30):
            while fake.now < begun + 3600 + 5:
                height = height_of(origin)
                await asyncio.sleep(0)
                leaps.append(height_of(origin) - height)
    assert max(leaps) <= 2 * SLICE_STEPS
    made = height_of(origin) - before
    assert 1500 <= made <= 1600, "ten seconds are made up for, then five pass"


async def test_a_thousand_blocks_a_second_leave_the_loop_free() -> None:
    origin = new_origin()
    leaps: list[int] = []
    async with running(SimulatedSource(3, 1000.0), origin):
        await until(lambda: height_of(origin) >= 0)
        async with asyncio.timeout(30):
            while height_of(origin) < 600:
                height = height_of(origin)
                await asyncio.sleep(0)
                leaps.append(height_of(origin) - height)
    assert max(leaps) <= 2 * SLICE_STEPS


async def test_blocks_bear_the_time_of_the_hub() -> None:
    fake = FakeTime()
    origin = new_origin(lambda: START_MS + int(fake.now * 1000))
    async with running(SimulatedSource(3, 10.0, clock=fake.clock, sleep=fake.sleep), origin):
        await until(lambda: height_of(origin) >= 100)
    updates_ = origin.hub.histories["block_updates"].after(0, 10_000)
    live = [
        u for u in updates_ if u.message().block.height >= PAST_BLOCKS and not u.message().block.HasField("replaces")
    ]
    assert live
    by_height = {u.message().block.height: u for u in live}
    assert all(0 <= u.time_ms - u.message().block.timestamp <= 100 for u in by_height.values())


def in_a_reorganisation(payload: Message) -> bool:
    return isinstance(payload, BlockUpdate) and payload.replaces.depth >= 2


def of_number(kind: type[Message], number: int) -> Callable[[Message], bool]:
    numbers = count(1)
    return lambda payload: isinstance(payload, kind) and next(numbers) == number


CUTS: dict[str, Callable[[], Callable[[Message], bool]]] = {
    "after metrics": lambda: of_number(MetricsUpdate, 150),
    "after a block": lambda: of_number(BlockUpdate, 150),
    "among accounts": lambda: of_number(AccountUpdate, 1000),
    "after trading": lambda: of_number(TradingUpdate, 150),
    "in a reorganisation": lambda: in_a_reorganisation,
}


def cut_chain(seed: int, last: Callable[[Message], bool]) -> list[Message]:
    """The payloads of a chain up to and with the first one for which `last` is true."""
    before: list[Message] = []
    for payload in updates(seed):
        before.append(payload)
        if last(payload):
            break
    return before


@pytest.mark.parametrize("cut", CUTS)
async def test_a_chain_that_was_published_before_goes_on_where_it_was(cut: str) -> None:
    origin, fake = new_origin(), FakeTime()
    for payload in cut_chain(6, CUTS[cut]()):
        origin.publish(payload)
    height = height_of(origin)
    async with running(SimulatedSource(6, 1.0, clock=fake.clock, sleep=fake.sleep), origin):
        await until(lambda: height_of(origin) >= height + 50)
    assert origin.epoch == "e1"
    client = ClientChain()
    announced = 0
    for block in of_type(published(origin, "block_updates"), BlockUpdate):
        client.take(block)
    client.check_links()
    for metrics in of_type(published(origin, "metrics"), MetricsUpdate):
        assert metrics.block_height >= announced
        announced = metrics.block_height
    got = [block.hash for block in of_type(published(origin, "block_updates"), BlockUpdate)]
    whole = [block.hash for block in of_type(islice(updates(6), 20_000), BlockUpdate)]
    assert got == whole[: len(got)], "nothing is left out, nothing comes twice"


async def test_another_chain_begins_an_epoch() -> None:
    origin, fake = new_origin(), FakeTime()
    for payload in cut_chain(6, of_number(BlockUpdate, 60)):
        origin.publish(payload)
    async with running(SimulatedSource(8, 1.0, clock=fake.clock, sleep=fake.sleep), origin):
        await until(lambda: origin.epoch == "e2" and height_of(origin) >= PAST_BLOCKS)
    client = ClientChain()
    for block in of_type(published(origin, "block_updates"), BlockUpdate):
        client.take(block)
    client.check_links()
    assert client.blocks[0].hash == of_type(payloads(8, 1), BlockUpdate)[0].hash


async def test_fewer_keys_than_accounts_leave_accounts_out_and_end_nothing(caplog: pytest.LogCaptureFixture) -> None:
    origin, fake = new_origin(keys=5), FakeTime()
    async with running(SimulatedSource(8, 1.0, clock=fake.clock, sleep=fake.sleep), origin):
        await until(lambda: height_of(origin) >= PAST_BLOCKS + 20)
    assert len(origin.hub.histories["account"].latest) == 5
    assert len(caplog.records) == 1
    assert "5 keys" in caplog.records[0].getMessage()
