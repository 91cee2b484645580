"""Readers, and the audiences they form while they are live.

A reader is one client: its cursors and the function that writes to its socket. While its cursors are at the
head it is a member of an audience: the readers that want the same updates in the same form, so that what is
pending is joined into one buffer for all of them.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, Protocol

from bridge.core.cursor import Cursor, Gap, Spec, gather, skips
from bridge.core.deep import STAND_INS
from bridge.core.deflate import Deflate
from bridge.core.history import History
from bridge.core.streams import Delivery
from bridge.core.update import Form, Format, Missed, Update, form_of

Write = Callable[[bytes], object]
SubscriptionKey = tuple[str, str | None]


def write_each(data: bytes, writes: list[Write]) -> None:
    """Write the same to many readers."""
    for write in writes:
        write(data)


class Way(NamedTuple):
    """How what is live is written to many readers at once.

    Attributes:
        write_all: takes whole frames, and the addresses of readers; never blocks, never raises.
        address: of the reader, to that function.
    """

    write_all: Callable[[bytes, list[Any]], None]
    address: object


class Events(Protocol):
    """What a reader is told besides updates; each returns the frames to send."""

    def gap(self, cursor: Cursor, missed: Missed) -> list[bytes]:
        """It will not get updates; the values that stand in follow."""

    def renewed(self, cursor: Cursor) -> list[bytes]:
        """A stream began anew in another epoch; its current value follows."""

    def fell_behind(self, cursor: Cursor) -> list[bytes]:
        """It does not read fast enough to stay live; `cursor` is furthest behind."""

    def caught_up(self, cursor: Cursor) -> list[bytes]:
        """It is live again."""


class Silent:
    """Tells nothing: the classic dialect has no frames for it."""

    def gap(self, cursor: Cursor, missed: Missed) -> list[bytes]:
        """Tell nothing."""
        return []

    def renewed(self, cursor: Cursor) -> list[bytes]:
        """Tell nothing."""
        return []

    fell_behind = caught_up = renewed


SILENT: Final = Silent()


class Reader:
    """One client of the hub.

    Attributes:
        write: takes whole frames; never blocks, never raises.
        format: of its frames.
        deflate: how its updates are deflated; None: they are not.
        cursors: its subscriptions by stream and key.
        way: how it is written to while it is live, together with others.
        audience: that it is a member of; None while it is catching up.
        blocked: whether its socket takes no more for now.
        queued: whether the hub will look at it in its next run.
        behind: told that it fell behind, and not yet that it caught up: the cursor that was furthest behind.
        fell: whether its socket was full since it was last live.
        events: told what happens to it besides updates.
    """

    __slots__ = (
        "audience", "behind", "blocked", "cursors", "deflate", "events", "fell", "format", "queued", "way", "write"
    )  # fmt: skip

    def __init__(self, write: Write, format_: Format, deflate: Deflate | None = None, way: Way | None = None) -> None:
        self.write = write
        self.way = way or Way(write_each, write)
        self.format = format_
        self.deflate = deflate
        self.cursors: dict[SubscriptionKey, Cursor] = {}
        self.audience: Audience | None = None
        self.blocked = False
        self.queued = False
        self.behind: Cursor | None = None
        self.fell = False
        self.events: Events = SILENT

    @property
    def specs(self) -> frozenset[Spec]:
        """What it wants as it comes."""
        return frozenset(cursor.spec for cursor in self.cursors.values() if not cursor.paced)

    @property
    def identity(self) -> tuple[object, ...]:
        """The identity of the audience that it belongs in: what all of them want, and how."""
        return self.format, self.deflate, self.way.write_all, self.specs

    def form(self, spec: Spec) -> Form:
        """The form in which it gets the updates of a subscription."""
        return form_of(self.format, spec.fields, self.deflate)

    def make_audience(self) -> "Audience":
        """Return an audience for readers that want what it wants."""
        return Audience(self)

    def send(self, frames: list[bytes]) -> None:
        """Write frames, at least one, that bring it to where its cursors stand."""
        self.write(b"".join(frames))

    def read(self, cursors: Iterable[Cursor], limit: int, size_bytes: int) -> list[bytes]:
        """Read on from some of its cursors; return the frames of the updates.

        Args:
            cursors: none of them with a gap before it.
            limit: how many updates to read at most.
            size_bytes: how large they may be together, serialized, unless a single one is larger.
        """
        read = gather(cursors, limit, size_bytes)
        return [cursor.history.frame(update, self.form(cursor.spec)) for update, cursor in read]

    def delivered(self, cursor: Cursor) -> int:
        """How many updates it was given through one of its cursors since the books began."""
        if self.audience is None or cursor.paced:
            return cursor.delivered
        return cursor.delivered + self.audience.tallies[cursor.spec.stream, cursor.spec.key].delivered

    def snapshots(self, cursor: Cursor, limit: int) -> list[bytes]:
        """Return the frames of the current values at a cursor: one, or one a key where it has every key."""
        form = self.form(cursor.spec)._replace(snapshot=True)
        history = cursor.history
        if cursor.spec.key is not None or history.stream is None or not history.stream.keyed:
            value = history.value_at(cursor.spec.key or "", cursor.at)
            values = [value] if value is not None else []
        else:
            values = [update for update in history.current(limit) if update.seq <= cursor.at]
        return [history.frame(update, form) for update in values if cursor.spec.matches(update)]

    def stand_in(self, cursor: Cursor, gap: Gap) -> list[bytes]:
        """Return the frames that stand in for missed updates: values as they were just before what can still be had."""
        form, values = self.form(cursor.spec), gap.values[-STAND_INS:]
        frames = self.events.gap(cursor, gap.missed)
        wanted = [update for update in values[:-1] if cursor.spec.matches(update)]
        frames += [cursor.history.frame(update, form._replace(snapshot=True)) for update in wanted]
        frames += [update.standing_in(form, gap.missed) for update in values[-1:]]
        return frames


class Tally:
    """What an audience was given for one spec since it was formed: its members' books are differences of it."""

    __slots__ = ("delivered", "history", "seen", "skipped", "spec")

    def __init__(self, spec: Spec, history: History) -> None:
        self.spec = spec
        self.history = history
        self.delivered = 0
        self.skipped = 0
        self.seen: set[str] = set()


