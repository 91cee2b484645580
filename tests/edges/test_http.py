"""HTTP beside the WebSocket: health, readiness, metrics in their place, and the current state of every stream."""

import json

import aiohttp
import pytest

from bridge import __version__
from bridge.core.hub import State
from generated.theblock.state.v1 import account_pb2
from tests.edges.rawclient import KEY
from tests.edges.rig import Options, until


async def get(http: aiohttp.ClientSession, path: str, **headers: str) -> tuple[int, dict, dict]:
    """Return status, headers and JSON of a GET; names of headers with `_` for `-`."""
    async with http.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()}) as response:
        text = await response.text()
        return response.status, response.headers, json.loads(text) if text else {}


# Health


async def test_health_is_what_a_dashboard_looks_for(http):
    status, headers, body = await get(http, "/health")
    assert status == 200
    assert headers["Content-Type"].startswith("application/json")
    assert (body["status"], body["version"], body["bootstrap"]) == ("ok", __version__, {"rpc_connected": True})
    assert isinstance(body["uptime"], int)
    assert body["upstream"]["state"] == "live"
    assert body["upstream"]["detail"] == "following the node"
    assert isinstance(body["upstream"]["since"], int)


@pytest.mark.parametrize(("state", "connected"), [(State.STALE, True), (State.DOWN, False)])
async def test_health_is_degraded_when_the_streams_do_not_follow_the_node(rig, http, state, connected):
    rig.hub.set_status(state, "the node is not what it was")
    status, _, body = await get(http, "/health")
    assert status == 200
    assert (body["status"], body["bootstrap"]["rpc_connected"]) == ("degraded", connected)
    assert body["upstream"]["state"] == state.value
    assert body["upstream"]["detail"] == "the node is not what it was"


async def test_health_knows_when_the_state_service_cannot_be_asked(rig, http):
    rig.hub.upstream_reached = False
    _, _, body = await get(http, "/health")
    assert body["bootstrap"]["rpc_connected"] is False


class TestMoreHealth:
    @pytest.fixture
    def options(self) -> Options:
        return Options(describe=lambda: {"role": "sidecar"})

    async def test_health_has_what_the_process_adds(self, http):
        assert (await get(http, "/health"))[2]["role"] == "sidecar"


async def test_the_process_lives(http):
    assert (await get(http, "/livez"))[::2] == (200, {"status": "ok"})


async def test_it_is_ready_until_it_goes_away(rig, http):
    assert (await get(http, "/readyz"))[::2] == (200, {"status": "ok"})
    rig.http.ready = False
    status, _, body = await get(http, "/readyz")
    assert (status, body["error"]["code"]) == (503, "NOT_READY")
    assert (await get(http, "/livez"))[0] == 200


class TestNotBegun:
    @pytest.fixture
    def options(self) -> Options:
        return Options(began=False)

    async def test_it_is_not_ready_before_it_knows_an_epoch(self, rig, http):
        status, _, body = await get(http, "/readyz")
        assert (status, body["error"]["code"]) == (503, "NOT_READY")
        assert "nothing has been heard yet" in body["error"]["message"]
        assert (await get(http, "/livez"))[0] == 200
        health = (await get(http, "/health"))[2]
        assert (health["status"], health["bootstrap"]["rpc_connected"]) == ("degraded", False)
        rig.begin()
        assert (await get(http, "/readyz"))[0] == 200

    async def test_who_subscribes_before_the_first_epoch_gets_what_it_brings(self, rig, connect):
        client = await connect("/ws?subscribe=block_updates,later")
        await client.pong()
        rig.begin()
        rig.block(1)
        rig.origin.publish_custom("later", "tick", b"{}")
        assert [(await client.read_json())["stream"] for _ in range(2)] == ["block_updates", "later"]


# State


async def test_the_state_of_a_stream_is_its_newest_update(rig, http, connect):
    client = await connect("/ws?subscribe=block_updates")
    await client.pong()
    rig.block(7, tx_count=2)
    update = await client.read_json()
    status, headers, body = await get(http, "/state/block_updates")
    assert status == 200
    assert body == update
    assert headers["Content-Type"] == "application/json"
    assert headers["ETag"] == '"epoch1-1"'
    assert headers["Cache-Control"] == "no-cache"


async def test_who_has_the_newest_is_not_sent_it_again(rig, http):
    rig.block(1)
    _, headers, _ = await get(http, "/state/block_updates")
    for tag in (headers["ETag"], f"W/{headers['ETag']}", f'"x-1", {headers["ETag"]}', "*"):
        status, again, body = await get(http, "/state/block_updates", If_None_Match=tag)
        assert (status, again["ETag"], body) == (304, headers["ETag"], {})
    rig.block(2)
    status, newer, body = await get(http, "/state/block_updates", If_None_Match=headers["ETag"])
    assert (status, newer["ETag"], body["seq"]) == (200, '"epoch1-2"', 2)
    rig.origin.begin_epoch()
    rig.block(1)
    status, newer, _ = await get(http, "/state/block_updates", If_None_Match='"epoch1-1"')
    assert (status, newer["ETag"]) == (200, '"epoch2-1"')


