"""Reconnects: nothing is lost, nothing comes twice, and what cannot be had is said."""

import asyncio
import random
from dataclasses import replace

import pytest

from bridge.client import (
    CaughtUp,
    Connected,
    Disconnected,
    FellBehind,
    Gap,
    GoingAway,
    Position,
    Postponed,
    Progress,
    Subscription,
    Updated,
    Upstream,
)
from bridge.core.history import HistoryLimits
from bridge.core.hub import State
from tests.client.world import HASTY, listening, serving
from tests.edges.rig import Options, until

UPDATES = 2000
CUTS = 30
LONG = "x" * 4000
"""Makes frames long enough that a cut leaves some of them halfway."""


async def interrupt(world, chance: random.Random) -> None:
    """End every connection in one of the ways in which connections end."""
    match chance.randrange(4):
        case 0 | 1:
            await asyncio.wait(world.cut())
        case 2:
            await world.stop()
            await world.start()
        case 3:
            await world.stop(drain_seconds=chance.random() * 0.03)
            await world.start()


@pytest.mark.parametrize("number", range(2))
async def test_nothing_is_lost_or_repeated_over_thirty_cuts(world, format_, number):
    chance = random.Random(number)
    cuts = sorted(chance.sample(range(50, UPDATES), CUTS))

    async def publish() -> None:
        for index in range(1, UPDATES + 1):
            world.tick(index, LONG)
            world.block(index)
            world.values(index)
            world.account(f"a{index % 3}", index)
            if chance.random() < 0.05:
                await asyncio.sleep(0)
            if index in cuts:
                await until(lambda: world.connected, "somebody is connected")
                for _ in range(chance.randrange(8)):
                    await asyncio.sleep(0)
                await interrupt(world, chance)

    account = Subscription("account", key="a1")
    async with listening(world, "ticks", "block_updates", "metrics", "account", account, format=format_) as listener:
        publishing = asyncio.create_task(publish())
        last = {"ticks": 0, "block_updates": 0, "metrics": 0, "account": 0}
        while min(last.values()) < UPDATES:
            event = await listener.take()
            if isinstance(event, Updated):
                last[event.stream] = event.seq
        await publishing
        verdict = world.oracle.verdict()
        assert verdict.ok, verdict
        for stream in ("ticks", "block_updates", "account"):
            assert [update.seq for update in listener.updates(stream)] == list(range(1, UPDATES + 1))
        assert len(listener.of(Disconnected)) >= CUTS
        counts = listener.client.counts
        assert (counts.repeated, counts.unexplained, counts.unasked, counts.unknown) == (0, 0, 0, 0)


async def test_goes_on_on_another_connection(world, format_):
    async with listening(world, "block_updates", "metrics", format=format_) as listener:
        world.block(1)
        world.values(1)
        await listener.take_until(lambda event: isinstance(event, Updated) and event.stream == "metrics")
        await world.stop()
        for height in (2, 3):
            world.block(height)
            world.values(height)
        lost = await listener.next(Disconnected)
        assert (lost.reason, lost.code) == ("the connection was lost", None)
        await world.start()
        rows = {row.stream: row for row in (await listener.next(Connected)).subscriptions}
        assert (rows["block_updates"].recovered, rows["block_updates"].replayed) == (True, 2)
        assert (rows["metrics"].recovered, rows["metrics"].replayed) == (True, 1)
        await listener.take_until(lambda event: isinstance(event, Updated) and event.stream == "metrics")
        assert [update.seq for update in listener.updates("block_updates")] == [1, 2, 3]
        assert [update.seq for update in listener.updates("metrics")] == [1, 3]
        assert listener.client.position("metrics") == Position("epoch1", 3)


async def test_begins_behind_a_position(world, format_):
    await world.blocks(5)
    since = Subscription("block_updates", since=Position("epoch1", 3))
    async with listening(world, since, format=format_) as listener:
        assert [(await listener.next(Updated)).seq for _ in range(2)] == [4, 5]
        assert listener.of(Connected)[0].subscriptions[0].recovered is True


