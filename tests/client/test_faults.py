"""Servers that are no sidecar, or no good one: a client says what is wrong, and tries again only where that helps."""

import asyncio
import socket

import pytest
from aiohttp import web

from bridge.client import (
    Client,
    Connected,
    Disconnected,
    Event,
    GoingAway,
    Patience,
    Position,
    Postponed,
    RefusedError,
    Subscription,
    UnansweredError,
    Updated,
)
from bridge.core.codes import CLOSES, Retry
from tests.client.fake import WELCOME, Peer, answering, fake
from tests.client.world import HASTY
from tests.edges.rig import within

BLOCKS = [Subscription("block_updates")]


async def hear(client: Client, number: int) -> list[Event]:
    return [await within(anext(client)) for _ in range(number)]


async def hear_until(client: Client, kind: type) -> Event:
    while not isinstance(event := await within(anext(client)), kind):
        pass
    return event


def reader(url: str, *subscriptions: Subscription, patience: Patience = HASTY, **options: object) -> Client:
    return Client(url, subscriptions or BLOCKS, patience=patience, **options)


# Updates that a good sidecar would not send so


async def test_repeats_are_dropped_and_counted():
    async def script(peer: Peer) -> None:
        await peer.begin(seq=3)
        for seq in (4, 5, 5, 4, 6):
            await peer.update(seq)
        await peer.stay()

    async with fake(script) as url, reader(url) as client:
        assert [event.seq for event in (await hear(client, 4))[1:]] == [4, 5, 6]
        assert (client.counts.repeated, client.counts.updates) == (2, 3)


async def test_a_hole_that_nothing_explains_is_told():
    async def script(peer: Peer) -> None:
        await peer.begin(seq=3)
        await peer.update(4)
        await peer.update(7)
        await peer.update(2, epoch="f")
        await peer.stay()

    async with fake(script) as url, reader(url) as client:
        _, _, gap, update, other_epoch, first = await hear(client, 6)
        assert (gap.first, gap.last, gap.reason, update.seq) == (5, 6, "unexplained", 7)
        assert (other_epoch.first, other_epoch.last, other_epoch.reason, first.seq) == (0, 0, "unexplained", 2)
        assert client.counts.unexplained == 2
        assert client.position("block_updates") == Position("f", 2)


async def test_a_hole_in_one_key_is_told():
    async def script(peer: Peer) -> None:
        await peer.begin(seq=3)
        await peer.update(6, stream="account", key="a", prev=2)
        await peer.update(9, stream="account", key="a", prev=7)
        await peer.stay()

    async with fake(script) as url, reader(url, Subscription("account", key="a")) as client:
        _, first, gap, second = await hear(client, 4)
        assert (first.seq, gap.key, gap.first, gap.last, second.seq) == (6, "a", 7, 7, 9)


async def test_what_was_not_asked_for_and_what_is_not_known_is_dropped_and_counted():
    async def script(peer: Peer) -> None:
        await peer.begin()
        await peer.update(1, stream="energy")
        await peer.send(type="of_the_future", anything=1)
        await peer.update(1)
        await peer.stay()

    async with fake(script) as url, reader(url) as client:
        assert [event.stream for event in (await hear(client, 2))[1:]] == ["block_updates"]
        assert (client.counts.unasked, client.counts.unknown) == (1, 1)


async def test_snapshots_that_were_cut_off_are_asked_for_again():
    """A position is resumed from only when the values that follow the acknowledgement have come."""
    asked = []

    async def cut_off(peer: Peer) -> None:
        asked.extend(await peer.begin(seq=5))
        await peer.update(2, stream="account", key="a", prev=0, snapshot=True)
        await asyncio.sleep(0)
        await peer.close(1001)

    async def settled(peer: Peer) -> None:
        asked.extend(await peer.begin(seq=5))
        await peer.update(2, stream="account", key="a", prev=0, snapshot=True)
        await peer.update(5, stream="account", key="b", prev=0, snapshot=True)
        await peer.settle()
        await peer.close(1001)

    async def last(peer: Peer) -> None:
        asked.extend(await peer.begin(seq=5, recovered=True, replayed=0))
        await peer.stay()

    async with fake(cut_off, settled, last) as url, reader(url, Subscription("account")) as client:
        for _ in range(3):
            await hear_until(client, Connected)
    assert asked == [{"stream": "account"}] * 2 + [{"stream": "account", "since": {"epoch": "e", "seq": 5}}]


