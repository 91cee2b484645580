"""Clients that ask for what lies behind memory: they wait for it, in order, and nothing hangs."""

import asyncio
import json

import aiohttp
import pytest

from bridge.core.history import HistoryLimits
from bridge.edges import wire
from bridge.ops import deep
from generated.theblock.state.v1 import account_pb2
from tests.core.disk import Disk
from tests.edges.rawclient import BINARY, PING, PONG, TEXT, frame
from tests.edges.rig import Options, until
from tests.edges.v1_clients import V1Connection

BLOCKS = "block_updates"
BLOCKS_THERE = 1200


@pytest.fixture
def options() -> Options:
    """Return options with a small memory."""
    return Options(history=HistoryLimits(count=10))


@pytest.fixture
async def disk(rig) -> Disk:
    """Return what lies behind the memory of the rig; pages come when the test says so."""
    disk, log = Disk(rig.hub), rig.log

    def keep(update, *more):
        disk.keep(update)
        log(update, *more)

    rig.log = keep
    await rig.blocks(BLOCKS_THERE)
    return disk


@pytest.fixture(params=["json", "proto"])
async def client(request, rig):
    """Return a connection that speaks v1."""
    connection = await V1Connection.connect(rig.port, request.param)
    await connection.read_until(lambda got: got["type"] == "welcome")
    yield connection
    connection.client.hang_up()


def answer_always(disk: Disk) -> None:
    """Have every page come as soon as it is asked for."""
    loop = asyncio.get_running_loop()
    disk.hub.pages.load = lambda place: loop.call_soon(disk.answer, place)


async def asked(disk: Disk) -> None:
    await until(lambda: disk.asked, "a page is asked for")


async def test_a_request_waits_for_its_pages_and_the_ones_behind_it_for_it(disk, client):
    first = await client.ask("state_stream.history", {"stream": BLOCKS, "limit": 2})
    second = await client.ask("state_stream.history", {"stream": BLOCKS, "limit": 1, "reverse": True})
    third = await client.ask("session.stats")
    await asked(disk)
    disk.answer_all()
    answers = [await client.read() for _ in range(3)]
    assert [answer["id"] for answer in answers] == [first, second, third]
    assert [update["seq"] for update in answers[0]["result"]["updates"]] == [1, 2]
    assert [update["seq"] for update in answers[1]["result"]["updates"]] == [BLOCKS_THERE]


async def test_meanwhile_it_gets_updates_and_pongs(rig, disk, client):
    await client.subscribe(BLOCKS)
    await client.read_until(lambda got: got.get("snapshot"))
    await client.ask("state_stream.history", {"stream": BLOCKS, "limit": 1})
    await asked(disk)
    await client.client.send(frame(PING, b"are you there"))
    assert await client.client.read() == (PONG, b"are you there")
    rig.block(BLOCKS_THERE + 1)
    assert (await client.read())["seq"] == BLOCKS_THERE + 1
    disk.answer_all()
    assert (await client.read())["result"]["updates"][0]["seq"] == 1


async def test_what_takes_too_long_is_refused_and_what_was_behind_it_answered(rig, disk, client, monkeypatch):
    monkeypatch.setattr(wire, "WAIT_SECONDS", 0.05)
    answer = await client.call("state_stream.subscribe", "metrics", {"stream": BLOCKS, "since": {"height": 5}})
    assert (answer["error"]["code"], answer["error"]["data"]) == (-32010, {"retry_after_ms": 1000})
    assert (await client.call("session.stats"))["result"]["subscriptions"] == []
    assert rig.hub.pages.waiting == 0
    disk.answer_all()
    await client.pong()


async def test_who_hangs_up_while_waiting_leaves_nothing(rig, disk, client):
    await client.ask("state_stream.history", {"stream": BLOCKS, "limit": 1})
    await asked(disk)
    client.client.hang_up()
    await until(rig.holds_nothing, "nothing is left")
    assert rig.hub.pages.waiting == 0
    assert disk.answer_one(), "and the page, which nobody waits for, harms nobody"


async def test_who_is_sent_away_while_waiting_leaves_nothing(rig, disk, client):
    await client.ask("state_stream.history", {"stream": BLOCKS, "limit": 1})
    await asked(disk)
    await rig.edge.drain(0)
    await until(rig.holds_nothing, "nothing is left")
    assert rig.hub.pages.waiting == 0


async def test_what_piles_up_behind_a_request_that_waits_is_not_read_until_its_turn(rig, disk, connect):
    client = await connect()
    await client.ask({"jsonrpc": "2.0", "id": 0, "method": "state_stream.history", "params": {"stream": BLOCKS}})
    await asked(disk)
    (wire_,) = rig.edge.wires
    padding = "x" * 50_000
    sending = asyncio.create_task(
        client.send(
            b"".join(
                frame(TEXT, json.dumps({"jsonrpc": "2.0", "id": n, "method": "session.stats", "pad": padding}).encode())
                for n in range(1, 200)
            )
        )
    )
    limit_bytes = wire_._patience.write_buffer_bytes
    await until(lambda: sum(len(one.payload) for one in wire_._received) > limit_bytes, "much has come")
    assert sum(len(one.payload) for one in wire_._received) < limit_bytes + 1_000_000
    disk.answer_all()
    ids = [(await client.read_json())["id"] for _ in range(200)]
    assert ids == list(range(200))
    await sending


