"""Several addresses of one state service over real connections: whatever fails, clients notice as little as can be."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from bridge.core.hub import State
from bridge.core.update import Form
from bridge.sources.patience import Patience
from bridge.verify.oracle import Oracle
from generated.theblock.state.v1 import service_pb2
from tests.core.v1_clients import CLIENTS, kinds, since
from tests.core.world import Client
from tests.sources.upstream_rig import BLOCKS, Proxy, Sidecar, before, relay_of, sidecar_of
from tests.state_service import Service, serving, until

QUICK = Patience(answer=2, silence=0.5, settle=0.05, look_pause=0.05, doubt=60, left=60)
"""Silence is noticed soon, and positions are not given up within a test."""


def world_of(sidecar: Sidecar, oracle: Oracle) -> SimpleNamespace:
    """What clients without a socket live in."""
    return SimpleNamespace(hub=sidecar.hub, oracle=oracle, disk=None, now_ms=0)


class Judged:
    """A client of a sidecar, and the oracle that knows what the services published."""

    def __init__(self, sidecar: Sidecar, *services: Service) -> None:
        self.oracle = Oracle()
        self.services = services
        self.hub = sidecar.hub
        self.client = Client(world_of(sidecar, self.oracle), "client")
        self.client.subscribe(BLOCKS, "account", "weather")

    async def verdict(self):
        await until(lambda: not self.hub.catching_up)
        self.hub.finish()
        for service in self.services:
            for history in service.hub.histories.values():
                for update in history.after(0, 10_000):
                    self.oracle.published(update.json(Form()))
        return self.oracle.verdict()


@asynccontextmanager
async def two_ways(**settings) -> AsyncIterator[tuple[Service, Proxy, Proxy, Sidecar]]:
    """One service that a sidecar reaches in two ways."""
    async with (
        serving(progress_seconds=0.1) as service,
        before(service.address) as first,
        before(service.address) as second,
        sidecar_of(first.address, second.address, patience=QUICK, **settings) as sidecar,
    ):
        service.blocks(range(1, 4))
        await until(lambda: sidecar.live and sidecar.taken() == [1, 2, 3])
        yield service, first, second, sidecar


# Failures


def hold(proxy: Proxy) -> None:
    proxy.passing.clear()


@pytest.mark.parametrize("fail", [Proxy.cut, Proxy.refuse, hold], ids=["cut", "refused", "silent"])
async def test_when_the_address_in_use_fails_the_next_is_followed_and_clients_notice_nothing(fail):
    async with two_ways() as (service, first, second, sidecar):
        judged = Judged(sidecar, service)
        service.blocks(range(4, 8))
        await until(lambda: sidecar.head == 7)
        fail(first)
        service.blocks(range(8, 20))
        service.custom("weather", 1)
        await until(lambda: sidecar.in_use == second.address and sidecar.head == 19)
        service.blocks(range(20, 30))
        await until(lambda: sidecar.head == 29 and sidecar.taken("weather") == [1])
        assert sidecar.never_down
        counts = sidecar.source.subscriptions
        assert (counts.repeats, counts.faults, counts.given_up) == (0, 0, 0)
        assert sidecar.source.upstreams.failovers == 1
        assert sidecar.hub.upstream_reached
        first.passing.set()
        verdict = await judged.verdict()
        assert verdict.ok, verdict
        assert verdict.delivered == 27


async def test_whoever_waits_for_the_upstream_is_told_that_it_is_reached_again():
    async with two_ways() as (_, first, second, sidecar):
        reached = asyncio.Event()
        sidecar.hub.listen(lambda: sidecar.in_use == second.address and sidecar.hub.upstream_reached and reached.set())
        first.cut()
        async with asyncio.timeout(20):
            await reached.wait()
        assert sidecar.never_down
        assert sidecar.hub.status.since_ms == 1_700_000_000_000


async def test_one_failure_after_the_other_loses_nothing_and_repeats_nothing():
    async with two_ways() as (service, first, second, sidecar):
        judged = Judged(sidecar, service)
        heights = itertools.count(4)
        proxies = {proxy.address: proxy for proxy in (first, second)}
        for _ in range(12):
            service.blocks(itertools.islice(heights, 20))
            in_use = sidecar.in_use
            proxies[in_use].cut()
            service.blocks(itertools.islice(heights, 20))
            await until(lambda: sidecar.hub.upstream_reached and sidecar.head == service.hub.history(BLOCKS).head)
        assert sidecar.never_down
        assert sidecar.source.subscriptions.repeats == 0
        verdict = await judged.verdict()
        assert verdict.ok, verdict
        assert verdict.delivered == 480


async def test_a_failure_in_the_middle_of_a_replay_goes_on_there_at_the_next_address():
    async with (
        serving() as service,
        before(service.address) as first,
        before(service.address) as second,
    ):
        service.blocks(range(1, 3001), size=4000)
        async with sidecar_of(first.address, second.address, patience=QUICK) as sidecar:
            await until(lambda: len(sidecar.admitted) > 200)
            assert len(sidecar.admitted) < 3000
            first.refuse()
            await until(lambda: sidecar.live)
            assert sidecar.taken() == list(range(1, 3001))
            assert sidecar.source.subscriptions.repeats == 0


# No address works


async def test_when_no_address_works_positions_stay_valid_and_everything_goes_on_later():
    async with two_ways() as (service, first, second, sidecar):
        judged = Judged(sidecar, service)
        first.refuse()
        second.refuse()
        await until(lambda: sidecar.hub.status.state is State.DOWN)
        detail = sidecar.hub.status.detail
        assert f"the one at {first.address} cannot be reached" in detail
        assert f"the one at {second.address} cannot be reached" in detail
        assert not sidecar.hub.upstream_reached
        late = Client(world_of(sidecar, Oracle()), "late")
        (row,) = late.subscribe({"stream": BLOCKS, "since": {"epoch": "e1", "seq": 1}})
        assert (row["recovered"], row["replayed"]) == (True, 2)
        for position in ({"epoch": "e1", "seq": 9}, {"epoch": "other", "seq": 1}):
            error = late.call("state_stream.subscribe", {"stream": BLOCKS, "since": position})["error"]
            assert (error["code"], error["data"]["retry_after_ms"] > 0) == (-32010, True)
        assert late.call("state_stream.history", {"stream": BLOCKS, "limit": 9})["result"]["updates"][-1]["seq"] == 3
        service.blocks(range(4, 12))
        second.accept()
        await until(lambda: sidecar.live and sidecar.head == 11)
        (row,) = late.subscribe({"stream": BLOCKS, "since": {"epoch": "e1", "seq": 9}})
        assert (row["recovered"], row["replayed"]) == (True, 2)
        assert [state for state, _ in sidecar.states] == [State.DOWN, State.LIVE, State.DOWN, State.LIVE]
        verdict = await judged.verdict()
        assert verdict.ok, verdict


# Relays that lag


@asynccontextmanager
async def lagging(**settings) -> AsyncIterator[tuple[Service, Proxy, Proxy, Sidecar, Sidecar]]:
    """A service, the way of a sidecar to it, and a relay of it that has the first three of five updates."""
    async with (
        serving(progress_seconds=0.1) as service,
        before(service.address) as way,
        before(service.address) as feed,
        relay_of(feed.address) as (address, relay),
        sidecar_of(way.address, address, patience=QUICK, **settings) as sidecar,
    ):
        service.blocks(range(1, 4))
        await until(lambda: sidecar.live and relay.live and sidecar.head == relay.head == 3)
        hold(feed)
        service.blocks(range(4, 6))
        await until(lambda: sidecar.head == 5)
        assert relay.head == 3
        yield service, way, feed, relay, sidecar


async def test_a_relay_that_lags_is_waited_for_and_nothing_begins_anew():
    async with lagging() as (service, way, feed, _, sidecar):
        judged = Judged(sidecar, service)
        way.refuse()
        await until(lambda: "is behind the updates held here" in sidecar.hub.status.detail)
        assert sidecar.never_down
        assert not sidecar.hub.upstream_reached
        feed.passing.set()
        await until(lambda: sidecar.hub.upstream_reached)
        service.blocks(range(6, 9))
        await until(lambda: sidecar.head == 8)
        assert sidecar.taken() == list(range(1, 9))
        assert sidecar.never_down
        verdict = await judged.verdict()
        assert verdict.ok, verdict


async def test_another_address_is_followed_while_a_relay_lags():
    async with lagging() as (service, way, feed, relay, sidecar):
        way.refuse()
        await until(lambda: "is behind" in sidecar.hub.status.detail)
        way.accept()
        service.blocks(range(6, 9))
        await until(lambda: sidecar.head == 8 and sidecar.hub.upstream_reached)
        assert (sidecar.in_use, relay.head, sidecar.taken()) == (way.address, 3, list(range(1, 9)))
        assert sidecar.never_down
        feed.passing.set()


# Relays that have lost their own upstream


@asynccontextmanager
async def on_a_relay() -> AsyncIterator[tuple[Service, Proxy, Proxy, Sidecar]]:
    """A sidecar that follows a relay, with the service itself as the second address; and the ways to the service."""
    async with (
        serving(progress_seconds=0.1) as service,
        before(service.address) as feed,
        before(service.address) as way,
        relay_of(feed.address) as (address, _),
        sidecar_of(address, way.address, patience=QUICK) as sidecar,
    ):
        service.blocks(range(1, 4))
        await until(lambda: sidecar.live and sidecar.head == 3)
        assert sidecar.in_use == address
        yield service, feed, way, sidecar


async def test_a_relay_that_is_down_is_left_for_an_address_that_is_live_and_clients_notice_nothing():
    async with on_a_relay() as (service, feed, way, sidecar):
        judged = Judged(sidecar, service)
        feed.refuse()
        await until(lambda: sidecar.in_use == way.address)
        service.blocks(range(4, 9))
        await until(lambda: sidecar.head == 8)
        assert sidecar.never_down
        assert sidecar.taken() == list(range(1, 9))
        verdict = await judged.verdict()
        assert verdict.ok, verdict


async def test_a_relay_that_is_down_is_not_left_for_nothing():
    async with on_a_relay() as (service, feed, way, sidecar):
        way.refuse()
        calls = sidecar.source.subscriptions.calls
        feed.refuse()
        await until(lambda: sidecar.hub.status.state is State.DOWN)
        assert "cannot be reached" in sidecar.hub.status.detail  # which is what the relay says of the service
        feed.accept()
        await until(lambda: sidecar.live)
        service.blocks(range(4, 9))
        await until(lambda: sidecar.head == 8)
        assert sidecar.source.subscriptions.calls == calls
        assert sidecar.source.upstreams.failovers == 0


async def test_the_address_that_is_live_is_turned_to_whatever_the_order():
    async with (
        serving() as service,
        before(service.address) as feed,
        before(service.address) as dead,
        relay_of(feed.address) as (relay, _),
        sidecar_of(relay, dead.address, service.address, patience=QUICK) as sidecar,
    ):
        await until(lambda: sidecar.live)
        dead.refuse()
        feed.refuse()
        await until(lambda: sidecar.in_use == service.address)
        assert sidecar.source.subscriptions.calls == 2
        assert sidecar.never_down


async def test_a_relay_that_is_down_is_not_left_for_one_that_is_live_but_lags():
    async with (
        serving(progress_seconds=0.1) as service,
        before(service.address) as feed,
        before(service.address) as slow,
        relay_of(feed.address) as (first, _),
        relay_of(slow.address) as (second, lagging_relay),
        sidecar_of(first, second, patience=QUICK) as sidecar,
    ):
        service.blocks(range(1, 4))
        await until(lambda: sidecar.live and sidecar.head == lagging_relay.head == 3)
        hold(slow)
        service.blocks(range(4, 6))
        await until(lambda: sidecar.head == 5)
        calls = sidecar.source.subscriptions.calls
        feed.refuse()
        await until(lambda: sidecar.hub.status.state is State.DOWN)
        assert lagging_relay.live
        assert sidecar.source.subscriptions.calls == calls
        slow.passing.set()
        await until(lambda: sidecar.live and sidecar.in_use == second)
        assert sidecar.taken() == [1, 2, 3, 4, 5]


async def test_of_two_that_are_down_neither_is_left_until_one_is_live():
    async with (
        serving() as service,
        relay_of(service.address) as (first, _),
        relay_of(service.address) as (second, _),
        sidecar_of(first, second, patience=QUICK) as sidecar,
    ):
        await until(lambda: sidecar.live)
        for state in (State.DOWN, State.LIVE) * 3:
            service.hub.set_status(state, "so it is")
            await until(lambda state=state: sidecar.hub.status[::2] == (state, "so it is"))
        assert sidecar.source.subscriptions.calls <= 4  # one may have said so a moment before the other


async def test_a_sidecar_that_starts_beside_a_relay_that_knows_nothing_finds_the_service(tmp_path):
    async with serving() as service:
        service.blocks(range(1, 4))
        async with (
            before(service.address) as feed,
            relay_of(feed.address) as (address, _),
        ):
            feed.refuse()
            async with sidecar_of(address, service.address, patience=QUICK) as sidecar:
                await until(lambda: sidecar.live and sidecar.taken() == [1, 2, 3])


# Epochs


@asynccontextmanager
async def two_epochs(**patience: float) -> AsyncIterator[tuple[Service, Service, Proxy, Proxy, Sidecar]]:
    """Two services with epochs of their own, the ways to them, and a sidecar that follows the first."""
    async with (
        serving(epoch="a", progress_seconds=0.1) as ours,
        serving(epoch="b", progress_seconds=0.1) as other,
        before(ours.address) as to_ours,
        before(other.address) as to_other,
        sidecar_of(
            to_ours.address, to_other.address, patience=Patience(settle=0.05, look_pause=0.05, **patience)
        ) as sidecar,
    ):
        ours.blocks(range(1, 6))
        other.blocks(range(1, 4))
        await until(lambda: sidecar.live and sidecar.head == 5)
        yield ours, other, to_ours, to_other, sidecar


async def test_another_epoch_is_not_gone_over_to_while_ours_may_come_back():
    async with two_epochs(doubt=60) as (ours, _, to_ours, _, sidecar):
        judged = Judged(sidecar, ours)
        to_ours.refuse()
        await until(lambda: "is in another epoch, b1" in sidecar.hub.status.detail)
        assert sidecar.hub.status.state is State.DOWN
        to_ours.accept()
        await until(lambda: sidecar.live)
        assert [one.doubted_at for one in sidecar.source.upstreams] == [None, None]
        ours.blocks(range(6, 9))
        await until(lambda: sidecar.head == 8)
        assert sidecar.hub.epoch == "a1"
        assert sidecar.taken() == list(range(1, 9))
        verdict = await judged.verdict()
        assert verdict.ok, verdict


async def test_another_epoch_is_a_new_epoch_to_clients_and_there_is_no_going_back_while_it_works():
    async with two_epochs(doubt=0.3, left=60) as (ours, other, to_ours, to_other, sidecar):
        judged = Judged(sidecar, ours, other)
        to_ours.refuse()
        await until(lambda: sidecar.live and sidecar.hub.epoch == "b1")
        assert sidecar.taken() == [1, 2, 3, 4, 5, 1, 2, 3]
        assert {history.epoch for history in sidecar.hub.histories.values()} == {"b1"}
        to_ours.accept()
        for height in range(4, 7):
            to_other.cut()
            other.block(height)
            await until(lambda height=height: sidecar.head == height and sidecar.hub.upstream_reached)
            assert sidecar.hub.epoch == "b1"
        assert sidecar.taken()[5:] == list(range(1, 7))
        verdict = await judged.verdict()
        assert verdict.ok, verdict


async def test_an_epoch_that_was_left_is_gone_back_to_when_nothing_else_works_for_long():
    async with two_epochs(doubt=0.2, left=0.4) as (ours, _, to_ours, to_other, sidecar):
        to_ours.refuse()
        await until(lambda: sidecar.hub.epoch == "b1" and sidecar.live)
        to_ours.accept()
        to_other.refuse()
        await until(lambda: sidecar.hub.epoch == "a1" and sidecar.live)
        ours.blocks(range(6, 8))
        await until(lambda: sidecar.head == 7)


async def test_a_service_that_is_down_for_long_is_left_for_one_of_another_epoch_that_is_live():
    async with two_epochs(doubt=0.5) as (ours, _, _, to_other, sidecar):
        ours.hub.set_status(State.DOWN, "the node is gone")
        await until(lambda: sidecar.hub.status[::2] == (State.DOWN, "the node is gone"))
        await until(lambda: sidecar.live)
        assert (sidecar.in_use, sidecar.hub.epoch) == (to_other.address, "b1")


async def test_an_epoch_that_begins_at_the_address_in_use_is_believed_at_once():
    async with two_epochs(doubt=60) as (ours, _, to_ours, _, sidecar):
        ours.origin.begin_epoch()
        ours.blocks(range(1, 3))
        await until(lambda: sidecar.hub.epoch == "a2" and sidecar.head == 2)
        async with serving(epoch="c") as successor:
            successor.block(1)
            to_ours.target = successor.address
            to_ours.cut()
            await until(lambda: sidecar.hub.epoch == "c1" and sidecar.head == 1)
            assert sidecar.in_use == to_ours.address


# Restored backups


@pytest.mark.parametrize("encoding", CLIENTS)
async def test_a_head_that_goes_back_for_good_is_a_new_epoch_to_clients(encoding):
    """Same epoch, fewer updates: after a while it is no relay that lags, and clients begin anew with what there is."""
    patience = Patience(doubt=0.3)
    async with serving(epoch="a") as old, before(old.address) as way:
        old.blocks(range(1, 21))
        async with sidecar_of(way.address, patience=patience) as sidecar:
            await until(lambda: sidecar.live and sidecar.head == 20)
            client = CLIENTS[encoding](world_of(sidecar, Oracle()))
            client.subscribe({"stream": BLOCKS, "since": since(18, "a1")})
            sidecar.hub.run()
            assert kinds(client.frames)[-2:] == [19, 20]
            client.frames.clear()
            async with serving(epoch="a") as restored:
                for height in range(101, 108):
                    restored.block(height)
                way.target = restored.address
                way.cut()
                await until(lambda: sidecar.live and sidecar.head == 7)
                restored.block(108)
                await until(lambda: sidecar.head == 8)
                await until(lambda: client.frames and client.frames[-1].get("seq") == 8)
            gap, *updates = [frame for frame in client.frames if frame.get("type") in ("gap", "block_update")]
            assert (gap["type"], gap["reason"]) == ("gap", "epoch")
            assert [update["seq"] for update in updates if not update.get("snapshot")] == list(range(1, 9))
            assert [update["data"]["height"] for update in updates][-8:] == list(range(101, 109))
            (books,) = client.stats()
            assert (books["head"], books["delivered"]) == (8, 8)


# Calls through the address in use


async def test_calls_go_through_the_address_in_use():
    async with two_ways() as (_, first, second, sidecar):
        request = service_pb2.ListUpdatesRequest(stream=BLOCKS)
        for proxy in (first, second):
            assert sidecar.in_use == proxy.address
            page = service_pb2.ListUpdatesResponse.FromString(await sidecar.source.list_updates(request))
            assert [update.seq for update in page.updates] == [1, 2, 3]
            proxy.refuse()
            if proxy is first:
                await until(lambda: sidecar.in_use == second.address)
