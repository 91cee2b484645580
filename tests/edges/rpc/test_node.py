"""What /rpc passes on: only what is allowed, once for all who poll, and never waiting for long."""

import asyncio

import pytest

from bridge.core.errors import NodeCallError, UpstreamError
from bridge.edges.rpc.node import NODE_CODES
from bridge.ops.call_cache import CallCache
from bridge.settings.fields import NODE_METHODS
from tests.edges.rig import until, within
from tests.edges.rpc.rig import LONG, POLL, PROBES, asking, height_of, polling, sidecar
from tests.standin.chain import Chain
from tests.standin.node import StandinNode
from tests.standin.recorded import recording
from tests.state_service import serving as serving_state

# Passed on to the node


@pytest.mark.parametrize("params", [None, [], {}, [{}]])
async def test_params_that_are_empty_are_an_empty_object(poller, node, params):
    assert await poller.result("governor.status", params) == {}
    assert node.asked == [("governor.status", {})]


async def test_params_may_be_left_out(poller, node):
    status, answer = await poller.post('{"jsonrpc":"2.0","method":"governor.status","id":1}')
    assert (status, answer["result"], node.asked) == (200, {}, [("governor.status", {})])


@pytest.mark.parametrize("params", [{"offset": 5}, [{"offset": 5}]])
async def test_params_by_name_reach_the_node(poller, node, params):
    await poller.result("net.peer_stats_all", params)
    assert node.asked == [("net.peer_stats_all", {"offset": 5})]


@pytest.mark.parametrize("params", [[5], [{}, {}], ["a", "b"], [[]], [None]])
async def test_params_by_position_are_refused_since_the_node_would_not_look_at_them(poller, node, params):
    assert await poller.code("net.peer_stats_all", params) == -32602
    assert node.asked == []


async def test_a_notification_is_not_passed_on(poller, node):
    assert await poller.post('{"jsonrpc":"2.0","method":"governor.status"}') == (204, None)
    assert node.asked == []


@pytest.mark.parametrize("code", [-32601, -32602, -32600, -32700, -32000, -33000, -33009, -33020, 1])
async def test_errors_of_the_node_come_in_codes_that_clients_know(poller, node, code):
    node.results["analytics"] = NodeCallError(code, "what the node said")
    error = (await poller.answer("analytics"))["error"]
    assert error["code"] == NODE_CODES.get(code, -32010)
    assert error["data"]["node_code"] == code
    assert "what the node said" in error["message"]


@pytest.mark.parametrize("problem", [UpstreamError("the node is left alone for 60 s more"), TimeoutError(), OSError()])
async def test_what_cannot_be_had_now_may_be_asked_for_again(poller, node, problem):
    node.results["analytics"] = problem
    error = (await poller.answer("analytics"))["error"]
    assert (error["code"], error["data"]["retry_after_ms"] > 0) == (-32010, True)
    assert error["message"] == "the node does not answer analytics now; /health says how it does"


async def test_the_dashboard_finds_what_it_looks_for_at_its_start():
    chain = Chain()
    chain.mine(3)
    async with StandinNode(chain) as node, asking(node) as call, polling(call) as poller:
        poller.rig.block(3)
        poller.rig.values(3)
        answers = [await poller.answer(method, []) for method in PROBES]
        codes = [answer.get("error", {}).get("code") for answer in answers]
        assert codes == [None, None, None, None, *[-32601] * 5]
        assert answers[0]["result"]["height"] == 3
        assert sorted(node.requests.by_method) == ["energy.market_state", "governor.status"]


async def test_the_poll_of_the_dashboard_is_answered_slot_by_slot():
    async with StandinNode() as node, asking(node) as call, polling(call) as poller:
        poller.rig.block(3)
        poller.rig.values(3)
        height, finality, stats, overlay, peers, scheduler, governor, analytics = await poller.answers(*POLL)
        assert height["result"] == {"height": 3}
        assert finality["error"]["code"] == -32601
        assert stats["result"] == {"tps": 1.5, "avg_block_time_ms": None}
        known = recording("net.overlay_status")["response"]["result"]
        assert overlay["result"] == {name: value for name, value in known.items() if name != "database_path"}
        assert peers["result"] == []
        assert scheduler["result"] == recording("compute_market.scheduler_stats")["response"]["result"]
        assert governor["result"]["epoch"] == 0
        assert analytics["result"] == recording("analytics")["response"]["result"]


async def test_what_changes_anything_never_reaches_the_node():
    changing = ("dex.place_order", "governance.vote", "energy.settle", "treasury.approve", "submit_tx", "start_mining",
                "light.latest_header", "gov_params")  # fmt: skip
    async with StandinNode(admin_token="secret") as node, asking(node) as call, polling(call) as poller:
        answers = await poller.answers(*((method, [{"amount": 1}]) for method in changing))
        assert [answer["error"]["code"] for answer in answers] == [-32601] * len(changing)
        assert node.requests.count() == 0


# A thousand pollers, and a node that is slow


