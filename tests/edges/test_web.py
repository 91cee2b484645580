"""The edge that serves what browsers load: the live page and the browser client."""

import asyncio
import gzip
import hashlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from bridge.edges.guard import Guard
from bridge.edges.web import TYPES, WebEdge
from tests.contract.pages import plain, table

WEB = Path(__file__).resolve().parents[2] / "bridge/web"
PAGE, CLIENT, UPLOT = WEB / "page", WEB / "client", WEB / "page/uplot"
SERVED = [
    *((f"/client/{path.name}", path) for path in sorted(CLIENT.iterdir()) if path.suffix in TYPES),
    *((f"/page/{path.name}", path) for path in sorted([*PAGE.iterdir(), *UPLOT.iterdir()]) if path.suffix in TYPES),
]
FILES = [(path, file) for path, file in SERVED if file.name != "index.html"]
MODULES = [path for _, path in FILES if path.suffix == ".js" and path.parent != UPLOT]

LARGEST_BYTES = 150 * 1024
"""All that a browser loads for the live page, but what it loads only for protobuf."""


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """Serve; return the port."""
    app = web.Application(middlewares=[Guard(hosts=["*"]).middleware])
    app.add_routes(WebEdge().routes())
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


@pytest.fixture
async def http(port) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", auto_decompress=False) as session:
        yield session


async def raw(port: int, path: str) -> bytes:
    """Ask for a path exactly as it is written; return the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return answer


async def test_every_file_is_served_as_it_is(http):
    types = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
    for path, file in FILES:
        async with http.get(path, headers={"Accept-Encoding": "identity"}) as response:
            assert response.status == 200, path
            assert await response.read() == file.read_bytes()
            assert response.headers["Content-Type"] == f"{types.get(file.suffix, 'text/plain')}; charset=utf-8"
            assert response.headers["Cache-Control"] == "no-cache"
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.headers["Vary"] == "Origin, Accept-Encoding"
    assert {"/client/theblock.js", "/page/main.js", "/page/uPlot.iife.min.js"} < {path for path, _ in FILES}


async def test_who_has_a_file_is_not_sent_it_again(http):
    async with http.get("/client/theblock.js") as response:
        tag = response.headers["ETag"]
    async with http.get("/client/theblock.js", headers={"If-None-Match": tag}) as response:
        assert (response.status, await response.read()) == (304, b"")
        assert response.headers["ETag"] == tag
    async with http.get("/client/theblock.js", headers={"If-None-Match": 'W/"other"'}) as response:
        assert response.status == 200
    async with http.get("/client/websocket.js") as response:
        assert response.headers["ETag"] != tag


@pytest.mark.parametrize("path", ["/", "/client/websocket.js", "/page/page.css"])
async def test_files_are_compressed_for_who_takes_that(http, path):
    async with http.get(path, headers={"Accept-Encoding": "identity"}) as response:
        assert "Content-Encoding" not in response.headers
        whole = await response.read()
    async with http.get(path, headers={"Accept-Encoding": "br, gzip;q=0.5"}) as response:
        assert response.headers["Content-Encoding"] == "gzip"
        packed = await response.read()
    assert gzip.decompress(packed) == whole
    assert len(packed) < len(whole) / 2
    async with http.head(path, headers={"Accept-Encoding": "gzip"}) as response:
        assert (response.status, response.headers["Content-Length"]) == (200, str(len(packed)))


async def test_the_page_lets_nothing_in_but_what_is_its_own(http, port):
    async with http.get("/") as response:
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        rules = dict(rule.split(" ", 1) for rule in response.headers["Content-Security-Policy"].split("; "))
    here = f"127.0.0.1:{port}"
    assert rules == {
        "default-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "connect-src": f"'self' ws://{here} wss://{here}",
        "img-src": "'self' data:",
        "script-src": "'self'",
        "style-src": "'self'",
    }


async def test_the_page_says_at_once_which_modules_it_needs(http):
    async with http.get("/") as response:
        named = re.findall(r"<([^>]+)>; rel=modulepreload", response.headers["Link"])
    needed = {f"page/{path.name}" for path in PAGE.glob("*.js")} | {
        f"client/{path.name}" for path in CLIENT.glob("*.js")
    }
    assert sorted(named) == sorted(needed - {"client/proto.js"})


@pytest.mark.parametrize("host", ["[::1]:5000", "a;script-src *", "a b", "x" * 300 + "'"])
async def test_a_host_that_a_policy_cannot_name_is_left_out_of_it(http, host):
    async with http.get("/", headers={"Host": host}) as response:
        assert response.status == 200
        assert "connect-src 'self'; " in response.headers["Content-Security-Policy"]
        assert "script-src 'self';" in response.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "path",
    [
        "/client/",
        "/client",
        "/page/",
        "/page/index.html",
        "/page/README.md",
        "/client/package.json",
        "/client/nothing.js",
        "/client/../__init__.py",
        "/client/..%2f__init__.py",
        "/client/%2e%2e/%2e%2e/cli.py",
        "/client/%2e%2e%2f%2e%2e%2fcli.py",
        "/client/..%5c..%5ccli.py",
        "/client/%00theblock.js",
        "/client/theblock.js%00",
        "/client//etc/passwd",
        "/client/%2fetc%2fpasswd",
        "/page/uplot/uPlot.iife.min.js",
        "/page/..%2fclient%2ftheblock.js",
    ],
)
async def test_nothing_else_is_to_be_had(port, path):
    answer = await raw(port, path)
    assert answer.split(b" ", 2)[1] in (b"400", b"404"), answer
    assert b"import" not in answer
    assert b"root:" not in answer


async def test_a_dashboard_of_another_allowed_origin_may_load_the_client(http):
    async with http.get("/client/theblock.js", headers={"Origin": "http://localhost:4173"}) as response:
        assert response.headers["Access-Control-Allow-Origin"] == "http://localhost:4173"
    async with http.get("/client/theblock.js", headers={"Origin": "https://example.org"}) as response:
        assert response.status == 403


# What is served


def test_the_page_and_the_client_are_small():
    loaded = [path for _, path in SERVED if path.suffix in (".html", ".css", ".js", ".svg") and path.name != "proto.js"]
    assert sum(path.stat().st_size for path in loaded) < LARGEST_BYTES


def test_the_charts_are_those_that_were_published():
    rows = table((UPLOT / "README.md").read_text(), "uPlot 1.6.32", "file")
    sums = {plain(row[0]): plain(row[1]) for row in rows}
    files = [path for path in UPLOT.iterdir() if path.name != "README.md"]
    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files} == sums
    assert "(v1.6.32)" in (UPLOT / "uPlot.iife.min.js").read_text()[:100]
    assert "MIT License" in (UPLOT / "uPlot.LICENSE.txt").read_text()


@pytest.mark.parametrize("path", [path for path in MODULES if path.parent == PAGE], ids=lambda path: path.name)
def test_modules_of_the_page_need_nothing_but_one_another_and_the_client(path):
    text = path.read_text()
    imported = re.findall(r'(?:from|import\() ?"([^"]+)"', text)
    assert all((PAGE / name).is_file() for name in imported)
    assert len(text.splitlines()) <= 150
    assert max(map(len, text.splitlines())) <= 120


def test_the_page_has_nothing_inline_and_nothing_from_elsewhere():
    html = (PAGE / "index.html").read_text()
    assert not re.search(r"\sstyle=|\son\w+=|<style|<script(?! src=)|javascript:|https?://", html)
    for name in re.findall(r'(?:src|href)="(page/[^"]+)"', html):
        assert f"/{name}" in {path for path, _ in FILES}