@pytest.mark.parametrize("position", [Position("other", 3), Position("epoch1", 9)], ids=["epoch", "ahead"])
async def test_is_told_that_a_position_means_nothing_here(world, format_, position):
    await world.blocks(5)
    async with listening(world, Subscription("block_updates", since=position), format=format_) as listener:
        row = listener.of(Connected)[0].subscriptions[0]
        assert (row.recovered, row.reason) == (False, "epoch" if position.epoch == "other" else "ahead")
        snapshot = await listener.next(Updated)
        assert (snapshot.seq, snapshot.snapshot, snapshot.missed) == (5, True, None)
        world.block(6)
        assert (await listener.next(Updated)).seq == 6
        assert listener.client.counts.unexplained == 0


async def test_drain_says_when_to_come_back(world, format_):
    async with listening(world, "block_updates", format=format_) as listener:
        await world.stop(drain_seconds=0.05)
        told = await listener.next(GoingAway)
        lost = await listener.next(Disconnected)
        assert lost.code == 1012
        assert "the sidecar restarts" in lost.reason
        assert 0 <= told.retry_after_ms <= 50
        assert lost.retry_seconds <= told.retry_after_ms / 1000 + 0.05  # it was served for a part of that
        await world.start()
        await listener.next(Connected)


class TestTrimmed:
    """History is short: what an absent client missed is named."""

    @pytest.fixture
    def options(self):
        return Options(history=HistoryLimits(count=10))

    async def test_gap_and_the_value_that_stands_in(self, world, format_):
        async with listening(world, "block_updates", format=format_) as listener:
            await world.blocks(3)
            await listener.take_until(lambda event: isinstance(event, Updated) and event.seq == 3)
            await world.stop()
            await world.blocks(20)
            await world.start()
            row = (await listener.next(Connected)).subscriptions[0]
            assert (row.recovered, row.reason) == (False, "trimmed")
            gap = await listener.next(Gap)
            assert (gap.first, gap.last, gap.reason, gap.key) == (4, 13, "trimmed", None)
            stand_in = await listener.next(Updated)
            assert (stand_in.seq, stand_in.snapshot, stand_in.missed.first, stand_in.missed.last) == (13, True, 4, 13)
            await listener.take_until(lambda event: isinstance(event, Updated) and event.seq == 23)
            assert [update.seq for update in listener.updates("block_updates")] == [1, 2, 3, *range(14, 24)]
            verdict = world.oracle.verdict()
            assert verdict.ok, verdict
            assert listener.client.counts.unexplained == 0


async def test_new_epoch_while_connected(world, format_):
    async with listening(world, "block_updates", "energy", format=format_) as listener:
        await world.blocks(3)
        await listener.take_until(lambda event: isinstance(event, Updated) and event.seq == 3)
        world.origin.begin_epoch()
        gap = await listener.take_until(lambda event: isinstance(event, Gap) and event.stream == "block_updates")
        assert (gap.epoch, gap.reason) == ("epoch2", "epoch")
        await world.blocks(2)
        await listener.take_until(lambda event: isinstance(event, Updated) and event.seq == 2)
        world.cut()
        world.block(3)
        await listener.take_until(
            lambda event: isinstance(event, Updated) and event.epoch == "epoch2" and event.seq == 3
        )
        verdict = world.oracle.verdict()
        assert verdict.ok, verdict
        assert (listener.client.counts.repeated, listener.client.counts.unexplained) == (0, 0)


