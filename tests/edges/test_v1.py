"""The v1 dialect over real sockets: how it is chosen, what comes without having been asked for, and how it ends."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from bridge import __version__
from bridge.core.history import HistoryLimits
from bridge.core.hub import State
from bridge.edges.guard import SERVER
from bridge.edges.patience import Patience
from generated.theblock.state.v1 import frames_pb2
from tests.edges.rawclient import ACCEPT, BINARY, CLOSE, TEXT, Hung, frame
from tests.edges.rig import Options, Rig, until, within
from tests.edges.v1_clients import SUBPROTOCOLS, V1Connection

BLOCKS = "block_updates"
KNOWN = ["theblock.v1.json", "theblock.v1.proto"]
FOREIGN = "https://evil.example"
OWN = "http://localhost:4173"

Open = Callable[..., Awaitable[V1Connection]]


@pytest.fixture(params=["json", "proto"])
def encoding(request: pytest.FixtureRequest) -> str:
    """Return the name of an encoding: what holds in one holds in the other."""
    return request.param


@pytest.fixture
async def speak(rig, encoding) -> AsyncIterator[Open]:
    """Return a function that opens a connection in this encoding and has its welcome read, and closes it at the end."""
    opened: list[V1Connection] = []

    async def open_one(path: str = "/ws", *, welcomed: bool = True, **options: object) -> V1Connection:
        opened.append(await V1Connection.connect(rig.port, encoding, path, **options))
        if welcomed:
            assert (await opened[-1].read())["type"] == "welcome"
        return opened[-1]

    yield open_one
    for connection in opened:
        connection.hang_up()


# How it is chosen


@pytest.mark.parametrize(
    ("offers", "chosen"),
    [
        ("theblock.v1.json", "theblock.v1.json"),
        ("theblock.v1.proto", "theblock.v1.proto"),
        ("theblock.v1.proto, theblock.v1.json", "theblock.v1.proto"),  # the client's first choice
        ("theblock.v2.json,theblock.v1.json", "theblock.v1.json"),
        ("bearer.SeCrEt, theblock.v1.json", "theblock.v1.json"),
        ("theblock.v1.proto,bearer.SeCrEt", "theblock.v1.proto"),
    ],
)
async def test_one_offer_that_is_known_is_echoed_and_no_token_is(rig, dial, offers, chosen):
    client = await dial()
    answer = await client.shake(Sec_WebSocket_Protocol=offers)
    assert (answer.status, answer.headers["sec-websocket-protocol"]) == (101, chosen)
    assert answer.headers["sec-websocket-accept"] == ACCEPT
    assert "secret" not in str(answer).lower()
    assert (await client.read()).opcode == (TEXT if chosen.endswith("json") else BINARY)


@pytest.mark.parametrize(
    "offers", ["graphql-ws", "bearer.SeCrEt", "theblock.v2.json, bearer.SeCrEt", "TheBlock.V1.JSON", "theblock.v1", ","]
)
async def test_offers_that_are_not_known_are_told_the_known_ones(rig, dial, witness, offers):
    answer = await (await dial()).shake(Sec_WebSocket_Protocol=offers)
    error = answer.json()["error"]
    assert (answer.status, error["code"], error["details"]) == (400, "UNKNOWN_SUBPROTOCOL", {"known": KNOWN})
    assert "secret" not in str(answer).lower()
    assert "sec-websocket-protocol" not in answer.headers


async def test_the_welcome_comes_first(rig, speak, encoding):
    client = await speak("/ws?subscribe=block_updates", welcomed=False)
    rig.block(1)
    first = await client.read()
    session = first.pop("session")
    assert first == {
        "type": "welcome",
        "server": SERVER,
        "version": __version__,
        "format": encoding,
        "ping_interval_ms": 25_000,
        "max_message_bytes": 65_536,
        "streams": [BLOCKS, "metrics", "network", "trading", "energy", "account"],
    }
    assert len(session) == 16
    assert (await client.read())["seq"] == 1


async def test_every_connection_has_a_name_of_its_own(speak):
    names = {(await speak()).frames[0]["session"] for _ in range(20)}
    assert len(names) == 20


async def test_the_url_of_a_json_connection_may_ask_for_integers_as_strings(rig, speak, encoding):
    client = await speak("/ws?int64=string&subscribe=block_updates")
    rig.block(5)
    update = await client.read()
    assert update["data"]["height"] == ("5" if encoding == "json" else 5)


# Who is turned away


async def test_a_foreign_page_is_told_so_by_a_close_that_it_can_read(rig, speak, witness):
    client = await speak("/ws?subscribe=block_updates", welcomed=False, Origin=FOREIGN)
    rig.block(rig.hub.histories[BLOCKS].head + 1)
    received = await client.client.read()
    assert received.opcode == CLOSE
    assert len(received.payload) - 2 < 123
    assert int.from_bytes(received.payload[:2], "big") == 4503
    assert json.loads(received.payload[2:]) == {"error": "not_allowed", "message": "the origin is not allowed"}
    with pytest.raises(Hung):
        await client.client.read()
    client.hang_up()
    await until(lambda: len(rig.edge.wires) == 1, "only the witness is left")
    assert rig.edge.accepted == 1


async def test_a_foreign_page_that_offers_nothing_gets_403(dial):
    answer = await (await dial()).shake(Origin=FOREIGN)
    assert (answer.status, answer.json()["error"]["code"]) == (403, "FORBIDDEN")


async def test_what_a_foreign_page_sends_is_not_read(rig, speak, encoding):
    client = await speak(welcomed=False, Origin=FOREIGN)
    try:
        await client.ask("state_stream.subscribe", BLOCKS)
    except ConnectionError:
        return
    assert [received.opcode for received in await client.client.read_to_end()] == [CLOSE]
    assert not rig.hub.readers


class TestFull:
    @pytest.fixture
    def options(self) -> Options:
        return Options(connection_limit=1)

    async def test_a_page_that_finds_no_room_is_told_when_to_come_back(self, rig, speak, dial, encoding):
        first = await speak()
        refused = await speak(welcomed=False, Origin=OWN)
        code, reason = await refused.read_close()
        assert (code, reason["error"], reason["retry_after_ms"]) == (1013, "overloaded", 1000)
        answer = await (await dial()).shake(Sec_WebSocket_Protocol=SUBPROTOCOLS[encoding])
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")  # no browser: it can read that
        await first.pong()
        first.hang_up()
        refused.hang_up()
        await until(lambda: not rig.edge.wires, "a place is free")
        await (await speak(Origin=OWN)).pong()


# Wrong kinds


async def test_the_wrong_kind_of_frame_ends_it_with_1003(rig, speak, encoding, witness):
    client = await speak("/ws?subscribe=block_updates")
    await client.client.send(frame(BINARY if encoding == "json" else TEXT, b"{}"))
    code, reason = await client.read_close()
    assert (code, reason["error"]) == (1003, "wrong_kind")
    assert {"json": "text", "proto": "binary"}[encoding] in reason["message"]


@pytest.mark.parametrize("payload", [b"", b"\xff\xff\xff", b"\x12\x05hello", b'{"jsonrpc":"2.0"}'], ids=repr)
async def test_twenty_bad_messages_in_a_row_end_it_with_4500(speak, encoding, witness, payload):
    client = await speak()
    opcode = TEXT if encoding == "json" else BINARY
    bad = payload if encoding == "proto" else b"nonsense"
    await client.client.send(frame(opcode, bad) * 25)
    for _ in range(20):
        answer = await client.read()
        assert answer["error"]["code"] in (-32700, -32600)
    assert await client.read_close() == (4500, {"error": "bad_messages", "message": "20 bad messages in a row"})


# What comes without having been asked for


async def test_upstream_is_told_when_it_changes(rig, speak, connect):
    client = await speak()
    classic = await connect()
    rig.hub.set_status(State.STALE, "the node sleeps")
    first = await client.read()
    rig.hub.set_status(State.STALE, "the node sleeps deeply")  # no change of state
    rig.hub.set_status(State.LIVE, "it woke up")
    second = await client.read()
    assert [(told["type"], told["state"]) for told in (first, second)] == [("upstream", "stale"), ("upstream", "live")]
    assert second["since"] >= first["since"]
    await client.pong()
    await classic.pong()  # nothing came before


async def test_upstream_is_told_at_the_beginning_when_it_is_not_live(rig, speak):
    rig.hub.set_status(State.DOWN, "no node")
    await asyncio.sleep(0)
    client = await speak("/ws?subscribe=block_updates")
    told = await client.read()
    assert (told["type"], told["state"], told["since"]) == ("upstream", "down", rig.hub.status.since_ms)
    await client.pong()


async def test_a_drain_is_told_before_the_close(rig, speak, connect):
    clients = [await speak() for _ in range(10)]
    classic = await connect()
    draining = asyncio.create_task(rig.edge.drain(0.5))
    for client in clients:
        told = await client.read()
        code, reason = await client.read_close()
        assert (told["type"], code, reason["error"]) == ("going_away", 1012, "restarting")
        assert 0 <= reason["retry_after_ms"] <= told["retry_after_ms"] <= 500
        assert told["reason"]
        client.hang_up()
    assert (await classic.read()).opcode == CLOSE
    classic.hang_up()
    await within(draining, 5)


def look(rig: Rig) -> None:
    """Look at every connection, as the edge does about once a second."""
    for wire in rig.edge.wires:
        wire.check(asyncio.get_running_loop().time())


class TestProgress:
    @pytest.fixture
    def now_ms(self) -> list[int]:
        return [1_700_000_000_000]

    @pytest.fixture
    def options(self, now_ms) -> Options:
        return Options(clock_ms=lambda: now_ms[0])

    async def test_it_comes_every_15_seconds_for_streams_that_moved(self, rig, speak, now_ms):
        client = await speak()
        await client.subscribe({"stream": BLOCKS, "where": {"height": 1000}}, "metrics")
        rig.block(1)
        rig.values(1)
        rig.block(2)
        assert (await client.read())["stream"] == "metrics"
        await until(lambda: rig.hub.catching_up == 0, "everybody is live")
        now_ms[0] += 14_999
        look(rig)
        await client.pong()  # nothing is due
        now_ms[0] += 1
        positions = [{"stream": BLOCKS, "epoch": "epoch1", "seq": 2}]
        assert await client.read() == {"type": "progress", "positions": positions}
        now_ms[0] += 15_000
        look(rig)
        await client.pong()  # nothing has moved
        rig.block(3)
        now_ms[0] += 15_000
        assert (await client.read())["positions"][0]["seq"] == 3


SMALL = Patience(send_buffer_bytes=8192, write_buffer_bytes=8192)


class TestSlowReader:
    @pytest.fixture
    def options(self) -> Options:
        return Options(patience=SMALL, history=HistoryLimits(count=20_000, bytes=1 << 30))

    async def test_a_reader_that_history_waits_for_is_told_once_and_loses_nothing(self, rig, speak, witness):
        client = await speak(receive_buffer_bytes=8192)
        await client.subscribe(BLOCKS)
        await client.pong()
        await rig.blocks(10_000)
        assert rig.hub.catching_up
        frames = await client.read_until(lambda got: got["type"] == "caught_up")
        told = [got for got in frames if got["type"] != "block_update"]
        assert [got["type"] for got in told] == ["fell_behind", "caught_up"]
        at = frames.index(told[0])
        assert told[0]["seq"] == frames[at - 1]["seq"]
        assert told[0] | {"seq": 0} == {"type": "fell_behind", "stream": BLOCKS, "seq": 0, "head": 10_000}
        assert told[1] == {"type": "caught_up", "stream": BLOCKS, "seq": 10_000}
        assert [got["seq"] for got in frames if "data" in got] == list(range(1, 10_001))
        await client.pong()


class TestSlowReaderOfAShortHistory:
    @pytest.fixture
    def options(self) -> Options:
        return Options(patience=SMALL, history=HistoryLimits(count=2000))

    async def test_what_history_let_go_of_is_a_gap_then_the_value_that_stands_in(self, rig, speak, witness):
        client = await speak(receive_buffer_bytes=8192)
        await client.subscribe(BLOCKS)
        await client.pong()
        await rig.blocks(10_000)
        oldest = rig.hub.histories[BLOCKS].oldest
        frames = await client.read_until(lambda got: got["type"] == "caught_up")
        kinds = [got["type"] for got in frames if got["type"] != "block_update"]
        assert kinds == ["fell_behind", "gap", "caught_up"]
        (at,) = [index for index, got in enumerate(frames) if got["type"] == "gap"]
        before, (gap, stand_in), after = frames[:at], frames[at : at + 2], frames[at + 2 : -1]
        seqs = [got["seq"] for got in before if "data" in got]
        assert seqs == list(range(1, len(seqs) + 1))
        missed = {"from": len(seqs) + 1, "to": oldest - 1}
        assert gap == {"type": "gap", "stream": BLOCKS, "epoch": "epoch1", "reason": "trimmed"} | missed
        assert (stand_in["snapshot"], stand_in["missed"], stand_in["seq"]) == (True, missed, oldest - 1)
        assert [got["seq"] for got in after] == list(range(oldest, 10_001))
        (books,) = (await client.call("session.stats"))["result"]["subscriptions"]
        assert (books["missed"], books["pending"]) == (missed["to"] - missed["from"] + 1, 0)


async def test_a_new_epoch_is_told(rig, speak):
    rig.block(1)
    client = await speak("/ws?subscribe=block_updates")
    assert (await client.read())["epoch"] == "epoch1"
    rig.origin.begin_epoch()
    rig.block(1)
    gap, update = await client.read(), await client.read()
    assert (gap["type"], gap["reason"], gap["epoch"]) == ("gap", "epoch", "epoch2")
    assert (update["epoch"], update["seq"]) == ("epoch2", 1)


# Coming back


async def test_a_client_comes_back_in_the_other_encoding_and_misses_nothing(rig, speak, encoding):
    client = await speak()
    await client.subscribe(BLOCKS)
    await rig.blocks(5)
    for _ in range(5):
        last = await client.read()
    client.hang_up()
    await rig.blocks(300)
    other = await V1Connection.connect(rig.port, {"json": "proto", "proto": "json"}[encoding])
    await other.read()
    since = {"epoch": last["epoch"], "seq": last["seq"]}
    (row,) = await other.subscribe({"stream": BLOCKS, "since": since})
    assert (row["recovered"], row["replayed"], row["seq"]) == (True, 300, 5)
    await rig.blocks(10)
    frames = await other.read_until(lambda got: got.get("seq") == 315)
    assert [got["seq"] for got in frames] == list(range(6, 316))
    other.hang_up()


async def test_other_clients_do_not_feel_one_that_sends_anything(rig, speak, encoding, witness):
    """Requests of a later version, one after the other with others that are good."""
    client = await speak()
    opcode = TEXT if encoding == "json" else BINARY
    later = b'{"jsonrpc":"2.0","method":"later","id":"x"}' if encoding == "json" else b"\x08\x05\x7a\x05later"
    for _ in range(50):
        await client.client.send(frame(opcode, later))
        assert "error" in await client.read()
        await client.call("session.stats")
        await rig.blocks(5)
    assert frames_pb2.ClientFrame.FromString(b"\x08\x05\x7a\x05later").WhichOneof("request") is None
