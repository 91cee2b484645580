"""What lies behind memory: pages, whoever reads from them, and what cannot be had."""

import json
import sys

import pytest

from bridge.core import catchup as catchup_module
from bridge.core import deep
from bridge.core.cursor import Cursor, Spec, gather
from bridge.core.deep import PAGE_UPDATES, DeepPage, Needed, Place
from bridge.core.errors import RequestError, UpstreamError
from bridge.core.frames import Frame, Opcode
from bridge.core.history import Gone, HistoryLimits
from bridge.core.session import Await
from bridge.core.update import Form, Update
from generated.theblock.state.v1 import account_pb2, block_pb2
from tests.core.disk import Disk
from tests.core.world import CATALOGUE, World, elsewhere, good, metrics_data

BLOCKS = "block_updates"
KEPT = 10
"""How many updates the histories of these worlds hold."""


def deep_world(blocks: int = 0, *, part: int = PAGE_UPDATES, count: int = KEPT) -> World:
    """Return a world that remembers little, before a disk that keeps all."""
    world = World(limits=HistoryLimits(count=count))
    world.disk = Disk(world.hub, part=part)
    for height in range(1, blocks + 1):
        world.block(height)
    return world


def cursor(world: World, stream: str = BLOCKS, at: int = 0, **options) -> Cursor:
    return Cursor(Spec(stream, **options), world.hub.history(stream), at)


def seqs(read: list) -> list[int]:
    return [update.seq for update, _ in read]


def adds_up(one: Cursor) -> bool:
    books = one.books()
    return books.head - books.start == sum(books[2:]) and min(books[2:]) >= 0


def settle(world: World, client) -> None:
    """Let a client read until it has everything."""
    world.run()
    while world.disk.answer_all():
        world.run()
    assert all(row["pending"] == 0 for row in client.stats())
    world.run()


# ---------------------------------------------------------------------- pages


def test_a_page_is_asked_for_once_and_read_by_all():
    world = deep_world(1200)
    clients = [world.client(f"client {number}") for number in range(3)]
    for client in clients:
        (row,) = client.subscribe({"stream": BLOCKS, "since": {"epoch": "e1", "seq": 100}})
        assert (row["recovered"], row["replayed"]) == (True, 1100)
    world.run()
    assert world.disk.asked == [Place(BLOCKS, "e1", 0)]
    assert world.hub.pages.waiting == 3
    settle(world, clients[0])
    for client in clients:
        settle(world, client)
        assert [seq for _, seq in client.updates] == list(range(101, 1201))
    assert world.hub.pages.loads == 3
    assert world.hub.pages.hits > 0
    assert world.hub.pages.waiting == 0
    assert world.hub.catching_up == 0
    good(world)


def test_a_reader_that_waits_for_a_page_gets_its_other_streams_meanwhile():
    world = deep_world(600)
    client = world.client()
    client.subscribe({"stream": BLOCKS, "since": {"epoch": "e1", "seq": 0}}, "metrics", "account")
    world.run()
    world.metrics(1.0)
    world.account("a", 1)
    world.run()
    assert client.updates == [("metrics", 1), ("account", 1)]
    assert world.hub.catching_up == 1
    settle(world, client)
    assert [seq for stream, seq in client.updates if stream == BLOCKS] == list(range(1, 601))
    assert world.hub.catching_up == 0
    good(world)


def test_a_reader_that_waits_costs_no_turns():
    world = deep_world(600)
    client = world.client()
    client.subscribe({"stream": BLOCKS, "since": {"epoch": "e1", "seq": 0}})
    world.run()
    assert world.scheduled == 0
    world.block(601)
    world.run()
    assert client.updates == []
    settle(world, client)
    assert len(client.updates) == 601


def test_readers_that_need_more_pages_than_there_is_room_for_all_go_on(monkeypatch):
    monkeypatch.setattr(catchup_module, "SLICE_READERS", 1)
    world = deep_world(4 * PAGE_UPDATES)
    world.hub.pages.limit_bytes = 1  # the newest page alone
    clients = [world.client(f"client {number}") for number in range(3)]
    for number, client in enumerate(clients):
        client.subscribe({"stream": BLOCKS, "since": {"epoch": "e1", "seq": number * PAGE_UPDATES}})
    for _ in range(500):
        world.slice()
        world.disk.answer_all()
    assert [len(client.updates) for client in clients] == [4 * PAGE_UPDATES, 3 * PAGE_UPDATES, 2 * PAGE_UPDATES]
    good(world)


def test_a_page_that_is_let_go_is_gone_at_once():
    world = deep_world(2 * PAGE_UPDATES)
    client = world.client()
    client.subscribe({"stream": BLOCKS, "since": {"epoch": "e1", "seq": 0}})
    settle(world, client)
    update = world.hub.pages.held[0].updates[0]
    world.hub.pages.drop(BLOCKS)
    assert sys.getrefcount(update) == 2, "the page holds it still"


