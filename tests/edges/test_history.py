"""Pages of history over HTTP: the same pages as over the WebSocket, in JSON and line by line."""

import gzip
import json
import re

import aiohttp
import pytest

from bridge.core.history import HistoryLimits
from bridge.core.limits import Limits
from generated.theblock.state.v1 import account_pb2
from tests import frames
from tests.edges.rig import Options

PATH = "/state/block_updates/history"
NDJSON = "application/x-ndjson"


async def get(http: aiohttp.ClientSession, path: str, **headers: str) -> tuple[int, dict, dict]:
    """Return status, headers and JSON of a GET; names of headers with `_` for `-`."""
    async with http.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()}) as response:
        text = await response.text()
        return response.status, response.headers, json.loads(text) if text else {}


def seqs(page: dict) -> list[int]:
    return [update["seq"] for update in page["updates"]]


def publish_accounts(rig, *addresses: str) -> None:
    for nonce, address in enumerate(addresses):
        rig.origin.publish(account_pb2.AccountUpdate(address=address, nonce=nonce))


async def test_a_page_is_what_the_method_returns(rig, http, connect):
    await rig.blocks(5)
    status, headers, page = await get(http, f"{PATH}?limit=3")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    client = await connect()
    params = {"stream": "block_updates", "limit": 3}
    await client.ask({"jsonrpc": "2.0", "method": "state_stream.history", "params": params, "id": 1})
    assert page == (await client.read_json())["result"]
    frames.refuse_faults("state_stream.history.result", page)
    assert (seqs(page), page["next"]) == ([1, 2, 3], {"epoch": "epoch1", "seq": 3})


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [1, 2, 3, 4, 5, 6]),
        ("?since=epoch1-4", [5, 6]),
        ("?since=epoch1-6", []),
        ("?since=epoch1-999", []),
        ("?until=epoch1-3", [1, 2]),
        ("?since=epoch1-2&until=epoch1-5", [3, 4]),
        ("?since_height=5", [5, 6]),
        ("?since_time_ms=0", [1, 2, 3, 4, 5, 6]),
        ("?since_time_ms=9999999999999", []),
        ("?limit=1&reverse=1", [6]),
        ("?limit=2&reverse=true&until=epoch1-4", [3, 2]),
        ("?reverse=0&limit=2", [1, 2]),
    ],
)
async def test_where_a_page_begins_and_ends(rig, http, query, expected):
    await rig.blocks(6)
    status, _, page = await get(http, PATH + query)
    assert (status, seqs(page)) == (200, expected)


@pytest.mark.parametrize("more", ["", "&reverse=1", "&since_height=2&int64=string", "&reverse=true&until=epoch1-7"])
async def test_the_link_leads_through_every_page(rig, http, more):
    await rig.blocks(7)
    whole = (await get(http, f"{PATH}?limit=100{more}"))[2]
    found, path = [], f"{PATH}?limit=2{more}"
    for _ in range(10):
        _, headers, page = await get(http, path)
        found += page["updates"]
        assert ("Link" in headers) == ("next" in page)
        if "Link" not in headers:
            break
        path = re.fullmatch(r'<(/state/block_updates/history\?[^>]*)>; rel="next"', headers["Link"])[1]
    assert found == whole["updates"]
    assert len(found) >= 6


async def test_the_updates_of_one_key(rig, http):
    publish_accounts(rig, "a", "b", "a", "a", "b")
    for query, expected in (("?key=a", [1, 3, 4]), ("?key=b&reverse=1", [5, 2]), ("?key=c", []), ("", [1, 2, 3, 4, 5])):
        assert seqs((await get(http, f"/state/account/history{query}"))[2]) == expected


async def test_a_key_called_history_is_reached_by_the_query(rig, http):
    publish_accounts(rig, "history", "a")
    assert seqs((await get(http, "/state/account/history"))[2]) == [1, 2]
    status, headers, update = await get(http, "/state/account?key=history")
    assert (status, headers["ETag"], update["key"]) == (200, '"epoch1-1"', "history")
    assert (await get(http, "/state/account?key=a"))[2] == (await get(http, "/state/account/a"))[2]
    assert seqs((await get(http, "/state/account/history?key=history"))[2]) == [1]


async def test_one_update_a_line(rig, http):
    await rig.blocks(4)
    async with http.get(f"{PATH}?limit=3", headers={"Accept": NDJSON}) as response:
        assert response.headers["Content-Type"] == NDJSON
        assert response.headers["Link"] == f'<{PATH}?limit=3&since=epoch1-3>; rel="next"'
        text = await response.text()
    assert text.endswith("}\n")
    assert [json.loads(line) for line in text.splitlines()] == (await get(http, f"{PATH}?limit=3"))[2]["updates"]


