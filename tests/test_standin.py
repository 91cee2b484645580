"""The stand-in node is held to what a running node was recorded to say, byte for byte, and to its measured limits."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.standin.chain import Chain
from tests.standin.client import ask, connected, post, served, streaming, until, upgrade
from tests.standin.clock import ManualClock
from tests.standin.limiter import Limiter
from tests.standin.methods import ADMIN, RECORDED
from tests.standin.node import StandinNode
from tests.standin.recorded import FOLDER, masked, masked_text, recording

TOKEN = "devtoken123"  # of the recorded node
RECORDED_BLOCKS = 146
STATS = '{"method":"mempool.stats","params":{},"id":7}'

# -- answers ---------------------------------------------------------------------------------------------------------

OTHERWISE_TESTED = {
    "balance",  # of an account of the recorded chain
    "devnode.energy.credits.populated",
    "devnode.energy.disputes.populated",
    "devnode.energy.market_state.populated",
    "devnode.mempool.stats.populated",
    "devnode_p2p.net.gossip_status",
    "devnode_p2p.net.peer_stats_all",
    "devnode_p2p.net.peer_stats_export_all",
    "energy.register_provider",  # recorded while banned
    "energy.register_provider.rehearsal",  # recorded with a higher limit
    "submit_tx.replayed_nonce",
}


def answered_calls() -> list[str]:
    names = []
    for path in sorted(FOLDER.glob("*.json")):
        answer = recording(path.stem).get("response")
        if path.stem not in OTHERWISE_TESTED and isinstance(answer, dict) and "jsonrpc" in answer:
            names.append(path.stem)
    return names


def node_for(name: str) -> StandinNode:
    """Return a node in the state in which ``name`` was recorded."""
    if name.startswith("default_node."):
        return StandinNode(telemetry=False, governor=False)
    result = recording(name)["response"].get("result")
    rows = result if isinstance(result, list) else [result]
    heights = [row["height"] for row in rows if isinstance(row, dict) and "height" in row]
    chain = Chain()
    chain.mine(max(heights) + 1 if heights else RECORDED_BLOCKS)
    node = StandinNode(chain, admin_token=TOKEN)
    if "populated" in name:
        node.prices.update(consumer=(95, 100, 110), industrial=(190, 200, 220))
    return node


@pytest.mark.parametrize("name", answered_calls())
async def test_answers_as_recorded(name: str) -> None:
    expected = recording(name)
    body = expected["request"]["body"]
    headers = "".join(f"{key}: {value}\r\n" for key, value in expected["request"]["headers"].items() if key != "Host")
    async with node_for(name) as node:
        request = post(body if isinstance(body, str) else json.dumps(body), headers)
        status, answer_headers, answer = await ask(node, request)
    assert masked_text(answer) == masked(expected["response"])
    assert status == expected["status"]
    if not name.endswith("net.overlay_status"):  # its recorded length was of another path
        assert answer_headers == expected["headers"]
        assert len(answer) == int(expected["headers"]["content-length"])


def test_every_answer_taken_from_a_recording_is_replayed() -> None:
    assert set(answered_calls()) >= RECORDED | ADMIN
    assert set(answered_calls()) >= {path.stem for path in FOLDER.glob("absent.*.json")}


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("http.*.json")))
async def test_other_paths_as_recorded(name: str) -> None:
    expected = recording(name)
    headers = "".join(f"{key}: {value}\r\n" for key, value in expected["request"]["headers"].items())
    async with StandinNode() as node:
        request = f"{expected['request']['http']} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n"
        status, answer_headers, body = await ask(node, request)
    assert (status, answer_headers) == (expected["status"], expected["headers"])
    response = expected["response"]
    assert (body.decode() == response["_raw"]) if "_raw" in response else (json.loads(body) == response)


@pytest.mark.parametrize("name", ["error.bad_host", "error.host_ipv6"])
async def test_foreign_hosts_are_refused_as_recorded(name: str) -> None:
    expected = recording(name)
    async with served() as (_, client):
        await client.send(post(STATS, host=expected["request"]["headers"]["Host"]))
        assert await client.response() == (expected["status"], expected["headers"], b"")
        assert await client.rest() == b""


async def test_a_body_above_the_limit_resets_the_connection() -> None:
    async with served() as (_, client):
        await client.send(post(" " * (1024 * 1024 - len(STATS)) + STATS))
        assert (await client.response())[0] == 200
        assert recording("error.body_too_large")["error"].startswith("ConnectionResetError")
        with pytest.raises(ConnectionResetError):
            await client.send(post(" " * 1_100_050))
            await client.rest()


async def test_params_decide_and_odd_ones_are_ignored() -> None:
    chain = Chain()
    chain.mine(300)
    async with served(chain) as (_, client):

        async def heights(params: Any) -> list[int]:
            await client.send(post(json.dumps({"method": "light.headers", "params": params})))
            return [header["height"] for header in json.loads((await client.response())[2])["result"]]

        assert await heights({"start": 290, "limit": 3}) == [290, 291, 292]
        assert await heights({"start": 298}) == [298, 299]
        assert await heights({"limit": 0}) == []
        for ignored in ([3, 2], "x", None, {"start": -1}, {"start": True}, {"start": 5.0, "limit": "2"}):
            assert await heights(ignored) == list(range(200))
        amount = (await client.call("balance", {"address": chain.miner}))["result"]["amount"]
        assert amount == chain.accounts[chain.miner].balance == 300


async def test_submit_tx_checks_the_nonce_and_then_gives_up() -> None:
    expected = recording("submit_tx.replayed_nonce")
    async with served() as (_, client):
        params = expected["request"]["body"]["params"]
        assert (await client.call("submit_tx", params))["error"] == {"code": -32602, "message": "invalid params"}
        assert await client.call("submit_tx", params) == expected["response"]


async def test_energy_tokens() -> None:
    options = {"admin_token": TOKEN, "energy_token": "provider", "energy_dispute_tokens_per_second": 10.0}
    async with served(None, **options) as (_, client):
        for token, allowed in ((None, False), ("wrong", False), ("provider", True), (TOKEN, True)):
            answer = await client.call("energy.market_state", token=token)
            assert ("result" in answer) == allowed
            assert allowed or answer == recording("energy.market_state.missing_auth")["response"]
        rehearsal = recording("energy.register_provider.rehearsal")["response"]
        assert await client.call("energy.register_provider", token=TOKEN) == rehearsal
        assert (await client.call("energy.register_provider", token="provider"))["error"]["code"] == -33009


# -- bytes -----------------------------------------------------------------------------------------------------------

HEAD = "POST / HTTP/1.1\r\n"
HOST = "Host: localhost\r\n"
LENGTH = f"Content-Length: {len(STATS)}\r\n"
QUIRKS: dict[str, str | bytes] = {
    "plain_no_content_type": post(STATS),
    "connection_close": post(STATS, "Connection: close\r\n"),
    "connection_Keep-Alive_capital": post(STATS, "Connection: Keep-Alive\r\n"),
    "connection_list 'keep-alive, foo'": post(STATS, "Connection: keep-alive, foo\r\n"),
    "http_1_0": f"POST / HTTP/1.0\r\n{HOST}{LENGTH}\r\n{STATS}",
    "no_host": f"{HEAD}{LENGTH}\r\n{STATS}",
    "chunked": f"{HEAD}{HOST}Transfer-Encoding: chunked\r\n\r\n{len(STATS):x}\r\n{STATS}\r\n0\r\n\r\n",
    "expect_100": post(STATS, "Expect: 100-continue\r\n"),
    "pipelined_two": post(STATS) * 2,
    "absolute_form_target": f"POST http://localhost/ HTTP/1.1\r\n{HOST}{LENGTH}\r\n{STATS}",
    "query_on_root": f"POST /?a=b HTTP/1.1\r\n{HOST}{LENGTH}\r\n{STATS}",
    "put_root": f"PUT / HTTP/1.1\r\n{HOST}{LENGTH}\r\n{STATS}",
    "trace_method": f"TRACE / HTTP/1.1\r\n{HOST}\r\n",
    "head_root": f"HEAD / HTTP/1.1\r\n{HOST}\r\n",
    "lowercase_host_header_localhost": f"{HEAD}host: LOCALHOST:1\r\n{LENGTH}\r\n{STATS}",
    "host_with_trailing_dot": post(STATS, host="localhost."),
    "duplicate_content_length_last_wins": f"{HEAD}{HOST}Content-Length: 3\r\n{LENGTH}\r\n{STATS}",
    "dup_json_key": post('{"id":7,"method":"mempool.stats","method":"consensus.difficulty"}'),
    "float_id": post('{"id":1.5,"method":"mempool.stats"}'),
    "big_id": post('{"id":99999999999999999999,"method":"mempool.stats"}'),
    "unknown_top_field": post('{"id":1,"method":"mempool.stats","x":{}}'),
    "utf8_id": post('{"id":"éé","method":"mempool.stats"}'),
    "trailing_garbage": post('{"id":7,"method":"mempool.stats"} x'),
}
STAYS_OPEN, ENDS = "<timeout, open>", "<EOF>"


def unordered(transcript: str) -> list[list[str]]:
    """Split a transcript into answers, each with its head in a fixed order: the node's order is random."""
    answers = [answer.partition("\r\n\r\n") for answer in re.split(r"(?=HTTP/1\.1 \d)", transcript) if answer]
    return [[*sorted(head.split("\r\n")), body] for head, _, body in answers]


