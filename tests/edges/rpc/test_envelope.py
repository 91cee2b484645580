"""POST /rpc: JSON-RPC 2.0 to the letter, within limits, and as its document says."""

import asyncio
import gzip
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.codes import ErrorCode
from bridge.core.errors import RequestError
from bridge.core.limits import Limits
from bridge.edges.rpc import envelope
from bridge.edges.rpc.answers import FROM_MEMORY, FROM_NODE
from bridge.edges.rpc.envelope import Refused, read_body
from bridge.edges.rpc.node import NODE_CODES, PARAMS_BYTES
from bridge.settings.fields import NODE_METHODS
from generated.theblock.state.v1 import account_pb2
from tests.edges.rig import within
from tests.edges.rpc.rig import polling

DOCUMENT = Path(__file__).resolve().parents[3] / "docs/rpc.md"


# The examples of the specification, section 7, with methods that exist here

SPECIFIED = {
    "by position": (
        '{"jsonrpc": "2.0", "method": "ledger.balance", "params": ["alice"], "id": 1}',
        {"jsonrpc": "2.0", "result": {"account": "alice", "balance": "19"}, "id": 1},
    ),
    "by name": (
        '{"jsonrpc": "2.0", "method": "ledger.balance", "params": {"account": "alice"}, "id": 3}',
        {"jsonrpc": "2.0", "result": {"account": "alice", "balance": "19"}, "id": 3},
    ),
    "by another name": (
        '{"jsonrpc": "2.0", "method": "ledger.balance", "params": {"address": "alice"}, "id": 4}',
        {"jsonrpc": "2.0", "result": {"account": "alice", "balance": "19"}, "id": 4},
    ),
    "a notification": ('{"jsonrpc": "2.0", "method": "consensus.stats", "params": [1,2,3,4,5]}', None),
    "a notification without params": ('{"jsonrpc": "2.0", "method": "foobar"}', None),
    "a method that does not exist": ('{"jsonrpc": "2.0", "method": "foobar", "id": "1"}', (-32601, "1")),
    "invalid JSON": ('{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]', (-32700, None)),
    "an invalid request": ('{"jsonrpc": "2.0", "method": 1, "params": "bar"}', (-32600, None)),
    "a batch of invalid JSON": (
        '[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"}, {"jsonrpc": "2.0", "method"]',
        (-32700, None),
    ),
    "an empty array": ("[]", (-32600, None)),
    "an invalid batch that is not empty": ("[1]", [(-32600, None)]),
    "an invalid batch": ("[1,2,3]", [(-32600, None), (-32600, None), (-32600, None)]),
    "a batch": (
        """[
        {"jsonrpc": "2.0", "method": "consensus.stats", "params": [1,2,4], "id": "1"},
        {"jsonrpc": "2.0", "method": "consensus.tps", "params": [7]},
        {"jsonrpc": "2.0", "method": "ledger.balance", "params": ["alice"], "id": "2"},
        {"foo": "boo"},
        {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},
        {"jsonrpc": "2.0", "method": "consensus.tps", "id": "9"}
        ]""",
        [
            {"jsonrpc": "2.0", "result": {"tps": None, "avg_block_time_ms": None}, "id": "1"},
            {"jsonrpc": "2.0", "result": {"account": "alice", "balance": "19"}, "id": "2"},
            (-32600, None),
            (-32601, "5"),
            {"jsonrpc": "2.0", "result": {"tps": None, "avgBlockTime": None}, "id": "9"},
        ],
    ),
    "a batch of notifications": (
        """[
        {"jsonrpc": "2.0", "method": "consensus.stats", "params": [1,2,4]},
        {"jsonrpc": "2.0", "method": "consensus.tps", "params": [7]}
        ]""",
        None,
    ),
}


def shape(answer: object) -> object:
    """Return an answer with errors as (code, id), so that it can be compared."""
    if isinstance(answer, list):
        return [shape(one) for one in answer]
    if isinstance(answer, dict) and "error" in answer:
        assert answer.keys() == {"jsonrpc", "error", "id"}
        assert answer["jsonrpc"] == "2.0"
        assert isinstance(answer["error"]["message"], str)
        return answer["error"]["code"], answer["id"]
    return answer