def test_who_leaves_while_waiting_leaves_nothing():
    world = deep_world(600)
    client = world.client()
    client.subscribe({"stream": BLOCKS, "since": {"epoch": "e1", "seq": 0}})
    world.run()
    (place,) = world.disk.asked
    assert world.hub.pages.wanted(place)
    client.leave()
    assert not world.hub.pages.wanted(place)
    assert world.disk.answer_one()
    assert world.hub.pages.held == []
    other = world.client("other")
    other.subscribe({"stream": BLOCKS, "since": {"epoch": "e1", "seq": 0}})
    world.run()
    assert world.disk.asked == [place], "it is asked for again"


def test_who_unsubscribes_while_waiting_goes_live():
    world = deep_world(600)
    client = world.client()
    client.subscribe({"stream": BLOCKS, "since": {"epoch": "e1", "seq": 0}}, "metrics")
    world.run()
    client.call("state_stream.unsubscribe", BLOCKS)
    world.run()
    assert world.hub.catching_up == 0
    assert world.hub.pages.waiting == 0


def test_pages_keep_to_their_limit_of_memory_encoded_forms_included():
    world = deep_world(4 * PAGE_UPDATES)
    pages = world.hub.pages
    client = world.client()
    client.subscribe({"stream": BLOCKS, "since": {"epoch": "e1", "seq": 0}})
    world.run()
    world.disk.answer_one()
    plain = pages.size_bytes
    world.run()
    assert pages.size_bytes > plain, "what is encoded counts"
    assert pages.size_bytes == sum(page.size_bytes for page in pages.held)
    pages.limit_bytes = pages.size_bytes + 1
    settle(world, client)
    assert len(pages.held) == 1
    assert pages.size_bytes == pages.held[0].size_bytes
    assert len(client.updates) == 4 * PAGE_UPDATES
    good(world)


def test_a_page_that_was_let_go_of_while_it_is_read_counts_no_more():
    world = deep_world(600)
    history, pages = world.hub.histories[BLOCKS], world.hub.pages
    world.disk.answer(Place(BLOCKS, "e1", 0))
    update = pages.held[0].updates[0]
    pages.drop(BLOCKS)
    assert pages.size_bytes == 0
    history.frame(update, Form())
    assert pages.size_bytes == 0


def test_a_page_that_is_too_large_comes_in_parts():
    world = deep_world(1100, part=100)
    client = world.client()
    client.subscribe({"stream": BLOCKS, "since": {"epoch": "e1", "seq": 250}})
    settle(world, client)
    assert [seq for _, seq in client.updates] == list(range(251, 1101))
    good(world)


def test_parts_are_found_where_the_ones_before_are_gone(monkeypatch):
    monkeypatch.setattr(deep, "CUTS", 1)
    world = deep_world(1100, part=100)
    world.hub.pages.limit_bytes = 1
    client = world.client()
    client.subscribe({"stream": BLOCKS, "since": {"epoch": "e1", "seq": 450}})
    settle(world, client)
    assert [seq for _, seq in client.updates] == list(range(451, 1101))
    assert len(world.hub.pages.held) == 1
    again = world.client("again")
    again.subscribe({"stream": BLOCKS, "since": {"epoch": "e1", "seq": 700}})
    settle(world, again)
    good(world)


def test_parts_are_found_through_the_ones_before_where_their_places_are_forgotten(monkeypatch):
    monkeypatch.setattr(deep, "CUTS", 1)
    world = deep_world(1100, part=100)
    for start in (0, 100, 512):
        world.disk.answer(Place(BLOCKS, "e1", start))
    assert cursor(world, at=150).needs is None
    assert cursor(world, at=250).needs == Place(BLOCKS, "e1", 200)
    world.disk.answer(Place(BLOCKS, "e1", 0))
    world.disk.answer(Place(BLOCKS, "e1", 0))
    assert cursor(world, at=250).needs == Place(BLOCKS, "e1", 200)


def test_what_is_kept_but_not_published_yet_is_on_no_page():
    world = deep_world(20)
    history = world.hub.histories[BLOCKS]
    later = Update(history.stream, "e1", 21, 0, b"\x0a\x0dblock_updates\x12\x02e1\x18\x15")
    raws = [update.raw for update in world.disk.kept[BLOCKS, "e1"]]
    world.hub.supply(Place(BLOCKS, "e1", 0), 1, [*raws, later.raw], based=True)
    assert world.hub.pages.held[0].end == 20


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raws: raws[1:],
        lambda raws: [*raws[:5], *raws[6:]],
        lambda raws: [*raws[:5], raws[4], *raws[5:]],
        lambda raws: [],
        lambda raws: [b"\xff\xff\xff", *raws[1:]],
        lambda raws: [raws[0].replace(b"e1", b"e2"), *raws[1:]],
    ],
    ids=["begins late", "leaves one out", "repeats one", "empty", "garbage", "another epoch"],
)
def test_what_is_not_that_page_is_not_taken_in(spoil):
    world = deep_world(600)
    raws = [update.raw for update in world.disk.kept[BLOCKS, "e1"][:PAGE_UPDATES]]
    place = Place(BLOCKS, "e1", 0)
    with pytest.raises(UpstreamError, match="'block_updates'"):
        world.hub.supply(place, 1, spoil(raws), based=True)
    assert world.hub.pages.held == []
    world.hub.supply(place, 1, raws, based=True)
    assert len(world.hub.pages.held) == 1