async def test_outage_of_the_state_service_voids_no_position(world, format_):
    """While a position cannot be decided on, the client keeps it and asks again."""
    async with listening(world, "ticks", format=format_) as listener:
        world.tick(1)
        await listener.next(Updated)
        await world.stop()
        await listener.next(Disconnected)
        # A new sidecar, whose state service cannot be reached: it knows nothing of the stream.
        reached, history = world.hub, world.hub.histories.pop("ticks")
        reached.upstream_reached = False
        await world.start()
        postponed = await listener.next(Postponed)
        assert "the state service cannot be reached" in postponed.reason
        assert 1.0 <= postponed.retry_seconds <= 2.0
        assert listener.client.position("ticks") == Position("epoch1", 1)
        reached.histories["ticks"] = history
        reached.upstream_reached = True
        world.tick(2)
        row = (await listener.next(Connected)).subscriptions[0]
        assert (row.recovered, row.seq) == (True, 1)
        assert (await listener.next(Updated)).seq == 2


async def test_progress_moves_the_position(format_):
    now_ms = 1_700_000_000_000

    async with serving(Options(clock_ms=lambda: now_ms)) as world:
        none = Subscription("block_updates", where={"height": {"gt": 1000}})
        async with listening(world, none, format=format_) as listener:
            await world.blocks(50)
            now_ms += 15_000
            progress = await listener.next(Progress)
            assert [(at.stream, at.epoch, at.seq) for at in progress.positions] == [("block_updates", "epoch1", 50)]
            assert listener.client.position("block_updates") == Position("epoch1", 50)
            world.cut()
            row = (await listener.next(Connected)).subscriptions[0]
            assert (row.recovered, row.replayed, row.seq) == (True, 0, 50)
            world.block(1001)
            assert (await listener.next(Updated)).seq == 51


async def test_is_told_of_the_upstream(world, format_):
    async with listening(world, "block_updates", format=format_) as listener:
        world.hub.set_status(State.DOWN, "the node is gone")
        assert (await listener.next(Upstream)).state == "down"
        world.hub.set_status(State.LIVE, "it is back")
        upstream = await listener.next(Upstream)
        assert (upstream.state, upstream.since_ms) == ("live", world.hub.status.since_ms)


class TestSlow:
    """Whoever takes slowly makes the sidecar wait; nothing grows, nothing is lost."""

    @pytest.fixture
    def options(self):
        options = Options(history=HistoryLimits(count=20_000, bytes=1 << 30))
        return replace(options, patience=replace(options.patience, send_buffer_bytes=65_536))

    async def test_back_pressure_reaches_the_sidecar(self, world, format_):
        number = 2500
        async with listening(world, "ticks", format=format_, buffer_bytes=100_000) as listener:
            for index in range(1, number + 1):
                world.tick(index, LONG)
                if index % 20 == 0:
                    await asyncio.sleep(0)
            reader = next(iter(world.hub.readers))
            await until(lambda: reader.blocked, "the sidecar waits for the client")
            history = world.hub.histories["ticks"]
            assert reader.cursors["ticks", None].at < history.head
            buffered = listener.client.position("ticks").seq
            assert buffered * len(LONG) < 200_000
            await listener.take_until(lambda event: isinstance(event, Updated) and event.seq == number)
            assert [update.seq for update in listener.updates("ticks")] == list(range(1, number + 1))
            await listener.next(CaughtUp)
            assert listener.of(FellBehind)[0].stream == "ticks"
            verdict = world.oracle.verdict()
            assert verdict.ok, verdict

    async def test_who_asks_between_two_updates_is_answered(self, world, format_):
        """Even if nothing more fits in: an answer comes behind updates that have to be read first."""
        async with listening(world, "ticks", format=format_, buffer_bytes=1, patience=HASTY) as listener:
            for index in range(1, 11):
                world.tick(index, "x")
            assert (await listener.next(Updated)).seq == 1
            page = await listener.client.history("ticks", limit=3, reverse=True)
            assert [update.seq for update in page.updates] == [10, 9, 8]
            assert [(await listener.next(Updated)).seq for _ in range(9)] == list(range(2, 11))
