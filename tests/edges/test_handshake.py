"""Handshakes: who gets a WebSocket, and what those that do not are told."""

import asyncio

import pytest

from bridge.edges.guard import Guard
from bridge.edges.handshake import SUBPROTOCOLS
from tests.edges.rawclient import ACCEPT, TEXT, Hung, RawClient, frame
from tests.edges.rig import Options, until


async def test_a_handshake_is_answered_with_what_rfc_6455_asks_for_and_no_more(dial):
    client = await dial()
    answer = await client.shake(Sec_WebSocket_Extensions="permessage-bzip2")
    assert answer.status == 101
    headers = dict(answer.headers)
    assert headers.pop("date")
    assert headers == {
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-accept": ACCEPT,
        "server": "theblock-bridge",
    }
    assert not client.buffer
    await client.pong()


@pytest.mark.parametrize(
    "headers",
    [
        {"Connection": "keep-alive, Upgrade"},
        {"Connection": "upgrade", "Upgrade": "WebSocket"},
        {"Origin": "http://localhost:4173", "Host": "localhost:4173"},
        {"Origin": "https://127.0.0.1"},
        {"Origin": "http://[::1]:8080", "Host": "[::1]:5000"},
        {"Host": "LOCALHOST"},
    ],
    ids=str,
)
async def test_handshakes_that_succeed(dial, headers):
    client = await dial()
    assert (await client.shake(**headers)).status == 101
    await client.pong()


REFUSED = [
    (400, "UNKNOWN_SUBPROTOCOL", {"Sec_WebSocket_Protocol": "graphql-ws"}),
    (400, "UNKNOWN_SUBPROTOCOL", {"Sec_WebSocket_Protocol": "bearer.token, mqtt"}),
    (400, "BAD_REQUEST", {"Sec_WebSocket_Key": None}),
    (400, "BAD_REQUEST", {"Sec_WebSocket_Key": ""}),
    (400, "BAD_REQUEST", {"Sec_WebSocket_Key": "c2hvcnQ="}),
    (400, "BAD_REQUEST", {"Sec_WebSocket_Key": "not base64, but 24 long!"}),
    (426, "UPGRADE_REQUIRED", {"Sec_WebSocket_Version": "8"}),
    (426, "UPGRADE_REQUIRED", {"Sec_WebSocket_Version": None}),
    (426, "UPGRADE_REQUIRED", {"Upgrade": None}),
    (426, "UPGRADE_REQUIRED", {"Upgrade": "h2c"}),
    (426, "UPGRADE_REQUIRED", {"Connection": "keep-alive"}),
    (426, "UPGRADE_REQUIRED", {"Connection": None, "Upgrade": None}),
    (403, "FORBIDDEN", {"Origin": "https://evil.example"}),
    (403, "FORBIDDEN", {"Origin": "http://localhost.evil.example"}),
    (403, "FORBIDDEN", {"Origin": "http://localhost@evil.example"}),
    (403, "FORBIDDEN", {"Origin": "null"}),
    (403, "FORBIDDEN", {"Origin": ""}),
    (403, "FORBIDDEN", {"Origin": "file://"}),
    (403, "FORBIDDEN", {"Host": "evil.example:5000"}),
    (403, "FORBIDDEN", {"Host": "127.0.0.1.evil.example"}),
    (403, "FORBIDDEN", {"Host": "localhost@evil.example"}),
    (403, "FORBIDDEN", {"Host": "[::1"}),
    (403, "FORBIDDEN", {"Host": ""}),
    (400, "BAD_REQUEST", {"Sec_WebSocket_Extensions": "permessage-deflate;"}),
    (400, "BAD_REQUEST", {"path": "/ws?int64=bigint"}),
    (400, "BAD_REQUEST", {"path": "/ws?subscribe=block_updates,Nope"}),
    (400, "BAD_REQUEST", {"path": "/ws?subscribe=%00"}),
    (405, "METHOD_NOT_ALLOWED", {"method": "POST"}),
    (405, "METHOD_NOT_ALLOWED", {"method": "DELETE"}),
    (404, "NOT_FOUND", {"path": "/ws2"}),
]


@pytest.mark.parametrize(("status", "code", "headers"), REFUSED, ids=[str(row[2]) for row in REFUSED])
async def test_handshakes_that_are_refused_with_a_sentence(dial, witness, status, code, headers):
    client = await dial()
    answer = await client.shake(**headers)
    error = answer.json()["error"]
    assert (answer.status, error["code"]) == (status, code)
    assert len(error["message"]) > 15
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.headers["server"] == "theblock-bridge"
    assert "access-control-allow-origin" not in answer.headers