def test_a_page_of_a_latest_stream_may_have_holes_or_be_empty():
    world = deep_world()
    for tps in range(30):
        world.metrics(float(tps))
    raws = [update.raw for update in world.disk.kept["metrics", "e1"]]
    place = Place("metrics", "e1", 0)
    world.hub.supply(place, 1, [raws[3], raws[7]], based=True)
    assert world.hub.pages.held[0].end == 8
    world.hub.supply(place._replace(start=8), 1, [], based=True)
    assert world.hub.pages.held[1].end == 30
    replay = cursor(world, "metrics")
    replay.restart(0, replay_to=30)
    assert seqs(gather([replay], 100)) == [4, 8]
    assert seqs(gather([replay], 100)) == []
    assert replay.books()[2:] == (2, 0, 28, 0, 0)


def test_a_page_for_another_epoch_or_an_unknown_stream_is_left_alone():
    world = deep_world(600)
    world.hub.supply(Place(BLOCKS, "e0", 0), 1, [b"\xff"], based=True)
    world.hub.supply(Place("nobody", "e1", 0), 1, [b"\xff"], based=True)
    world.hub.extend("nobody", 1)
    assert world.hub.pages.held == []


def test_without_anything_to_read_with_nothing_is_behind_memory():
    world = World(limits=HistoryLimits(count=KEPT))
    for height in range(1, 31):
        world.block(height)
    world.hub.extend(BLOCKS, 1)
    history = world.hub.histories[BLOCKS]
    assert (history.reach, history.oldest) == (21, 21)


def test_reach_is_told_wherever_oldest_is():
    world = deep_world(30)
    client = world.client()
    row = next(row for row in client.call("state_stream.list")["result"]["streams"] if row["stream"] == BLOCKS)
    assert (row["oldest"]["seq"], row["newest"]["seq"]) == (1, 30)
    row = next(row for row in client.call("state_stream.list")["result"]["streams"] if row["stream"] == "energy")
    assert row["oldest"] is None


def test_a_disk_that_keeps_less_than_memory_takes_nothing_away():
    world = deep_world(30)
    world.hub.extend(BLOCKS, 28)
    assert world.hub.histories[BLOCKS].reach == 21
    client = world.client()
    (row,) = client.subscribe({"stream": BLOCKS, "since": {"epoch": "e1", "seq": 22}})
    assert (row["recovered"], row["replayed"]) == (True, 8)


# ---------------------------------------------------------------------- what is gone


def test_what_is_gone_is_a_gap_up_to_the_oldest_and_everything_behind_it_follows():
    world = deep_world(1200)
    world.disk.trim(BLOCKS, 700)
    client = world.client()
    (row,) = client.subscribe({"stream": BLOCKS, "since": {"epoch": "e1", "seq": 100}})
    assert (row["recovered"], row["reason"], row["seq"]) == (False, "trimmed", 100)
    settle(world, client)
    stand_in = client.frames[1]
    assert (stand_in["seq"], stand_in["missed"]) == (700, {"from": 101, "to": 700})
    assert [seq for _, seq in client.updates] == list(range(701, 1201))
    good(world)


def test_what_went_since_it_was_last_heard_of_is_found_out_by_reading():
    world = deep_world(1200)
    world.disk.trim(BLOCKS, 1050, tell=False)
    client = world.client()
    (row,) = client.subscribe({"stream": BLOCKS, "since": {"epoch": "e1", "seq": 100}})
    assert row["recovered"], "as far as is known"
    settle(world, client)
    assert client.frames[1]["missed"] == {"from": 101, "to": 1050}
    assert [seq for _, seq in client.updates] == list(range(1051, 1201))
    assert world.hub.histories[BLOCKS].reach == 1051
    good(world)


# ---------------------------------------------------------------------- what another process has, as far as is known


def following_world(blocks: int) -> World:
    """Return a world that remembers little and follows another process, which keeps all."""
    world = deep_world(blocks)
    world.hub.pages.follows = True
    return world


def resume(client, *entries) -> tuple[Place, ...]:
    """Have a client send a subscribe; return the pages that it waits for, none if it has been answered."""
    text = json.dumps({"jsonrpc": "2.0", "method": "state_stream.subscribe", "params": entries, "id": "resume"})
    effects = client.session.receive(Frame(Opcode.TEXT, text.encode()))
    if isinstance(effects[0], Await):
        return effects[0].places
    client.log.sent(text)
    client.apply(effects)
    return ()


