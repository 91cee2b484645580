"""The hub: where sources and edges meet.

Sources put updates in; edges attach readers, or listen and read histories with cursors of their own. Live
delivery is a sweep: everything published since the last one is joined into one buffer an audience and written to
its members, in slices, so that a large audience never holds the loop. A reader whose socket is full leaves its
audience, reads on from history when the socket drains, and joins again at a sweep's beginning, when the cut (what
live readers have been served) stands at the head: so nothing is lost or repeated on the way.

No I/O and no clock: time comes in by a function, and the hub asks to be run by calling `schedule`.
"""

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import NamedTuple

from bridge.core.audience import Reader
from bridge.core.catchup import CatchUp
from bridge.core.cursor import Cursor, Spec
from bridge.core.deep import Pages, Place, Waiter
from bridge.core.history import History, HistoryLimits
from bridge.core.streams import Catalogue, Stream, custom_stream
from bridge.core.sweeps import Sweeps
from bridge.core.update import Update


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


class Hub:
    """Streams, their histories, and everybody who reads them.

    Attributes:
        epoch: of positions on streams without an update yet; empty while the state service has not been reached.
        histories: by stream name; an undeclared name has one while somebody subscribes to it.
        pages: what lies behind memory; with its `load` unset, nothing does.
        readers: everybody attached.
        status: of what feeds the hub.
        lag_ms: from publication to arrival here, of the newest update; as good as both clocks.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        clock_ms: Callable[[], int],
        monotonic_ms: Callable[[], int] | None = None,
        schedule: Callable[[], object],
        remind: Callable[[int], object] = lambda _ms: None,
        epoch: str = "",
        limits: HistoryLimits | None = None,
        slice_writes: int = 300,
        page_bytes: int = 64 << 20,
    ) -> None:
        """Make a hub with a history for each declared stream.

        Args:
            catalogue: the declared streams.
            clock_ms: returns Unix milliseconds.
            monotonic_ms: returns milliseconds that only ever go on, for all waiting: the time of a machine may be set
                meanwhile. None: `clock_ms` does.
            schedule: called when `run` should be called soon; not again before it was.
            remind: called when `run` should be called in that many milliseconds, for readers of limited rate.
            epoch: of the positions.
            limits: of each history.
            slice_writes: how many writes one run makes at most, so that it does not hold the loop.
            page_bytes: memory for pages, of all streams together.
        """
        self.catalogue = catalogue
        self.clock_ms = clock_ms
        self.monotonic_ms = monotonic_ms or clock_ms
        self.epoch = epoch
        self.limits = limits or HistoryLimits()
        self.pages = Pages(self.monotonic_ms, page_bytes)
        self.histories = {stream.name: self.new_history(stream.name, stream) for stream in catalogue}
        self.readers: dict[Reader, None] = {}
        self.status = Status(State.DOWN, clock_ms(), "nothing has been heard yet")
        self._upstream_reached = True
        self.lag_ms = 0
        self._slice_writes = slice_writes
        self._schedule = schedule
        self._scheduled = False
        self._ordinal = 0
        self._sweeps = Sweeps()
        self._catch_up = CatchUp(
            self.readers, self._sweeps, self.pages, clock_ms=self.monotonic_ms, wake=self.wake, remind=remind
        )
        self._listeners: dict[Callable[[], object], None] = {}
        self._awake: list[Waiter] = []  # who waited for pages that will not come, and looks again
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
        self._sweeps.add(history, update)
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
            self._sweeps.leave(reader)
        if renewed:
            history.reset(epoch, seq)
            self._awake += self.pages.drop(name)
        else:
            history.skip_to(seq)
        self._sweeps.touch(history)
        for update in snapshots:
            self._ordinal += 1
            update.ordinal = self._ordinal
            history.put_snapshot(update)
        for reader in moved:
            if renewed:
                self._restart(reader, history)
            self._catch_up.enqueue(reader)
        self._tell()

    def _restart(self, reader: Reader, history: History) -> None:
        for cursor in reader.cursors.values():
            if cursor.history is history:
                cursor.restart(history.head)
                frames = reader.events.renewed(cursor) + reader.snapshots(cursor, self.limits.count)
                if frames:
                    reader.send(frames)

    def extend(self, name: str, reach: int) -> None:
        """Note that updates of a stream from `reach` on can be had from behind memory, now and until told otherwise."""
        if (history := self.histories.get(name)) is not None:
            history.extend(reach)

    def supply(
        self, place: Place, oldest: int, raws: Iterable[bytes], base: Iterable[bytes] = (), *, based: bool = False
    ) -> None:
        """Take in a page that `pages.load` was asked for; see `Pages.supply`.

        Raises:
            UpstreamError: the updates are not those of that page.
        """
        history = self.histories.get(place.stream)
        if history is not None and history.epoch == place.epoch:  # else nobody waits for it any more
            self.pages.supply(history, place, oldest, raws, base, based=based)

    def set_epoch(self, epoch: str) -> None:
        """Begin an epoch: every stream that is not in it yet begins anew before its first update."""
        self.epoch = epoch
        for history in list(self.histories.values()):
            if history.epoch != epoch:
                self.begin(history.name, epoch, 0)

    @property
    def upstream_reached(self) -> bool:
        """Whether what feeds the hub can be asked, so that positions can be decided on."""
        return self._upstream_reached

    @upstream_reached.setter
    def upstream_reached(self, reached: bool) -> None:
        if reached is not self._upstream_reached:
            self._upstream_reached = reached
            self._tell()

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
            history = self.histories[name] = self.new_history(name)
        return history

    def new_history(self, name: str, stream: Stream | None = None) -> History:
        """Return an empty history, which nobody knows of yet."""
        return History(name, stream, self.epoch, self.limits, self.pages)

    def listen(self, listener: Callable[[], object]) -> None:
        """Have `listener` called whenever there is something new, once for all that a loop turn brings."""
        self._listeners[listener] = None

    def unlisten(self, listener: Callable[[], object]) -> None:
        """Have it called no more."""
        self._listeners.pop(listener, None)

    @property
    def deliveries(self) -> int:
        """How many updates have been written to readers."""
        return self._sweeps.deliveries + self._catch_up.deliveries

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
        self._sweeps.forget(reader)
        for cursor in reader.cursors.values():
            self._release(cursor)
        reader.cursors.clear()
        self._catch_up.forget(reader)

    def subscribe(self, reader: Reader, spec: Spec) -> Cursor:
        """Add a subscription that begins at the head, or change the one to that stream and key in place.

        Returns:
            Its cursor, which the caller may move before the next run of the hub.
        """
        self._sweeps.leave(reader)
        key = (spec.stream, spec.key)
        cursor = reader.cursors.get(key)
        if cursor is None:
            history = self.history(spec.stream)
            history.cursors += 1
            cursor = reader.cursors[key] = Cursor(spec, history, history.head)
        else:
            cursor.spec = spec
        self._catch_up.note_pace(reader)
        self._catch_up.enqueue(reader)
        return cursor

    def unsubscribe(self, reader: Reader, stream: str, key: str | None) -> bool:
        """End a subscription; return whether there was one."""
        cursor = reader.cursors.get((stream, key))
        if cursor is None:
            return False
        self._sweeps.leave(reader)
        del reader.cursors[stream, key]
        self._release(cursor)
        self._catch_up.note_pace(reader)
        self._catch_up.enqueue(reader)
        return True

    def settle(self, reader: Reader) -> None:
        """Bring the books of a reader up to date, without moving it."""
        if reader.audience is not None:
            self._sweeps.leave(reader)
            self._catch_up.enqueue(reader)

    def block(self, reader: Reader) -> None:
        """Note that a reader's socket takes no more: it leaves its audience and waits."""
        reader.blocked = True
        reader.fell = reader.fell or reader.audience is not None
        self._sweeps.leave(reader)

    def unblock(self, reader: Reader) -> None:
        """Note that a reader's socket takes more again: it reads on from history."""
        reader.blocked = False
        self._catch_up.enqueue(reader)

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
        if self.pages.ahead:
            self._awake += self.pages.arrived(self._has)
        awake, self._awake = self._awake, []
        for waiter in awake:
            waiter()
        self._catch_up.note_time()
        if self._sweeps.due:
            self._catch_up.note_news(self._sweeps.begin())
        if self._news:
            self._news = False
            for listener in list(self._listeners):
                listener()
        self._sweeps.write(self._slice_writes)
        self._catch_up.run()
        if self._sweeps.busy or self._catch_up.busy:
            self.wake()

    def _has(self, place: Place) -> bool:
        """Whether a position has come."""
        history = self.histories.get(place.stream)
        return history is not None and history.epoch == place.epoch and history.head > place.start

    def finish(self) -> None:
        """Write everything that is pending to everybody who is live, at once."""
        while self._sweeps.busy:
            if self._sweeps.due:
                self._catch_up.note_news(self._sweeps.begin())
            self._sweeps.write(len(self.readers) + 1)

    def _release(self, cursor: Cursor) -> None:
        history = cursor.history
        history.cursors -= 1
        if history.stream is None and not history.cursors:
            self.histories.pop(history.name, None)