async def test_a_wrong_version_is_told_the_right_one(dial):
    answer = await (await dial()).shake(Sec_WebSocket_Version="8")
    assert answer.headers["sec-websocket-version"] == "13"


async def test_a_request_that_is_no_handshake_is_told_what_this_is(dial):
    answer = await (await dial()).shake(Upgrade=None, Connection=None)
    assert answer.headers["upgrade"] == "websocket"


async def test_an_unknown_subprotocol_is_told_the_known_ones(dial):
    answer = await (await dial()).shake(Sec_WebSocket_Protocol="graphql-ws")
    assert answer.json()["error"]["details"] == {"known": list(SUBPROTOCOLS)}


async def test_a_wrong_method_is_told_the_right_ones(dial):
    answer = await (await dial()).shake(method="PUT")
    assert answer.headers["allow"] == "GET, HEAD"


async def test_a_refused_client_may_try_again_on_the_same_connection(dial):
    client = await dial()
    assert (await client.shake(Sec_WebSocket_Version="8")).status == 426
    assert (await client.shake()).status == 101
    await client.pong()


async def test_a_handshake_may_come_byte_by_byte(rig, dial, witness):
    client = await dial()
    request = (
        f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{rig.port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    for byte in request.encode():
        await client.send(bytes([byte]))
        await asyncio.sleep(0)
    assert (await client.read_answer()).status == 101
    await client.pong()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /ws HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * 70_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /ws HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100,
        b"nonsense\r\n\r\n",
    ],
    ids=["long header", "long path", "many headers", "TLS", "nonsense"],
)
async def test_what_is_hardly_http_is_answered_400_and_hung_up_on(dial, witness, request_bytes):
    client = await dial()
    try:
        await client.send(request_bytes)
        assert (await client.read_answer()).status == 400
        with pytest.raises(Hung):
            await client.fill()
    except (ConnectionError, Hung):
        pass  # it hung up while the rest was on its way


async def test_frames_that_do_not_wait_for_the_handshake_harm_nobody(rig, dial, witness):
    client = await dial()
    request = (
        f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{rig.port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    await client.send(request.encode() + frame(TEXT, b"{}") * 1000)
    assert (await client.read_answer()).status == 101


async def test_a_client_that_hangs_up_during_the_handshake_leaves_nothing(rig, dial, witness):
    for _ in range(20):
        client = await dial()
        request = (
            f"GET /ws?subscribe=block_updates HTTP/1.1\r\nHost: 127.0.0.1:{rig.port}\r\nConnection: Upgrade\r\n"
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        await client.send(request.encode())
        client.hang_up()
    client = await dial()
    await client.send(b"GET /ws HTTP/1.1\r\nHost: loc")
    client.hang_up()
    await until(lambda: len(rig.edge.wires) == 1, "only the witness is left")


class TestLimit:
    @pytest.fixture
    def options(self) -> Options:
        return Options(connection_limit=2)

    async def test_more_connections_than_allowed_are_sent_away_for_now(self, rig, connect, dial):
        first, _ = await connect(), await connect()
        refused = await (await dial()).shake()
        assert (refused.status, refused.json()["error"]["code"]) == (503, "OVERLOADED")
        assert int(refused.headers["retry-after"]) >= 1
        assert (rig.edge.accepted, rig.edge.refused) == (2, 1)
        first.hang_up()
        await until(lambda: len(rig.edge.wires) == 1, "a place is free")
        await (await connect()).pong()


class TestMoreOriginsAndHosts:
    @pytest.fixture
    def options(self) -> Options:
        return Options(guard=Guard(hosts=["Bridge.example"], origins=["https://app.example/"]))

    @pytest.mark.parametrize(
        ("status", "headers"),
        [
            (101, {"Host": "bridge.example:443", "Origin": "https://app.example"}),
            (101, {"Host": "localhost", "Origin": "http://localhost:4173"}),
            (403, {"Host": "bridge.example", "Origin": "http://app.example"}),
            (403, {"Host": "bridge.example", "Origin": "https://app.example:8443"}),
            (403, {"Host": "app.example", "Origin": "https://app.example"}),
        ],
        ids=str,
    )
    async def test_settings_add_to_what_is_allowed(self, dial, status, headers):
        client: RawClient = await dial()
        assert (await client.shake(**headers)).status == status