async def test_the_node_is_asked_once_for_all_who_poll():
    now = 0.0
    methods = ("net.overlay_status", "governor.status")
    async with StandinNode() as node, asking(node) as call, polling(call, monotonic=lambda: now) as poller:
        poller.rig.block(1)
        for round_ in (1, 2):
            poll = ("consensus.block_height", *methods)
            batches = [poller.answers(*((method, []) for method in poll)) for _ in range(200)]
            for answers in await asyncio.gather(*batches):
                assert height_of(answers[0]) == 1
                assert all("result" in answer for answer in answers)
            assert dict(node.requests.by_method) == dict.fromkeys(methods, round_)
            now += 1.0


async def test_a_frozen_node_does_not_hold_up_what_memory_knows():
    async with (
        StandinNode() as node,
        asking(node) as call,
        polling(call, patience_seconds=0.05, grace_seconds=0.05) as poller,
    ):
        node.freeze()
        poller.rig.block(5)
        answers = await poller.answers(*POLL)
        assert height_of(answers[0]) == 5
        assert answers[2]["result"] == {"tps": None, "avg_block_time_ms": None}
        assert [answer["error"]["code"] for answer in answers[3:]] == [-32010] * 5
        assert all(answer["error"]["data"]["retry_after_ms"] for answer in answers[3:])
        assert height_of(await poller.answer("consensus.block_height")) == 5
        node.thaw()


async def test_what_memory_knows_is_read_last_so_that_a_slow_answer_does_not_make_it_old(poller, node):
    node.running.clear()
    poller.rig.block(5)
    batch = asyncio.create_task(poller.answers(("consensus.block_height", []), ("analytics", [])))
    await until(lambda: node.asked, "the node is asked")
    poller.rig.block(6)
    node.running.set()
    assert height_of((await within(batch))[0]) == 6


async def test_slots_wait_together(poller, node):
    node.running.clear()
    batch = asyncio.create_task(poller.answers(("analytics", []), ("peer.list", []), ("governor.status", [])))
    await until(lambda: len(node.asked) == 3, "the node is asked for all")
    node.results["net.peer_stats_all"] = b"[]"
    node.running.set()
    assert [answer["result"] for answer in await within(batch)] == [{}, [], {}]


async def test_while_the_node_is_silent_its_last_answer_serves_for_a_while(node):
    now = 0.0
    async with polling(node.call, monotonic=lambda: now, patience_seconds=0.05, grace_seconds=0.01) as poller:
        node.results["analytics"] = b'{"answer":1}'
        assert await poller.result("analytics") == {"answer": 1}
        node.running.clear()
        now = 5.0
        assert await poller.result("analytics") == {"answer": 1}
        now = 10.5
        assert await poller.code("analytics") == -32010
        node.results["analytics"] = b'{"answer":2}'
        node.running.set()
        await until(lambda: poller.cache.recent("analytics", {}, 1) == b'{"answer":2}', "the answer comes after all")
        assert await poller.result("analytics") == {"answer": 2}
        assert len(node.asked) == 2


async def test_where_there_is_a_recent_answer_nobody_waits_long(node):
    now = 0.0
    async with polling(node.call, monotonic=lambda: now, grace_seconds=0.01) as poller:
        await poller.result("analytics")
        node.running.clear()
        now = 5.0
        assert await within(poller.result("analytics"), LONG / 2) == {}
        assert len(node.asked) == 2


async def test_an_error_of_the_node_is_told_even_if_there_was_an_answer_before(node):
    now = 0.0
    async with polling(node.call, monotonic=lambda: now) as poller:
        assert await poller.result("analytics") == {}
        node.results["analytics"] = NodeCallError(-32601, "unknown method")
        now = 5.0
        assert await poller.code("analytics") == -32601


# Through the state service


async def test_sidecars_of_one_state_service_ask_the_node_once():
    async with StandinNode() as node, asking(node) as call:
        cache = CallCache(call, keep_seconds=1.0, monotonic=lambda: 0.0)
        async with (
            serving_state(call_node=cache.call, node_methods=NODE_METHODS) as state,
            sidecar(state) as one,
            sidecar(state) as other,
        ):
            asked = [poller.answers(*POLL) for poller in (one, other) for _ in range(20)]
            for answers in await within(asyncio.gather(*asked)):
                assert all("result" in answer for answer in answers[3:])
                assert "database_path" not in answers[3]["result"]
            assert dict(node.requests.by_method) == dict.fromkeys((method for method, _ in POLL[3:]), 1)
            for method in ("dex.place_order", "compute_market.jobs", "light.latest_header"):
                assert await one.code(method) == -32601
            assert await other.code("energy.market_state", [1]) == -32602
            assert sum(node.requests.by_method.values()) == 5


async def test_a_sidecar_without_its_state_service_answers_from_memory():
    async with serving_state() as state:
        await state.stop()
        async with sidecar(state) as poller:
            poller.rig.block(4)
            answers = await within(poller.answers(*POLL))
            assert height_of(answers[0]) == 4
            assert [answer["error"]["code"] for answer in answers[3:]] == [-32010] * 5
        await state.start()


async def test_a_state_service_without_a_node_has_no_such_methods():
    async with serving_state() as state, sidecar(state) as poller:
        assert await poller.code("governor.status") == -32601
