"""Subscription: one client of Subscribe, what it has been sent and what comes next.

Nothing is copied for a client: it is a set of cursors, and the parts of the round that it is in. A part is a field of
SubscribeResponse; parts in the order of their numbers make up a response. No I/O and no clock.
"""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from bridge.core.binary import stream_info
from bridge.core.cursor import Cursor, Spec, gather
from bridge.core.deep import Needed, Place, Waiter
from bridge.core.history import Gone, History, by_seq
from bridge.core.hub import Hub, Status
from bridge.core.position import Position
from bridge.core.streams import Delivery
from bridge.core.update import Form, Format, Missed, Update, field
from bridge.edges.grpc.messages import (
    RESPONSE_BYTES,
    check_name,
    invalid,
    message_field,
    source_status,
)
from generated.theblock.state.v1 import service_pb2, stream_pb2

STREAM_LIMIT = 2000
"""How many streams one subscription may name."""

READ_UPDATES = 256
"""How many updates there are in one round at most."""

STARTED, GAPS, SNAPSHOTS, PROGRESS, SOURCE = 1, 2, 3, 5, 6
"""Numbers of the fields of SubscribeResponse."""

RESPONSE = Form(Format.RESPONSE)
"""An update as field 4 of SubscribeResponse, encoded once for all clients."""

Part = bytes | Update
"""A field, which begins with its number; an Update is a snapshot, encoded when its turn comes."""


class Start(NamedTuple):
    """Where a stream of a subscription begins."""

    at: int  # seq after which updates follow
    replay_to: int = 0  # seq up to which each is sent, on `latest` streams too
    resumed: bool = False  # behind the position that the client has
    reason: "stream_pb2.Reason.ValueType" = stream_pb2.REASON_UNSPECIFIED


class Subscription:
    """One client of Subscribe."""

    def __init__(self, hub: Hub, request: service_pb2.SubscribeRequest, wake: Waiter) -> None:
        """Take a request.

        Args:
            hub: whose streams are served.
            request: what is asked for.
            wake: called when a page has come that `next_response` could not do without.

        Raises:
            Refusal: it is not as it must be.
        """
        check_request(request)
        self._hub = hub
        self._wake = wake
        self._waiting = {start.stream: start for start in request.streams}  # named streams that have not begun
        self._all = request.all
        self._all_start = service_pb2.StreamStart(last=request.all_last)
        self._early: set[str] | None = None  # streams that were declared when the subscription began
        self._undecided: set[str] = set()  # streams with a position that upstream may know more of
        self._cursors: dict[str, Cursor] = {}
        self._parts: deque[Part] = deque()
        self._status: Status | None = None  # as it was sent

    def next_response(self) -> bytes:
        """Return what comes next, a serialized SubscribeResponse; empty when the client has everything."""
        if not self._parts:
            self._parts.extend(sorted(self._read_on(), key=number_of))
        return self._take_parts()

    @property
    def undecided(self) -> bool:
        """Whether a stream has not begun since its position is not known here, though upstream can be asked."""
        return bool(self._undecided) and self._hub.upstream_reached

    def progress(self) -> bytes:
        """Return the response that tells how far every stream has come."""
        return b"".join(self._progress())

    def _take_parts(self) -> bytes:
        taken: list[bytes] = []
        size = number = 0
        while self._parts and number_of(self._parts[0]) >= number:
            part = self._parts[0]
            encoded = field(SNAPSHOTS, part.raw) if isinstance(part, Update) else part
            if taken and size + len(encoded) >= RESPONSE_BYTES:
                break
            number = number_of(self._parts.popleft())
            size += len(encoded)
            taken.append(encoded)
        return b"".join(taken)

    def _read_on(self) -> list[Part]:
        """Return the parts of the next round: what has begun, what is missing, what is new."""
        first, changed = self._status is None, self._status != self._hub.status
        self._status = self._hub.status
        parts: list[Part] = [message_field(SOURCE, source_status(self._status))] if changed else []
        if first:
            return parts
        for cursor in self._cursors.values():
            parts += self._follow_history(cursor)
            if (place := cursor.needs) is not None:
                self._hub.pages.want(place, self._wake)
        began = self._begin_streams()
        updates = [cursor.history.frame(update, RESPONSE) for update, cursor in self._gather()]
        if began and not updates:
            parts += self._progress()  # so the client knows that it has the beginning, all of it
        return [*parts, *began, *updates]

    def _gather(self) -> list[tuple[Update, Cursor]]:
        return gather(self._cursors.values(), READ_UPDATES, RESPONSE_BYTES)

    def _progress(self) -> list[bytes]:
        return [
            message_field(PROGRESS, service_pb2.StreamPosition(stream=name, epoch=cursor.epoch, seq=cursor.at))
            for name, cursor in self._cursors.items()
        ]

    def _follow_history(self, cursor: Cursor) -> list[Part]:
        """Bring a cursor to where it can read on: over a gap, or into a history that began anew."""
        history = cursor.history
        if cursor.epoch != history.epoch:
            return self._start(cursor, Start(history.oldest - 1, reason=stream_pb2.REASON_EPOCH))
        if cursor.at > history.head:
            return self._start(cursor, Start(history.oldest - 1, reason=stream_pb2.REASON_AHEAD))
        gap = cursor.pass_gap()
        return [gap_part(cursor, gap.missed), *gap.values] if gap else []

    def _begin_streams(self) -> list[Part]:
        """Begin the streams that can begin: those that are declared, once the epoch is known."""
        parts: list[Part] = []
        if not self._hub.epoch:
            return parts
        declared = {name: history for name, history in self._hub.histories.items() if history.stream is not None}
        if self._early is None:
            self._early = set(declared)
        for name in [name for name in self._waiting if name in declared]:
            began = self._begin(declared[name], self._waiting[name])
            if began:
                del self._waiting[name]
            parts += began
        if self._all and len(self._cursors) < len(declared):
            for name in [name for name in declared if name not in self._cursors and name not in self._waiting]:
                parts += self._begin(declared[name], self._all_start)
        return parts

    def _begin(self, history: History, asked: service_pb2.StreamStart) -> list[Part]:
        """Begin a stream; return no parts if that cannot be done yet."""
        late = self._early is not None and history.name not in self._early
        start = where_to_start(history, asked)
        if late and not asked.HasField("since"):  # a client that was there before the stream gets all of it
            start = Start(0 if history.reach == history.oldest else history.oldest - 1)
        if start.reason and not self._hub.upstream_reached:
            return []  # an outage voids no position
        cursor = Cursor(Spec(history.name), history, 0)
        self._undecided.discard(history.name)
        try:
            if start.reason:
                self._hub.pages.check_void(history.name, Position(asked.since.epoch, asked.since.seq))
            parts = self._start(cursor, start)
        except Needed as needed:
            for place in needed.places:
                self._hub.pages.want(place, self._wake)
                if place.ahead:
                    self._undecided.add(history.name)
            return []
        self._cursors[history.name] = cursor
        return parts

    def _start(self, cursor: Cursor, start: Start) -> list[Part]:
        """Begin a stream.

        Raises:
            Needed: a page is needed to tell where it begins, and with which values.
        """
        history = cursor.history
        cursor.restart(start.at, replay_to=start.replay_to)
        if start.resumed:
            cursor.confirm()
        place = cursor.needs
        if place is not None and start.at + 1 < history.reach:
            raise Needed(place)
        gap = cursor.pass_gap()
        started = service_pb2.StreamStarted(
            info=stream_info(history),
            seq=cursor.at,
            recovered=start.resumed and not gap,
            replayed=cursor.replayed() or 0,
            reason=stream_pb2.REASON_TRIMMED if gap else start.reason,
        )
        parts: list[Part] = [message_field(STARTED, started)]
        if gap:
            return [*parts, gap_part(cursor, gap.missed), *gap.values]
        return [*parts, *(newer_values if start.resumed else values_at)(history, cursor.at)]


