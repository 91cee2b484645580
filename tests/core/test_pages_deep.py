"""Requests about what lies behind memory: they do nothing until the pages that they need are there."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.core import pages as pages_module
from bridge.core.deep import PAGE_BYTES, Needed, Place
from bridge.core.errors import RequestError
from bridge.core.frames import Frame, Opcode
from bridge.core.jsonform import page_object
from bridge.core.pages import Page, Since, cut_page, obstacle, read_page
from bridge.core.position import Position
from bridge.core.session import Await, Send
from bridge.core.update import Format
from tests.core.test_deep import BLOCKS, deep_world, keyed_world, refused, settle
from tests.core.v1_clients import CLIENTS
from tests.core.world import NOW_MS, World, good


@pytest.fixture
def put(encoding):
    """Return a function that puts a client that speaks v1 into a world."""
    return lambda world: CLIENTS[encoding](world)


def timed(blocks: int, **options) -> World:
    """Return a world with one block a second."""
    world = deep_world(**options)
    for height in range(1, blocks + 1):
        world.now_ms = NOW_MS + 1000 * height
        world.block(height)
    return world


def loaded(world: World, attempt):
    """Return what an attempt returns, and how many pages it took."""
    count = 0
    while True:
        try:
            return attempt(), count
        except Needed as needed:
            count += 1
            for place in needed.places:
                world.disk.answer(place)


# ---------------------------------------------------------------------- where reading begins


@pytest.mark.parametrize("height", [1, 2, 511, 512, 513, 1500, 4990, 4991, 5000, 5001])
def test_a_height_or_a_time_is_found_behind_memory(height):
    for since in (Since(height=height), Since(time_ms=NOW_MS + 1000 * height)):
        world = timed(5000)
        history = world.hub.histories[BLOCKS]
        seq, count = loaded(world, lambda: since.seq(history))  # noqa: B023
        assert seq == height - 1
        assert count <= 5, "by halves"


def test_a_height_is_found_where_pages_come_in_parts():
    world = timed(1100, part=100)
    history = world.hub.histories[BLOCKS]
    assert loaded(world, lambda: Since(height=950).seq(history))[0] == 949
    assert loaded(world, lambda: Since(height=1090).seq(history))[0] == 1089


@pytest.mark.parametrize(("height", "seq"), [(600, 0), (700, 0), (701, 700), (702, 701), (1300, 1200)])
def test_a_height_of_which_the_first_may_be_gone_begins_with_nothing(height, seq):
    world = timed(1200)
    world.disk.trim(BLOCKS, 700)
    assert loaded(world, lambda: Since(height=height).seq(world.hub.histories[BLOCKS]))[0] == seq


def test_without_a_start_reading_begins_with_the_oldest_that_can_be_had():
    world = timed(1200)
    world.disk.trim(BLOCKS, 700)
    assert Since().seq(world.hub.histories[BLOCKS]) == 700
    reasons = [obstacle(world.hub.histories[BLOCKS], Position("e1", seq)) for seq in (699, 700, 1200, 1201)]
    assert reasons == ["trimmed", None, None, "ahead"]


def test_where_a_page_cannot_be_had_a_height_cannot_be_found():
    world = timed(1200)
    refused(world, 0, 1, 2)
    with pytest.raises(RequestError, match="cannot be read"):
        Since(height=5).seq(world.hub.histories[BLOCKS])
    world = timed(1200)
    world.disk.trim(BLOCKS, 700)
    world.disk.answer(Place(BLOCKS, "e1", 1024))
    refused(world, 1)
    with pytest.raises(RequestError, match="cannot be read"):
        Since(height=1).seq(world.hub.histories[BLOCKS])


def test_what_is_gone_may_have_to_be_read_to_tell():
    world = timed(1100)
    world.disk.trim(BLOCKS, 1030)
    history = world.hub.histories[BLOCKS]
    world.hub.supply(Place(BLOCKS, "e1", 1024), 1031, [u.raw for u in world.disk.kept[BLOCKS, "e1"][1030:]])
    with pytest.raises(Needed):
        Since(height=1031).seq(history)
    assert loaded(world, lambda: Since(height=1031).seq(history))[0] == 1030
    world = timed(1100)
    world.disk.trim(BLOCKS, 1030)
    history = world.hub.histories[BLOCKS]
    page = world.hub.pages
    world.disk.answer(Place(BLOCKS, "e1", 1024))
    page.held[0].based = False  # as one that was read before the disk was trimmed
    refused(world, 2)
    with pytest.raises(RequestError):
        Since(height=1031)._begins_with_the_oldest(history)


# ---------------------------------------------------------------------- pages of history

ROOMS = deep_world(0, part=7)
for number in range(1, 61):
    ROOMS.custom("rooms", {"n": number}, "abc"[number * number % 3])
ROOMS.disk.trim("rooms", 5)


@settings(suppress_health_check=list(HealthCheck))
@given(
    key=st.sampled_from([None, "a", "b", "z"]),
    since=st.integers(0, 62),
    until=st.none() | st.integers(0, 62),
    limit=st.integers(1, 30),
    reverse=st.booleans(),
)
def test_pages_against_a_model(key, since, until, limit, reverse):
    history = ROOMS.hub.histories["rooms"]
    page, _ = loaded(ROOMS, lambda: read_page(history, key, since, until, limit, reverse=reverse))
    kept = ROOMS.disk.kept["rooms", "e1"][5:]
    wanted = [u.seq for u in kept if since < u.seq < (99 if until is None else until) and key in (None, u.key)]
    if reverse:
        wanted.reverse()
    assert [update.seq for update in page.updates] == wanted[:limit]
    assert (page.next and page.next.seq) == (wanted[limit - 1] if len(wanted) > limit else None)
    gone = [seq for seq in range(1, 6) if since < seq < (99 if until is None else until)]
    assert page.missed == ((gone[0], gone[-1]) if gone else None)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("key", ["a", "b", "c", "d"])
def test_page_after_page_of_a_key_is_everything_once_with_few_pages_at_a_time(monkeypatch, key, reverse):
    monkeypatch.setattr(pages_module, "LOOKED_AT", 1)
    world = keyed_world()
    history = world.hub.histories["account"]
    seqs, since, until, rounds = [], 0, None, 0
    while True:
        attempt = lambda: read_page(history, key, since, until, 100, reverse=reverse)  # noqa: E731, B023
        page, count = loaded(world, attempt)
        assert count <= 1
        seqs += [update.seq for update in page.updates]
        rounds += 1
        if page.next is None:
            break
        if reverse:
            until = page.next.seq
        else:
            since = page.next.seq
    kept = [update.seq for update in world.disk.kept["account", "e1"] if update.key == key]
    assert seqs == (kept[::-1] if reverse else kept)
    assert (rounds > 1) is (key in "ab"), "nothing is looked for where nothing of a key is"


def test_backwards_a_key_is_followed_from_update_to_update():
    world = deep_world()
    for nonce in range(1, 5001):
        world.account("b" if nonce in (5, 1000, 4000) else "a", nonce)
    history = world.hub.histories["account"]
    page, count = loaded(world, lambda: read_page(history, "b", 0, None, 10, reverse=True))
    assert [update.seq for update in page.updates] == [4000, 1000, 5]
    assert count == 3


def test_a_page_has_an_end_in_bytes_too():
    world = World()
    for number in range(40):
        world.custom("notes", {"n": number, "text": "x" * 100_000})
    history = world.hub.histories["notes"]
    page = read_page(history, None, 0, None, 1000, reverse=False)
    assert len(page.updates) == PAGE_BYTES // 100_100
    assert page.next == page.updates[-1].position
    seqs, since = [], 0
    while True:
        answer = page_object(read_page(history, None, since, None, 1000, reverse=False), Format.JSON)
        assert sum(len(bytes(update)) for update in answer["updates"]) <= PAGE_BYTES
        seqs += [json.loads(bytes(update))["seq"] for update in answer["updates"]]
        if "next" not in answer:
            break
        since = answer["next"]["seq"]
    assert seqs == list(range(1, 41))


def test_a_page_is_cut_where_it_is_encoded_too_large():
    world = deep_world(5)
    updates = world.hub.histories[BLOCKS].after(0, 5)
    page = Page(updates, None, None)
    assert cut_page(page, lambda _: b"x" * 10, 100) == (page, [b"x" * 10] * 5)
    cut, parts = cut_page(page, lambda _: b"x" * 10, 25)
    assert (cut.updates, cut.next, len(parts)) == (updates[:2], updates[1].position, 2)
    assert len(cut_page(page, lambda _: b"x" * 10, 5)[1]) == 1


# ---------------------------------------------------------------------- what a client asks


def test_history_is_read_from_behind_memory(put):
    world = timed(1200)
    client = put(world)
    page = client.result("state_stream.history", {"stream": BLOCKS, "since": {"height": 500}, "limit": 20})
    assert [update["seq"] for update in page["updates"]] == list(range(500, 520))
    assert page["next"]["seq"] == 519
    page = client.result("state_stream.history", {"stream": BLOCKS, "reverse": True, "limit": 50})
    assert [update["seq"] for update in page["updates"]] == list(range(1200, 1150, -1))
    page = client.result("state_stream.history", {"stream": BLOCKS, "limit": 1})
    assert page["updates"][0]["seq"] == 1


@pytest.mark.parametrize(
    ("entry", "first"),
    [
        ({"since": {"height": 300}}, 300),
        ({"since": {"time": NOW_MS + 300_000}}, 300),
        ({"since": {"epoch": "e1", "seq": 299}}, 300),
        ({"last": 901}, 300),
    ],
    ids=str,
)
def test_a_subscription_begins_behind_memory(put, entry, first):
    world = timed(1200)
    client = put(world)
    (row,) = client.subscribe({"stream": BLOCKS, **entry})
    assert (row["seq"], row["replayed"]) == (first - 1, 1201 - first)
    world.block(1201)
    world.run()
    while world.disk.answer_all():
        world.run()
    assert [frame["seq"] for frame in client.frames if "data" in frame] == list(range(first, 1202))


@pytest.mark.parametrize(("last", "seqs"), [(1, [900]), (2, [300, 900]), (5, [300, 900]), (0, [])])
def test_last_of_a_key_goes_back_behind_memory(last, seqs):
    world = keyed_world()
    client = world.client()
    (row,) = client.subscribe({"stream": "account", "key": "b", "last": last})
    assert row["replayed"] == len(seqs)
    settle(world, client)
    assert [seq for _, seq in client.updates] == seqs
    good(world)


def test_last_goes_back_as_far_as_anything_can_be_had():
    world = timed(1200)
    world.disk.trim(BLOCKS, 700)
    client = world.client()
    (row,) = client.subscribe({"stream": BLOCKS, "last": 1000})
    assert (row["seq"], row["replayed"]) == (700, 500)
    settle(world, client)
    good(world)


def test_a_message_that_needs_pages_does_nothing_until_they_are_there():
    world = timed(1200)
    client = world.client()
    request = {"jsonrpc": "2.0", "id": 1, "method": "state_stream.subscribe"}
    message = {**request, "params": ["metrics", {"stream": BLOCKS, "since": {"height": 600}}]}
    frame = Frame(Opcode.TEXT, json.dumps(message).encode())
    first = client.session.receive(frame)
    assert first == [Await((Place(BLOCKS, "e1", 512),))]
    assert client.reader.cursors == {}
    late = client.session.receive(frame, late=True)
    (answer,) = late
    assert isinstance(answer, Send)
    error = json.loads(answer.frame[answer.frame.index(b"{") :])["error"]
    assert (error["code"], error["data"]) == (-32010, {"retry_after_ms": 1000})
    assert client.reader.cursors == {}, "all or nothing"
    assert client.session.bad_in_a_row == 0


def test_a_batch_has_all_its_pages_before_anything_of_it_is_done():
    world = timed(5000)
    client = world.client()
    wanted = [{"stream": BLOCKS, "since": {"epoch": "e1", "seq": seq}, "limit": 3} for seq in (0, 1000, 3000)]
    batch = [
        {"jsonrpc": "2.0", "id": 1, "method": "state_stream.subscribe", "params": ["metrics"]},
        *({"jsonrpc": "2.0", "id": 2, "method": "state_stream.history", "params": [one]} for one in wanted),
        {"jsonrpc": "2.0", "id": 3, "method": "state_stream.history", "params": [{"stream": "nobody"}]},
        {"jsonrpc": "2.0", "id": 4, "method": 5},
        7,
    ]
    frame = Frame(Opcode.TEXT, json.dumps(batch).encode())
    (effect,) = client.session.receive(frame)
    assert effect == Await(tuple(Place(BLOCKS, "e1", start) for start in (0, 512, 2560)))
    assert client.reader.cursors == {}
    (answers,) = client.send(batch)
    assert [answer["id"] for answer in answers] == [1, 2, 2, 2, 3, 4, None]
    pages = [answer["result"]["updates"] for answer in answers[1:4]]
    assert [[update["seq"] for update in page] for page in pages] == [[1, 2, 3], [1001, 1002, 1003], [3001, 3002, 3003]]
    assert answers[4]["error"]["code"] == -32602


def test_a_batch_that_is_late_answers_what_it_can():
    world = timed(1200)
    client = world.client()
    params = [{"stream": BLOCKS, "since": {"epoch": "e1", "seq": seq}, "limit": 1} for seq in (0, 1199)]
    batch = [{"jsonrpc": "2.0", "id": 1, "method": "state_stream.history", "params": [one]} for one in params]
    effects = client.session.receive(Frame(Opcode.TEXT, json.dumps(batch).encode()), late=True)
    client.apply(effects)
    refusal, answer = client.frames[-1]
    assert refusal["error"]["code"] == -32010
    assert answer["result"]["updates"][0]["seq"] == 1200


def test_old_history_during_an_outage_is_refused_and_positions_stay_valid():
    world = timed(1200)
    world.hub.upstream_reached = False
    client = world.client()
    (row,) = client.subscribe({"stream": BLOCKS, "since": {"epoch": "e1", "seq": 300}})
    assert (row["recovered"], row["replayed"]) == (True, 900)
    world.run()
    assert client.updates == []
    settle(world, client)
    assert len(client.updates) == 900
    good(world)
