"""Requests for Server-Sent Events: what is wrong with some, and what those are told that cannot be taken in now."""

import json

import pytest

from bridge.core.limits import Limits
from tests.edges.rig import Options, until

BLOCKS = "block_updates"


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("", "no stream is named: ask for ?stream=block_updates, or for one key with ?stream=account/KEY"),
        ("?streams=a", "'streams' is not known; allowed are stream, int64, last_event_id"),
        ("?stream=a&key=b", "'key' is not known; allowed are stream, int64, last_event_id"),
        ("?stream=Blocks", "stream: 'Blocks' names no stream: a name matches [a-z][a-z0-9_]{0,63}"),
        ("?stream=", "stream: '' names no stream: a name matches [a-z][a-z0-9_]{0,63}"),
        ("?stream=account/", "stream: 'account/' names no key: behind the slash it matches [A-Za-z0-9:._-]{1,128}"),
        ("?stream=block_updates/a", "stream 'block_updates' has no keys"),
        ("?stream=a&int64=yes", "int64 must be string or number"),
        ("?stream=a&int64=string&int64=number", "int64 may stand once"),
        ("?" + "&".join(f"stream=a{n}" for n in range(17)), "that would be 17 streams; a connection may have 16"),
        (
            "?stream=a&last_event_id=e1;a=x",
            "last_event_id: 'a=x' does not fit in: it is written <epoch>;<stream>=<seq>;<stream>/<key>=<seq>",
        ),
        ("?stream=a&last_event_id=e1;a=9999999999999999999", "seq must be an integer from 0 to "),
    ],
)
async def test_a_request_that_is_wrong_is_refused_with_a_sentence(rig, http, query, sentence):
    async with http.get(f"/events{query}") as response:
        assert response.status == 400
        error = (await response.json())["error"]
    assert error["code"] == "BAD_REQUEST"
    assert error["message"].startswith(sentence)
    assert rig.events.refused == 1
    assert rig.holds_nothing()


async def test_an_id_that_is_none_is_refused(rig, listener):
    answer = await listener(BLOCKS).connect(Last_Event_ID="\xff;;")
    assert answer.status == 400
    assert answer.json()["error"]["message"].startswith("Last-Event-ID: ")


async def test_sixteen_streams_and_the_same_one_twice_are_taken(rig, listener):
    names = [f"ticks{number}" for number in range(16)]
    subscribed = await listener(*names, names[0]).listen()
    assert [row["stream"] for row in subscribed["subscriptions"]] == names


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("", 200),
        ("text/event-stream", 200),
        ("text/html, Text/*;q=0.1", 200),
        ("*/*", 200),
        ("application/json", 406),
        ("text/event-stream;q=0, */*", 406),
    ],
)
async def test_who_does_not_accept_events_is_told(rig, listener, accept, status):
    answer = await listener(BLOCKS).connect(Accept=accept)
    assert answer.status == status
    if status == 406:
        assert answer.json()["error"]["code"] == "NOT_ACCEPTABLE"


async def test_a_page_of_another_origin_is_refused(rig, listener):
    answer = await listener(BLOCKS).connect(Origin="https://evil.example")
    assert (answer.status, answer.json()["error"]["code"]) == (403, "FORBIDDEN")


async def test_other_methods_are_refused(rig, http):
    async with http.post(f"/events?stream={BLOCKS}") as response:
        assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")


class TestOneConnection:
    @pytest.fixture
    def options(self) -> Options:
        return Options(connection_limit=1)

    async def test_there_is_one_limit_for_events_and_websockets(self, rig, listener, connect):
        client = listener(BLOCKS)
        await client.listen()
        answer = await listener(BLOCKS).connect()
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["error"]["code"] == "OVERLOADED"
        client.hang_up()
        await until(rig.holds_nothing, "it is gone")
        await connect()
        assert (await listener(BLOCKS).connect()).status == 503

    async def test_a_browser_that_is_refused_comes_back_by_itself(self, rig, listener):
        await listener(BLOCKS).listen()
        client = listener(BLOCKS)
        client.source.last_event_id = "epoch1;block_updates=0"
        await client.connect(Sec_Fetch_Mode="cors")
        assert client.answer.status == 200
        (event,) = client.source.feed(client.answer.body)
        assert event.type == "refused"
        assert json.loads(event.data)["error"]["code"] == "OVERLOADED"
        assert client.source.retry_ms == 1000
        assert client.source.last_event_id == "epoch1;block_updates=0"
        assert (rig.events.accepted, rig.events.refused, rig.events.open) == (1, 1, 1)


class TestMost:
    @pytest.fixture
    def options(self) -> Options:
        return Options(limits=Limits(sse_streams=32, undeclared=32))

    async def test_the_longest_id_that_there_can_be_is_taken_back(self, rig, listener):
        """As many subscriptions as can be allowed, with the longest names and keys, each in an epoch of its own."""
        names = [f"{'s' * 62}{n:02d}/{'K' * 126}{n:02d}" for n in range(32)]
        client = listener(*names)
        client.source.last_event_id = ";".join(f"{'e' * 30}{n:02d};{name}={10**18}" for n, name in enumerate(names))
        subscribed = await client.listen()
        assert [row["reason"] for row in subscribed["subscriptions"]] == ["epoch"] * 32