@pytest.mark.parametrize("name", QUIRKS)
async def test_transcripts_as_recorded(name: str) -> None:
    expected = recording("http_quirks")[name]
    async with served() as (_, client):
        await client.send(QUIRKS[name])
        if expected.endswith(ENDS):
            got = (await client.rest()).decode("latin-1") + ENDS
        else:  # open: a further request is answered
            await client.send(post('{"id":"last","method":"no.such"}', "Connection: close\r\n"))
            got = (await client.rest()).decode("latin-1")
            got = got[: got.rindex("HTTP/1.1 200 OK")] + STAYS_OPEN
    assert unordered(got) == unordered(expected)


def test_every_recorded_transcript_is_replayed() -> None:
    assert set(QUIRKS) == {name for name, value in recording("http_quirks").items() if isinstance(value, str)}


@pytest.mark.parametrize(
    ("figure", "before", "after"),
    [
        ("idle_before_first_request_closed_after_s", b"", post(STATS)),
        ("partial_request_closed_after_s", post(STATS)[:30], post(STATS)[30:]),
        ("keepalive_idle_closed_after_s", post(STATS), post(STATS)),
    ],
)
async def test_silence_is_ended_when_recorded(figure: str, before: bytes, after: bytes) -> None:
    seconds = recording("http_quirks")[figure]
    for patience, is_answered in ((seconds - 0.01, True), (seconds, False)):
        clock = ManualClock()
        async with served(Chain(clock=clock)) as (node, client):
            await client.send(before)
            if figure.startswith("keepalive"):
                await client.response()
            await ask(node, post(STATS))  # by then the node has read what was sent before
            clock.advance(patience)
            if is_answered:
                await client.send(after)
                assert (await client.response())[0] == 200
            else:
                assert await client.rest() == b""