async def test_a_gap_counts_once_the_value_that_stands_in_has_come():
    asked = []

    async def cut_off(peer: Peer) -> None:
        asked.extend(await peer.begin(seq=5))
        await peer.send(
            **{"type": "gap", "stream": "block_updates", "epoch": "e", "from": 6, "to": 9, "reason": "trimmed"}
        )
        await peer.close(1001)

    async def whole(peer: Peer) -> None:
        asked.extend(await peer.begin(seq=5, recovered=False, reason="trimmed"))
        await peer.send(
            **{"type": "gap", "stream": "block_updates", "epoch": "e", "from": 6, "to": 9, "reason": "trimmed"}
        )
        await peer.update(9, snapshot=True, missed={"from": 6, "to": 9})
        await peer.update(10)
        await peer.close(1001)

    async def last(peer: Peer) -> None:
        asked.extend(await peer.begin(seq=10, recovered=True, replayed=0))
        await peer.stay()

    since = Subscription("block_updates", since=Position("e", 5))
    async with fake(cut_off, whole, last) as url, reader(url, since) as client:
        for _ in range(3):
            await hear_until(client, Connected)
        assert client.counts.unexplained == 0
    assert [entry["since"]["seq"] for entry in asked] == [5, 5, 10]


# Ends of connections


@pytest.mark.parametrize("close", [*CLOSES, 1000, 1011, 3000, 4001, 4029, 4499, 4501, 4999], ids=str)
async def test_close_codes(close):
    """What may be retried is, what is somebody's fault three times in a row, what is final not at all."""
    code = close if isinstance(close, int) else close.code
    connections = 0

    async def script(peer: Peer) -> None:
        nonlocal connections
        connections += 1
        await peer.begin()
        await peer.close(code, '{"error":"some_name","message":"some words"}')

    expected = {1002: 3, 1003: 3, 1007: 3, 1009: 3} | dict.fromkeys((4500, 4501, 4503, 4999), 1)
    if not isinstance(close, int):
        assert (close.retry is Retry.YES) is (code not in expected)
    async with fake(script) as url, reader(url) as client:
        if code in expected:
            with pytest.raises(RefusedError, match=f"the sidecar closed the connection: {code}, some words") as caught:
                await hear(client, 100)
            assert caught.value.code == code
            assert connections == expected[code]
        else:
            heard = await hear(client, 10)
            assert [(type(event), getattr(event, "code", None)) for event in heard] == [
                (Connected, None),
                (Disconnected, code),
            ] * 5


@pytest.mark.parametrize(
    ("reason", "seconds"),
    [
        ('{"error":"overloaded","retry_after_ms":1500,"message":"m"}', 1.5),
        ('{"retry_after_ms":-1}', 0),
        ('{"retry_after_ms":"soon"}', 0),
        ('{"retry_after_ms":1e12}', 600),
        ("[1]", 0),
        ("plain words", 0),
        ("", 0),
    ],
)
async def test_close_reason_says_when_to_come_back(reason, seconds):
    async def script(peer: Peer) -> None:
        await peer.begin()
        await peer.close(1013, reason)

    async with fake(script) as url, reader(url) as client:
        lost = await hear_until(client, Disconnected)
        assert seconds <= lost.retry_seconds <= seconds + 0.01
        assert ("plain words" in lost.reason) is (reason == "plain words")