def check_request(request: service_pb2.SubscribeRequest) -> None:
    """Check a request.

    Raises:
        Refusal: a name is ill-formed or stands twice, there are too many, or nothing is asked for.
    """
    if len(request.streams) > STREAM_LIMIT:
        raise invalid(f"the subscription names {len(request.streams)} streams; at most {STREAM_LIMIT} are allowed")
    if not request.streams and not request.all:
        raise invalid("the subscription names no stream; name some, or set all")
    names: set[str] = set()
    for start in request.streams:
        check_name(start.stream)
        if start.stream in names:
            raise invalid(f"the subscription names stream {start.stream!r} twice")
        names.add(start.stream)


def where_to_start(history: History, asked: service_pb2.StreamStart) -> Start:
    """Return where a stream begins for a client that asks for this."""
    if asked.HasField("last"):
        return Start(max(history.head - asked.last, history.reach - 1), replay_to=history.head)
    if not asked.HasField("since"):
        return Start(history.head)
    if asked.since.epoch != history.epoch:
        return Start(history.head, reason=stream_pb2.REASON_EPOCH)
    if asked.since.seq > history.head:
        return Start(history.head, reason=stream_pb2.REASON_AHEAD)
    return Start(asked.since.seq, resumed=True)


def values_at(history: History, seq: int) -> Iterable[Update]:
    """Return the values as they were at `seq`, in order; behind memory only of keys that have not changed since.

    Raises:
        Needed: a page is needed to tell.
    """
    if history.stream is not None and history.stream.keyed:
        known = (one if one.seq <= seq else history.value_at(key, seq) for key, one in history.latest.items())
        return sorted((value for value in known if value is not None), key=by_seq)
    if seq + 1 >= history.oldest:
        value = history.value_at("", seq)
        return [value] if value is not None else []
    if seq + 1 <= history.reach:
        gone = history.gone()
        if isinstance(gone, Place):
            raise Needed(gone)
        return gone.values[-1:] if isinstance(gone, Gone) else []
    place, page = history.pages.find(history, seq - 1)
    if page is None:
        raise Needed(place)
    return [update for update in page.updates if update.seq <= seq][-1:]


def newer_values(history: History, seq: int) -> Iterable[Update]:
    """Return the current values of a `latest` stream behind `seq` that are no longer, or never were, in its history."""
    if history.stream is None or history.stream.delivery is not Delivery.LATEST:
        return []
    return [update for update in history.latest.values() if seq < update.seq < history.oldest]


def gap_part(cursor: Cursor, missed: Missed) -> bytes:
    """Return the part that names missed updates."""
    gap = service_pb2.Gap(
        stream=cursor.spec.stream, epoch=cursor.epoch, to=missed.last, reason=stream_pb2.REASON_TRIMMED
    )
    setattr(gap, "from", missed.first)  # a keyword of Python
    return message_field(GAPS, gap)


def number_of(part: Part) -> int:
    """Return the number of the field that a part is."""
    return SNAPSHOTS if isinstance(part, Update) else part[0] >> 3
