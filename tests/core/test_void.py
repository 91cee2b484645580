"""Positions that are not known here, where another process is followed: they may have come elsewhere already."""

import json
from typing import Any

import pytest

from bridge.core.deep import VOID_MS, Place
from bridge.core.frames import Frame, Opcode
from bridge.core.session import Await, Effect
from bridge.core.update import Format
from tests.core.v1_clients import CLIENTS, V1Client, kinds
from tests.core.world import Client, World, good

BLOCKS = "block_updates"


class Asked:
    """Who follows another process: what it is asked for waits in `places`."""

    def __init__(self, world: World) -> None:
        self.pages = world.hub.pages
        self.places: list[Place] = []
        self.pages.load = self.places.append
        self.pages.follows = True


@pytest.fixture
def asked(world) -> Asked:
    """Have the world's hub follow another process."""
    for height in range(1, 4):
        world.block(height)
    return Asked(world)


class Request:
    """A message that waits until it can be decided on, as a connection has it wait."""

    def __init__(self, client: Client, *entries: str | dict[str, Any]) -> None:
        text = json.dumps({"jsonrpc": "2.0", "method": "state_stream.subscribe", "params": entries, "id": "waits"})
        self.client = client
        self.frame = Frame(Opcode.TEXT, text.encode())
        self.woken = 0
        client.log.sent(text)
        self.waits: tuple[Place, ...] = ()
        self.receive()

    def receive(self, *, late: bool = False) -> None:
        """Have it received: it is answered, or waits."""
        effects: list[Effect] = self.client.session.receive(self.frame, late=late)
        if effects and isinstance(effects[0], Await):
            assert len(effects) == 1
            self.waits = effects[0].places
            for place in self.waits:
                self.client.hub.pages.want(place, self.look_again)
        else:
            self.waits = ()
            self.client.apply(effects)

    def look_again(self) -> None:
        """Be told that it is worth looking again."""
        self.woken += 1
        self.receive()

    @property
    def answer(self) -> dict[str, Any]:
        return next(frame for frame in self.client.frames if frame.get("id") == "waits")

    @property
    def row(self) -> dict[str, Any]:
        (row,) = self.answer["result"]["subscriptions"]
        return row


def behind(seq: int, epoch: str = "e1", **more: Any) -> dict[str, Any]:
    return {"stream": BLOCKS, "since": {"epoch": epoch, "seq": seq}, **more}


@pytest.mark.parametrize(("epoch", "seq"), [("e1", 4), ("e2", 1), ("e2", 0)])
def test_a_position_that_is_not_known_here_is_not_answered_at_once(world, asked, epoch, seq):
    client = world.client()
    request = Request(client, behind(seq, epoch))
    assert request.waits == (Place(BLOCKS, epoch, seq - 1, ahead=True),)
    assert asked.places == list(request.waits)
    assert (client.frames, client.reader.cursors) == ([], {}), "nothing has been done"
    world.run()
    assert request.woken == 0
    assert list(asked.pages.ahead) == asked.places


@pytest.mark.parametrize(("epoch", "seq", "reason"), [("e1", 7, "ahead"), ("e0", 2, "epoch")])
def test_one_that_is_worth_nothing_elsewhere_either_is_answered_so(world, asked, epoch, seq, reason):
    client = world.client()
    request = Request(client, behind(seq, epoch))
    asked.pages.set_void(asked.places[0])
    assert (request.woken, request.waits) == (1, ())
    assert (request.row["epoch"], request.row["seq"]) == ("e1", 3)
    assert (request.row["recovered"], request.row["reason"]) == (False, reason)
    assert client.snapshots == [(BLOCKS, 3)]
    world.block(4)
    world.run()
    assert client.updates == [(BLOCKS, 4)]
    assert (list(asked.pages.ahead), asked.pages.waiting) == ([], 0)
    good(world)


