"""Server-Sent Events: the client that only listens (HTML Living Standard, section 9.2).

An update is an event without a name, with the same JSON as on a WebSocket; what else v1 clients are told is an event
with a name. The id of an event is a vector: the positions behind which the client goes on when it has had the event.
What leaves something undone, a snapshot that is not the last one, has no id, and the client keeps the one before. An
id never stands alone, since a browser may ignore an event without data.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from bridge.core.audience import Audience, Reader, SubscriptionKey
from bridge.core.cursor import Cursor, Gap, gather
from bridge.core.hub import Hub, State
from bridge.core.jsonform import result_object
from bridge.core.limits import Limits
from bridge.core.methods import Methods
from bridge.core.notices import Notices
from bridge.core.position import Position
from bridge.core.update import Format, Update, encode_json
from bridge.core.vector import Vector

EVENT_FORMATS: Final = {Format.JSON: Format.EVENT, Format.JSON_INT64_STRING: Format.EVENT_INT64_STRING}
"""The format of events by that of text frames with the same JSON."""

COMMENT: Final = b":\n\n"
"""An event that is none: it shows life."""

ID: Final = b"id: "


def event(name: str, members: Mapping[str, object]) -> bytes:
    """Return an event with a name; `type` in its data repeats it."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), encode_json({"type": name, **members}))


def with_id(vector: Vector, event: bytes) -> bytes:
    """Return an event that brings a client to a vector; without positions it has no id."""
    return b"%b%b\n%b" % (ID, text.encode(), event) if (text := str(vector)) else event


def with_retry(retry_after_ms: int, event: bytes) -> bytes:
    """Return an event that also says how long after a connection has ended a client comes back."""
    return b"retry: %d\n%b" % (retry_after_ms, event)


class EventAudience(Audience):
    """Readers at the head that want the same events; they stand at the same vector."""

    __slots__ = ()

    def buffer(self, found: list[tuple[Update, bytes]]) -> bytes:
        """Return the events of a sweep, each with its id, as one buffer."""
        histories = ((key, tally.history) for key, tally in self.tallies.items())
        vector = Vector({key: Position(history.epoch, history.cut_before) for key, history in histories})
        parts: list[bytes] = []
        for update, frame in found:
            vector.move(update)
            parts.append(with_id(vector, frame))
        return b"".join(parts)


class EventReader(Reader):
    """A client that is sent events; its subscriptions have no options."""

    __slots__ = ()

    def make_audience(self) -> Audience:
        """Return an audience for readers that want what it wants."""
        return EventAudience(self)

    def _vector(self) -> Vector:
        """Return where it stands; not while it is live, when its audience knows."""
        return Vector({key: Position(cursor.epoch, cursor.at) for key, cursor in self.cursors.items()})

    def stand_in(self, cursor: Cursor, gap: Gap) -> list[bytes]:
        """Return the events that stand in for missed updates; the last one has an id."""
        *before, last = super().stand_in(cursor, gap)
        return [*before, with_id(self._vector(), last)]

    def send(self, frames: list[bytes]) -> None:
        """Write events, at least one, that bring it to where its cursors stand: the last one has an id."""
        *before, last = frames
        self.write(b"".join((*before, last if last.startswith(ID) else with_id(self._vector(), last))))

    def read(self, cursors: Iterable[Cursor], limit: int, size_bytes: int) -> list[bytes]:
        """Read on from some of its cursors; return the events of the updates, each with its id."""
        vector = self._vector()
        frames: list[bytes] = []
        for update, cursor in gather(cursors, limit, size_bytes):
            vector.move(update)
            frames.append(with_id(vector, cursor.history.frame(update, self.form(cursor.spec))))
        return frames


class EventSession(Notices):
    """What one client is told."""

    __slots__ = ("_hub", "_limits", "_reader")

    def __init__(self, hub: Hub, reader: EventReader, limits: Limits) -> None:
        self._hub = hub
        self._reader = reader
        self._limits = limits
        reader.events = self

    def event(self, kind: str, members: Mapping[str, object]) -> bytes:
        """Return an event with a name."""
        return event(kind, members)

    def open(self, subscriptions: Sequence[SubscriptionKey], reached: Vector, retry_after_ms: int) -> None:
        """Subscribe, and write what comes first: where each subscription begins, then snapshots.

        Args:
            subscriptions: streams, and keys in them.
            reached: positions of some of them, behind which they go on.
            retry_after_ms: when the client should come back if the connection is lost.

        Raises:
            RequestError: a subscription cannot be had, or a position not be decided on; nothing has been done.
            Needed: pages are needed to tell; nothing has been done.
        """
        methods = Methods(self._hub, self._reader, self._limits)
        methods.late = False
        answer = methods.call(
            "state_stream.subscribe", [entry(subscription, reached) for subscription in subscriptions]
        )
        first = self.event("subscribed", result_object(answer.result, Format.JSON))
        frames = [with_retry(retry_after_ms, first)]
        if self._hub.status.state is not State.LIVE:
            frames.append(self.upstream(self._hub.status))
        self._reader.send([*frames, *answer.frames])


def entry(subscription: SubscriptionKey, reached: Vector) -> dict[str, object]:
    """Return a subscription as an entry of the params of state_stream.subscribe."""
    stream, key = subscription
    position = reached.positions.get(subscription)
    return {
        "stream": stream,
        **({} if key is None else {"key": key}),
        **({} if position is None else {"since": position._asdict()}),
    }