@pytest.mark.parametrize(
    ("accept", "lines"),
    [
        (NDJSON, True),
        (f"{NDJSON}, */*;q=0.1", True),
        (f"application/json;q=0.5, {NDJSON};q=0.9", True),
        ("Application/X-NDJSON", True),
        (f"application/json, {NDJSON};q=0.9", False),
        (f"{NDJSON};q=0", False),
        ("*/*", False),
        ("text/html;q=nonsense,,;;", False),
    ],
)
async def test_the_form_is_the_one_that_the_client_likes_best(rig, http, accept, lines):
    async with http.get(PATH, headers={"Accept": accept}) as response:
        assert response.headers["Content-Type"] == (NDJSON if lines else "application/json")
        assert {"Origin", "Accept", "Accept-Encoding"} == set(response.headers["Vary"].split(", "))


@pytest.mark.parametrize("accept", ["*/*", NDJSON])
@pytest.mark.parametrize(
    ("coding", "packed"), [("gzip", True), ("br, gzip;q=0.5", True), ("gzip;q=0", False), ("deflate", False)]
)
async def test_it_is_compressed_for_who_can_read_that(rig, accept, coding, packed):
    await rig.blocks(30)
    async with aiohttp.ClientSession(rig.url, auto_decompress=False) as http:
        async with http.get(PATH, headers={"Accept": accept, "Accept-Encoding": "identity"}) as response:
            plain = await response.read()
        async with http.get(PATH, headers={"Accept": accept, "Accept-Encoding": coding}) as response:
            body = await response.read()
            assert response.headers.get("Content-Encoding") == ("gzip" if packed else None)
    assert (gzip.decompress(body) if packed else body) == plain
    assert len(body) < len(plain) / 3 or not packed


async def test_a_long_page_is_compressed_too_and_head_has_its_headers_only(rig, http):
    await rig.blocks(900)
    async with http.get(PATH, headers={"Accept-Encoding": "gzip"}) as response:
        assert response.headers["Content-Encoding"] == "gzip"
        page, tag = await response.json(), response.headers["ETag"]
    assert seqs(page) == list(range(1, 901))
    async with http.head(PATH, headers={"Accept-Encoding": "gzip"}) as response:
        assert (response.status, response.headers["ETag"], await response.read()) == (200, tag, b"")


async def test_what_is_short_is_not_compressed(rig, http):
    rig.block(1)
    async with http.get(PATH, headers={"Accept-Encoding": "gzip"}) as response:
        assert "Content-Encoding" not in response.headers


async def test_who_has_a_page_is_not_sent_it_again(rig, http):
    await rig.blocks(3)
    full, rest = f"{PATH}?limit=2", f"{PATH}?since=epoch1-2"
    tags = [(await get(http, path))[1]["ETag"] for path in (full, rest)]
    await rig.blocks(3)
    status, headers, body = await get(http, full, If_None_Match=tags[0])
    assert (status, body, headers["ETag"]) == (304, {}, tags[0])
    assert headers["Link"] == f'<{PATH}?limit=2&since=epoch1-2>; rel="next"'
    status, headers, page = await get(http, rest, If_None_Match=tags[1])
    assert (status, seqs(page)) == (200, [3, 4, 5, 6])
    assert headers["ETag"] not in tags


async def test_a_page_that_gets_a_next_one_is_another_page(rig, http):
    await rig.blocks(2)
    before = (await get(http, f"{PATH}?limit=2"))[1]["ETag"]
    await rig.blocks(1)
    assert (await get(http, f"{PATH}?limit=2", If_None_Match=before))[0] == 200


async def test_long_integers_are_strings_for_who_asks(rig, http):
    rig.block(2**60 + 1)
    for int64, height in (("string", str(2**60 + 1)), ("number", 2**60 + 1)):
        (update,) = (await get(http, f"{PATH}?int64={int64}"))[2]["updates"]
        assert update["data"]["height"] == height


