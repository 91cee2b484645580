"""A hub with its origin, and clients on sockets that can be full: everything real but the network and the clock."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

from bridge.core.audience import Reader
from bridge.core.deflate import Deflate
from bridge.core.frames import Frame, Opcode
from bridge.core.history import HistoryLimits
from bridge.core.hub import Hub
from bridge.core.limits import Limits
from bridge.core.origin import Origin
from bridge.core.session import Await, Effect, Send, Session, Shut
from bridge.core.streams import Catalogue, Stream
from bridge.core.update import Format, Update
from bridge.verify.oracle import Oracle
from generated.theblock.state.v1 import account_pb2, block_pb2, metrics_pb2, update_pb2
from tests import frames
from tests.core.disk import Disk

CATALOGUE = Catalogue()
NOW_MS = 1_700_000_000_000


def server_frames(data: bytes, *, deflates: bool = False) -> Iterator[tuple[int, bytes]]:
    """Take whole frames of a server apart, and hold them to what is documented: first byte and payload."""
    for first, payload in frames.server_frames(data, deflates=deflates):
        frames.saw(first & 0x0F, payload)
        yield first, payload


def texts(data: bytes) -> list[Any]:
    """Return the JSON values of text frames."""
    return [json.loads(payload) for _, payload in server_frames(data)]


class World:
    """A hub and its origin, with a clock that is set and a schedule that is run by hand."""

    def __init__(self, *, limits: HistoryLimits | None = None, slice_writes: int = 500) -> None:
        self.now_ms = NOW_MS
        self.wrong_ms = 0  # by how much the time of the machine is wrong
        self.scheduled = 0
        self.reminders: list[int] = []  # times at which the hub asked to be run
        self.oracle = Oracle()
        self.hub = Hub(
            CATALOGUE,
            clock_ms=lambda: self.now_ms + self.wrong_ms,
            monotonic_ms=lambda: self.now_ms,
            schedule=self._schedule,
            remind=self._remind,
            limits=limits,
            slice_writes=slice_writes,
        )
        numbers = itertools.count(1)
        self.origin = Origin(self.hub, new_epoch=lambda: f"e{next(numbers)}")
        self.oracle.began(self.origin.epoch)
        self.disk: Disk | None = None  # what lies behind memory

    def _schedule(self) -> None:
        self.scheduled += 1

    def _remind(self, ms: int) -> None:
        self.reminders.append(self.now_ms + ms)

    def wait(self, ms: int) -> None:
        """Let time pass."""
        self.now_ms += ms
        due = [time for time in self.reminders if time <= self.now_ms]
        self.reminders = [time for time in self.reminders if time > self.now_ms]
        if due:
            self.hub.wake()

    def run(self, most: int = 10_000) -> None:
        """Run the hub as often as it asks for it."""
        while self.scheduled and most:
            self.slice()
            most -= 1
        assert not self.scheduled, "the hub asks to be run for ever"

    def slice(self) -> None:
        """Run the hub once, if it asked for it."""
        if self.scheduled:
            self.scheduled -= 1
            self.hub.run()

    def client(self, name: str = "client", **options: Any) -> "Client":
        return Client(self, name, **options)

    # ------------------------------------------------------------------ publishing

    def note(self, update: Update, data: dict[str, Any]) -> Update:
        """Write into the publisher's log what we meant to publish."""
        if self.disk is not None:
            self.disk.keep(update)
        line = {
            "type": update.stream.type,
            "stream": update.stream.name,
            "epoch": update.epoch,
            "seq": update.seq,
            "time": update.time_ms,
            "data": data,
        }
        if update.key:
            line |= {"key": update.key, "prev": update.prev}
        self.oracle.published(line)
        return update

    def block(self, height: int, **more: int) -> Update:
        payload = block_pb2.BlockUpdate(height=height, hash=height.to_bytes(4, "big"), **more)
        return self.note(self.origin.publish(payload), {"height": height, "hash": f"0x{height:08x}", **more})

    def metrics(self, tps: float) -> Update:
        return self.note(self.origin.publish(metrics_pb2.MetricsUpdate(tps=tps)), metrics_data(tps))

    def account(self, address: str, nonce: int) -> Update:
        update = self.origin.publish(account_pb2.AccountUpdate(address=address, nonce=nonce))
        return self.note(update, {"address": address, "nonce": nonce})

    def custom(self, name: str, data: dict[str, Any], key: str = "", type_: str = "custom_update") -> Update:
        return self.note(self.origin.publish_custom(name, type_, json.dumps(data).encode(), key=key), data)

    def begin_epoch(self) -> None:
        self.origin.begin_epoch()
        self.oracle.began(self.origin.epoch)


