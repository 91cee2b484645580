"""Calls of the node are shared: one in flight for all that are equal, and one in a moment, whatever comes of it."""

import asyncio
import gc

import pytest

from bridge.core.errors import NodeCallError, UpstreamError
from bridge.ops import call_cache
from bridge.ops.call_cache import CallCache


class FakeNode:
    """Answers with what it was asked, when it is let."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict]] = []
        self.at_once = asyncio.Event()
        self.at_once.set()
        self.error: Exception | None = None
        self.padding = b""
        self.now = 100.0

    async def call(self, method: str, params: dict[str, object]) -> bytes:
        self.asked.append((method, params))
        number = len(self.asked)
        await self.at_once.wait()
        if self.error is not None:
            raise self.error
        return b"%d" % number + self.padding


@pytest.fixture
async def node() -> FakeNode:
    return FakeNode()


@pytest.fixture
async def cache(node):
    cache = CallCache(node.call, keep_seconds=1.0, monotonic=lambda: node.now)
    yield cache
    await cache.close()


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_equal_calls_in_flight_are_one(node, cache):
    node.at_once.clear()
    waiting = [asyncio.create_task(cache.call("a", {"x": 1, "y": 2})) for _ in range(50)]
    waiting += [asyncio.create_task(cache.call("a", {"y": 2, "x": 1}))]
    await turns()
    node.at_once.set()
    assert set(await asyncio.gather(*waiting)) == {b"1"}
    assert len(node.asked) == 1
    assert (cache.made, cache.shared) == (1, 50)


async def test_other_methods_and_other_params_are_other_calls(cache):
    asked = [("a", {}), ("b", {}), ("a", {"x": 1}), ("a", {"x": "1"}), ("a", {"x": None}), ("a", {"x": 1.5})]
    assert len({await cache.call(method, params) for method, params in asked}) == len(asked)


async def test_an_answer_serves_for_as_long_as_it_is_kept(node, cache):
    assert await cache.call("a", {}) == b"1"
    node.now += 0.99
    assert await cache.call("a", {}) == b"1"
    node.now += 0.01
    assert await cache.call("a", {}) == b"2"


async def test_the_moment_begins_with_the_answer(node, cache):
    node.at_once.clear()
    first = asyncio.create_task(cache.call("a", {}))
    await turns()
    node.now += 30
    assert len(node.asked) == 1
    node.at_once.set()
    await first
    node.now += 0.9
    assert await cache.call("a", {}) == b"1"


@pytest.mark.parametrize("error", [NodeCallError(-33000, "no price data"), UpstreamError("silent"), TimeoutError()])
async def test_failures_are_shared_too(node, cache, error):
    node.error = error
    for _ in range(3):
        with pytest.raises(type(error)) as caught:
            await cache.call("a", {})
        assert caught.value is error
    assert len(node.asked) == 1
    node.error = None
    node.now += 1
    assert await cache.call("a", {}) == b"2"


async def test_who_gives_up_leaves_the_call_to_others_and_to_the_next_time(node, cache):
    node.at_once.clear()
    impatient, patient = (asyncio.create_task(cache.call("a", {})) for _ in range(2))
    await turns()
    impatient.cancel()
    await turns()
    assert impatient.cancelled()
    node.at_once.set()
    assert await patient == b"1"
    assert await cache.call("a", {}) == b"1"


async def test_a_failure_that_nobody_waits_for_is_no_loss(node, cache):
    raised = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
    node.at_once.clear()
    node.error = UpstreamError("silent")
    waiting = asyncio.create_task(cache.call("a", {}))
    await turns()
    waiting.cancel()
    node.at_once.set()
    await turns()
    node.now += 5
    node.error = None
    del waiting
    await cache.call("a", {})
    gc.collect()
    assert raised == []


async def test_the_last_result_is_there_while_a_new_one_is_awaited_or_cannot_be_had(node, cache):
    assert cache.recent("a", {}, 10) is None
    await cache.call("a", {})
    node.now += 5
    assert cache.recent("a", {}, 10) == b"1"
    assert cache.recent("a", {}, 4) is None
    assert cache.recent("b", {}, 10) is None
    node.error = UpstreamError("silent")
    with pytest.raises(UpstreamError):
        await cache.call("a", {})
    assert cache.recent("a", {}, 10) == b"1"
    node.now += 5.1
    assert cache.recent("a", {}, 10) is None


async def test_answers_kept_are_bounded_in_number(node, cache, monkeypatch):
    monkeypatch.setattr(call_cache, "ENTRY_LIMIT", 10)
    for number in range(100):
        await cache.call("a", {"number": number})
    held = [number for number in range(100) if cache.recent("a", {"number": number}, 1) is not None]
    assert held == list(range(90, 100))


async def test_answers_kept_are_bounded_in_memory(node, cache, monkeypatch):
    monkeypatch.setattr(call_cache, "BYTES_LIMIT", 10_000)
    node.padding = b" " * 3000
    for round_ in range(3):
        for number in range(20):
            await cache.call("a", {"number": number})
        held = [number for number in range(20) if cache.recent("a", {"number": number}, 1) is not None]
        assert held == [17, 18, 19], round_
        node.now += 2
    node.padding = b" " * 50_000
    await cache.call("large", {})
    assert cache.recent("large", {}, 1) is not None
    assert cache.recent("a", {"number": 19}, 10) is None
    node.padding = b""
    await cache.call("a", {"number": 1})
    await cache.call("a", {"number": 2})
    assert cache.recent("a", {"number": 1}, 1) is not None


async def test_an_answer_that_is_renewed_takes_no_more_memory(node, cache, monkeypatch):
    monkeypatch.setattr(call_cache, "BYTES_LIMIT", 10_000)
    node.padding = b" " * 3000
    for _ in range(20):
        await cache.call("a", {})
        node.now += 1
    await cache.call("b", {})
    await cache.call("c", {})
    assert None not in [cache.recent(method, {}, 10) for method in "abc"]


async def test_calls_in_flight_are_bounded(node, cache, monkeypatch):
    monkeypatch.setattr(call_cache, "IN_FLIGHT_LIMIT", 3)
    node.at_once.clear()
    waiting = [asyncio.create_task(cache.call("a", {"number": number})) for number in range(3)]
    await turns()
    with pytest.raises(UpstreamError, match="3 different calls wait"):
        await cache.call("a", {"number": 3})
    shared = asyncio.create_task(cache.call("a", {"number": 0}))
    await turns()
    node.at_once.set()
    await asyncio.gather(*waiting, shared)
    assert await cache.call("a", {"number": 3}) == b"4"


async def test_closing_cancels_what_is_in_flight(node, cache):
    node.at_once.clear()
    waiting = asyncio.create_task(cache.call("a", {}))
    await turns()
    await cache.close()
    await turns()
    assert waiting.cancelled()
    await cache.close()