@pytest.mark.parametrize(("body", "expected"), SPECIFIED.values(), ids=SPECIFIED)
async def test_an_example_of_the_specification(body, expected):
    async with polling() as poller:
        poller.rig.origin.publish(account_pb2.AccountUpdate(address="alice", balance="19"))
        status, answer = await poller.post(body)
        assert status == (204 if expected is None else 200)
        assert shape(answer) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"method":"consensus.stats","id":7}', (-32600, 7)),
        ('{"jsonrpc":"1.0","method":"consensus.stats","id":7}', (-32600, 7)),
        ('{"jsonrpc":2.0,"method":"consensus.stats","id":7}', (-32600, 7)),
        ('{"jsonrpc":"2.0","id":7}', (-32600, 7)),
        ('{"jsonrpc":"2.0","method":"consensus.stats","params":"x","id":7}', (-32600, 7)),
        ('{"jsonrpc":"2.0","method":"consensus.stats","id":true}', (-32600, None)),
        ('{"jsonrpc":"2.0","method":"consensus.stats","id":[1]}', (-32600, None)),
        ('{"jsonrpc":"2.0","method":"consensus.stats","id":{}}', (-32600, None)),
        ('{"jsonrpc":"2.0","method":"consensus.stats","method":"x","id":7}', (-32700, None)),
        ('{"jsonrpc":"2.0","method":"consensus.stats","id":NaN}', (-32700, None)),
        ("", (-32700, None)),
        ("null", (-32600, None)),
        ('"consensus.stats"', (-32600, None)),
        (b'{"jsonrpc":"2.0","method":"\xff","id":7}', (-32700, None)),
        ('{"jsonrpc":"2.0","method":"x","id":7}'.encode("utf-16"), (-32700, None)),
        ('{"jsonrpc":"2.0","method":"\\ud800","id":7}', (-32700, None)),
        ("[" * 100_000, (-32700, None)),
    ],
)
async def test_what_is_no_request_is_told_so(poller, body, expected):
    status, answer = await poller.post(body)
    assert (status, shape(answer)) == (200, expected)


@pytest.mark.parametrize("id_", [0, -1, 1.5, 2**53 + 1, 10**30, "", "ä\n", None])
async def test_an_id_comes_back_as_it_was(poller, id_):
    body = json.dumps({"jsonrpc": "2.0", "method": "consensus.tps", "id": id_})
    status, answer = await poller.post(body)
    assert (status, answer["id"], type(answer["id"])) == (200, id_, type(id_))


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.sampled_from(["2.0", "consensus.stats"])
)
NAMES = st.sampled_from(["jsonrpc", "id", "method", "params", "other"])
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=5), max_leaves=12
)


@given(VALUES)
def test_every_json_is_a_request_or_refused(value):
    limits = Limits()
    try:
        body = read_body(json.dumps(value).encode(), limits)
    except RequestError as error:
        assert isinstance(value, list)
        assert error.code is ErrorCode.INVALID_REQUEST
        return
    assert body.batch is isinstance(value, list)
    assert len(body.requests) == (len(value) if isinstance(value, list) else 1)
    for entry, one in zip(value if body.batch else [value], body.requests, strict=True):
        if isinstance(one, Refused):
            assert one.error.code is ErrorCode.INVALID_REQUEST
        else:
            assert (entry["method"], entry.get("id"), "id" not in entry) == (one.method, one.id, one.notification)


@given(st.binary(max_size=64))
def test_every_body_is_json_or_refused(body):
    try:
        read_body(body, Limits())
    except RequestError as error:
        assert error.code in (ErrorCode.PARSE_ERROR, ErrorCode.INVALID_REQUEST)


# Limits, and HTTP


async def test_a_body_is_limited(poller):
    limit = Limits().rpc_body_bytes
    text = '{"jsonrpc":"2.0","method":"consensus.tps","id":1}'
    status, answer = await poller.post(text + " " * (limit - len(text)))
    assert (status, answer["id"]) == (200, 1)
    status, answer = await poller.post(text + " " * (limit - len(text) + 1))
    assert (status, answer["error"]["code"]) == (413, "TOO_LARGE")
    assert "limit_rpc_body_bytes" in answer["error"]["message"]
    assert (await poller.post(text))[0] == 200


async def test_a_body_is_limited_whatever_its_headers_say(poller):
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 65_536

    async with poller.session.post("/rpc", data=chunks()) as response:
        assert response.status == 413


async def test_a_body_that_is_announced_too_large_is_not_waited_for(poller):
    reader, writer = await asyncio.open_connection("127.0.0.1", poller.rig.port)
    writer.write(b"POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n")
    assert b" 413 " in await within(reader.readline(), 5)
    writer.close()