def behind(seq: int, stream: str = BLOCKS, **more) -> dict:
    return {"stream": stream, "since": {"epoch": "e1", "seq": seq}, **more}


def rows(client) -> list[dict]:
    return next(frame for frame in client.frames if frame.get("id") == "resume")["result"]["subscriptions"]


def test_that_what_only_another_process_has_can_be_had_is_said_when_it_has_been_read():
    world = following_world(1200)
    client = world.client()
    wanted = resume(client, "metrics", behind(100))
    assert wanted == (Place(BLOCKS, "e1", 0),)
    assert (client.frames, client.reader.cursors) == ([], {}), "nothing has been done"
    world.disk.answer(wanted[0])
    assert resume(client, "metrics", behind(100)) == ()
    assert (rows(client)[1]["recovered"], rows(client)[1]["replayed"]) == (True, 1100)
    settle(world, client)
    assert [seq for _, seq in client.updates] == list(range(101, 1201))
    good(world)


@pytest.mark.parametrize("trimmed", [300, 1050])
def test_what_another_process_has_let_go_of_since_it_was_last_heard_of_is_not_said_to_be_recovered(trimmed):
    world = following_world(1200)
    world.disk.trim(BLOCKS, trimmed, tell=False)
    client = world.client()
    world.disk.answer(*resume(client, behind(100)))
    assert resume(client, behind(100)) == ()
    assert (rows(client)[0]["recovered"], rows(client)[0]["reason"]) == (False, "trimmed")
    settle(world, client)
    assert next(frame["missed"] for frame in client.frames if "missed" in frame) == {"from": 101, "to": trimmed}
    good(world)


def test_a_page_that_was_read_a_while_ago_says_nothing_of_what_is_behind_it():
    world = following_world(1600)
    place = Place(BLOCKS, "e1", 0)
    world.disk.answer(place)
    world.now_ms += deep.SURE_MS - 1
    assert resume(world.client("soon"), behind(100)) == ()
    world.now_ms += 1
    client = world.client("later")
    world.disk.trim(BLOCKS, 1100, tell=False)
    assert resume(client, behind(100)) == (place,)
    world.disk.answer(place)
    assert resume(client, behind(100)) == ()
    assert not rows(client)[0]["recovered"]


def test_what_is_held_whole_needs_nobody():
    world = following_world(1540)
    places = [Place(BLOCKS, "e1", start) for start in (0, 512, 1024)]
    for place in places[:2]:
        world.disk.answer(place)
    world.now_ms += deep.SURE_MS
    assert resume(world.client("first"), behind(600)) == (places[1],), "the last page is not here"
    world.hub.pages.refuse(places[2])
    assert resume(world.client("second"), behind(600)) == (places[1],), "or cannot be had"
    world.disk.answer(places[2])
    world.now_ms += deep.SURE_MS
    client = world.client("third")
    assert resume(client, behind(600)) == ()
    assert rows(client)[0]["recovered"]


def test_a_page_that_is_held_of_what_is_gone_says_nothing_of_what_is_behind_it():
    world = deep_world(1200)
    world.disk.answer(Place(BLOCKS, "e1", 0))
    world.disk.trim(BLOCKS, 600)
    assert cursor(world, at=100).loses()
    world.disk.answer(Place(BLOCKS, "e1", 512))
    assert cursor(world, at=100).loses(), "the one behind it begins where the disk does now"
    world.disk.trimmed.clear()
    world.disk.answer(Place(BLOCKS, "e1", 512))
    world.disk.trim(BLOCKS, 600)
    assert not cursor(world, at=100).loses(), "all of it is held"


def test_a_key_is_looked_for_where_another_process_has_it():
    world = following_world(0)
    for nonce in range(1, 1201):
        world.account("b" if nonce == 300 else "a", nonce)
    assert resume(world.client("changed"), behind(50, "account", key="b")) == (Place("account", "e1", 0),)
    assert resume(world.client("not"), behind(300, "account", key="b")) == ()


# ---------------------------------------------------------------------- what is held


def test_what_is_on_a_page_that_is_held_is_read_though_it_is_gone_on_disk():
    world = deep_world(1200)
    client = world.client()
    client.subscribe({"stream": BLOCKS, "since": {"epoch": "e1", "seq": 100}})
    world.run()
    world.disk.answer_one()
    world.disk.trim(BLOCKS, 1000)
    settle(world, client)
    stand_in = next(frame for frame in client.frames if "missed" in frame)
    assert stand_in["missed"] == {"from": 513, "to": 1000}
    good(world)


def test_a_page_that_was_read_before_the_disk_was_trimmed_says_nothing_of_what_is_gone():
    world = deep_world(1200)
    world.disk.answer(Place(BLOCKS, "e1", 512))
    world.disk.trim(BLOCKS, 600)
    history = world.hub.histories[BLOCKS]
    assert history.gone() == Place(BLOCKS, "e1", 512)
    world.disk.answer(Place(BLOCKS, "e1", 512))
    gone = history.gone()
    assert isinstance(gone, Gone)
    assert (gone.last, [update.seq for update in gone.values], gone.whole) == (600, [600], True)


