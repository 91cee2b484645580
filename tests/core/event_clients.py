"""Clients of Server-Sent Events on connections that are cut anywhere, judged across all of them as one."""

import json
from collections.abc import Iterable
from typing import Any

from bridge.core.events import EVENT_FORMATS, EventReader, EventSession
from bridge.core.limits import Limits
from bridge.core.update import Format
from bridge.core.vector import Vector, parse_name
from tests.core.world import World
from tests.eventsource import Event, EventSource

RETRY_MS = 1500


class EventClient:
    """A client that listens to some streams, comes back with the last id, and is told to the oracle as one.

    Attributes:
        source: what reads its events.
        events: every event that it was dispatched.
        written: what its connection was given, and has not arrived.
    """

    def __init__(
        self,
        world: World,
        streams: Iterable[str],
        name: str = "listener",
        *,
        format_: Format = Format.JSON,
        capacity: int | None = None,
        last_event_id: str = "",
    ) -> None:
        self.world = world
        self.streams = [parse_name(stream) for stream in streams]
        self.format = EVENT_FORMATS[format_]
        self.capacity = capacity  # bytes that its socket takes; None: any number
        self.source = EventSource()
        self.source.last_event_id = last_event_id
        self.events: list[Event] = []
        self.written = b""
        self.log = world.oracle.client(name, int64_string=format_ is Format.JSON_INT64_STRING, announced=True)
        self.connect()
        for (stream, key), position in self.reached.positions.items():
            self.log.subscribed(stream, key=key, **position._asdict())

    def connect(self) -> None:
        """Connect, with the last id."""
        self.written = b""
        self.source.connect()
        self.reader = EventReader(self.write, self.format)
        self.world.hub.attach(self.reader)
        self.session = EventSession(self.world.hub, self.reader, Limits())
        self.reached = Vector.parse(self.source.last_event_id) if self.source.last_event_id else Vector({})
        self.session.open(self.streams, self.reached, RETRY_MS)

    def write(self, data: bytes) -> None:
        """Take events as a transport does: always, but say when it is full."""
        assert data.endswith(b"\n\n"), "a write ends within an event"
        self.written += data
        if self.capacity is not None and len(self.written) >= self.capacity and not self.reader.blocked:
            self.world.hub.block(self.reader)

    def take(self, size: int | None = None) -> list[Event]:
        """Have what was written arrive, or so much of it; return the events that it completes."""
        arrived, self.written = self.written[:size], self.written[len(self.written[:size]) :]
        events = self.source.feed(arrived)
        for event in events:
            self.note(event)
        if self.reader.blocked and not self.written:
            self.world.hub.unblock(self.reader)
        return events

    def note(self, event: Event) -> None:
        """Tell the oracle of an event."""
        self.events.append(event)
        value = json.loads(event.data)
        if event.type == "message":
            self.log.received(event.data)
        else:
            assert value["type"] == event.type
            if event.type == "gap":
                self.log.received(event.data)
            if event.type == "subscribed":
                self.note_start(value["subscriptions"])

    def note_start(self, rows: list[dict[str, Any]]) -> None:
        """Tell the oracle of subscriptions that do not go on where they were: only those may that are said not to."""
        for row in rows:
            name = row["stream"], row.get("key")
            if name not in self.reached.positions:
                self.log.subscribed(name[0], key=name[1])
            elif row.get("reason") in ("epoch", "ahead"):
                self.log.subscribed(name[0], key=name[1], epoch=row["epoch"], seq=row["seq"])

    def cut(self, size: int = 0) -> None:
        """Lose the connection, with all but so many bytes of what was written."""
        self.take(size)
        self.world.hub.detach(self.reader)
        self.written = b""

    def leave(self) -> None:
        """Go."""
        self.world.hub.detach(self.reader)
        self.log.closed()

    # ------------------------------------------------------------------ what it got

    @property
    def values(self) -> list[Any]:
        """The data of every event."""
        return [json.loads(event.data) for event in self.events]


def outline(events: Iterable[Event]) -> list[str]:
    """Return events in short: `block_updates 3`, `block_updates 3 snapshot`, or the name of the event."""
    found: list[str] = []
    for event in events:
        value = json.loads(event.data)
        if event.type != "message":
            found.append(event.type)
        else:
            found.append(f"{value['stream']} {value['seq']}" + " snapshot" * value.get("snapshot", False))
    return found
