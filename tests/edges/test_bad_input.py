"""Bad input has its documented answer, and no other client feels it: a witness reads every block all the while."""

import asyncio
import json

import pytest

from tests.edges.rawclient import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Hung, RawClient, frame
from tests.edges.rig import until

SUBSCRIBE = "state_stream.subscribe"


def request(**members: object) -> str:
    return json.dumps({"method": SUBSCRIBE, "id": 7, **members})


def one(**members: object) -> str:
    return request(params=[{"stream": "block_updates", **members}])


MESSAGES = [
    (-32700, "", "not JSON"),
    (-32700, "subscribe, please", "not JSON"),
    (-32700, '{"method":', "not JSON"),
    (-32700, '{"id":1,"id":2,"method":"session.stats"}', "'id'"),
    (-32700, '{"method":"x","params":[{"a":1,"a":2}]}', "'a'"),
    (-32700, '{"id":NaN}', "NaN"),
    (-32700, '{"id":1e999}', "too large"),
    (-32700, '{"id":' + "9" * 5000 + "}", "too many digits"),
    (-32700, '{"id":"\\ud800"}', "surrogate"),
    (-32700, "[" * 33 + "]" * 33, "32 levels"),
    (-32700, "[" * 30_000, "nested too deep"),
    (-32700, '{"a":' * 9_000 + "1" + "}" * 9_000, "nested too deep"),
    (-32600, "1", "object"),
    (-32600, '"ping"', "object"),
    (-32600, "null", "object"),
    (-32600, "[]", "batch"),
    (-32600, json.dumps([1] * 51), "50"),
    (-32600, "{}", "method"),
    (-32600, '{"type":"pong"}', "method"),
    (-32600, '{"method":7}', "method"),
    (-32600, '{"method":"session.stats","id":{}}', "id"),
    (-32600, '{"method":"session.stats","id":true}', "id"),
    (-32600, '{"type":"ping","timestamp":{}}', "timestamp"),
    (-32601, '{"method":"state_stream.subscrib"}', "subscrib"),
    (-32601, '{"method":"__class__"}', "__class__"),
    (-32601, json.dumps({"method": "x" * 50_000}), "xxx"),
    (-32602, request(), "params"),
    (-32602, request(params=[]), "params"),
    (-32602, request(params="block_updates"), "params"),
    (-32602, request(params=[7]), "params[0]"),
    (-32602, request(params=["block_updates", None]), "params[1]"),
    (-32602, request(params=["Block_Updates"]), "[a-z]"),
    (-32602, request(params=["x" * 65]), "[a-z]"),
    (-32602, request(params=["a\u0000"]), "[a-z]"),
    (-32602, request(params=[f"s{n}" for n in range(17)]), "16"),
    (-32602, request(params=[{"stream": "account", "key": f"k{n}"} for n in range(257)]), "256"),
    (-32602, one(key="a b"), "key"),
    (-32602, one(key="a"), "no keys"),
    (-32602, one(keys="a"), "'keys'"),
    (-32602, one(since=5), "since"),
    (-32602, one(since={"seq": 5}), "since"),
    (-32602, one(since={"epoch": "e", "seq": -1}), "seq"),
    (-32602, one(since={"height": 1.5}), "height"),
    (-32602, one(last=1001), "1000"),
    (-32602, one(last=True), "last"),
    (-32602, one(last=1, since={"height": 1}), "exclude"),
    (-32602, one(where=[]), "where"),
    (-32602, one(where={f"f{n}": 1 for n in range(17)}), "16"),
    (-32602, one(where={"height": {"near": 5}}), "where.height"),
    (-32602, one(fields=[]), "fields"),
    (-32602, one(fields=[f"f{n}" for n in range(65)]), "64"),
    (-32602, request(method="state_stream.unsubscribe"), "params"),
    (-32602, request(method="state_stream.list", params=["all"]), "params"),
    (-32602, request(method="state_stream.history", params=[{"stream": "none"}]), "none"),
    (-32602, request(method="state_stream.history", params=[{"stream": "metrics", "limit": 0}]), "limit"),
    (-32602, request(method="session.stats", params=[1]), "params"),
]


@pytest.mark.parametrize(("code", "text", "named"), MESSAGES, ids=[f"{row[0]} {row[1][:60]}" for row in MESSAGES])
async def test_a_bad_message_is_answered_and_the_connection_lives(connect, witness, code, text, named):
    client = await connect()
    await client.send_text(text)
    answer = await client.read_json()
    assert answer["type"] == "error"
    assert answer["error"]["code"] == code
    assert named in answer["error"]["message"]
    assert len(answer["error"]["message"]) < 500
    assert answer.get("id") == (7 if '"id": 7' in text else answer.get("id"))
    await client.pong()


async def test_one_bad_entry_and_nothing_is_subscribed(rig, connect, witness):
    rig.block(rig.hub.histories["block_updates"].head + 1)
    client = await connect()
    await client.subscribe("block_updates", "Bad Name")
    assert (await client.read_json())["error"]["code"] == -32602
    rig.block(rig.hub.histories["block_updates"].head + 1)
    await client.pong()


async def test_an_unknown_method_is_told_the_known_ones(connect):
    client = await connect()
    await client.ask({"method": "nope", "id": "x"})
    answer = await client.read_json()
    assert answer["id"] == "x"
    assert SUBSCRIBE in answer["error"]["data"]["methods"]