def test_a_disk_that_turns_out_to_reach_further_back_is_read_again():
    world = deep_world(1200)
    world.disk.trim(BLOCKS, 600)
    world.disk.answer(Place(BLOCKS, "e1", 512))
    world.disk.trimmed.clear()  # another state service, which kept more
    world.hub.extend(BLOCKS, 1)
    assert cursor(world, at=550).needs == Place(BLOCKS, "e1", 512)
    world.disk.answer(Place(BLOCKS, "e1", 512))
    assert seqs(gather([cursor(world, at=550)], 3)) == [551, 552, 553]


def test_the_values_of_every_key_stand_in_for_what_is_gone():
    world = deep_world()
    for nonce in range(1, 301):
        world.account("abc"[nonce % 3], nonce)
    world.account("d", 1)
    for nonce in range(1, 401):
        world.account("ab"[nonce % 2], nonce)
    world.disk.trim("account", 650)
    client = world.client()
    client.subscribe({"stream": "account", "since": {"epoch": "e1", "seq": 5}})
    settle(world, client)
    stand_ins = [(frame["key"], frame["seq"]) for frame in client.frames if frame.get("snapshot")]
    assert stand_ins == [("c", 299), ("d", 301), ("a", 649), ("b", 650)]
    good(world)


# ---------------------------------------------------------------------- keys


def keyed_world() -> World:
    """Return a world in which `a` changes always, `b` in 300 and 900, `c` in 100 only, `d` in 1195."""
    world = deep_world()
    rare = {100: "c", 300: "b", 900: "b", 1195: "d"}
    for nonce in range(1, 1201):
        world.account(rare.get(nonce, "a"), nonce)
    return world


@pytest.mark.parametrize(("key", "since"), [("c", 100), ("b", 900), ("d", 0), ("z", 0)])
def test_nothing_is_loaded_for_a_key_that_did_not_change_behind_memory(key, since):
    world = keyed_world()
    client = world.client()
    (row,) = client.subscribe({"stream": "account", "key": key, "since": {"epoch": "e1", "seq": since}})
    assert (row["recovered"], row["replayed"]) == (True, 1 if key == "d" else 0)
    world.run()
    assert world.disk.asked == []
    assert world.hub.catching_up == 0
    good(world)


def test_the_updates_of_a_key_are_read_from_pages():
    world = keyed_world()
    client = world.client()
    (row,) = client.subscribe({"stream": "account", "key": "b", "since": {"epoch": "e1", "seq": 50}})
    assert row["recovered"]
    assert "replayed" not in row, "nobody has counted them yet"
    settle(world, client)
    assert client.updates == [("account", 300), ("account", 900)]
    assert client.stats()[0]["filtered"] == 1148
    good(world)


@pytest.mark.parametrize(
    ("key", "trimmed", "missed", "stand_in", "updates"),
    [
        ("c", 700, (11, 700), 100, []),  # all of it is gone
        ("b", 700, (11, 700), 300, [900]),  # some of it is
        ("d", 700, None, None, [1195]),  # nothing of it
        ("b", 200, None, None, [300, 900]),
    ],
)
def test_what_is_gone_of_a_key(key, trimmed, missed, stand_in, updates):
    world = keyed_world()
    world.disk.trim("account", trimmed)
    client = world.client()
    (row,) = client.subscribe({"stream": "account", "key": key, "since": {"epoch": "e1", "seq": 10}})
    assert row["recovered"] is (missed is None)
    settle(world, client)
    told = [(frame["seq"], frame["missed"]) for frame in client.frames if frame.get("snapshot")]
    assert told == ([(stand_in, {"from": missed[0], "to": missed[1]})] if missed else [])
    assert [seq for _, seq in client.updates] == updates
    good(world)


def test_a_key_of_which_it_is_not_known_what_is_gone_goes_on_from_memory(monkeypatch):
    monkeypatch.setattr(deep, "STAND_INS", 1)
    world = keyed_world()
    world.disk.trim("account", 700)
    one = cursor(world, "account", 10, key="b")
    with pytest.raises(Needed):
        one.loses()
    place, kept = one.needs, world.disk.kept["account", "e1"]
    raws = [update.raw for update in kept[700 : place.end]]
    world.hub.supply(place, 701, raws, [kept[699].raw], based=True)  # as many values as there is room for
    assert one.loses()
    gap = one.pass_gap()
    assert (gap.missed, [update.seq for update in gap.values]) == ((11, 1190), [900])
    assert (one.at, adds_up(one)) == (1190, True)


