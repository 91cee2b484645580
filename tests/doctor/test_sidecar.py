"""The checks of the sidecar over HTTP, each against a real sidecar, or what stands in its place or before it."""

import asyncio

import pytest
from aiohttp import web

from bridge.core.hub import State
from bridge.doctor import sidecar
from bridge.settings import Address
from tests import state_service
from tests.doctor import rig
from tests.doctor.proxy import HANG, Proxy, chatty, curt, listening, response, silent, web_server
from tests.doctor.rig import SHORT_SECONDS, at, free_port, look, report_on, running

NOWHERE = Address("127.0.0.1", 9)
"""The discard port, where nobody listens."""


async def asked(port: int, name: str = "sidecar", **targets):
    return await look(name, url=at(port), **targets)


async def test_a_sidecar_that_is_well():
    async with rig.sidecar() as port:
        for check, finding in (
            ("sidecar", sidecar.ANSWERS),
            ("upstream", sidecar.FOLLOWS),
            ("dashboard", sidecar.DASHBOARD),
            ("headers", sidecar.LONG_HEADER),
        ):
            assert (await asked(port, check)).finding is finding


async def test_old_saved_mock_mode_is_told_of_where_all_is_well():
    async with rig.sidecar() as port:
        assert "remove mock_rpc from featureFlags" in (await asked(port, "dashboard")).says


async def test_nothing_listens():
    found = await asked(free_port())
    assert found.finding is sidecar.UNREACHABLE
    assert "nothing listens there" in found.says


async def test_https_where_http_is_spoken():
    async with rig.sidecar() as port:
        found = await look("sidecar", url=f"https://127.0.0.1:{port}")
    assert found.finding is sidecar.UNREACHABLE
    assert "does not speak TLS" in found.says


@pytest.mark.parametrize(("server", "finding"), [(chatty, sidecar.NOT_A_SIDECAR), (curt, sidecar.NOT_A_SIDECAR)])
async def test_a_server_that_speaks_no_http(server, finding):
    async with listening(server) as port:
        assert (await asked(port)).finding is finding


async def test_a_server_that_says_nothing():
    async with listening(silent) as port:
        assert (await asked(port, answer_seconds=SHORT_SECONDS)).finding is sidecar.SILENT


@pytest.mark.parametrize(
    ("status", "server", "finding"),
    [
        (200, "nginx", sidecar.NOT_A_SIDECAR),
        (403, "AirTunes/775.3.1", sidecar.AIRPLAY),
        (404, "nginx", sidecar.NOT_A_SIDECAR),
        (502, "nginx", sidecar.BEHIND_PROXY),
        (301, "nginx", sidecar.REDIRECTED),
    ],
)
async def test_another_http_server(status, server, finding):
    async def answer(request: web.Request) -> web.Response:
        headers = {"Server": server, "Location": "https://dashboard.example.org/"}
        return web.Response(status=status, headers=headers)

    async with web_server(answer) as port:
        assert (await asked(port)).finding is finding


async def test_a_host_that_is_not_allowed():
    async with rig.sidecar(listen=Address("127.0.0.2", 0)) as port:
        found = await look("sidecar", url=f"http://127.0.0.2:{port}")
    assert found.finding is sidecar.HOST_REFUSED
    assert 'allowed_hosts = ["127.0.0.2"]' in found.do
    async with rig.sidecar(listen=Address("127.0.0.2", 0), allowed_hosts=("127.0.0.2",)) as port:
        assert (await look("sidecar", url=f"http://127.0.0.2:{port}")).finding is sidecar.ANSWERS


async def test_an_upstream_that_cannot_be_reached():
    async with running(None, upstream=(NOWHERE,)) as (port, _):
        found = await asked(port, "upstream")
        assert found.finding is sidecar.UPSTREAM_DOWN
        mock = await asked(port, "dashboard")
    assert mock.finding is sidecar.MOCK_MODE
    assert "remove mock_rpc from featureFlags" in mock.do


async def test_an_upstream_that_gives_nothing_new():
    async with state_service.serving() as service, running(None, upstream=(service.address,)) as (port, process):
        service.hub.set_status(State.STALE, "the node is banned", 1_700_000_000_000)
        await state_service.until(lambda: process.hub.status.state is State.STALE)
        found = await asked(port, "upstream")
    assert found.finding is sidecar.UPSTREAM_STALE
    assert found.says.endswith(": the node is banned")


async def test_a_proxy_that_keeps_rpc_to_itself():
    def answer(head: bytes) -> bytes | None:
        return response("404 Not Found") if head.startswith(b"POST /rpc") else None

    async with rig.sidecar() as port, listening(Proxy(port, answer).serve) as proxy:
        found = await asked(proxy, "dashboard")
    assert found.finding is sidecar.NO_RPC
    assert "HTTP 404" in found.says


async def test_a_page_in_place_of_rpc():
    def answer(head: bytes) -> bytes | None:
        return response("200 OK", b"<html>") if head.startswith(b"POST /rpc") else None

    async with rig.sidecar() as port, listening(Proxy(port, answer).serve) as proxy:
        assert (await asked(proxy, "dashboard")).finding is sidecar.NO_RPC


async def test_a_sidecar_that_stops_answering_meanwhile():
    seen = []

    def answer(head: bytes) -> bytes | None:
        seen.append(head)
        return HANG if len(seen) > 1 else None

    async with rig.sidecar() as port, listening(Proxy(port, answer).serve) as proxy:
        report = await report_on(url=at(proxy), answer_seconds=2.0)
    assert report["upstream"].finding is sidecar.LOST
    assert report["dashboard"].finding is sidecar.SLOW


@pytest.mark.parametrize("refusal", ["431 Request Header Fields Too Large", "400 Bad Request", ""])
async def test_a_proxy_that_limits_headers(refusal):
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await Proxy(port, answer).serve(reader, writer)

    def answer(head: bytes) -> bytes | None:
        if len(head) < 4096:
            return None
        if not refusal:
            raise ConnectionError  # hangs up
        return response(refusal)

    async with rig.sidecar() as port, listening(serve) as proxy:
        found = await asked(proxy, "headers")
    assert found.finding is sidecar.HEADER_LIMIT
    assert (f"HTTP {refusal[:3]}" if refusal else "closed") in found.says


async def test_a_sidecar_is_not_looked_at_if_there_is_no_address():
    assert (await look("sidecar", url=None)).finding is sidecar.SIDECAR_SKIPPED