async def test_the_state_of_one_key(rig, http):
    for address, nonce in (("a", 1), ("b", 1), ("a", 2)):
        rig.origin.publish(account_pb2.AccountUpdate(address=address, nonce=nonce))
    status, headers, body = await get(http, "/state/account/a")
    assert (status, headers["ETag"]) == (200, '"epoch1-3"')
    assert (body["key"], body["prev"], body["data"]["nonce"]) == ("a", 1, 2)
    assert (await get(http, "/state/account/b", If_None_Match='"epoch1-2"'))[0] == 304


async def test_the_state_of_all_keys_is_those_that_changed_last(rig, http):
    for number in range(1200):
        rig.origin.publish(account_pb2.AccountUpdate(address=f"k{number}", nonce=1))
    _, headers, body = await get(http, "/state/account")
    assert (body["stream"], body["keys"], headers["ETag"]) == ("account", 1200, '"epoch1-1200"')
    assert [update["key"] for update in body["updates"]] == [f"k{number}" for number in range(200, 1200)]


async def test_the_state_of_a_custom_stream(rig, http):
    rig.origin.publish_custom("weather", "weather_update", b'{"rain":true}')
    assert (await get(http, "/state/weather"))[2]["data"] == {"rain": True}


async def test_long_integers_are_strings_for_who_asks(rig, http):
    rig.block(2**60 + 1)
    assert (await get(http, "/state/block_updates?int64=string"))[2]["data"]["height"] == str(2**60 + 1)
    assert (await get(http, "/state/block_updates?int64=number"))[2]["data"]["height"] == 2**60 + 1


@pytest.mark.parametrize(
    ("status", "code", "path"),
    [
        (404, "NOT_FOUND", "/state/block_updates"),
        (404, "NOT_FOUND", "/state/nobody_knows"),
        (404, "NOT_FOUND", "/state/account/nobody"),
        (404, "NOT_FOUND", "/state/metrics/key"),
        (404, "NOT_FOUND", "/state"),
        (404, "NOT_FOUND", "/state/"),
        (404, "NOT_FOUND", "/state/account/a/b"),
        (404, "NOT_FOUND", "/health/"),
        (404, "NOT_FOUND", "/../../etc/passwd"),
        (404, "NOT_FOUND", "/" + "x" * 5000),
        (400, "BAD_REQUEST", "/state/Block"),
        (400, "BAD_REQUEST", "/state/" + "x" * 65),
        (400, "BAD_REQUEST", "/state/%00"),
        (400, "BAD_REQUEST", "/state/account/a%20b"),
        (400, "BAD_REQUEST", "/state/account/a%2Fb"),
        (400, "BAD_REQUEST", "/state/account/" + "x" * 129),
        (400, "BAD_REQUEST", "/state/metrics?int64=yes"),
        (426, "UPGRADE_REQUIRED", "/ws"),
    ],
)
async def test_errors_are_json_with_a_code_and_a_sentence(http, status, code, path):
    found, headers, body = await get(http, path)
    assert (found, body["error"]["code"]) == (status, code)
    assert len(body["error"]["message"]) > 10
    assert len(body["error"]["message"]) < 400
    assert body.keys() == {"error"}
    assert headers["Content-Type"].startswith("application/json")


async def test_an_unknown_stream_is_told_the_known_ones(rig, http):
    rig.origin.publish_custom("weather", "weather_update", b"{}")
    streams = (await get(http, "/state/nobody_knows"))[2]["error"]["details"]["streams"]
    assert {"block_updates", "metrics", "weather"} <= set(streams)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_a_wrong_method_is_told_the_right_ones(http, method):
    async with http.request(method, "/health", data=b"x" * 100_000) as response:
        assert response.status == 405
        assert response.headers["Allow"] == "GET, HEAD"
        assert (await response.json())["error"]["code"] == "METHOD_NOT_ALLOWED"


async def test_head_has_the_headers_and_no_body(rig, http):
    rig.block(1)
    async with http.head("/state/block_updates") as response:
        assert (response.status, response.headers["ETag"]) == (200, '"epoch1-1"')
        assert await response.read() == b""


async def test_reading_over_http_subscribes_to_nothing(rig, http):
    await get(http, "/state/nobody_knows")
    assert "nobody_knows" not in rig.hub.histories
    assert rig.holds_nothing()


async def test_a_request_on_the_connection_that_asked_for_a_websocket_in_vain(rig, http):
    headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": KEY}
    assert (await get(http, "/ws", **headers))[0] == 426
    assert (await get(http, "/livez"))[0] == 200
    await until(rig.holds_nothing, "nothing is left")