# -- limits ----------------------------------------------------------------------------------------------------------


def accepted(tokens_per_second: float, per_second: float, most: int) -> int:
    """Return how many evenly spaced requests, ``most`` at most, a limiter lets through before it first refuses."""
    clock = ManualClock()
    limiter = Limiter(clock, tokens_per_second, ban_seconds=60)
    for count in range(most):
        if limiter.check("127.0.0.1"):
            return count
        clock.advance(1 / per_second)
    return most


def test_the_limiter_lets_through_what_was_measured() -> None:
    measured = recording("limits")
    burst = measured["burst_until_429"]
    assert accepted(100, burst["rate"], 1000) == pytest.approx(burst["ok"], abs=2)
    for name in ("paced_50", "paced_90", "paced_98", "paced_105", "paced_120"):
        run = measured[name]
        most = 1000 if run["first_reject"] else run["sent"]
        assert accepted(100, run["actual"], most) == pytest.approx(run["sent"], rel=0.02)
    for name, per_second in (("energy_paced_10", 10), ("energy_paced_15", 15)):
        assert accepted(16.67, per_second, measured[name]["sent"]) == measured[name]["sent"]


async def test_too_many_requests_ban_the_address_and_polling_does_not_prolong_it() -> None:
    measured = recording("limits")
    clock = ManualClock()
    async with served(Chain(clock=clock)) as (node, client):
        for _ in range(98):
            assert "result" in await client.call("mempool.stats")
        assert (await ask(node, post(STATS, host="example.com")))[0] == 403  # refused, and counted
        async with streaming(node):  # counted
            for answer in (measured["burst_until_429"]["reject"], measured["while_banned"]):
                status, headers, body = await ask(node, post(STATS))
                assert (status, headers, json.loads(body)) == (answer["status"], answer["headers"], answer["body"])
            assert (await ask(node, post(STATS), source="127.0.0.2"))[0] == 200  # an address of its own
        for refused in ("GET /badge/status HTTP/1.1\r\nHost: localhost\r\n\r\n", upgrade()):
            assert (await ask(node, refused))[0] == measured["banned_get"]
        clock.advance(59)
        assert (await ask(node, post(STATS)))[0] == 429
        clock.advance(1)
        assert (await ask(node, post(STATS)))[0] == 200
        assert node.requests.refused == 5
        assert node.requests.busiest() == 105
        assert node.requests.count("mempool.stats", since=60) == 1


