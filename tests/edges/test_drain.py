"""The drain: v1 clients are told a time of their own and served until then, classic ones are served to the end."""

import asyncio
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.edges.admission import Turns
from bridge.edges.drain import spread
from tests.edges.rawclient import CLOSE, Hung, RawClient, frame
from tests.edges.rig import Options, until, within
from tests.edges.v1_clients import SUBPROTOCOLS, V1Connection
from tests.ks import ks_uniform

OWN = "http://localhost:4173"
LONG = 1000


@pytest.fixture
async def speak(rig):
    """Return a function that opens a v1 connection which is welcomed and reads blocks; all are closed at the end."""
    clients = []

    async def open_one(encoding: str = "json", path: str = "/ws?subscribe=block_updates") -> V1Connection:
        clients.append(await V1Connection.connect(rig.port, encoding, path))
        assert (await clients[-1].read())["type"] == "welcome"
        await clients[-1].pong()
        return clients[-1]

    yield open_one
    for client in clients:
        client.hang_up()


async def sent_away(client: RawClient, error: str = "restarting") -> int:
    """Read to the close frame, hang up, and return after how many milliseconds to come back."""
    code, reason = await client.read_close()
    assert (code, reason["error"]) == (1012, error)
    assert reason.keys() == {"error", "retry_after_ms", "message"}
    client.hang_up()
    return reason["retry_after_ms"]


# Times


@given(st.integers(0, 2000), st.floats(0.001, 1000), st.integers())
def test_times_are_spread_evenly_whatever_their_number(count, seconds, seed):
    times = spread(count, seconds, random.Random(seed).random)
    assert len(times) == count
    assert times == sorted(times)
    if count:
        assert 0 <= times[0] <= times[-1] <= seconds
        assert ks_uniform(times, 0, seconds)[0] <= 1 / count + 1e-9
    if count >= 5:
        assert ks_uniform(times, 0, seconds)[1] > 0.5


def test_the_statistic_knows_what_is_not_even():
    drawn = random.Random(1).random
    even = [drawn() for _ in range(2000)]
    assert ks_uniform(even, 0, 1)[1] > 0.05
    assert ks_uniform([value**1.2 for value in even], 0, 1)[1] < 0.001
    assert ks_uniform([0.5] * 100, 0, 1)[1] < 0.001
    largest, chance = ks_uniform([0.1, 0.2, 0.3, 0.4, 0.5], 0, 1)
    assert (round(largest, 6), 0.1 < chance < 0.2) == (0.5, True)


# v1


@pytest.mark.parametrize("encoding", SUBPROTOCOLS)
async def test_v1_is_told_at_once_and_served_until_its_own_time(rig, speak, encoding):
    clients = [await speak(encoding) for _ in range(20)]
    draining = asyncio.create_task(rig.edge.drain(1.0))
    told = {}
    for client in clients:
        going = await client.read()
        assert (going["type"], going["reason"]) == ("going_away", "the sidecar restarts")
        told[client] = going["retry_after_ms"]
    assert ks_uniform(told.values(), 0, 1000)[0] <= 1 / 20 + 0.001
    assert len(rig.edge.wires) > 10, "they are not closed all at once"
    rig.block(1)
    by_time = sorted(clients, key=told.__getitem__)
    left_ms = await sent_away(by_time[0].client)
    assert 0 <= left_ms <= told[by_time[0]]
    rig.block(2)
    last = by_time[-1]
    assert [(await last.read())["seq"] for _ in range(2)] == [1, 2], "updates are delivered until its own close"
    for client in by_time[1:]:
        assert 0 <= await sent_away(client.client) <= told[client]
    await within(draining)
    await until(rig.holds_nothing, "nothing is left")


async def test_a_drain_ends_as_soon_as_everybody_has_gone(rig, speak):
    clients = [await speak() for _ in range(3)]
    draining = asyncio.create_task(rig.edge.drain(LONG))
    for client in clients:
        assert (await client.read())["type"] == "going_away"
        await client.client.send(frame(CLOSE, b"\x03\xe8"))
        assert (await client.read_close())[0] == 1000
        client.hang_up()
    await within(draining)


# Classic


async def test_classic_clients_are_served_to_the_end(rig, connect):
    clients = [await connect("/ws?subscribe=block_updates") for _ in range(20)]
    for client in clients:
        await client.pong()
    draining = asyncio.create_task(rig.edge.drain(0.5))
    await asyncio.sleep(0)
    for client in clients:
        await client.pong()  # nothing is said to it
    rig.block(1)
    assert all([(await client.read_json())["seq"] == 1 for client in clients])
    waits = [await sent_away(client) for client in clients]
    assert ks_uniform(waits, 0, 500)[0] <= 1 / 20 + 0.002
    await within(draining)
    await until(rig.holds_nothing, "nothing is left")


async def test_updates_before_a_close_arrive_before_it(rig, connect):
    client = await connect("/ws?subscribe=block_updates")
    await client.pong()
    rig.block(1)
    await asyncio.sleep(0)
    draining = asyncio.create_task(rig.edge.drain(0))
    assert (await client.read_json())["seq"] == 1
    await sent_away(client)
    await within(draining)


# Who makes trouble