@pytest.mark.parametrize("start", [{"height": 300}, {"epoch": "epoch1", "seq": 299}], ids=str)
async def test_a_classic_client_begins_behind_memory(rig, disk, connect, start):
    answer_always(disk)
    client = await connect(name="classic")
    await client.ask({"method": "state_stream.subscribe", "params": [{"stream": BLOCKS, "since": start}]})
    rig.block(BLOCKS_THERE + 1)
    seqs: list[int] = []
    while not seqs or seqs[-1] <= BLOCKS_THERE:
        seqs.append((await client.read_json())["seq"])
    assert seqs == list(range(300, BLOCKS_THERE + 2))
    verdict = rig.oracle.verdict()
    assert verdict.ok, verdict


async def test_a_binary_client_gets_what_was_published_byte_for_byte(disk, rig):
    client = await V1Connection.connect(rig.port, "proto")
    await client.ask("state_stream.subscribe", {"stream": BLOCKS, "since": {"epoch": "epoch1", "seq": 100}})
    await asked(disk)
    disk.answer_all()
    opcode, payload = await client.client.read()
    while disk.kept[BLOCKS, "epoch1"][100].raw not in payload:
        opcode, payload = await client.client.read()
    assert opcode == BINARY
    client.client.hang_up()


# ---------------------------------------------------------------------- HTTP


async def page(rig, disk: Disk, query: str = "", **headers: str) -> tuple[int, str, dict]:
    """Get a page of history, with whatever it needs from disk."""
    answer_always(disk)
    url = f"{rig.url}/state/{BLOCKS}/history{query}"
    async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as response:
        return response.status, await response.text(), dict(response.headers)


async def test_a_page_over_http(rig, disk):
    status, text, _ = await page(rig, disk, "?since_height=500&limit=3")
    assert (status, [update["seq"] for update in json.loads(text)["updates"]]) == (200, [500, 501, 502])
    status, text, headers = await page(rig, disk, "?limit=2", Accept="application/x-ndjson")
    assert [json.loads(line)["seq"] for line in text.splitlines()] == [1, 2]
    assert 'rel="next"' in headers["Link"]


async def test_what_is_gone_is_missed(rig, disk):
    disk.trim(BLOCKS, 600)
    status, text, headers = await page(rig, disk, "?since=epoch1-5&limit=1")
    assert (status, json.loads(text)["updates"][0]["seq"], headers["Theblock-Missed"]) == (200, 601, "from=6, to=600")


async def test_a_page_over_http_that_takes_too_long(rig, disk, monkeypatch):
    monkeypatch.setattr(deep, "WAIT_SECONDS", 0.02)
    async with aiohttp.ClientSession() as http, http.get(f"{rig.url}/state/{BLOCKS}/history?limit=1") as response:
        body = await response.json()
        assert (response.status, body["error"]["code"]) == (503, "UPSTREAM_UNAVAILABLE")
        assert response.headers["Retry-After"] == "1"
    assert rig.hub.pages.waiting == 0


async def test_a_page_is_bounded_in_bytes(rig, disk):
    for number in range(9):
        rig.tick(number, "x" * 200_000)
    async with aiohttp.ClientSession() as http:
        url = f"{rig.url}/state/ticks/history?reverse=1"
        async with http.get(url) as response:
            body = await response.json()
            assert [update["data"]["number"] for update in body["updates"]] == [8, 7, 6, 5, 4]
            assert body["next"] == {"epoch": "epoch1", "seq": 5}
        async with http.get(f"{url}&until=epoch1-5", headers={"Accept": "application/x-ndjson"}) as response:
            numbers = [json.loads(line)["data"]["number"] for line in (await response.text()).splitlines()]
            assert numbers == [3, 2, 1, 0]


# ---------------------------------------------------------------------- Server-Sent Events


async def test_events_are_resumed_behind_memory(rig, disk, listener):
    answer_always(disk)
    client = listener(BLOCKS, name="listener")
    client.source.last_event_id = "epoch1;block_updates=300"
    client.judged.subscribed(BLOCKS, epoch="epoch1", seq=300)
    subscribed = await client.listen()
    assert (subscribed["subscriptions"][0]["recovered"], subscribed["subscriptions"][0]["replayed"]) == (True, 900)
    rig.block(BLOCKS_THERE + 1)
    await client.read_until(BLOCKS, BLOCKS_THERE + 1)
    assert client.source.last_event_id == f"epoch1;block_updates={BLOCKS_THERE + 1}"
    verdict = rig.oracle.verdict()
    assert verdict.ok, verdict


async def test_events_of_a_key_of_which_some_is_gone(rig, disk, listener):
    answer_always(disk)
    for nonce in range(1, 1001):
        disk.keep(rig.origin.publish(account_pb2.AccountUpdate(address="b" if nonce in (5, 900) else "a", nonce=nonce)))
    disk.trim("account", 600)
    client = listener("account/b", query="&last_event_id=epoch1;account/b=2")
    subscribed = await client.listen()
    assert subscribed["subscriptions"][0]["reason"] == "trimmed"
    assert (await client.read()).type == "gap"
    values = await client.read_until("account", 900)
    assert [(value["seq"], value.get("missed")) for value in values] == [(5, {"from": 3, "to": 600}), (900, None)]