def test_it_is_known_for_a_while_that_a_position_is_worth_nothing(world, asked):
    asked.pages.set_void(Place(BLOCKS, "e1", 6, ahead=True))
    world.now_ms += VOID_MS - 1
    asked.pages.set_void(Place(BLOCKS, "e0", 0, ahead=True))
    assert Request(world.client("soon"), behind(7)).row["reason"] == "ahead"
    world.now_ms += 1
    later = Request(world.client("later"), behind(7))
    assert later.waits == tuple(asked.places) == (Place(BLOCKS, "e1", 6, ahead=True),)
    asked.pages.set_void(Place(BLOCKS, "e1", 8, ahead=True))
    assert later.waits, "another one's fate is nothing to it"
    assert asked.pages.is_void(Place(BLOCKS, "e1", 8, ahead=True))
    world.now_ms -= 1
    assert not asked.pages.is_void(Place(BLOCKS, "e1", 8, ahead=True)), "the clock was set back: nobody knows how long"
    world.now_ms += 1
    assert Request(world.client("other"), behind(1, "e0")).row["reason"] == "epoch"


def test_one_that_comes_here_is_resumed_from(world, asked):
    client = world.client()
    request = Request(client, behind(5))
    world.block(4)
    world.run()
    assert request.woken == 0
    world.block(5)
    world.block(6)
    world.run()
    assert request.woken == 1
    assert (request.row["recovered"], request.row["seq"], request.row["replayed"]) == (True, 5, 1)
    assert (client.updates, client.snapshots) == ([(BLOCKS, 6)], [])
    assert (list(asked.pages.ahead), asked.pages.waiting) == ([], 0)
    good(world)


def test_an_epoch_that_begins_here_is_gone_on_with(world, asked):
    client = world.client()
    request = Request(client, behind(1, "e2"))
    world.begin_epoch()
    world.run()
    assert request.woken == 1
    assert request.waits == (Place(BLOCKS, "e2", 0, ahead=True),), "the epoch is known now, the position not yet"
    world.block(10)
    world.block(11)
    world.run()
    assert (request.row["epoch"], request.row["recovered"], request.row["replayed"]) == ("e2", True, 1)
    assert client.updates == [(BLOCKS, 2)]
    good(world)


def test_a_position_of_the_epoch_that_ended_while_it_waited_is_still_decided_on(world, asked):
    request = Request(world.client(), behind(9))
    world.begin_epoch()
    world.run()
    assert request.waits == (Place(BLOCKS, "e1", 8, ahead=True),)
    asked.pages.set_void(request.waits[0])
    assert request.row["reason"] == "epoch"


def test_what_cannot_be_known_in_time_is_refused_and_the_position_stays_valid(world, asked):
    client = world.client()
    request = Request(client, behind(4))
    asked.pages.forget(request.look_again)  # it has waited long enough
    request.receive(late=True)
    error = request.answer["error"]
    assert (error["code"], error["data"]) == (-32010, {"retry_after_ms": 1000})
    assert client.reader.cursors == {}
    assert client.session.bad_in_a_row == 0, "that is not the client's doing"
    world.block(4)
    world.block(5)
    world.run()
    again = client.subscribe(behind(4))
    assert (again[0]["recovered"], again[0]["replayed"]) == (True, 1)


def test_whoever_waits_no_more_leaves_nothing(world, asked):
    request = Request(world.client(), behind(9))
    asked.pages.forget(request.look_again)
    assert asked.pages.waiting == 0
    world.block(4)
    world.run()
    assert list(asked.pages.ahead) == []
    assert request.woken == 0


def test_however_many_wait_for_a_position_it_is_asked_for_once(world, asked):
    requests = [Request(world.client(f"client {number}"), behind(5)) for number in range(3)]
    other = Request(world.client("other"), behind(6))
    assert [place.start for place in asked.places] == [4, 5]
    world.block(4)
    world.block(5)
    world.run()
    assert [request.woken for request in (*requests, other)] == [1, 1, 1, 0]
    assert list(asked.pages.ahead) == list(other.waits)


def test_what_is_known_here_is_answered_at_once(world, asked):
    rows = [
        world.client(str(seq)).subscribe(behind(seq))[0] for seq in (0, 2, 3)
    ]  # fmt: skip
    assert [(row["recovered"], row["replayed"]) for row in rows] == [(True, 3), (True, 1), (True, 0)]
    assert world.client("new").subscribe(BLOCKS)[0]["seq"] == 3
    assert world.client("high").subscribe({"stream": BLOCKS, "since": {"height": 99}})[0]["recovered"]
    assert asked.places == []


