"""What a dashboard that knows nothing but updates and `pong` gets over a WebSocket: that, and nothing else."""

import asyncio
import json
import random

import pytest

from generated.theblock.state.v1 import account_pb2, network_pb2
from tests.edges.rawclient import PING, PONG, TEXT, Hung, RawClient, frame, parse_frame, parse_frames
from tests.edges.rig import until

DASHBOARD = ("block_updates", "metrics", "network")


async def test_the_dashboard_gets_its_updates_and_nothing_else(rig, connect):
    rig.values(0)
    rig.block(1)
    client = await connect()
    for stream in DASHBOARD:
        await client.subscribe(stream, request_id=1707770400123)
    snapshots = [await client.read_json() for _ in range(2)]
    assert [(one["type"], one["snapshot"]) for one in snapshots] == [("block_update", True), ("metrics_update", True)]
    rig.values(2)
    rig.block(2)
    rig.origin.publish(network_pb2.NetworkUpdate(peers=3))
    live = [await client.read_json() for _ in range(3)]
    assert [(one["type"], one["stream"]) for one in live] == [
        ("metrics_update", "metrics"),
        ("block_update", "block_updates"),
        ("network_update", "network"),
    ]
    assert all("snapshot" not in one and isinstance(one["data"], dict) for one in live)
    assert live[1]["data"]["height"] == 2
    assert live[1]["seq"] == 2
    await client.pong()


async def test_ten_subscribe_requests_in_one_packet_share_one_id(rig, connect):
    names = [*DASHBOARD, "trading", "energy", "account", "one", "two", "three", "four"]
    client = await connect()
    requests = [{"method": "state_stream.subscribe", "params": [name], "id": 1707770400123} for name in names]
    await client.send(b"".join(frame(TEXT, json.dumps(request).encode()) for request in requests))
    await client.pong()  # none of them was answered
    for name in names[6:]:
        rig.origin.publish_custom(name, "tick", b'{"n":1}')
    rig.block(1)
    assert [(await client.read_json())["stream"] for _ in range(5)] == ["one", "two", "three", "four", "block_updates"]


async def test_subscribing_again_repeats_the_snapshot_and_nothing_after_it(rig, connect):
    rig.block(1)
    client = await connect()
    for _ in range(2):
        await client.subscribe("block_updates")
        assert (await client.read_json())["snapshot"] is True
    rig.block(2)
    assert (await client.read_json())["seq"] == 2
    await client.pong()


@pytest.mark.parametrize("timestamp", [1707770400123, 1707770400123.5, 0, -1, 2**53 + 1, 10**30, "now", None, True])
async def test_pong_echoes_the_timestamp(connect, timestamp):
    client = await connect()
    await client.ask({"type": "ping", "timestamp": timestamp})
    answer = await client.read_json()
    assert answer.keys() == {"type", "timestamp", "server_time"}
    assert (answer["type"], answer["timestamp"], type(answer["timestamp"])) == ("pong", timestamp, type(timestamp))
    assert isinstance(answer["server_time"], int)


async def test_ping_without_a_timestamp_is_answered_with_null(connect):
    client = await connect()
    await client.ask({"type": "ping"})
    assert (await client.read_json())["timestamp"] is None


async def test_a_websocket_ping_is_answered_with_its_own_payload(connect):
    client = await connect()
    for payload in (b"", b"x", bytes(range(125))):
        await client.send(frame(PING, payload))
        assert await client.read() == (PONG, payload)


async def test_a_stream_that_nobody_has_published_on_begins_with_its_first_update(rig, connect):
    client = await connect()
    await client.subscribe("block_updates")
    await client.subscribe("weather")
    await client.pong()
    rig.origin.publish_custom("weather", "weather_update", b'{"rain":true}')
    rig.block(1)
    weather, block = await client.read_json(), await client.read_json()
    assert (weather["type"], weather["seq"], weather["data"]) == ("weather_update", 1, {"rain": True})
    assert (block["type"], block["seq"], block["data"]["height"]) == ("block_update", 1, 1)
    assert "snapshot" not in weather
    assert "snapshot" not in block


async def test_the_url_subscribes_too(rig, connect):
    rig.block(7)
    client = await connect("/ws?subscribe=block_updates,weather&subscribe=metrics")
    assert (await client.read_json())["data"]["height"] == 7
    rig.origin.publish_custom("weather", "weather_update", b"{}")
    rig.values(7)
    assert [(await client.read_json())["stream"] for _ in range(2)] == ["weather", "metrics"]
    await client.pong()


async def test_long_integers_are_strings_for_who_asks(rig, connect):
    strings, numbers = await connect("/ws?int64=string&subscribe=block_updates"), await connect("/ws?int64=number")
    await numbers.subscribe("block_updates")
    await numbers.pong()
    rig.block(2**60 + 1, tx_count=3)
    assert (await strings.read_json())["data"] | {"hash": ""} == {
        "height": "1152921504606846977",
        "hash": "",
        "tx_count": 3,
    }
    received = await numbers.read()
    assert b'"height":1152921504606846977,' in received.payload
    rig.block(2)
    assert (await strings.read_json())["data"]["height"] == "2"


async def test_one_key_of_a_keyed_stream(rig, connect):
    client = await connect()
    await client.subscribe({"stream": "account", "key": "b"})
    await client.pong()
    for address, nonce in (("a", 1), ("b", 1), ("a", 2), ("b", 2)):
        rig.origin.publish(account_pb2.AccountUpdate(address=address, nonce=nonce))
    first, second = await client.read_json(), await client.read_json()
    assert (first["key"], first["seq"], first["prev"]) == ("b", 2, 0)
    assert (second["key"], second["seq"], second["prev"]) == ("b", 4, 2)
    await client.pong()


