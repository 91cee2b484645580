"""permessage-deflate on real sockets: agreed to, both ways, in pieces; bombs and damage, and nobody else feels them."""

import asyncio
import json
import os
import tracemalloc
import zlib

import pytest

from bridge.core.deflate import Deflate, deflate
from bridge.core.update import Format
from bridge.edges.extensions import ANSWER
from generated.theblock.state.v1 import frames_pb2
from tests.edges.rawclient import BINARY, CLOSE, CONTINUATION, PING, PONG, RSV1, TEXT, Hung, RawClient, frame
from tests.edges.rig import Options, until

OFFER = "permessage-deflate; client_max_window_bits"
"""What browsers offer."""

LIMIT = 65_536
FLOOD = 300
LONG = "the same again and again " * 100


def packed(opcode: int, message: bytes | str, **options: bool) -> bytes:
    """Return a client's frame with a deflated message."""
    return frame(opcode, deflate(message.encode() if isinstance(message, str) else message, 9), reserved=4, **options)


def ping(timestamp: object) -> str:
    return json.dumps({"type": "ping", "timestamp": timestamp})


@pytest.fixture
async def agree(dial):
    """Return a function that opens a WebSocket with permessage-deflate."""

    async def open_one(path: str = "/ws", **headers: str) -> RawClient:
        client = await dial()
        answer = await client.shake(path, Sec_WebSocket_Extensions=OFFER, **headers)
        assert (answer.status, answer.headers["sec-websocket-extensions"]) == (101, ANSWER)
        return client

    return open_one


# ---------------------------------------------------------------------- the handshake


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        (None, None),
        ("permessage-deflate", ANSWER),
        ("permessage-deflate; server_max_window_bits=15", f"{ANSWER}; server_max_window_bits=15"),
        ("permessage-deflate; server_max_window_bits=10", None),
        ("permessage-deflate; server_max_window_bits=10, permessage-deflate", ANSWER),
    ],
)
async def test_what_is_agreed_to(rig, dial, offer, answer):
    client = await dial()
    shaken = await client.shake("/ws?subscribe=ticks", Sec_WebSocket_Extensions=offer)
    assert shaken.headers.get("sec-websocket-extensions") == answer
    rig.tick(1, LONG)
    assert (await client.read_json())["data"]["text"] == LONG
    assert client.deflated == (answer is not None)


async def test_several_headers_are_one_list_of_offers(rig, dial):
    client = await dial()
    offers = ("permessage-deflate; server_max_window_bits=9", OFFER)
    lines = [f"Sec-WebSocket-Extensions: {offer}" for offer in offers]
    answer = await client.shake(X_Other="\r\n".join(["1", *lines]))
    assert answer.headers["sec-websocket-extensions"] == ANSWER


async def test_a_v1_client_may_have_it_too(rig, agree):
    json_, proto = [await agree(Sec_WebSocket_Protocol=f"theblock.v1.{name}") for name in ("json", "proto")]
    assert (await json_.read_json())["type"] == "welcome"
    assert (await proto.read()).opcode == BINARY
    await json_.send(packed(TEXT, '{"jsonrpc":"2.0","method":"state_stream.subscribe","params":["ticks"],"id":1}'))
    assert (await json_.read_json())["id"] == 1
    spec = frames_pb2.SubscriptionSpec(stream="ticks")
    request = frames_pb2.ClientFrame(id=1, subscribe=frames_pb2.SubscribeFrame(subscriptions=[spec]))
    await proto.send(packed(BINARY, request.SerializeToString()))
    assert (await proto.read()).opcode == BINARY
    rig.tick(1, LONG)
    assert (await json_.read_json())["data"]["text"] == LONG
    assert LONG.encode() in (await proto.read()).payload
    assert (json_.deflated, proto.deflated) == (1, 1)


class TestOff:
    @pytest.fixture
    def options(self) -> Options:
        return Options(deflate=None)

    async def test_nothing_is_agreed_to(self, rig, dial):
        client = await dial()
        answer = await client.shake("/ws?subscribe=ticks", Sec_WebSocket_Extensions=OFFER)
        assert answer.status == 101
        assert "sec-websocket-extensions" not in answer.headers
        rig.tick(1, LONG)
        assert (await client.read_json())["data"]["text"] == LONG
        await client.send(packed(TEXT, ping(1)))
        assert (await client.read_close())[0] == 1002


# ---------------------------------------------------------------------- what is sent


