"""The gate before the node: what is not allowed never reaches it, and what must stay there never leaves."""

import json

import pytest

from bridge.core.codes import ErrorCode
from bridge.core.errors import RequestError, UpstreamError
from bridge.ops.node_gate import NodeGate
from bridge.settings.fields import NODE_METHODS
from tests.standin.recorded import recording


class FakeNode:
    """Gives a recorded answer, or another one."""

    def __init__(self, answer: object = None) -> None:
        self.asked: list[tuple[str, dict]] = []
        self.answer = answer

    async def call(self, method: str, params: dict[str, object]) -> bytes:
        self.asked.append((method, params))
        if isinstance(self.answer, bytes):
            return self.answer
        return json.dumps(recording(method)["response"]["result"] if self.answer is None else self.answer).encode()


@pytest.mark.parametrize("method", ["dex.place_order", "governance.vote", "start_mining", "submit_tx", "", "light"])
async def test_what_is_not_allowed_never_reaches_the_node(method):
    node = FakeNode()
    with pytest.raises(RequestError, match="node_methods") as caught:
        await NodeGate(node.call, NODE_METHODS).call(method, {})
    assert caught.value.code is ErrorCode.FORBIDDEN
    assert node.asked == []


async def test_what_a_setting_names_does():
    node = FakeNode({"status": "ok"})
    assert await NodeGate(node.call, ["energy.settle"]).call("energy.settle", {"a": 1}) == b'{"status": "ok"}'
    assert node.asked == [("energy.settle", {"a": 1})]


@pytest.mark.parametrize(
    ("method", "limit", "asked"),
    [
        ("light.headers", 10**9, 200),
        ("light.headers", 201, 200),
        ("light.headers", 200, 200),
        ("light.headers", 1, 1),
        ("light.headers", None, None),
        ("light.headers", "all", "all"),
        ("net.peer_stats_all", 10**9, 1000),
        ("energy.market_state", 10**9, 10**9),
    ],
)
async def test_no_more_than_a_page_is_asked_for(method, limit, asked):
    node = FakeNode([])
    params = {} if limit is None else {"start": 5, "limit": limit}
    await NodeGate(node.call, NODE_METHODS).call(method, params)
    assert node.asked[0][1].get("limit") == asked
    assert params.get("limit") == limit


async def test_no_path_of_the_nodes_host_is_told():
    whole = recording("net.overlay_status")["response"]["result"]
    told = json.loads(await NodeGate(FakeNode().call, NODE_METHODS).call("net.overlay_status", {}))
    assert whole.pop("database_path")
    assert told == whole


@pytest.mark.parametrize(("mode", "told"), [("trade", "trade"), (3, None), (None, None), ({"a": 1}, None)])
async def test_a_launch_mode_is_text_or_left_out(mode, told):
    node = FakeNode({"launch_mode": mode, "epoch": 2**70})
    answer = json.loads(await NodeGate(node.call, NODE_METHODS).call("governor.status", {}))
    assert (answer.get("launch_mode"), "launch_mode" in answer) == (told, told is not None)
    assert answer["epoch"] == 2**70


async def test_other_answers_pass_as_they_are():
    text = b'{"b":1,  "a":1.0}'
    assert await NodeGate(FakeNode(text).call, NODE_METHODS).call("analytics", {}) == text
    assert await NodeGate(FakeNode(b"[1]").call, NODE_METHODS).call("net.overlay_status", {}) == b"[1]"


async def test_what_is_not_json_is_an_error():
    with pytest.raises(UpstreamError, match=r"net\.overlay_status"):
        await NodeGate(FakeNode(b"nope").call, NODE_METHODS).call("net.overlay_status", {})