@pytest.mark.parametrize("body", [gzip.compress(b" " * (2 << 20)), b"not gzip", gzip.compress(b"{}"), b""])
async def test_a_body_that_is_compressed_is_refused(poller, body):
    status, answer = await poller.post(body, **{"Content-Encoding": "gzip"})
    assert (status, answer["error"]["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")
    text = b'{"jsonrpc":"2.0","method":"consensus.tps","id":1}'
    assert (await poller.post(text, **{"Content-Encoding": "identity"}))[0] == 200


async def test_a_batch_is_limited(poller):
    assert len(await poller.answers(*[("consensus.tps", [])] * 50)) == 50
    one = {"jsonrpc": "2.0", "method": "consensus.tps", "id": 1}
    status, answer = await poller.post(json.dumps([one] * 51))
    assert (status, shape(answer)) == (200, (-32600, None))
    assert "limit_batch" in answer["error"]["message"]


async def test_nesting_is_limited(poller, node):
    def nested(depth: int) -> dict:
        return {"a": nested(depth - 1)} if depth > 1 else {}

    assert await poller.result("analytics", nested(31)) == {}
    status, answer = await poller.post(
        json.dumps({"jsonrpc": "2.0", "method": "analytics", "params": nested(32), "id": 1})
    )
    assert (status, shape(answer)) == (200, (-32700, None))
    assert len(node.asked) == 1


async def test_params_for_the_node_are_limited(poller, node):
    assert await poller.code("analytics", {"a": "x" * PARAMS_BYTES}) == -32602
    assert await poller.code("x" * 129) == -32601
    assert await poller.code("no method\n") == -32601
    assert node.asked == []


async def test_an_answer_is_limited(poller, node, monkeypatch):
    monkeypatch.setattr(envelope, "RESPONSE_BYTES", 1000)
    node.results["analytics"] = b'"%b"' % (b"x" * 300)
    answers = await poller.answers(*[("analytics", {"number": number}) for number in range(3)], ("consensus.tps", []))
    assert ["error" in answer for answer in answers] == [False, False, True, False]
    assert answers[2]["error"]["code"] == -32602


@pytest.mark.parametrize("content_type", ["text/plain", "application/json; charset=latin-1", "nonsense", ""])
async def test_the_content_type_does_not_matter(poller, content_type):
    body = '{"jsonrpc":"2.0","method":"consensus.tps","id":"ä"}'.encode()
    status, answer = await poller.post(body, **{"Content-Type": content_type})
    assert (status, answer["id"]) == (200, "ä")


async def test_only_post_is_taken(poller):
    async with poller.session.get("/rpc") as response:
        assert (response.status, response.headers["Allow"]) == (405, "POST")
        assert (await response.json())["error"]["code"] == "METHOD_NOT_ALLOWED"


async def test_other_origins_are_let_in_only_if_they_are_allowed(poller):
    body = '{"jsonrpc":"2.0","method":"consensus.tps","id":1}'
    async with poller.session.post("/rpc", data=body, headers={"Origin": "http://localhost:4173"}) as response:
        assert response.status == 200
        assert response.headers["Access-Control-Allow-Origin"] == "http://localhost:4173"
    assert (await poller.post(body, Origin="https://evil.example"))[0] == 403


# The document


def rows(title: str) -> list[list[str]]:
    """Return the rows of the table below a title of the document."""
    text = DOCUMENT.read_text().split(f"## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_document_lists_the_methods_that_streams_answer():
    assert [row[0] for row in rows("Answered by the sidecar")] == [f"`{name}`" for name in (*FROM_MEMORY, *FROM_NODE)]
    sources = {row[0].strip("`"): row[-1] for row in rows("Answered by the sidecar")}
    assert all(sources[name] == "memory" for name in FROM_MEMORY)
    assert all("node" in sources[name] for name in FROM_NODE)


def test_the_document_lists_the_methods_that_are_passed_on():
    assert [row[0] for row in rows("Passed on to the node")] == [f"`{name}`" for name in NODE_METHODS]


def test_the_document_lists_the_errors():
    codes = [int(re.sub("`", "", row[0])) for row in rows("Errors")]
    used = {ErrorCode.PARSE_ERROR, ErrorCode.INVALID_REQUEST, ErrorCode.METHOD_NOT_FOUND, ErrorCode.INVALID_PARAMS}
    assert set(codes) == used | {ErrorCode.UPSTREAM_UNAVAILABLE} | set(NODE_CODES.values())