class Audience:
    """Readers at the head that want the same.

    Attributes:
        identity: what its members have in common.
        members: in the order of joining, each with its address.
        write_all: writes to members.
        pending: updates of this loop turn that at least one spec may want.
    """

    __slots__ = ("by_stream", "deflate", "format", "identity", "members", "pending", "tallies", "write_all")

    def __init__(self, reader: Reader) -> None:
        self.format = reader.format
        self.deflate = reader.deflate
        self.identity = reader.identity
        self.members: dict[Reader, object] = {}
        self.write_all = reader.way.write_all
        self.pending: list[Update] = []
        cursors = {key: cursor for key, cursor in reader.cursors.items() if not cursor.paced}
        self.tallies = {key: Tally(cursor.spec, cursor.history) for key, cursor in cursors.items()}
        self.by_stream: dict[str, list[Tally]] = {}
        for tally in self.tallies.values():
            self.by_stream.setdefault(tally.spec.stream, []).append(tally)

    def join(self, reader: Reader) -> None:
        """Make a reader at the cut a member."""
        self.members[reader] = reader.way.address
        reader.audience = self
        for key, tally in self.tallies.items():
            cursor = reader.cursors[key]
            cursor.delivered -= tally.delivered
            cursor.skipped -= tally.skipped

    def leave(self, reader: Reader) -> None:
        """Let a member go that every sweep has served; its cursors stand at the cut, their books are closed."""
        del self.members[reader]
        reader.audience = None
        self.close_books(reader)

    def close_books(self, reader: Reader) -> None:
        """Write what the audience was given into a member's cursors."""
        for key, tally in self.tallies.items():
            cursor = reader.cursors[key]
            cursor.at = tally.history.cut
            cursor.delivered += tally.delivered
            cursor.skipped += tally.skipped

    def take(self) -> tuple[bytes, int]:
        """Return what is pending as one buffer and how many updates that is, and count it."""
        pending, self.pending = self.pending, []
        before = {key: tally.delivered for key, tally in self.tallies.items()}
        found = [(update, frame) for update in reversed(pending) if (frame := self._frame(update))]
        for key, tally in self.tallies.items():
            tally.seen.clear()
            if skips(tally.spec, tally.history):
                span = tally.history.cut - tally.history.cut_before
                tally.skipped += span - (tally.delivered - before[key])
        found.reverse()
        return self.buffer(found), len(found)

    def buffer(self, found: list[tuple[Update, bytes]]) -> bytes:
        """Return the frames of a sweep, with their updates, as one buffer."""
        return b"".join(frame for _, frame in found)

    def _frame(self, update: Update) -> bytes | None:
        """Return the frame of an update if any spec wants it; called with the newest first."""
        frame = None
        for tally in self.by_stream[update.stream.name]:
            if not tally.spec.matches(update):
                continue
            if update.stream.delivery is Delivery.LATEST:
                if update.key in tally.seen:
                    continue
                tally.seen.add(update.key)
            tally.delivered += 1
            if frame is None:
                frame = tally.history.frame(update, form_of(self.format, tally.spec.fields, self.deflate))
        return frame