class TestSent:
    @pytest.fixture
    def options(self) -> Options:
        return Options(deflate=Deflate(minimum_bytes=200, level=6))

    async def test_short_messages_answers_and_control_frames_are_plain(self, rig, agree):
        client = await agree("/ws?subscribe=ticks")
        rig.tick(1)
        assert (await client.read_json())["seq"] == 1
        await client.pong()
        await client.ask({"jsonrpc": "2.0", "method": "state_stream.list", "id": 1})
        assert len((await client.read()).payload) > 1000
        await client.send(frame(PING, b"x"))
        assert await client.read() == (PONG, b"x")
        assert client.deflated == 0
        rig.tick(2, LONG)
        assert (await client.read_json())["seq"] == 2
        assert client.deflated == 1
        await client.send(frame(CLOSE, (4321).to_bytes(2, "big")))
        assert await client.read() == (CLOSE, (4321).to_bytes(2, "big"))

    async def test_a_snapshot_is_deflated_too(self, rig, agree):
        rig.tick(1, LONG)
        client = await agree("/ws?subscribe=ticks")
        assert (await client.read_json())["snapshot"] is True
        assert client.deflated == 1

    async def test_an_update_is_deflated_once_for_all(self, rig, agree, connect):
        plain = [await connect("/ws?subscribe=ticks") for _ in range(3)]
        clients = [await agree("/ws?subscribe=ticks") for _ in range(3)]
        for number in range(1, 6):
            rig.tick(number, LONG)
        for client in (*plain, *clients):
            assert [(await client.read_json())["seq"] for _ in range(5)] == [1, 2, 3, 4, 5]
        history = rig.hub.histories["ticks"]
        deflates = {reader.deflate for reader in rig.hub.readers}
        assert deflates == {None, Deflate(200, 6)}
        assert [client.deflated for client in clients] == [5, 5, 5]
        for reader in rig.hub.readers:
            form = reader.form(next(iter(reader.cursors.values())).spec)
            before = history.get(5).size_bytes
            assert history.get(5).frame(form)[0] == (0x81 if reader.deflate is None else 0xC1)
            assert history.get(5).size_bytes == before, "it was there already"

    @pytest.mark.parametrize("keeps_context", [False, True])
    async def test_a_client_may_keep_its_context_or_not(self, rig, dial, keeps_context):
        """One that did not ask us to let go of ours may read all messages with one inflater."""
        client = await dial()
        await client.shake("/ws?subscribe=ticks", Sec_WebSocket_Extensions=OFFER)
        for number in range(1, 21):
            rig.tick(number, LONG + os.urandom(40).hex())
        inflater = zlib.decompressobj(-15)
        for number in range(1, 21):
            while len(client.buffer) < 4 or len(client.buffer) < 4 + int.from_bytes(client.buffer[2:4], "big"):
                await client.fill()
            assert client.buffer[:2] == bytes([0x80 | RSV1 | TEXT, 126])
            end = 4 + int.from_bytes(client.buffer[2:4], "big")
            payload = bytes(client.buffer[4:end]) + b"\x00\x00\xff\xff"
            del client.buffer[:end]
            assert json.loads(inflater.decompress(payload))["seq"] == number
            inflater = inflater if keeps_context else zlib.decompressobj(-15)

    async def test_integers_as_strings_are_a_form_of_their_own(self, rig, agree):
        number, text = await agree("/ws?subscribe=ticks"), await agree("/ws?subscribe=ticks&int64=string")
        rig.tick(2**60, LONG)
        assert (await number.read_json())["data"]["number"] == 2**60
        assert (await text.read_json())["data"]["number"] == str(2**60)
        assert {reader.format for reader in rig.hub.readers} == {Format.JSON, Format.JSON_INT64_STRING}


# ---------------------------------------------------------------------- what comes


async def test_deflated_requests_are_answered_in_order_whole_or_in_pieces(agree, witness):
    client = await agree()
    whole = [packed(TEXT, ping(number)) for number in range(50)]
    payload = deflate(ping(50).encode(), 1)
    parts = [frame(TEXT, payload[:1], reserved=4, final=False)]
    parts += [frame(CONTINUATION, bytes([byte]), final=False) for byte in payload[1:]]
    await client.send(b"".join([*whole, *parts, frame(CONTINUATION, b""), frame(TEXT, ping(51).encode())]))
    assert [(await client.read_json())["timestamp"] for _ in range(52)] == list(range(52))
    await client.pong()


async def test_requests_that_wait_their_turn_are_answered_before_a_close(agree, witness):
    client = await agree()
    data = b"".join(packed(TEXT, ping(number)) for number in range(20))
    await client.send(data + frame(CLOSE, (1000).to_bytes(2, "big")))
    assert [(await client.read_json())["timestamp"] for _ in range(20)] == list(range(20))
    assert await client.read() == (CLOSE, (1000).to_bytes(2, "big"))