def test_a_key_that_a_process_knows_by_prev_only_is_missed_without_a_value():
    """A sidecar that has begun in between knows of older updates, but not what they were."""
    world = World(limits=HistoryLimits(count=KEPT))
    stream = CATALOGUE.get("account")
    world.hub.begin("account", "e1", 50, [])
    update = elsewhere(
        world,
        stream,
        51,
        account_pb2.AccountUpdate(address="a", nonce=2),
        {"address": "a", "nonce": 2},
        key="a",
        prev=40,
    )
    world.hub.admit(update)
    lost, kept = (cursor(world, "account", at, key="a") for at in (39, 40))
    assert (lost.loses(), kept.loses()) == (True, False)
    gap = lost.pass_gap()
    assert (gap.missed, list(gap.values)) == ((40, 51), [update]), "the first value that is known stands in"
    assert (lost.at, kept.pass_gap(), kept.at) == (51, None, 50)
    assert adds_up(lost)
    assert adds_up(kept)


@pytest.mark.parametrize("delivery", [BLOCKS, "account"])
def test_where_no_value_is_known_of_what_is_gone_the_first_that_is_known_stands_in(delivery):
    world = World(limits=HistoryLimits(count=KEPT))
    world.hub.begin(delivery, "e1", 50, [])  # whoever it comes from did not know either
    payload = {
        BLOCKS: lambda n: (block_pb2.BlockUpdate(height=n), {"height": n}, {}),
        "account": lambda n: (
            account_pb2.AccountUpdate(address="a", nonce=n),
            {"address": "a", "nonce": n},
            {"key": "a", "prev": n - 1},
        ),
    }[delivery]
    for number in (51, 52):
        message, data, more = payload(number)
        world.hub.admit(elsewhere(world, CATALOGUE.get(delivery), number, message, data, **more))
    client = world.client()
    (row,) = client.subscribe({"stream": delivery, "since": {"epoch": "e1", "seq": 40}})
    assert (row["recovered"], row["reason"]) == (False, "trimmed")
    world.run()
    told = [(frame["seq"], frame.get("missed")) for frame in client.frames if "data" in frame]
    assert told == [(51, {"from": 41, "to": 51}), (52, None)]


def test_where_not_even_a_first_value_is_known_what_is_missed_is_all_there_is_to_tell():
    world = World()
    world.hub.begin(BLOCKS, "e1", 50, [])
    one = cursor(world, at=40)
    gap = one.pass_gap()
    assert (gap.missed, list(gap.values), one.at_head) == ((41, 50), [], True)


def test_a_key_whose_values_are_not_among_those_that_stand_in_goes_on_with_the_first_that_is_known():
    world = deep_world()
    for nonce in range(1, 601):
        world.account("b" if nonce == 300 else "a", nonce)
    world.account("b", 601)
    world.disk.trim("account", 400)
    world.hub.histories["account"].base.pop("b")
    place = Place("account", "e1", 0)
    world.disk.answer(place)
    (page,) = world.hub.pages.held
    page.base[:] = [update for update in page.base if update.key != "b"]
    one = cursor(world, "account", 10, key="b")
    gap = one.pass_gap()
    assert (gap.missed, [update.seq for update in gap.values]) == ((11, 601), [601])
    assert adds_up(one)


def test_a_value_that_was_superseded_unseen_stands_in_for_nothing():
    world = World(limits=HistoryLimits(count=KEPT))
    first = world.account("a", 1)
    world.hub.begin("account", "e1", 50, [])  # more keys changed than anybody was told the values of
    update = elsewhere(
        world,
        first.stream,
        51,
        account_pb2.AccountUpdate(address="a", nonce=3),
        {"address": "a", "nonce": 3},
        key="a",
        prev=40,
    )
    world.hub.admit(update)
    one = cursor(world, "account", 1, key="a")
    assert one.loses()
    gap = one.pass_gap()
    assert (gap.missed, list(gap.values)) == ((2, 51), [update])


def test_a_whole_stream_and_one_of_its_keys_stay_together():
    world = keyed_world()
    client = world.client()
    client.subscribe(
        {"stream": "account", "since": {"epoch": "e1", "seq": 100}},
        {"stream": "account", "key": "b", "since": {"epoch": "e1", "seq": 600}},
        {"stream": "account", "key": "d"},
    )
    world.run()
    world.account("d", 2)
    settle(world, client)
    assert [seq for _, seq in client.updates] == list(range(101, 1202))
    assert all(row["pending"] == 0 for row in client.stats())
    good(world)


def test_a_filter_selects_on_pages_too():
    world = deep_world(1200)
    client = world.client()
    client.subscribe({"stream": BLOCKS, "since": {"epoch": "e1", "seq": 0}, "where": {"height": {"lt": 4}}})
    settle(world, client)
    assert [seq for _, seq in client.updates] == [1, 2, 3]
    assert client.stats()[0]["filtered"] == 1197
    good(world)


# ---------------------------------------------------------------------- pages that cannot be had


def refused(world: World, *numbers: int) -> None:
    for number in numbers:
        world.hub.pages.refuse(Place(BLOCKS, "e1", number * PAGE_UPDATES))