async def test_going_away_counts_where_the_connection_is_cut():
    async def script(peer: Peer) -> None:
        await peer.begin()
        await peer.send(type="going_away", retry_after_ms=2500, reason="bye")
        await peer.receive()  # the ping: what was sent has been read then
        await asyncio.sleep(0)
        peer.abort()

    async with fake(script) as url, reader(url) as client:
        assert (await hear_until(client, GoingAway)).retry_after_ms == 2500
        assert 2.5 <= (await hear_until(client, Disconnected)).retry_seconds <= 2.51


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"seq":1,"data":{}}',
        '{"type":"t","stream":"s","epoch":"e","seq":"x","time":1,"data":{}}',
        '{"type":"gap"}',
        '{"jsonrpc":"2.0","id":1,"result":[]}',
        '{"jsonrpc":"2.0","id":1,"result":{"subscriptions":[{"stream":5}]}}',
        '{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"not JSON"}}',
        '{"type":"pong"}',
        '{"type":"welcome"}',
    ],
)
async def test_frames_that_cannot_be_read(text):
    async def script(peer: Peer) -> None:
        await peer.send(**WELCOME)
        await peer.receive()
        await peer.socket.send_str(text)
        await peer.stay()

    async with fake(script) as url, reader(url) as client:
        with pytest.raises(RefusedError, match=r"cannot (be )?read.*, 3 times in a row"):
            await hear(client, 10)


@pytest.mark.parametrize("payload", [b"", b"\xff\xff", b"\x0a\x05hello"], ids=str)
async def test_binary_frames_that_cannot_be_read(payload):
    async def script(peer: Peer) -> None:
        await peer.socket.send_bytes(payload)
        await peer.stay()

    async with fake(script, protocol="theblock.v1.proto") as url, reader(url, format="proto") as client:
        with pytest.raises(RefusedError, match=r"cannot be read|did not begin with a welcome"):
            await hear(client, 10)


@pytest.mark.parametrize("kind", ["BINARY", "TEXT"])
async def test_frames_of_the_wrong_kind(kind):
    async def script(peer: Peer) -> None:
        await (peer.socket.send_bytes(b"{}") if kind == "BINARY" else peer.socket.send_str("{}"))
        await peer.stay()

    format_ = "json" if kind == "BINARY" else "proto"
    async with fake(script, protocol=f"theblock.v1.{format_}") as url, reader(url, format=format_) as client:
        with pytest.raises(RefusedError, match=f"the sidecar sent a {kind} frame"):
            await hear(client, 10)


async def test_frames_that_are_too_large():
    async def script(peer: Peer) -> None:
        await peer.begin()
        await peer.socket.send_str("x" * (17 << 20))
        await peer.stay()

    async with fake(script) as url, reader(url) as client:
        with pytest.raises(RefusedError, match="the sidecar broke the WebSocket protocol") as caught:
            await hear(client, 10)
        assert caught.value.code == 1009


@pytest.mark.parametrize("silent_from", ["the beginning", "the welcome", "the acknowledgement"])
async def test_silence(silent_from):
    async def script(peer: Peer) -> None:
        if silent_from == "the welcome":
            await peer.send(**WELCOME)
        elif silent_from == "the acknowledgement":
            await peer.begin()
        await peer.stay()

    patience = Patience(
        connect_seconds=0.1, answer_seconds=0.1, quiet_seconds=0.1, pong_seconds=0.05, first_retry_seconds=0.01
    )
    expected = {
        "the beginning": "the server accepted the connection and then said nothing",
        "the welcome": "the sidecar does not answer",
        "the acknowledgement": "the sidecar has gone silent",
    }
    async with fake(script) as url, reader(url, patience=patience) as client:
        assert (await hear_until(client, Disconnected)).reason == expected[silent_from]


async def test_a_quiet_sidecar_that_answers_pings_is_kept():
    async def script(peer: Peer) -> None:
        await peer.begin()
        for _ in range(5):
            await peer.settle()
        await peer.update(1)
        await peer.stay()

    patience = Patience(quiet_seconds=0.02, pong_seconds=5)
    async with fake(script) as url, reader(url, patience=patience) as client:
        assert [type(event) for event in await hear(client, 2)] == [Connected, Updated]