async def test_a_drain_ends_in_time_whoever_does_not_hang_up(rig, connect, speak, monkeypatch):
    monkeypatch.setattr("bridge.edges.wire.CLOSE_SECONDS", LONG)
    clients = [await connect() for _ in range(5)]
    v1 = [await speak(path="/ws") for _ in range(5)]
    await within(rig.edge.drain(0.2))
    await until(rig.holds_nothing, "nothing is left")
    for client in [*clients, *(one.client for one in v1)]:
        assert (await client.read_close())[0] == 1012


@pytest.mark.parametrize("encoding", [None, *SUBPROTOCOLS], ids=str)
async def test_a_client_that_reads_nothing_delays_no_drain(rig, dial, monkeypatch, encoding):
    monkeypatch.setattr("bridge.edges.wire.CLOSE_SECONDS", LONG)
    client = await dial(receive_buffer_bytes=4096)
    await client.shake("/ws?subscribe=block_updates", Sec_WebSocket_Protocol=SUBPROTOCOLS.get(encoding))
    await until(lambda: rig.hub.readers, "it is there")
    await rig.blocks(3000)
    assert rig.hub.catching_up == 1, "its socket is full"
    await within(rig.edge.drain(0.2))
    await until(rig.holds_nothing, "nothing is left")


@pytest.mark.parametrize("leave", [RawClient.hang_up, RawClient.reset], ids=["closed", "reset"])
@pytest.mark.parametrize("encoding", [None, *SUBPROTOCOLS], ids=str)
async def test_a_client_that_has_just_gone_stops_no_drain(rig, dial, encoding, leave):
    """The kernel knows of it, the process does not yet: what it tries on that socket fails."""
    gone, stays = await dial(), await dial()
    for client in (gone, stays):
        assert (await client.shake(Sec_WebSocket_Protocol=SUBPROTOCOLS.get(encoding))).status == 101
    await until(lambda: len(rig.edge.wires) == 2, "both are there")
    leave(gone)
    draining = asyncio.create_task(rig.edge.drain(0.2))
    assert await sent_away(stays) >= 0
    await within(draining)
    await until(rig.holds_nothing, "nothing is left")


# Who comes meanwhile


async def refused(dial, **headers: str) -> tuple[int, int]:
    """Shake hands with a sidecar that is going away; return the status and in how many seconds to come back."""
    client = await dial()
    answer = await client.shake(**headers)
    if answer.status == 101:
        return 101, await sent_away(client)
    assert answer.json()["error"]["code"] == "OVERLOADED"
    assert "going away" in answer.json()["error"]["message"]
    return answer.status, int(answer.headers["retry-after"])


async def test_who_comes_during_a_drain_is_told_to_come_back_when_it_is_over(rig, connect, dial):
    stays = await connect()
    draining = asyncio.create_task(rig.edge.drain(LONG))
    await until(lambda: rig.edge.wires, "it has begun")
    v1 = {"Sec_WebSocket_Protocol": "theblock.v1.json"}
    for headers in ({}, v1, {"Origin": OWN}):
        status, seconds = await refused(dial, **headers)
        assert status == 503
        assert LONG - 60 < seconds <= 2 * LONG
    status, ms = await refused(dial, **v1, Origin=OWN)  # a page, which cannot read an answer
    assert status == 101
    assert 1000 * (LONG - 60) < ms <= 2000 * LONG
    stays.hang_up()
    await within(draining)


async def test_who_comes_during_a_drain_may_come_back_at_once_where_there_is_a_successor(rig, connect, dial):
    stays = await connect()
    draining = asyncio.create_task(rig.edge.drain(LONG, successor=True))
    await until(lambda: rig.edge.wires, "it has begun")
    waits = [(await refused(dial, Origin=OWN, Sec_WebSocket_Protocol="theblock.v1.proto"))[1] for _ in range(50)]
    assert 0 <= min(waits) < 1000 * LONG / 2
    assert max(waits) <= 1000 * LONG
    stays.hang_up()
    await within(draining)


async def test_a_handshake_that_is_no_good_is_told_so_even_then(rig, connect, dial):
    stays = await connect()
    draining = asyncio.create_task(rig.edge.drain(LONG))
    await until(lambda: rig.edge.wires, "it has begun")
    assert (await (await dial()).shake(Sec_WebSocket_Protocol="unknown")).status == 400
    stays.hang_up()
    await within(draining)


class TestHandshakesThatWait:
    @pytest.fixture
    def options(self, monkeypatch) -> Options:
        monkeypatch.setattr("bridge.edges.websocket.Turns", lambda rate: Turns(rate / LONG, 3 * LONG))
        return Options(accept_rate=1)

    async def test_they_do_not_wait_any_more(self, rig, connect, dial):
        stays = await connect()
        waiting = [asyncio.create_task(refused(dial)) for _ in range(2)]
        await until(lambda: rig.edge.waiting == 2, "they wait for their turn")
        draining = asyncio.create_task(rig.edge.drain(LONG))
        for handshake in waiting:
            status, seconds = await within(handshake)
            assert (status, seconds > LONG - 60) == (503, True)
        assert rig.edge.waiting == 0
        stays.hang_up()
        await within(draining)


async def test_the_reason_fits_into_a_close_frame(rig, connect):
    client = await connect()
    draining = asyncio.create_task(rig.edge.drain(0))
    received = await client.read()
    assert received.opcode == CLOSE
    assert len(received.payload) <= 125
    assert json.loads(received.payload[2:])["message"]
    with pytest.raises(Hung):
        await client.read()
    await within(draining)