def test_a_page_that_cannot_be_had_is_a_gap_and_what_follows_stands_in():
    world = deep_world(2000)
    refused(world, 1)
    client = world.client()
    client.subscribe({"stream": BLOCKS, "since": {"epoch": "e1", "seq": 100}})
    settle(world, client)
    stand_in = next(frame for frame in client.frames if frame.get("snapshot"))
    assert (stand_in["seq"], stand_in["missed"]) == (1025, {"from": 513, "to": 1025})
    assert [seq for _, seq in client.updates] == [*range(101, 513), *range(1026, 2001)]
    good(world)


def test_pages_in_a_row_that_cannot_be_had_are_one_gap():
    world = deep_world(2000)
    refused(world, 0, 1)
    client = world.client()
    client.subscribe({"stream": BLOCKS, "since": {"epoch": "e1", "seq": 100}})
    world.run()
    assert world.disk.asked == [Place(BLOCKS, "e1", 1024)], "what comes next stands in"
    settle(world, client)
    stand_in = next(frame for frame in client.frames if frame.get("snapshot"))
    assert stand_in["missed"] == {"from": 101, "to": 1025}
    good(world)


def test_when_nothing_behind_memory_can_be_had_the_gap_goes_up_to_memory():
    world = deep_world(1200)
    refused(world, 0, 1, 2)
    client = world.client()
    (row,) = client.subscribe({"stream": BLOCKS, "since": {"epoch": "e1", "seq": 100}})
    assert (row["recovered"], row["reason"]) == (False, "trimmed")
    settle(world, client)
    stand_in = next(frame for frame in client.frames if frame.get("snapshot"))
    assert (stand_in["seq"], stand_in["missed"]) == (1190, {"from": 101, "to": 1190})
    assert world.disk.asked == []
    good(world)


def test_a_page_that_would_say_what_is_gone_and_cannot_be_had():
    world = deep_world(1200)
    world.disk.trim(BLOCKS, 600)
    refused(world, 1)
    client = world.client()
    client.subscribe({"stream": BLOCKS, "since": {"epoch": "e1", "seq": 100}})
    settle(world, client)
    stand_in = next(frame for frame in client.frames if frame.get("snapshot"))
    assert stand_in["missed"] == {"from": 101, "to": 1025}
    good(world)


def test_a_page_without_updates_stands_in_for_nothing():
    world = deep_world()
    for tps in range(1200):
        world.metrics(float(tps))
    kept = world.disk.kept["metrics", "e1"]
    world.hub.pages.refuse(Place("metrics", "e1", 0))
    world.hub.supply(Place("metrics", "e1", 512), 1, [])
    replay = cursor(world, "metrics")
    replay.restart(0, replay_to=1200)
    assert replay.needs == Place("metrics", "e1", 1024)
    world.hub.supply(Place("metrics", "e1", 1024), 1, [update.raw for update in kept[1029:1200]])
    gap = replay.pass_gap()
    assert (gap.missed, [update.seq for update in gap.values]) == ((1, 1030), [1030])


@pytest.mark.parametrize("key", [None, "b"])
def test_where_there_are_keys_a_gap_goes_up_to_memory(key):
    world = keyed_world()
    world.hub.pages.refuse(Place("account", "e1", 0))
    client = world.client()
    client.subscribe({"stream": "account", "since": {"epoch": "e1", "seq": 50}, **({"key": key} if key else {})})
    settle(world, client)
    told = [(frame["seq"], frame.get("missed")) for frame in client.frames if frame.get("snapshot")]
    assert told == (
        [(900, {"from": 51, "to": 1190})] if key else [(100, None), (900, None), (1190, {"from": 51, "to": 1190})]
    )
    assert adds_up(next(iter(client.reader.cursors.values())))
    good(world)


def test_a_page_that_could_not_be_had_is_asked_for_again_later():
    world = deep_world(1200)
    refused(world, 0)
    assert world.hub.pages.failures == 1
    assert cursor(world).needs is None or cursor(world).needs.start == 512
    world.wait(deep.REFUSED_MS)
    assert cursor(world).needs == Place(BLOCKS, "e1", 0)


def test_what_needs_a_page_that_cannot_be_had_is_refused():
    world = deep_world(1200)
    refused(world, 0)
    with pytest.raises(RequestError, match="cannot be read"):
        world.hub.pages.require(world.hub.histories[BLOCKS], 5)
    with pytest.raises(Needed) as needed:
        world.hub.pages.require(world.hub.histories[BLOCKS], 600)
    assert needed.value.places == (Place(BLOCKS, "e1", 512),)


# ---------------------------------------------------------------------- epochs and outages


def test_a_new_epoch_ends_every_wait_and_begins_anew():
    world = deep_world(1200)
    world.disk.answer(Place(BLOCKS, "e1", 512))
    client = world.client()
    client.subscribe({"stream": BLOCKS, "since": {"epoch": "e1", "seq": 0}})
    world.run()
    world.begin_epoch()
    world.run()
    assert world.hub.pages.held == []
    assert world.hub.pages.waiting == 0
    assert world.hub.catching_up == 0
    world.disk.answer_all()  # what was read before comes late
    assert world.hub.pages.held == []
    world.block(1)
    world.run()
    assert client.updates == [(BLOCKS, 1)]
    good(world)