async def test_a_client_that_leaves_while_its_requests_wait_leaves_nothing(rig, agree, witness):
    client = await agree()
    await client.send(b"".join(packed(TEXT, ping(number)) for number in range(200)))
    client.reset()
    await until(lambda: len(rig.edge.wires) == 1, "only the witness is left")


async def test_the_largest_message_that_is_allowed(agree):
    client = await agree()
    await client.send(packed(TEXT, ping("x").ljust(LIMIT)))
    assert (await client.read_json())["timestamp"] == "x"


BAD = [
    (1002, "RSV1 on a continuation", frame(TEXT, b"", final=False) + frame(CONTINUATION, b"", reserved=4)),
    (1002, "RSV1 on a ping", frame(PING, b"", reserved=4)),
    (1002, "RSV1 on a close", frame(CLOSE, b"", reserved=4)),
    (1002, "another reserved bit", frame(TEXT, b"", reserved=6)),
    (1007, "no deflate at all", frame(TEXT, b"{}{}{}", reserved=4)),
    (1007, "an empty payload", frame(TEXT, b"", reserved=4)),
    (1007, "cut off", frame(TEXT, deflate(ping(LONG).encode(), 1)[:-3], reserved=4)),
    (1007, "cut off in pieces", packed(TEXT, ping(1), final=False) + frame(CONTINUATION, b"\xff\xff")),
    (1007, "bad UTF-8", packed(TEXT, b'"\xff"')),
    (1003, "binary", packed(BINARY, b"{}")),
    (1009, "a bomb", packed(TEXT, bytes(60_000_000))),
    (1009, "one byte too many", packed(TEXT, ping("x").ljust(LIMIT + 1))),
    (1009, "too long before it is inflated", frame(TEXT, bytes(LIMIT + 1), reserved=4)),
]


@pytest.mark.parametrize(("code", "what", "data"), BAD, ids=[row[1] for row in BAD])
async def test_what_is_wrong_closes_with_its_code_and_a_reason(rig, agree, witness, code, what, data):
    client = await agree("/ws?subscribe=block_updates")
    await client.send(data)
    found, reason = await client.read_close()
    assert found == code
    assert reason.keys() == {"error", "message"}
    with pytest.raises(Hung):
        await client.read()


async def test_many_messages_that_inflate_a_lot_take_little_memory(agree):
    """What waits for its turn waits deflated: 18 MB are in 40 KB here."""
    client = await agree()
    data = packed(TEXT, ping(1).ljust(60_000)) * FLOOD
    assert len(data) < FLOOD * 150
    tracemalloc.start()
    try:
        await client.send(data)
        for _ in range(FLOOD):
            assert (await client.read_json())["timestamp"] == 1
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < FLOOD * 60_000 / 3


class TestTurns:
    """The time is the number of the loop's turn, which a pong tells as `server_time`."""

    turn = 0

    @pytest.fixture
    def options(self) -> Options:
        return Options(clock_ms=lambda: self.turn)

    async def test_one_is_inflated_in_a_turn_and_nothing_read_meanwhile(self, rig, agree):
        client = await agree()
        (wire,) = rig.edge.wires
        (reader,) = rig.hub.readers
        paused: set[int] = set()

        async def count() -> None:
            while wire in rig.edge.wires:
                self.turn += 1
                if not reader.write.__self__.is_reading():
                    paused.add(self.turn)
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        await client.send(packed(TEXT, ping(1).ljust(60_000)) * FLOOD)
        turns = [(await client.read_json())["server_time"] for _ in range(FLOOD)]
        client.hang_up()
        await counting
        assert len(set(turns)) == FLOOD
        assert len(paused) > FLOOD / 2, "what comes meanwhile waits in the kernel"


async def test_a_flood_of_bad_messages_ends_after_twenty(agree, witness):
    client = await agree()
    await client.send(packed(TEXT, "nonsense") * 2000)
    assert [received.opcode for received in await client.read_to_end()] == [TEXT] * 20 + [CLOSE]


async def test_everything_at_once(rig, agree, witness):
    """Many clients, each with another fault, while blocks go on."""
    clients = [await agree("/ws?subscribe=block_updates") for _ in BAD]
    await asyncio.gather(*(client.send(data) for client, (_, _, data) in zip(clients, BAD, strict=True)))
    await rig.blocks(100)
    for client, (code, _, _) in zip(clients, BAD, strict=True):
        assert (await client.read_close())[0] == code
        client.hang_up()
    await until(lambda: len(rig.edge.wires) == 1, "only the witness is left")
