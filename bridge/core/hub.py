"""The hub: where sources and edges meet.

Sources put updates in; edges attach readers, or listen and read histories with cursors of their own. Live
delivery is a sweep: everything published since the last one is joined into one buffer an audience and written to
its members, in slices, so that a large audience never holds the loop. A reader whose socket is full leaves its
audience, reads on from history when the socket drains, and joins again at a sweep's beginning, when the cut (what
live readers have been served) stands at the head: so nothing is lost or repeated on the way.

No I/O and no clock: time comes in by a function, and the hub asks to be run by calling `schedule`.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple

from bridge.core.audience import Audience, Reader
from bridge.core.cursor import Cursor, Spec, gather
from bridge.core.history import History, HistoryLimits
from bridge.core.streams import Catalogue, Stream, custom_stream
from bridge.core.update import Update

READ_UPDATES = 64
"""How many updates of each stream a reader that catches up is given at once."""

BEHIND_UPDATES = 100
"""How far behind a reader must be, when its socket takes more again, to be told that it fell behind."""

CATCH_UP_READERS = 64
"""How many readers that catch up are looked at in one run."""

LONGEST_PAUSE_MS = 86_400_000
"""How long a reader of limited rate waits at most: a rate may be so low that its pause is no number."""


class State(StrEnum):
    """Whether the streams follow the node."""

    LIVE = "live"
    STALE = "stale"  # the node is reached, but what it says is not new
    DOWN = "down"  # nothing is heard of it


class Status(NamedTuple):
    """The state of what feeds the hub, and since when."""

    state: State
    since_ms: int
    detail: str


class Job(NamedTuple):
    """What a sweep has still to write: a buffer and the readers it is for."""

    audience: Audience
    buffer: bytes
    updates: int
    readers: Iterator[Reader]


class Hub:
    """Streams, their histories, and everybody who reads them.

    Attributes:
        epoch: of positions on streams without an update yet; empty while the state service has not been reached.
        histories: by stream name; an undeclared name has one while somebody subscribes to it.
        readers: everybody attached.
        status: of what feeds the hub.
        upstream_reached: whether what feeds the hub can be asked, so that positions can be decided on.
        sweeps: how many sweeps there have been.
        deliveries: how many updates have been written to readers.
        lag_ms: from publication to arrival here, of the newest update; as good as both clocks.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        clock_ms: Callable[[], int],
        schedule: Callable[[], object],
        remind: Callable[[int], object] = lambda _ms: None,
        epoch: str = "",
        limits: HistoryLimits | None = None,
        slice_writes: int = 500,
    ) -> None:
        """Make a hub with a history for each declared stream.

        Args:
            catalogue: the declared streams.
            clock_ms: returns Unix milliseconds.
            schedule: called when `run` should be called soon; not again before it was.
            remind: called when `run` should be called in that many milliseconds, for readers of limited rate.
            epoch: of the positions.
            limits: of each history.
            slice_writes: how many writes one run makes at most, so that it does not hold the loop.
        """
        self.catalogue = catalogue
        self.clock_ms = clock_ms
        self.epoch = epoch
        self.limits = limits or HistoryLimits()
        self.histories = {stream.name: History(stream.name, stream, epoch, self.limits) for stream in catalogue}
        self.readers: dict[Reader, None] = {}
        self.status = Status(State.DOWN, clock_ms(), "nothing has been heard yet")
        self.upstream_reached = True
        self.sweeps = self.deliveries = self.lag_ms = 0
        self._slice_writes = slice_writes
        self._schedule = schedule
        self._remind = remind
        self._scheduled = False
        self._ordinal = 0
        self._dirty: dict[History, None] = {}  # with updates behind the cut
        self._swept: dict[History, None] = {}  # with a cut that the last sweep moved
        self._audiences: dict[object, Audience] = {}
        self._interested: dict[tuple[str, str | None], dict[Audience, None]] = {}
        self._pending: dict[Audience, None] = {}  # with updates that no sweep has taken
        self._jobs: deque[Job] = deque()  # of the sweep in progress
        self._queue: deque[Reader] = deque()  # catching up or of limited rate, not blocked
        self._paced: dict[Reader, None] = {}  # with a subscription of limited rate
        self._reminders: dict[Reader, int] = {}  # when to look at them again, Unix milliseconds
        self._listeners: dict[Callable[[], object], None] = {}
        self._news = False  # whether there is something that the listeners have not been told of

    # ------------------------------------------------------------------ what sources call

    def find_stream(self, name: str, type_: str, *, keyed: bool) -> Stream:
        """Return the stream of that name; one that nobody knew is declared as a custom one."""
        history = self.history(name)
        if history.stream is None:
            history.stream = custom_stream(name, type_, keyed=keyed)
        return history.stream

    def admit(self, update: Update) -> None:
        """Take in an update, the next one of its stream, and see to its delivery."""
        history = self.histories[update.stream.name]
        self._ordinal += 1
        update.ordinal = self._ordinal
        history.append(update)
        now_ms = self.clock_ms()
        self.lag_ms = now_ms - update.time_ms
        history.trim(now_ms)
        self._dirty[history] = None
        interested = self._interested
        for audience in interested.get((history.name, None), ()):
            audience.pending.append(update)
            self._pending[audience] = None
        if update.key:
            for audience in interested.get((history.name, update.key), ()):
                if not audience.pending or audience.pending[-1] is not update:
                    audience.pending.append(update)
                    self._pending[audience] = None
        self._tell()

    def begin(self, name: str, epoch: str, seq: int, snapshots: Iterable[Update] = ()) -> None:
        """Go on behind another position than the last one taken in: a new epoch, or a gap within it.

        Everybody who reads the stream gets what is pending first. In a new epoch their books begin anew with the
        current value; after a gap they are told what they missed.

        Args:
            name: of the stream.
            epoch: of the position.
            seq: of the position; the next update is the one behind it.
            snapshots: values as they are at the position, of the same stream.
        """
        self.finish()
        history = self.history(name)
        renewed = history.epoch != epoch or seq < history.head
        moved = [reader for reader in self.readers if any(c.history is history for c in reader.cursors.values())]
        for reader in moved:
            self._leave(reader)
        if renewed:
            history.reset(epoch, seq)
        else:
            history.skip_to(seq)
        self._dirty[history] = None
        for update in snapshots:
            self._ordinal += 1
            update.ordinal = self._ordinal
            history.put_snapshot(update)
        for reader in moved:
            if renewed:
                self._restart(reader, history)
            self._enqueue(reader)
        self._tell()

    def _restart(self, reader: Reader, history: History) -> None:
        for cursor in reader.cursors.values():
            if cursor.history is history:
                cursor.restart(history.head)
                frames = reader.events.renewed(cursor) + reader.snapshots(cursor, self.limits.count)
                if frames:
                    reader.write(b"".join(frames))

    def set_epoch(self, epoch: str) -> None:
        """Begin an epoch: every stream that is not in it yet begins anew before its first update."""
        self.epoch = epoch
        for history in list(self.histories.values()):
            if history.epoch != epoch:
                self.begin(history.name, epoch, 0)

    def set_status(self, state: State, detail: str, since_ms: int | None = None) -> None:
        """Say whether the streams follow the node; a state that is the same keeps the time since when it is."""
        if state is not self.status.state or since_ms is not None:
            self.status = Status(state, self.clock_ms() if since_ms is None else since_ms, detail)
            self._tell()
        elif detail != self.status.detail:
            self.status = self.status._replace(detail=detail)

    # ------------------------------------------------------------------ what edges call

    def history(self, name: str) -> History:
        """Return the history of a stream; a name that nothing has declared gets an empty one."""
        history = self.histories.get(name)
        if history is None:
            history = self.histories[name] = History(name, None, self.epoch, self.limits)
        return history

    def listen(self, listener: Callable[[], object]) -> None:
        """Have `listener` called whenever there is something new, once for all that a loop turn brings."""
        self._listeners[listener] = None

    def unlisten(self, listener: Callable[[], object]) -> None:
        """Have it called no more."""
        self._listeners.pop(listener, None)

    @property
    def catching_up(self) -> int:
        """How many readers are not live."""
        return sum(reader.audience is None and bool(reader.cursors) for reader in self.readers)

    def attach(self, reader: Reader) -> None:
        """Take in a reader; it has no subscription yet."""
        self.readers[reader] = None

    def detach(self, reader: Reader) -> None:
        """Let a reader go, wherever it stands."""
        self.readers.pop(reader, None)
        if reader.audience is not None:
            self._forget(reader.audience, reader)
        for cursor in reader.cursors.values():
            self._release(cursor)
        reader.cursors.clear()
        self._note_pace(reader)

    def subscribe(self, reader: Reader, spec: Spec) -> Cursor:
        """Add a subscription that begins at the head, or change the one to that stream and key in place.

        Returns:
            Its cursor, which the caller may move before the next run of the hub.
        """
        self._leave(reader)
        key = (spec.stream, spec.key)
        cursor = reader.cursors.get(key)
        if cursor is None:
            history = self.history(spec.stream)
            history.cursors += 1
            cursor = reader.cursors[key] = Cursor(spec, history, history.head)
        else:
            cursor.spec = spec
        self._note_pace(reader)
        self._enqueue(reader)
        return cursor

    def unsubscribe(self, reader: Reader, stream: str, key: str | None) -> bool:
        """End a subscription; return whether there was one."""
        cursor = reader.cursors.get((stream, key))
        if cursor is None:
            return False
        self._leave(reader)
        del reader.cursors[stream, key]
        self._release(cursor)
        self._note_pace(reader)
        self._enqueue(reader)
        return True

    def _note_pace(self, reader: Reader) -> None:
        if any(cursor.paced for cursor in reader.cursors.values()):
            self._paced[reader] = None
        else:
            self._paced.pop(reader, None)
            self._reminders.pop(reader, None)

    def settle(self, reader: Reader) -> None:
        """Bring the books of a reader up to date, without moving it."""
        if reader.audience is not None:
            self._leave(reader)
            self._enqueue(reader)

    def block(self, reader: Reader) -> None:
        """Note that a reader's socket takes no more: it leaves its audience and waits."""
        reader.blocked = True
        reader.fell = reader.fell or reader.audience is not None
        self._leave(reader)

    def unblock(self, reader: Reader) -> None:
        """Note that a reader's socket takes more again: it reads on from history."""
        reader.blocked = False
        self._enqueue(reader)

    # ------------------------------------------------------------------ delivery

    def wake(self) -> None:
        """Ask to be run."""
        if not self._scheduled:
            self._scheduled = True
            self._schedule()

    def _tell(self) -> None:
        self._news = True
        self.wake()

    def run(self) -> None:
        """Do one slice of what is to be done, and ask to be run again if there is more."""
        self._scheduled = False
        self._enqueue_paced()
        if not self._jobs and self._dirty:
            self._begin_sweep()
        if self._news:
            self._news = False
            for listener in list(self._listeners):
                listener()
        self._write_slice(self._slice_writes)
        self._catch_up(CATCH_UP_READERS)
        if self._jobs or self._dirty or self._queue:
            self.wake()

    def finish(self) -> None:
        """Write everything that is pending to everybody who is live, at once."""
        while self._jobs or self._dirty:
            if not self._jobs:
                self._begin_sweep()
            self._write_slice(len(self.readers) + 1)

    def _begin_sweep(self) -> None:
        self.sweeps += 1
        for history in self._swept:
            history.cut_before = history.cut
        self._swept, self._dirty = self._dirty, {}
        for history in self._swept:
            history.cut_before, history.cut = history.cut, history.head
        for reader in self._paced:
            if any(cursor.paced and cursor.history in self._swept for cursor in reader.cursors.values()):
                self._enqueue(reader)
        pending, self._pending = self._pending, {}
        for audience in pending:
            buffer, updates = audience.take()
            if buffer:
                self._jobs.append(Job(audience, buffer, updates, iter(list(audience.members))))

    def _write_slice(self, writes: int) -> None:
        while self._jobs and writes > 0:
            audience, buffer, updates, readers = self._jobs[0]
            for reader in readers:
                if reader.audience is audience and reader.served != self.sweeps:
                    reader.served = self.sweeps
                    reader.write(buffer)
                    self.deliveries += updates
                    writes -= 1
                    if writes == 0:
                        return
            self._jobs.popleft()

    def _catch_up(self, readers: int) -> None:
        for _ in range(min(readers, len(self._queue))):
            reader = self._queue.popleft()
            reader.queued = False
            if reader in self.readers and not reader.blocked:
                self._read_on(reader)

    def _read_on(self, reader: Reader) -> None:
        """Give a reader what comes next that no sweep brings it, and make it live when that is everything."""
        plain = [] if reader.audience is not None else [c for c in reader.cursors.values() if not c.paced]
        reading = plain + self._take_due(reader)
        frames = self._tell_behind(reader, plain)
        for cursor in reading:
            if missed := cursor.pass_gap():
                frames += reader.stand_in(cursor, missed)
        read = gather(reading, READ_UPDATES)
        frames += [cursor.history.frame(update, reader.form(cursor.spec)) for update, cursor in read]
        if frames:
            reader.write(b"".join(frames))
            self.deliveries += len(read)
        self._plan_reminder(reader)
        if reader.blocked or reader.audience is not None or not reader.cursors:
            return
        if all(cursor.at == cursor.history.cut == cursor.history.head for cursor in plain):
            self._tell_live(reader)
            if not reader.blocked:
                self._join(reader)
        else:
            self._enqueue(reader)

    def _take_due(self, reader: Reader) -> list[Cursor]:
        """Return the cursors of limited rate that may read now, and note when they may again."""
        now_ms = self.clock_ms()
        due: list[Cursor] = []
        for cursor in reader.cursors.values():
            if cursor.spec.max_rate_hz and not cursor.at_head and cursor.due_ms <= now_ms:
                cursor.due_ms = now_ms + round(min(1000 / cursor.spec.max_rate_hz, LONGEST_PAUSE_MS))
                due.append(cursor)
        return due

    def _plan_reminder(self, reader: Reader) -> None:
        """Ask, once, to be run when the next cursor of limited rate that has something to read may do so."""
        waiting = [cursor.due_ms for cursor in reader.cursors.values() if cursor.paced and not cursor.at_head]
        if waiting and self._reminders.get(reader) != min(waiting):
            self._reminders[reader] = min(waiting)
            self._remind(max(0, min(waiting) - self.clock_ms()) + 1)  # the clock's fraction of a millisecond is cut off

    def _enqueue_paced(self) -> None:
        """See to the readers of limited rate: those with news, and those whose time has come."""
        now_ms = self.clock_ms()
        for reader in [reader for reader, due_ms in self._reminders.items() if due_ms <= now_ms]:
            del self._reminders[reader]
            self._enqueue(reader)

    @staticmethod
    def _tell_behind(reader: Reader, cursors: list[Cursor]) -> list[bytes]:
        """Tell a reader that was live, once, that it is far behind."""
        if not reader.fell or reader.behind is not None or not cursors:
            return []
        furthest = max(cursors, key=lambda cursor: cursor.history.head - cursor.at)
        if furthest.history.head - furthest.at < BEHIND_UPDATES:
            return []
        reader.behind = furthest
        return reader.events.fell_behind(furthest)

    @staticmethod
    def _tell_live(reader: Reader) -> None:
        """Tell a reader that was told that it fell behind that it is live again."""
        behind, reader.behind, reader.fell = reader.behind, None, False
        if behind is not None and (frames := reader.events.caught_up(behind)):
            reader.write(b"".join(frames))

    def _enqueue(self, reader: Reader) -> None:
        if not reader.queued and not reader.blocked:
            reader.queued = True
            self._queue.append(reader)
            self.wake()

    # ------------------------------------------------------------------ audiences

    def _join(self, reader: Reader) -> None:
        identity = (reader.format, reader.specs)
        audience = self._audiences.get(identity)
        if audience is None:
            audience = self._audiences[identity] = Audience(reader)
            for key in audience.tallies:
                self._interested.setdefault(key, {})[audience] = None
        audience.join(reader, self.sweeps)

    def _leave(self, reader: Reader) -> None:
        """Take a reader out of its audience, served by the sweep in progress, its books closed."""
        audience = reader.audience
        if audience is None:
            return
        if reader.served != self.sweeps:
            reader.served = self.sweeps
            for job in self._jobs:
                if job.audience is audience:
                    reader.write(job.buffer)
                    self.deliveries += job.updates
        if reader.audience is audience:  # the write may have blocked it, which took it out
            audience.leave(reader)
            self._drop_if_empty(audience)

    def _forget(self, audience: Audience, reader: Reader) -> None:
        del audience.members[reader]
        reader.audience = None
        self._drop_if_empty(audience)

    def _drop_if_empty(self, audience: Audience) -> None:
        if audience.members:
            return
        del self._audiences[audience.identity]
        self._pending.pop(audience, None)
        for key in audience.tallies:
            interested = self._interested[key]
            del interested[audience]
            if not interested:
                del self._interested[key]

    def _release(self, cursor: Cursor) -> None:
        history = cursor.history
        history.cursors -= 1
        if history.stream is None and not history.cursors:
            self.histories.pop(history.name, None)