def test_a_subscription_that_waits_is_left_as_it_is(world, asked):
    client = world.client()
    client.subscribe(BLOCKS)
    request = Request(client, behind(6, where={"height": {"gte": 5}}))
    assert request.waits
    world.block(4)
    world.run()
    assert client.updates == [(BLOCKS, 4)]
    asked.pages.set_void(request.waits[0])
    assert request.row["reason"] == "ahead"
    world.block(5)
    world.run()
    assert client.updates == [(BLOCKS, 4), (BLOCKS, 5)]
    good(world)


def test_a_batch_waits_for_all_that_it_needs(world, asked):
    client = world.client()
    calls = [
        {"jsonrpc": "2.0", "method": "state_stream.subscribe", "params": [behind(seq, epoch)], "id": seq}
        for epoch, seq in (("e1", 9), ("e7", 5))
    ]
    frame = Frame(Opcode.TEXT, json.dumps(calls).encode())
    (effect,) = client.session.receive(frame)
    assert effect == Await((Place(BLOCKS, "e1", 8, ahead=True), Place(BLOCKS, "e7", 4, ahead=True)))
    for place in effect.places:
        asked.pages.set_void(place)
    client.apply(client.session.receive(frame))
    (answers,) = client.frames[:1]
    assert [answer["result"]["subscriptions"][0]["reason"] for answer in answers] == ["ahead", "epoch"]


@pytest.mark.parametrize("encoding", CLIENTS)
def test_both_encodings_of_v1_say_the_same(world, asked, encoding):
    client: V1Client = CLIENTS[encoding](world)
    asked.pages.set_void(Place(BLOCKS, "e1", 8, ahead=True))
    (row,) = client.subscribe({"stream": BLOCKS, "since": {"epoch": "e1", "seq": 9}})
    assert (row["recovered"], row["reason"]) == (False, "ahead")
    assert kinds(client.take()) == ["response", "snapshot"]


def test_every_key_of_a_stream_is_asked_for_as_the_stream_is(world, asked):
    for nonce in (1, 2):
        world.account("a", nonce)
    request = Request(world.client(), {"stream": "account", "key": "b", "since": {"epoch": "e1", "seq": 3}})
    assert asked.places == [Place("account", "e1", 2, ahead=True)]
    world.account("b", 1)
    world.run()
    assert (request.row["recovered"], request.row["replayed"]) == (True, 0)


def test_a_stream_that_has_not_been_heard_of_here_is_subscribed_to_when_the_position_is_decided_on(world, asked):
    client = world.client()
    request = Request(client, {"stream": "ticks", "since": {"epoch": "e1", "seq": 2}})
    assert request.waits == (Place("ticks", "e1", 1, ahead=True),)
    assert client.reader.cursors == {}, "nothing has been done"
    assert "ticks" not in world.hub.histories
    for number in range(3):
        world.custom("ticks", {"n": number})
        world.run()
    assert request.row["recovered"]
    assert client.updates == [("ticks", 3)]
    good(world)


def test_of_several_streams_none_begins_before_all_can(world, asked):
    client = world.client()
    request = Request(client, BLOCKS, {"stream": "ticks", "since": {"epoch": "e0", "seq": 5}})
    world.block(4)
    world.run()
    assert (client.frames, client.reader.cursors) == ([], {}), "the answer comes first"
    asked.pages.set_void(request.waits[0])
    blocks, ticks = request.answer["result"]["subscriptions"]
    assert (blocks["seq"], ticks["declared"], ticks["reason"]) == (4, False, "epoch")
    world.block(5)
    world.run()
    assert client.updates == [(BLOCKS, 5)]
    good(world)


def test_where_nobody_is_followed_positions_are_decided_on_at_once(world):
    world.block(1)
    (row,) = world.client(format_=Format.JSON).subscribe(behind(5))
    assert (row["recovered"], row["reason"]) == (False, "ahead")