async def test_unsubscribing_ends_it_without_a_word(rig, connect):
    client = await connect("/ws?subscribe=block_updates,metrics")
    await client.ask({"method": "state_stream.unsubscribe", "params": ["block_updates", "energy"], "id": 1})
    await client.pong()
    rig.block(1)
    rig.values(1)
    assert (await client.read_json())["stream"] == "metrics"
    await client.pong()


async def test_json_rpc_is_answered_in_the_same_dialect(rig, connect):
    rig.block(1)
    client = await connect()
    await client.ask({"jsonrpc": "2.0", "method": "state_stream.subscribe", "params": ["block_updates"], "id": "a"})
    answer = await client.read_json()
    assert (answer["jsonrpc"], answer["id"]) == ("2.0", "a")
    assert answer["result"]["subscriptions"] == [
        {"stream": "block_updates", "declared": True, "epoch": "epoch1", "seq": 1}
    ]
    assert (await client.read_json())["snapshot"] is True
    await client.send_text(
        '[{"jsonrpc":"2.0","method":"session.stats","id":1},{"jsonrpc":"2.0","method":"session.stats"},'
        '{"jsonrpc":"2.0","method":"none","id":2}]'
    )
    batch = await client.read_json()
    assert [one["id"] for one in batch] == [1, 2]
    assert batch[1]["error"]["code"] == -32601


async def test_resuming_gives_what_came_meanwhile_and_goes_on_live(rig, connect):
    await rig.blocks(300)
    client = await connect()
    await client.subscribe({"stream": "block_updates", "since": {"epoch": "epoch1", "seq": 100}})
    await rig.blocks(300)
    assert [(await client.read_json())["seq"] for _ in range(500)] == list(range(101, 601))
    await client.pong()


async def test_a_new_epoch_brings_the_current_value_of_it(rig, connect):
    rig.block(1)
    client = await connect("/ws?subscribe=block_updates")
    assert (await client.read_json())["epoch"] == "epoch1"
    rig.origin.begin_epoch()
    rig.block(1)
    update = await client.read_json()
    assert (update["epoch"], update["seq"]) == ("epoch2", 1)
    await client.pong()


async def test_an_update_is_the_same_bytes_for_everybody(rig, connect):
    clients = [await connect("/ws?subscribe=block_updates") for _ in range(3)]
    rig.block(1)
    first, *others = [await client.read() for client in clients]
    assert others == [first, first]


async def test_every_frame_is_whole_while_much_is_sent_at_once(rig):
    """200 clients with three streams each, 500 updates, and pings and requests in between."""
    number, updates = 200, 500
    clients = [await RawClient.connect(rig.port) for _ in range(number)]
    data = [bytearray() for _ in clients]
    judged = [rig.oracle.client(f"client {index}") for index in range(number)]
    asked = [0] * number
    pick = random.Random(1)
    subscribe = '{"method":"state_stream.subscribe","params":["block_updates","metrics","ticks"],"id":1}'
    for client, judge in zip(clients, judged, strict=True):
        await client.send_text(subscribe)
        await client.pong()
        judge.sent(subscribe)
    loop = asyncio.get_running_loop()

    async def collect(client: RawClient, data: bytearray) -> None:
        while more := await loop.sock_recv(client.sock, 1 << 18):
            data += more

    tasks = [asyncio.create_task(collect(*pair)) for pair in zip(clients, data, strict=True)]
    for index in range(1, updates // 3 + 1):
        rig.values(index)
        rig.block(index)
        rig.tick(index, "x" * pick.randrange(300))
        for chosen in pick.sample(range(number), 10):
            asked[chosen] += 1
            await clients[chosen].send(frame(PING, b"ours") + frame(TEXT, b'{"type":"ping","timestamp":"ours"}'))
            await clients[chosen].send_text('{"jsonrpc":"2.0","method":"session.stats","id":"ours"}')
    last = b'"type":"pong","timestamp":"last"'
    for client in clients:
        await client.send_text('{"type":"ping","timestamp":"last"}')
    await until(lambda: all(last in received[-100:] for received in data), "everybody has read everything")
    for task in tasks:
        task.cancel()
    for client, received, judge, requests in zip(clients, data, judged, asked, strict=True):
        client.hang_up()
        frames = parse_frames(received)
        texts = [one.payload for one in frames if one.opcode == TEXT]
        assert frames.count((PONG, b"ours")) == requests
        assert sum(b'"timestamp":"ours"' in text for text in texts) == requests
        assert sum(b'"id":"ours"' in text for text in texts) == requests
        for text in texts:
            judge.received(text)
    verdict = rig.oracle.verdict()
    assert verdict, verdict
    assert verdict.delivered > number * 2 * (updates // 3)


async def test_a_client_that_comes_and_goes_leaves_nothing(rig, witness):
    for _ in range(30):
        client = await RawClient.connect(rig.port, "/ws?subscribe=block_updates,never_declared")
        rig.block(rig.hub.histories["block_updates"].head + 1)
        client.hang_up()
    await until(lambda: len(rig.edge.wires) == 1, "only the witness is left")
    assert len(rig.hub.readers) == 1
    assert rig.hub.histories["block_updates"].cursors == 1
    assert "never_declared" not in rig.hub.histories
    assert rig.edge.accepted == 31


async def test_the_parser_of_these_tests_refuses_what_is_no_frame():
    assert parse_frame(b"\x81\x7e\x00") is None
    for wrong in (b"\x01\x00", b"\xc1\x00", b"\x81\x80", b"\x83\x00", b"\x81\x7e\x00\x05hello"):
        with pytest.raises(AssertionError):
            parse_frame(wrong)
    with pytest.raises(AssertionError):
        parse_frames(b"\x81\x02hi\x81\x02h")
    assert issubclass(Hung, Exception)
