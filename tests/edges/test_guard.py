"""Who may talk to the sidecar, and what pages of other origins may read."""

import pytest

from bridge.edges.guard import Guard
from tests.edges.rig import Options

PATHS = ("/health", "/livez", "/readyz", "/metrics", "/state/metrics", "/ws", "/nothing")
LOOPBACK = ["http://localhost:4173", "http://127.0.0.1", "https://localhost:8443", "http://[::1]:3000"]


@pytest.mark.parametrize("path", PATHS)
async def test_no_page_of_elsewhere_is_answered(http, path):
    for wrong in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Host": "evil.example:5000"}):
        for method in ("GET", "POST", "OPTIONS"):
            more = {"Access-Control-Request-Method": "GET"} if method == "OPTIONS" else {}
            async with http.request(method, path, headers=wrong | more) as response:
                assert response.status == 403
                assert "Access-Control-Allow-Origin" not in response.headers
                error = (await response.json())["error"]
                assert error["code"] == "FORBIDDEN"
                assert ("allowed_origins" if "Origin" in wrong else "allowed_hosts") in error["message"]


@pytest.mark.parametrize("origin", LOOPBACK)
@pytest.mark.parametrize("path", ["/health", "/metrics", "/nothing"])
async def test_pages_of_this_machine_may_read_answers_and_errors(http, path, origin):
    async with http.get(path, headers={"Origin": origin}) as response:
        assert response.status in (200, 404)
        assert response.headers["Access-Control-Allow-Origin"] == origin
        assert "ETag" in response.headers["Access-Control-Expose-Headers"]


@pytest.mark.parametrize("path", ["/state/metrics", "/nothing"])
async def test_a_preflight_is_answered(http, path):
    asked = {
        "Origin": "http://localhost:4173",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    async with http.options(path, headers=asked) as response:
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Origin"] == "http://localhost:4173"
        assert "POST" in response.headers["Access-Control-Allow-Methods"]
        assert "content-type" in response.headers["Access-Control-Allow-Headers"].lower()
        assert "if-none-match" in response.headers["Access-Control-Allow-Headers"].lower()
        assert await response.read() == b""


@pytest.mark.parametrize("path", PATHS)
async def test_every_response_says_no_more_of_the_server_than_its_name(http, path):
    for headers in ({}, {"Origin": "https://evil.example"}):
        async with http.get(path, headers=headers) as response:
            assert response.headers.getall("Server") == ["theblock-bridge"]
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.headers["Vary"] == "Origin"
            assert response.headers["Cache-Control"] in ("no-store", "no-cache")


async def test_without_an_origin_there_is_nothing_to_allow(http):
    async with http.get("/health") as response:
        assert not [name for name in response.headers if name.startswith("Access-Control")]


class TestAny:
    @pytest.fixture
    def options(self) -> Options:
        return Options(guard=Guard(hosts=["*"], origins=["*"]))

    async def test_a_star_allows_any(self, http):
        async with http.get("/health", headers={"Host": "any.example", "Origin": "null"}) as response:
            assert response.status == 200
            assert response.headers["Access-Control-Allow-Origin"] == "null"
