"""The state machine's world with more kinds of clients, and connections that wait for what lies behind memory."""

import json
from collections import deque
from typing import Any

from bridge.core import catchup as catchup_module
from bridge.core.codes import ErrorCode
from bridge.core.deep import Place
from bridge.core.frames import Frame
from bridge.core.limits import Limits
from bridge.core.session import Await, Session
from bridge.core.update import Format
from bridge.core.v1 import V1ProtoSession, V1Session
from tests import frames
from tests.core.disk import Disk
from tests.core.test_hub_machine import HubMachine
from tests.core.v1_clients import GREETING, client_frame
from tests.core.world import Client, World, server_frames

MOST_TRIES = 500
"""How often a message is looked at until it is answered; each page that comes may be the one that it waits for."""

TOLD = ("fell_behind", "caught_up")


class Waiting(Client):
    """A client whose messages wait, one behind the other, as a connection has them wait."""

    session_type: type[Session] = Session
    format = Format.JSON
    announced = False

    def __init__(self, world: World, name: str, *, capacity: int | None = None, single: bool = False) -> None:
        super().__init__(world, name, format_=self.format, capacity=capacity)
        self.single = single  # it has one subscription of a stream at a time
        world.oracle.clients.remove(self.log)
        self.log = world.oracle.client(name, announced=self.announced)
        self.session = self.make_session()
        self.messages: deque[bytes] = deque()  # the first one waits
        self.tries = 0  # how often it was looked at
        self.keys: dict[str, str | None] = {}  # of each stream, as it was subscribed to last
        self.gone = False

    def make_session(self) -> Session:
        return Session(self.hub, self.reader, Limits())

    def encode(self, request: dict[str, Any]) -> bytes:
        return json.dumps(request).encode()

    def decode(self, payload: bytes) -> Any:
        return self.log.received(payload).message

    def write(self, data: bytes) -> None:
        """Take frames as a transport does: always, but say when it is full."""
        assert not self.gone, "it has left"
        for _, payload in server_frames(data):
            message = self.decode(payload)
            if "error" in message:
                assert message["error"]["code"] == ErrorCode.UPSTREAM_UNAVAILABLE, "what it asks for is no mistake"
            self.frames.append(message)
            self.waiting += 1
        if self.capacity is not None and self.waiting >= self.capacity and not self.reader.blocked:
            self.hub.block(self.reader)

    def call(self, method: str, *params: Any) -> Any:
        """Ask; return the response, an empty one while it waits."""
        if method == "state_stream.subscribe" and self.single:
            self.make_room(params)
        number = next(self._ids)
        request = {"jsonrpc": "2.0", "method": method, "params": list(params), "id": number}
        payload, before = self.encode(request), len(self.frames)
        self.log.sent(json.dumps(request))
        self.messages.append(payload)
        if len(self.messages) == 1:
            self.act()
        answers = (answer for answer in self.frames[before:] if "jsonrpc" in answer and answer["id"] == number)
        return next(answers, {"result": {"subscriptions": []}})

    def make_room(self, entries: tuple[Any, ...]) -> None:
        """Give up the subscription to another key of the same stream."""
        for entry in entries:
            stream, key = (entry, None) if isinstance(entry, str) else (entry["stream"], entry.get("key"))
            if self.keys.setdefault(stream, key) != key:
                before = {} if self.keys[stream] is None else {"key": self.keys[stream]}
                self.call("state_stream.unsubscribe", {"stream": stream, **before})
                self.keys[stream] = key

    def act(self) -> None:
        """Act on the messages until one has to wait, or there is none."""
        pages = self.hub.pages
        while self.messages and not self.gone:
            self.tries += 1
            assert self.tries < MOST_TRIES, "it never has the pages that it needs"
            effects = self.session.receive(Frame(self.session.opcode, self.messages[0]))
            if effects and isinstance(effects[0], Await):
                for place in effects[0].places:
                    pages.want(place, self.act)
                return
            pages.forget(self.act)
            self.tries = 0
            self.messages.popleft()
            self.apply(effects)

    def tick(self) -> None:
        self.apply(self.session.tick(self.world.now_ms))

    def leave(self) -> None:
        self.gone = True
        self.hub.pages.forget(self.act)
        super().leave()


