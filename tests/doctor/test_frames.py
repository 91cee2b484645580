"""The checks of frames: clocks that differ, updates that are late, and connections that are cut while quiet."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bridge.doctor import Targets, frames
from bridge.settings import WebSocketSettings
from generated.theblock.state.v1 import metrics_pb2
from tests.doctor.proxy import Proxy, listening
from tests.doctor.rig import SHORT_SECONDS, at, look, sidecar
from tests.edges.rig import Options, Rig, serving, until

HOUR_MS = 3_600_000
QUICK = WebSocketSettings(ping_interval_seconds=0.2)


async def asked(port: int, name: str, **targets):
    return await look(name, url=at(port), **targets)


def now_ms() -> int:
    return int(time.time() * 1000)


async def test_clocks_that_agree():
    async with sidecar() as port:
        assert (await asked(port, "clock")).finding is frames.SAME_TIME


@pytest.mark.parametrize(("ahead_ms", "words"), [(HOUR_MS, "3600.0 s behind"), (-HOUR_MS, "3600.0 s ahead of")])
async def test_clocks_that_differ(ahead_ms, words):
    async with serving(Options(clock_ms=lambda: now_ms() + ahead_ms)) as rig:
        found = await asked(rig.port, "clock")
    assert found.finding is frames.OTHER_TIME
    assert words in found.says


async def test_a_ping_that_is_not_answered():
    async with sidecar() as port, listening(Proxy(port, hold=True).serve) as proxy:
        found = await asked(proxy, "clock", answer_seconds=1.0)
    assert found.finding is frames.NO_FRAMES
    assert "without buffering" in found.do


async def test_updates_that_are_on_time():
    async with sidecar("simulated") as port:
        assert (await asked(port, "lag")).finding is frames.ON_TIME


async def test_no_updates():
    async with sidecar() as port:
        assert (await asked(port, "lag", answer_seconds=1.0)).finding is frames.QUIET


@asynccontextmanager
async def publishing(rig: Rig, late_ms: int) -> AsyncIterator[None]:
    """Publish updates all the while, with times that are late by so much."""

    async def publish() -> None:
        height = 0
        while True:
            height += 1
            rig.origin.publish(metrics_pb2.MetricsUpdate(block_height=height), time_ms=now_ms() - late_ms)
            await asyncio.sleep(0.02)

    task = asyncio.create_task(publish())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(("late_ms", "finding"), [(HOUR_MS, frames.LATE), (-HOUR_MS, frames.FROM_FUTURE)])
async def test_updates_whose_times_are_wrong(late_ms, finding):
    async with serving() as rig, publishing(rig, late_ms):
        found = await asked(rig.port, "lag")
    assert found.finding is finding
    assert "3600." in found.says or "3599." in found.says


async def watched(port: int, seconds: float | None):
    """Watch a quiet connection, with nothing else going on."""
    return await frames.check_idle(Targets(url=at(port), idle_seconds=seconds))


async def test_a_proxy_that_cuts_quiet_connections():
    async with sidecar() as port, listening(Proxy(port, idle_seconds=SHORT_SECONDS).serve) as proxy:
        found = await watched(proxy, 20)
    assert found.finding is frames.CUT
    assert "pings it only after 25 s" in found.says
    assert "proxy_read_timeout" in found.do


async def test_a_quiet_connection_that_pings_keep_open():
    async with sidecar(websocket=QUICK) as port, listening(Proxy(port, idle_seconds=1.0).serve) as proxy:
        assert (await watched(proxy, 1.5)).finding is frames.LIVED


async def test_a_quiet_connection_that_is_not_watched_for_long_enough():
    async with sidecar() as port:
        found = await watched(port, 0.1)
    assert found.finding is frames.TOO_SHORT
    assert "more than 25" in found.do


async def test_a_sidecar_that_ends_meanwhile():
    async with serving() as rig:
        watching = asyncio.create_task(watched(rig.port, 20))
        await until(lambda: rig.edge.wires, "it is watched")
        await rig.edge.drain(5)
        found = await watching
    assert found.finding is frames.CLOSED
    assert "code 1012" in found.says


async def test_nothing_is_watched_without_a_time():
    async with sidecar() as port:
        assert (await watched(port, None)).finding is frames.NOT_WATCHED