async def test_energy_has_limits_of_its_own() -> None:
    measured = recording("limits")
    clock = ManualClock()
    async with served(Chain(clock=clock)) as (node, client):
        for _ in range(measured["energy_read_burst"]["ok"]):
            assert "result" in await client.call("energy.market_state")
        assert await client.call("energy.market_state") == measured["energy_read_burst"]["reject"]["body"]
        assert await client.call("energy.receipts") == measured["energy_read_next"]["body"]
        assert "result" in await client.call("mempool.stats")
        assert node.requests.energy_refused == 2
        refused = recording("default_node.energy.register_provider")["response"]
        assert await client.call("energy.register_provider") == refused  # the first call bans
        assert await client.call("energy.settle") == refused
        assert await client.call("energy.register_provider") == recording("energy.register_provider")["response"]
        clock.advance(60)
        assert "result" in await client.call("energy.market_state")


async def test_no_permit_left_means_no_answer() -> None:
    assert recording("ws.permit_exhaustion")["streams_1024_final"].startswith("TimeoutError")
    clock = ManualClock()
    async with served(Chain(clock=clock), max_handlers=2) as (node, client), streaming(node) as first, streaming(node):
        await client.send(post(STATS))
        await until(lambda: node.in_flight == 3)
        assert (await ask(node, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"))[0] == 404  # needs no permit
        first.writer.close()

        def one_left() -> bool:
            clock.advance(1)  # the node sees that a client has gone when a send fails
            return node.streams == 1

        await until(one_left)
        assert (await client.response())[0] == 200


async def test_the_log_tells_who_asked_for_what_and_when() -> None:
    clock = ManualClock()
    async with StandinNode(Chain(clock=clock)) as node:
        async with connected(node, source="127.0.0.9") as client:
            await client.call("light.headers", {"start": 7})
            clock.advance(2)
            await client.call("light.headers")
        await ask(node, post("{"))
        entries = [(entry.at, entry.method, entry.params, entry.ip) for entry in node.requests.entries]
        assert entries == [
            (0, "light.headers", {"start": 7}, "127.0.0.9"),
            (2, "light.headers", {}, "127.0.0.9"),
            (2, "?", None, "127.0.0.1"),
        ]
        assert node.requests.times("light.headers") == [0, 2]
        assert (node.requests.total, node.requests.by_method["light.headers"]) == (3, 2)
        assert (node.requests.busiest(), node.requests.busiest(window_seconds=3)) == (2, 3)
        node.requests.clear()
        assert (node.requests.total, node.requests.count()) == (0, 0)
