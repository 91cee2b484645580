"""Ends of connections: by the client, or by neither side. Those by the drain: test_drain.py."""

import pytest

from bridge.edges.patience import Patience
from tests.edges.rawclient import CLOSE, PING, PONG, TEXT, Hung, frame
from tests.edges.rig import Options, until


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 1012, 3000, 4000, 4321, 4999])
async def test_a_close_is_echoed_with_its_own_code(connect, code):
    client = await connect()
    await client.send(frame(CLOSE, code.to_bytes(2, "big") + b"because"))
    assert await client.read() == (CLOSE, code.to_bytes(2, "big"))
    with pytest.raises(Hung):
        await client.read()


@pytest.mark.parametrize("data", [frame(CLOSE), frame(TEXT, b"", masked=False)], ids=["echoed", "ours"])
async def test_the_sidecar_hangs_up_at_once_after_a_close_frame(connect, monkeypatch, data):
    monkeypatch.setattr("bridge.edges.wire.CLOSE_SECONDS", 1000)
    client = await connect()
    await client.send(data)
    assert [received.opcode for received in await client.read_to_end()] == [CLOSE]


async def test_an_empty_close_is_answered_with_1000(connect):
    client = await connect()
    await client.send(frame(CLOSE))
    assert await client.read_close() == (1000, {})


async def test_nothing_follows_the_clients_close(rig, connect, witness):
    client = await connect("/ws?subscribe=block_updates")
    await client.pong()
    await client.send(frame(CLOSE) + frame(TEXT, b'{"type":"ping"}') + frame(PING, b"x") + b"\xff\xff\xff")
    await until(lambda: len(rig.hub.readers) == 1, "it has let go of it")
    await rig.blocks(10)
    assert [received.opcode for received in await client.read_to_end()] == [CLOSE]


async def test_what_was_asked_before_the_close_is_answered(connect):
    client = await connect()
    await client.send(frame(TEXT, b'{"type":"ping","timestamp":1}') + frame(CLOSE, b"\x0f\xa0"))
    assert (await client.read_json())["timestamp"] == 1
    assert await client.read_close() == (4000, {})


async def test_a_client_that_goes_without_a_word_leaves_nothing(rig, connect, witness):
    client = await connect("/ws?subscribe=block_updates")
    await client.pong()
    client.hang_up()
    await until(lambda: len(rig.edge.wires) == 1, "only the witness is left")
    await rig.blocks(10)


async def test_a_client_that_sends_no_more_is_hung_up_on(rig, connect, witness):
    client = await connect("/ws?subscribe=block_updates")
    await client.pong()
    client.sock.shutdown(1)
    assert await client.read_to_end() == []
    await until(lambda: len(rig.edge.wires) == 1, "only the witness is left")


async def test_a_client_that_never_hangs_up_is_dropped(rig, connect, witness, monkeypatch):
    monkeypatch.setattr("bridge.edges.wire.CLOSE_SECONDS", 0.1)
    client = await connect()
    await client.send(frame(CLOSE, b"\x0f\xa0"))
    assert await client.read_close() == (4000, {})
    await until(lambda: len(rig.edge.wires) == 1, "it is dropped")


async def test_a_client_that_sends_for_ever_after_the_close_is_dropped(rig, connect, witness, monkeypatch):
    monkeypatch.setattr("bridge.edges.wire.DISCARD_BYTES", 1 << 20)
    client = await connect()
    await client.send(frame(TEXT, size=1 << 40))
    assert (await client.read_close())[0] == 1009
    with pytest.raises(ConnectionError):
        for _ in range(1000):
            await client.send(bytes(1 << 16))


class TestLife:
    @pytest.fixture
    def options(self) -> Options:
        return Options(patience=Patience(ping_interval_seconds=0.1, pong_timeout_seconds=0.6))

    async def test_a_client_that_answers_no_ping_is_closed(self, rig, connect, witness):
        client = await connect()
        assert await client.read() == (PING, b"")
        assert await client.read_close() == (4004, {"error": "stalled", "message": "no answer to a ping"})
        client.hang_up()
        await until(lambda: len(rig.edge.wires) == 1, "only the witness is left")

    async def test_a_client_that_is_gone_without_a_trace_is_dropped(self, rig, connect, witness, monkeypatch):
        monkeypatch.setattr("bridge.edges.wire.CLOSE_SECONDS", 0.1)
        client = await connect("/ws?subscribe=block_updates")  # it neither reads nor writes from here on
        await until(lambda: len(rig.edge.wires) == 1, "only the witness is left")
        assert len(rig.hub.readers) == 1
        assert [received.opcode for received in await client.read_to_end()][-1:] == [CLOSE]

    async def test_any_traffic_is_life(self, connect, witness):
        client = await connect()
        half, rest = (ping := frame(PING, b"mine"))[:3], ping[3:]
        for data in (frame(PONG), frame(TEXT, b'{"method":"session.stats"}'), half, rest, frame(PONG, b"other")):
            while await client.read() != (PING, b""):
                pass
            await client.send(data)