class Text(Waiting):
    """A client of theblock.v1.json."""

    announced = True

    def make_session(self) -> Session:
        return V1Session(self.hub, self.reader, Limits(), GREETING)

    def decode(self, payload: bytes) -> Any:
        message = super().decode(payload)
        if message.get("type") in TOLD:
            told = [frame["type"] for frame in self.frames if frame.get("type") in TOLD]
            assert message["type"] == TOLD[len(told) % 2], "it fell behind and caught up in turn"
        return message


class Binary(Text):
    """A client of theblock.v1.proto."""

    format = Format.PROTO

    def make_session(self) -> Session:
        return V1ProtoSession(self.hub, self.reader, Limits(), GREETING)

    def encode(self, request: dict[str, Any]) -> bytes:
        message = client_frame(request["method"], map(known, request["params"]))
        message.id = request["id"]
        frames.asked(payload := message.SerializeToString())
        return payload

    def decode(self, payload: bytes) -> Any:
        return self.log.received_binary(payload).message

    def call(self, method: str, *params: Any) -> Any:
        """Ask, for whole values: a binary frame has no less."""
        return super().call(method, *(p if isinstance(p, str) else {**p, "fields": None} for p in params))


def known(entry: Any) -> Any:
    """Return an entry without what has no value."""
    return entry if isinstance(entry, str) else {name: value for name, value in entry.items() if value is not None}


class Behind(Disk):
    """What lies behind memory, where another process is followed: positions that are not known here are so nowhere."""

    def __init__(self, disk: Disk) -> None:
        super().__init__(disk.hub, part=disk.part)
        disk.hub.pages.follows = True

    def answer_one(self, *, refuse: bool = False, which: int = 0) -> bool:
        ahead = bool(self.asked) and self.asked[which % len(self.asked)].ahead
        return super().answer_one(refuse=refuse and not ahead, which=which)

    def answer(self, place: Place) -> None:
        if place.ahead:
            self.hub.pages.set_void(place)
        else:
            super().answer(place)


KINDS: tuple[type[Waiting], ...] = (Waiting, Waiting, Text, Text, Binary)


class Crowd(HubMachine):
    """The state machine with clients of every dialect, some of which wait."""

    def set_out(self, *, kinds: list[int], behind_updates: int, follows: bool, single: bool, **options: Any) -> None:
        """Begin; see HubMachine.begin.

        Args:
            kinds: of the clients that come, in turn.
            behind_updates: how far behind a client must be to be told so.
            follows: whether another process is followed, which has nothing that is not here.
            single: whether clients have one subscription of a stream at a time. Several may each miss something else,
                and only a gap frame says for which of them: so the oracle cannot judge them where anything is missed.
            options: for the state machine.
        """
        self.kinds = kinds
        self.behind_updates = behind_updates
        self.follows = follows
        self.single = single
        self.begin(**options)

    def arrive(self, capacity: int | None, streams: tuple[str, ...]) -> None:
        if not self.clients:
            self.patch.setattr(catchup_module, "BEHIND_UPDATES", self.behind_updates)
            if self.follows and self.world.disk is not None:
                self.world.disk = Behind(self.world.disk)
        self.names += 1
        make = KINDS[self.kinds[self.names % len(self.kinds)]]
        name = f"client {self.names}, {make.__name__}"
        self.clients.append(make(self.world, name, capacity=capacity, single=self.single))
        self.clients[-1].subscribe(*streams)

    def go_on_behind_a_gap(self, count: int, values: list[tuple[str, int]]) -> None:
        if self.single:
            super().go_on_behind_a_gap(count, values)

    def check_counts(self) -> None:
        super().check_counts()
        waiting = [client for client in self.clients if isinstance(client, Waiting) and client.messages]
        assert self.hub.pages.waiting or self.world.scheduled or not waiting, "they wait for what nobody brings"

    def rest(self) -> None:
        """Let the hub do all that it can without a page: then whoever can go on has gone on."""
        self.world.run()
        asked = {place.stream for place in self.world.disk.asked} if self.world.disk is not None else set()
        for client in self.clients:
            if client.reader.blocked or client.reader.audience is not None:
                continue
            for cursor in client.reader.cursors.values():
                stands = cursor.at_head or cursor.paced or cursor.history.name in asked
                assert stands, f"{client.log.name} could go on with {cursor.history.name}: {cursor.books()}"

    def tick(self, which: int) -> None:
        """Have a client told how far streams have come."""
        client = self.one(which)
        assert isinstance(client, Waiting)
        client.tick()
