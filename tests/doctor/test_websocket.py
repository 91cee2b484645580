"""The checks of handshakes, each through a proxy that really spoils them, or against a sidecar that refuses."""

import pytest

from bridge.doctor import websocket
from bridge.settings import WebSocketSettings
from tests.doctor.proxy import Proxy, listening, response, without
from tests.doctor.rig import at, hold_open, look, sidecar

ORIGIN = "https://dashboard.example.org"


async def asked(port: int, name: str = "websocket", **targets):
    return await look(name, url=at(port), **targets)


def only(path: bytes, own: bytes):
    """Return a proxy's answer to requests of one path."""
    return lambda head: own if head.startswith(b"GET " + path) else None


async def test_a_sidecar_that_is_well():
    async with sidecar() as port:
        assert (await asked(port)).finding is websocket.UPGRADES
        found = await asked(port, "origin")
        assert (found.finding, at(port) in found.says) == (websocket.ALLOWED, True)
        found = await asked(port, "dialects")
    assert found.finding is websocket.SPOKEN
    assert "classic, theblock.v1.json and theblock.v1.proto" in found.says


async def test_a_proxy_that_changes_nothing():
    async with sidecar() as port, listening(Proxy(port).serve) as proxy:
        for name, finding in (
            ("websocket", websocket.UPGRADES),
            ("origin", websocket.ALLOWED),
            ("dialects", websocket.SPOKEN),
        ):
            assert (await asked(proxy, name)).finding is finding


@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request", "502 Bad Gateway"])
async def test_a_proxy_that_does_not_upgrade(status):
    async with sidecar() as port, listening(Proxy(port, only(b"/ws", response(status, b"no"))).serve) as proxy:
        found = await asked(proxy)
    assert found.finding is websocket.NOT_UPGRADED
    assert f"HTTP {status[:3]}" in found.says
    assert "proxy_set_header Upgrade $http_upgrade" in found.do


async def test_a_proxy_that_strips_the_upgrade():
    stripped = without("upgrade", "connection")
    async with sidecar() as port, listening(Proxy(port, request=stripped).serve) as proxy:
        found = await asked(proxy)
    assert found.finding is websocket.HEADERS_STRIPPED
    assert "proxy_http_version 1.1" in found.do


async def test_a_proxy_that_hangs_up():
    def answer(head: bytes) -> bytes | None:
        if head.startswith(b"GET /ws"):
            raise ConnectionError
        return None

    async with sidecar() as port, listening(Proxy(port, answer).serve) as proxy:
        assert (await asked(proxy)).finding is websocket.NO_ANSWER


async def test_something_that_answers_for_the_sidecar():
    def change(head: bytes) -> bytes:
        accepted = b"Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA="
        lines = head.split(b"\r\n")
        return b"\r\n".join(accepted if line.lower().startswith(b"sec-websocket-accept") else line for line in lines)

    async with sidecar() as port, listening(Proxy(port, response=change).serve) as proxy:
        assert (await asked(proxy)).finding is websocket.NOT_OURS


async def test_a_sidecar_that_is_full():
    async with sidecar(websocket=WebSocketSettings(connection_limit=1)) as port:
        held = await hold_open(port)
        found = await asked(port)
        held.close()
    assert found.finding is websocket.FULL
    assert "connection_limit" in found.do


async def test_an_origin_that_is_not_allowed():
    async with sidecar() as port:
        found = await asked(port, "origin", origin=ORIGIN)
    assert found.finding is websocket.ORIGIN_REFUSED
    assert f"--allowed-origins {ORIGIN}" in found.do
    assert f'allowed_origins = ["{ORIGIN}"]' in found.do
    async with sidecar(allowed_origins=(ORIGIN,)) as port:
        assert (await asked(port, "origin", origin=ORIGIN)).finding is websocket.ALLOWED


async def test_a_proxy_that_refuses_origins():
    def answer(head: bytes) -> bytes | None:
        return response("403 Forbidden") if b"\r\nOrigin:" in head else None

    async with sidecar() as port, listening(Proxy(port, answer).serve) as proxy:
        found = await asked(proxy, "origin")
    assert found.finding is websocket.ORIGIN_DROPPED
    assert "HTTP 403" in found.says


@pytest.mark.parametrize("direction", ["request", "response"])
async def test_a_proxy_that_strips_the_subprotocol(direction):
    stripped = {direction: without("sec-websocket-protocol")}
    async with sidecar() as port, listening(Proxy(port, **stripped).serve) as proxy:
        assert (await asked(proxy)).finding is websocket.UPGRADES
        found = await asked(proxy, "dialects")
    assert found.finding is websocket.PROTOCOL_STRIPPED
    assert "theblock.v1.json" in found.says


async def test_a_proxy_that_refuses_subprotocols():
    def answer(head: bytes) -> bytes | None:
        return response("400 Bad Request") if b"Sec-WebSocket-Protocol" in head else None

    async with sidecar() as port, listening(Proxy(port, answer).serve) as proxy:
        found = await asked(proxy, "dialects")
    assert found.finding is websocket.NAME_REFUSED
    assert "HTTP 400" in found.says


async def test_a_proxy_that_holds_frames_back():
    async with sidecar() as port, listening(Proxy(port, hold=True).serve) as proxy:
        found = await asked(proxy, "dialects", answer_seconds=2.0)
    assert found.finding is websocket.NOT_WELCOMED