class TestTrimmed:
    @pytest.fixture
    def options(self) -> Options:
        return Options(history=HistoryLimits(count=4), limits=Limits(page=3))

    @pytest.mark.parametrize("accept", ["application/json", NDJSON])
    async def test_what_is_no_longer_held_is_named(self, rig, http, accept):
        await rig.blocks(10)
        async with http.get(f"{PATH}?since=epoch1-2", headers={"Accept": accept}) as response:
            assert response.headers["Theblock-Missed"] == "from=3, to=6"
            if accept == "application/json":
                assert (await response.json())["missed"] == {"from": 3, "to": 6}
        assert "Theblock-Missed" not in (await get(http, f"{PATH}?since=epoch1-6"))[1]

    async def test_a_page_is_as_large_as_is_allowed_and_no_larger(self, rig, http):
        await rig.blocks(4)
        assert len(seqs((await get(http, PATH))[2])) == 3
        status, _, body = await get(http, f"{PATH}?limit=4")
        assert (status, body["error"]["code"]) == (400, "BAD_REQUEST")
        assert "limit must be an integer from 1 to 3" in body["error"]["message"]


@pytest.mark.parametrize(
    ("status", "code", "path"),
    [
        (400, "BAD_REQUEST", f"{PATH}?limit=0"),
        (400, "BAD_REQUEST", f"{PATH}?limit=-1"),
        (400, "BAD_REQUEST", f"{PATH}?limit=ten"),
        (400, "BAD_REQUEST", f"{PATH}?limit=" + "9" * 5000),
        (400, "BAD_REQUEST", f"{PATH}?limit=%D9%A1"),
        (400, "BAD_REQUEST", f"{PATH}?since=5"),
        (400, "BAD_REQUEST", f"{PATH}?since=epoch1-99999999999999999999"),
        (400, "BAD_REQUEST", f"{PATH}?until="),
        (400, "BAD_REQUEST", f"{PATH}?reverse=yes"),
        (400, "BAD_REQUEST", f"{PATH}?int64=yes"),
        (400, "BAD_REQUEST", f"{PATH}?since_heigth=5"),
        (400, "BAD_REQUEST", f"{PATH}?limit=5&limit=6"),
        (400, "BAD_REQUEST", f"{PATH}?since=epoch1-1&since_height=6"),
        (400, "BAD_REQUEST", "/state/account/history?key=a%20b"),
        (400, "BAD_REQUEST", "/state/Block/history"),
        (400, "BAD_REQUEST", "/state/account?key="),
        (400, "BAD_REQUEST", "/state/account/a?key=b"),
        (404, "NOT_FOUND", "/state/nobody_knows/history"),
        (404, "NOT_FOUND", f"{PATH}?key=a"),
        (404, "NOT_FOUND", "/state/block_updates?key=a"),
        (410, "GONE", f"{PATH}?since=other-5"),
        (410, "GONE", f"{PATH}?until=other-5"),
    ],
)
async def test_errors_are_json_with_a_code_and_a_sentence(rig, http, status, code, path):
    found, headers, body = await get(http, path)
    assert (found, body["error"]["code"]) == (status, code)
    assert 10 < len(body["error"]["message"]) < 400
    assert headers["Content-Type"].startswith("application/json")
    frames.refuse_faults("HttpError", body)


async def test_a_position_of_another_epoch_is_told_the_epoch_that_there_is(rig, http):
    rig.block(1)
    rig.origin.begin_epoch()
    error = (await get(http, f"{PATH}?since=epoch1-1"))[2]["error"]
    assert (error["code"], error["details"]) == ("GONE", {"reason": "epoch", "epoch": "epoch2"})


class TestNotBegun:
    @pytest.fixture
    def options(self) -> Options:
        return Options(began=False)

    async def test_an_outage_voids_no_position(self, http):
        status, headers, body = await get(http, f"{PATH}?since=epoch1-5")
        assert (status, headers["Retry-After"]) == (503, "1")
        assert (body["error"]["code"], body["error"]["details"]) == ("UPSTREAM_UNAVAILABLE", {"retry_after_ms": 1000})


async def test_neither_does_an_outage_after_the_first_epoch(rig, http):
    rig.block(1)
    rig.hub.upstream_reached = False
    assert (await get(http, f"{PATH}?since=other-5"))[0] == 503
    assert seqs((await get(http, f"{PATH}?since=epoch1-0"))[2]) == [1]


async def test_reading_history_subscribes_to_nothing(rig, http):
    await get(http, "/state/nobody_knows/history")
    assert "nobody_knows" not in rig.hub.histories
    assert rig.holds_nothing()


async def test_pages_of_other_origins_may_read_what_the_headers_say(rig, http):
    await rig.blocks(2)
    _, headers, _ = await get(http, f"{PATH}?limit=1", Origin="http://localhost:3000")
    exposed = headers["Access-Control-Expose-Headers"].split(", ")
    assert {"ETag", "Link", "Retry-After", "Theblock-Missed"} == set(exposed)