async def test_asked_again_on_the_same_connection_when_positions_cannot_be_decided():
    async def script(peer: Peer) -> None:
        await peer.send(**WELCOME)
        for code in (-32010, -32029):
            request = await peer.receive()
            await peer.settle()
            await peer.answer(request, error={"code": code, "message": "later", "data": {"retry_after_ms": 10}})
        request = await peer.receive()
        assert request["params"][0]["since"] == {"epoch": "e", "seq": 4}
        row = {"stream": "block_updates", "declared": True, "epoch": "e", "seq": 4, "recovered": True, "replayed": 0}
        await peer.answer(request, result={"subscriptions": [row]})
        await peer.stay()

    since = Subscription("block_updates", since=Position("e", 4))
    async with fake(script) as url, reader(url, since) as client:
        assert [type(event) for event in await hear(client, 3)] == [Postponed, Postponed, Connected]
        assert client.counts.connections == 1


async def test_too_many_requests_without_an_answer():
    async def script(peer: Peer) -> None:
        await peer.begin()
        await peer.stay()

    async with fake(script) as url, reader(url) as client:
        await hear_until(client, Connected)
        asking = [asyncio.create_task(client.ping()) for _ in range(1000)]
        with pytest.raises(UnansweredError, match="1000 requests are without an answer already"):
            await within(asyncio.wait_for(next_error(asking), 5))
        for task in asking:
            task.cancel()
        await asyncio.wait(asking)


async def next_error(tasks: list[asyncio.Task]) -> None:
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    next(iter(done)).result()


# Handshakes


async def test_an_old_sidecar_that_knows_no_v1():
    async def handle(_request: web.Request) -> web.Response:
        message = "none of the subprotocols offered is known: offer classic, or none at all"
        return web.json_response({"error": {"code": "UNKNOWN_SUBPROTOCOL", "message": message}}, status=400)

    async with answering(handle) as url, reader(url) as client:
        with pytest.raises(RefusedError, match="HTTP 400: none of the subprotocols offered is known") as caught:
            await hear(client, 1)
        assert caught.value.code == 400


async def test_a_server_that_agrees_on_no_subprotocol():
    async with fake(Peer.stay, protocol=None) as url, reader(url) as client:
        with pytest.raises(RefusedError, match="the server does not speak theblock.v1.json"):
            await hear(client, 1)


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (503, {"Retry-After": "2"}, 2),
        (429, {"Retry-After": "3"}, 3),
        (503, {"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}, 0),
        (502, {}, 0),
        (404, {}, 0),
        (200, {}, 0),
    ],
)
async def test_answers_after_which_trying_again_may_help(status, headers, seconds):
    async def handle(_request: web.Request) -> web.Response:
        return web.Response(status=status, headers=headers, text="<html>")

    async with answering(handle) as url, reader(url) as client:
        lost = (await hear(client, 1))[0]
        assert lost.reason == f"the server answered the handshake with HTTP {status}"
        assert seconds <= lost.retry_seconds <= seconds + 0.01


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_answers_after_which_it_does_not(status):
    async def handle(_request: web.Request) -> web.Response:
        return web.json_response({"error": {"code": "X", "message": "a token is needed"}}, status=status)

    async with answering(handle) as url, reader(url, token="s3cret") as client:
        with pytest.raises(RefusedError, match=f"HTTP {status}: a token is needed") as caught:
            await hear(client, 1)
        assert "s3cret" not in str(caught.value)


async def test_no_secret_of_the_url_is_told():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    async with reader(f"ws://user:s3cret@127.0.0.1:{port}/ws?token=s3cret") as client:
        lost = (await hear(client, 1))[0]
    assert lost.reason == f"cannot connect to 127.0.0.1:{port}: Connection refused"


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH_9\r\n", b"\x00\x00\x12\x04\x00\x00\x00\x00\x00"], ids=str)
async def test_what_is_no_http_server(answer):
    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, reader(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as client:
        lost = (await hear(client, 1))[0]
        assert lost.reason in ("the server hung up", "what answers there is no HTTP server")


async def test_no_tls():
    async with fake(Peer.stay) as url, reader(url.replace("http", "https")) as client:
        lost = (await hear(client, 1))[0]
        assert lost.reason == f"{url.removeprefix('http://')} does not speak TLS as it should"