FRAMES = [
    (1002, "unmasked", frame(TEXT, b"{}", masked=False)),
    (1002, "reserved bit 1", frame(TEXT, b"{}", reserved=4)),
    (1002, "reserved bit 3", frame(TEXT, b"{}", reserved=1)),
    (1002, "unknown opcode", frame(0x3, b"{}")),
    (1002, "unknown control opcode", frame(0xB, b"")),
    (1002, "fragmented control", frame(PING, b"", final=False)),
    (1002, "long control", frame(PING, b"x" * 126)),
    (1002, "continuation of nothing", frame(CONTINUATION, b"{}")),
    (1002, "message within a message", frame(TEXT, b"{", final=False) + frame(TEXT, b"}")),
    (1002, "length with its highest bit set", frame(TEXT, b"", size=1 << 63)),
    (1002, "close code that may not be sent", frame(CLOSE, (1005).to_bytes(2, "big"))),
    (1002, "close payload of one byte", frame(CLOSE, b"\x03")),
    (1003, "binary", frame(BINARY, b"{}")),
    (1003, "fragmented binary", frame(BINARY, b"{", final=False) + frame(CONTINUATION, b"}")),
    (1007, "bad UTF-8", frame(TEXT, b'"\xff"')),
    (1007, "surrogate in UTF-8", frame(TEXT, b'"\xed\xa0\x80"')),
    (1007, "cut off UTF-8", frame(TEXT, b'"\xc3')),
    (1007, "bad UTF-8 in a close frame", frame(CLOSE, b"\x03\xe8\xff")),
    (1009, "too long", frame(TEXT, b"x" * 65_537)),
    (1009, "endless", frame(TEXT, b"", size=(1 << 63) - 1)),
    (1009, "too long in fragments", frame(TEXT, b"x" * 40_000, final=False) + frame(CONTINUATION, b"x" * 40_000)),
]


@pytest.mark.parametrize(("code", "what", "data"), FRAMES, ids=[row[1] for row in FRAMES])
async def test_a_bad_frame_closes_with_its_code_and_a_reason(rig, connect, witness, code, what, data):
    client = await connect("/ws?subscribe=block_updates")
    await client.send(data)
    found, reason = await client.read_close()
    assert found == code
    assert reason.keys() == {"error", "message"}
    assert len(json.dumps(reason, separators=(",", ":"))) < 123
    rig.block(rig.hub.histories["block_updates"].head + 1)
    with pytest.raises(Hung):
        await client.read()  # nothing comes after a close frame


async def test_the_reason_arrives_although_ten_megabytes_are_on_their_way(connect, witness):
    client = await connect()
    message = frame(TEXT, size=10_000_000) + bytes(10_000_000)
    sending = asyncio.create_task(client.send(message))
    assert await client.read_close() == (1009, {"error": "too_big", "message": "a message is at most 65536 bytes"})
    await sending
    assert await client.read_to_end() == []


async def test_the_largest_message_that_is_allowed(connect):
    client = await connect()
    text = json.dumps({"type": "ping", "timestamp": "x" * 65_000}).ljust(65_536)
    await client.send_text(text)
    assert len((await client.read_json())["timestamp"]) == 65_000


async def test_a_message_in_many_fragments_with_pings_in_between(connect):
    client = await connect()
    text = '{"type":"ping","timestamp":"\u20ac"}'.encode()
    parts = [frame(TEXT, text[:1], final=False)]
    for byte in text[1:]:
        parts += [frame(PING, b"between"), frame(CONTINUATION, bytes([byte]), final=False)]
    await client.send(b"".join([*parts, frame(CONTINUATION, b"")]))
    for _ in text[1:]:
        assert await client.read() == (PONG, b"between")
    assert (await client.read_json())["timestamp"] == "\u20ac"


async def test_a_message_may_come_byte_by_byte(connect, witness):
    client = await connect()
    for byte in frame(TEXT, b'{"type":"ping","timestamp":5}') + frame(PING, b"x"):
        await client.send(bytes([byte]))
        await asyncio.sleep(0)
    assert (await client.read_json())["timestamp"] == 5
    assert await client.read() == (PONG, b"x")


async def test_an_unasked_pong_is_ignored(connect):
    client = await connect()
    await client.send(frame(PONG, b"unasked"))
    await client.pong()


async def test_twenty_bad_messages_in_a_row_close_the_connection(connect, witness):
    client = await connect()
    for number in range(1, 21):
        await client.send_text("nonsense")
        assert (await client.read_json())["error"]["code"] == -32700, number
    assert await client.read_close() == (4500, {"error": "bad_messages", "message": "20 bad messages in a row"})


async def test_a_good_message_begins_the_count_anew(connect):
    client = await connect()
    for _ in range(4):
        for _ in range(19):
            await client.send_text("nonsense")
            await client.read_json()
        await client.pong()


async def test_a_flood_of_bad_messages_ends_after_twenty(connect, witness):
    client = await connect()
    await client.send(frame(TEXT, b"nonsense") * 5000)
    frames = await client.read_to_end()
    assert [received.opcode for received in frames] == [TEXT] * 20 + [CLOSE]


async def test_bad_requests_in_batches_count_too(connect):
    client = await connect()
    await client.ask([{"jsonrpc": "2.0", "method": "nope", "id": number} for number in range(25)])
    assert len(json.loads((await client.read()).payload)) == 25
    assert (await client.read_close())[0] == 4500


async def test_everything_at_once(rig, connect, witness):
    """Many clients, each with another fault, while blocks go on."""
    bad: list[RawClient] = []
    for _, _, data in FRAMES:
        bad.append(await connect("/ws?subscribe=block_updates"))
        await bad[-1].send(data)
        await rig.blocks(10)
    for client, (code, _, _) in zip(bad, FRAMES, strict=True):
        assert (await client.read_close())[0] == code
        client.hang_up()
    await until(lambda: len(rig.edge.wires) == 1, "only the witness is left")