class Client:
    """A client with a session, on a socket that may be full."""

    def __init__(
        self,
        world: World,
        name: str,
        *,
        limits: Limits | None = None,
        format_: Format = Format.JSON,
        capacity: int | None = None,
        deflate: Deflate | None = None,
    ) -> None:
        self.world = world
        self.hub = world.hub
        self.capacity = capacity  # frames that its socket takes; None: any number
        self.waiting = 0
        self.written: list[bytes] = []  # every write
        self.frames: list[Any] = []  # every frame, decoded
        self.shut: Shut | None = None
        self.log = world.oracle.client(name, int64_string=format_ is Format.JSON_INT64_STRING)
        self.reader = Reader(self.write, format_, deflate)
        self.session = Session(world.hub, self.reader, limits or Limits())
        self._ids = itertools.count(1)
        world.hub.attach(self.reader)

    def write(self, data: bytes) -> None:
        """Take frames as a transport does: always, but say when it is full."""
        self.written.append(data)
        for first, payload in server_frames(data, deflates=self.reader.deflate is not None):
            assert first == 0x81
            self.log.received(payload)
            self.frames.append(json.loads(payload))
            self.waiting += 1
        if self.capacity is not None and self.waiting >= self.capacity and not self.reader.blocked:
            self.hub.block(self.reader)

    def drain(self) -> None:
        """Let the socket run empty."""
        self.waiting = 0
        if self.reader.blocked:
            self.hub.unblock(self.reader)

    def send(self, message: Any) -> list[Any]:
        """Send a message, given as a value or as text; return the frames that answer it."""
        text = message if isinstance(message, str) else json.dumps(message)
        self.log.sent(text)
        before = len(self.frames)
        self.apply(receive(self.session, Frame(Opcode.TEXT, text.encode()), self.world.disk))
        return self.frames[before:]

    def apply(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                self.write(effect.frame)
            else:
                self.shut = effect

    def call(self, method: str, *params: Any) -> Any:
        """Ask as JSON-RPC; return the response. Frames that came before it or behind it are in `frames`."""
        number = next(self._ids)
        answers = self.send({"jsonrpc": "2.0", "method": method, "params": list(params), "id": number})
        return next(answer for answer in answers if answer.get("id") == number and "jsonrpc" in answer)

    def subscribe(self, *entries: Any) -> list[dict[str, Any]]:
        answer = self.call("state_stream.subscribe", *entries)
        assert "result" in answer, answer
        return answer["result"]["subscriptions"]

    def stats(self) -> list[dict[str, Any]]:
        return self.call("session.stats")["result"]["subscriptions"]

    def leave(self) -> None:
        self.hub.detach(self.reader)
        self.log.closed()

    @property
    def updates(self) -> list[tuple[str, int]]:
        """Stream and seq of every update that it got, snapshots left out."""
        return [(f["stream"], f["seq"]) for f in self.frames if "seq" in f and "data" in f and not f.get("snapshot")]

    @property
    def snapshots(self) -> list[tuple[str, int]]:
        return [(f["stream"], f["seq"]) for f in self.frames if f.get("snapshot")]


def receive(session: Session, frame: Frame, disk: Disk | None) -> list[Effect]:
    """Have a message come in, and whatever pages it waits for."""
    effects = session.receive(frame)
    for _ in range(200):
        if not effects or not isinstance(effects[0], Await):
            break
        assert disk is not None
        assert len(effects) == 1, "a message that waits has no effect"
        for place in effects[0].places:
            disk.hub.pages.want(place, came)
            disk.asked.remove(place)
            disk.answer(place)
        effects = session.receive(frame)
    else:
        raise AssertionError("it never has the pages that it needs")
    return effects


def came() -> None:
    """Be told that a page has come."""


def metrics_data(tps: float) -> dict[str, Any]:
    """What metrics look like in JSON: what has no value is null."""
    unset = dict.fromkeys(("fees", "latencyMs", "peers", "blockHeight", "issuance"))
    return {"tps": tps, **unset}


def good(world: World) -> None:
    """Check that every client got what it should."""
    verdict = world.oracle.verdict()
    assert verdict.ok, verdict


def elsewhere(
    world: World, stream: Stream, seq: int, payload: Any, data: dict[str, Any], *, key: str = "", prev: int = 0
) -> Update:
    """Make an update as the state service does, with its own position, and note it as published."""
    history = world.hub.histories[stream.name]
    message = update_pb2.Update(
        stream=stream.name, epoch=history.epoch, seq=seq, time_ms=world.now_ms, key=key, prev=prev
    )
    getattr(message, stream.field).CopyFrom(payload)
    raw = message.SerializeToString()
    return world.note(Update(stream, history.epoch, seq, world.now_ms, raw, key, prev), data)