def test_a_new_epoch_drops_where_pages_were_cut():
    world = deep_world(1200, part=100)
    world.disk.answer(Place(BLOCKS, "e1", 0))
    world.begin_epoch()
    for height in range(1, 601):
        world.block(height)
    assert cursor(world, at=150).needs == Place(BLOCKS, "e2", 0)


def test_updates_that_passed_a_sidecar_by_are_read_from_disk():
    """What was published during an outage is behind memory then: no gap where the state service has it."""
    world = deep_world(20)
    client = world.client()
    client.subscribe(BLOCKS)
    world.run()
    from generated.theblock.state.v1 import block_pb2

    stream = CATALOGUE.get(BLOCKS)
    for seq in range(21, 41):
        payload = block_pb2.BlockUpdate(height=seq, hash=b"\1")
        update = elsewhere(world, stream, seq, payload, {"height": seq, "hash": "0x01"})
    world.hub.begin(BLOCKS, "e1", 40, [update])
    settle(world, client)
    assert [seq for _, seq in client.updates] == list(range(21, 41))
    good(world)


# ---------------------------------------------------------------------- slices


def test_a_slice_is_bounded_however_much_there_is_to_read(monkeypatch):
    monkeypatch.setattr(catchup_module, "SLICE_UPDATES", 100)
    world = deep_world(3000, count=3000)
    clients = [world.client(f"client {number}") for number in range(5)]
    for client in clients:
        client.subscribe({"stream": BLOCKS, "since": {"epoch": "e1", "seq": 0}})
    most = 0
    while world.scheduled:
        before = sum(len(client.frames) for client in clients)
        world.slice()
        most = max(most, sum(len(client.frames) for client in clients) - before)
        counts = [len(client.updates) for client in clients]
        assert max(counts) - min(counts) <= 2 * catchup_module.READ_UPDATES, "they read in turn"
    assert most < 100 + catchup_module.READ_UPDATES
    good(world)


def test_a_slice_is_bounded_in_bytes_too(monkeypatch):
    monkeypatch.setattr(catchup_module, "SLICE_BYTES", 100_000)
    world = World()
    for number in range(100):
        world.custom("notes", {"text": "x" * 10_000, "n": number})
    client = world.client()
    client.subscribe({"stream": "notes", "since": {"epoch": "e1", "seq": 0}})
    most = 0
    while world.scheduled:
        before = len(client.frames)
        world.slice()
        most = max(most, len(client.frames) - before)
    assert len(client.updates) == 100
    assert most * 10_000 <= 100_000 + catchup_module.READ_BYTES + 10_000


def test_several_streams_behind_memory_are_read_each_in_order(monkeypatch):
    world = deep_world()
    for number in range(1, 601):
        world.block(number)
        world.custom("notes", {"n": number})
    client = world.client()
    entries = [{"stream": name, "since": {"epoch": "e1", "seq": 0}} for name in (BLOCKS, "notes")]
    client.subscribe(*entries)
    settle(world, client)
    for name in (BLOCKS, "notes"):
        assert [seq for stream, seq in client.updates if stream == name] == list(range(1, 601))
    good(world)


def test_a_limited_rate_replays_from_pages_when_it_is_due():
    world = deep_world()
    for tps in range(1, 31):
        world.metrics(float(tps))
    client = world.client()
    client.subscribe({"stream": "metrics", "last": 30, "max_rate": 10}, BLOCKS)
    world.run()
    assert world.hub.catching_up == 0, "what is limited keeps nothing else from going live"
    assert client.updates == []
    world.disk.answer_all()
    world.wait(200)
    world.run()
    assert client.updates[-1][0] == "metrics"
    world.wait(200)
    world.run()
    assert client.stats()[0]["pending"] == 0
    good(world)


def test_the_base_of_a_page():
    stream = CATALOGUE.get("account")
    small = Update(stream, "e1", 1, 0, b"x")
    large = Update(stream, "e1", 2, 0, b"x" * deep.STAND_IN_BYTES)
    place = Place("account", "e1", 512)
    assert DeepPage(place, 600, 1024, [], [small], based=True).base_whole
    assert not DeepPage(place, 600, 1024, [], [small, large], based=True).base_whole
    assert not DeepPage(place, 600, 1024, [], [small] * deep.STAND_INS, based=True).base_whole


def test_metrics_of_a_world_that_reads_nothing_again_are_nothing():
    world = World()
    world.metrics(1.0)
    assert metrics_data(1.0)["tps"] == 1.0
    pages = world.hub.pages
    assert (pages.size_bytes, pages.loads, pages.hits, pages.failures, pages.waiting) == (0, 0, 0, 0, 0)
