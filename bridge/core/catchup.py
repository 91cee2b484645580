"""Catching up: readers that are not live read on from history, in slices and in turn, until they are.

One that needs a page waits until it is there, and reads its other streams meanwhile. Readers of limited rate read like
this all the time, each update when it is due.
"""

from collections import deque
from collections.abc import Callable, Container, Iterable
from typing import NamedTuple

from bridge.core.audience import Reader
from bridge.core.cursor import Cursor
from bridge.core.deep import Pages, Waiter
from bridge.core.history import History
from bridge.core.sweeps import Sweeps

READ_UPDATES = 64
"""How many updates a reader that catches up is given in one turn."""

READ_BYTES = 64 << 10
"""How large they may be together, serialized, unless a single one is larger."""

BEHIND_UPDATES = 100
"""How far behind a reader must be, when its socket takes more again, to be told that it fell behind."""

SLICE_READERS = 64
"""How many readers that catch up are looked at in one run at most."""

SLICE_UPDATES = 256
"""After how many frames other work gets its turn: encoded for the first time they take some 5 ms."""

SLICE_BYTES = 512 << 10
"""After how many bytes of frames it does."""

LONGEST_PAUSE_MS = 86_400_000
"""How long a reader of limited rate waits at most: a rate may be so low that its pause is no number."""


class Wait(NamedTuple):
    """What a reader waits for."""

    waiter: Waiter
    histories: set[History]  # whose next page it needs


class CatchUp:
    """The readers that read by themselves, and whose turn it is.

    Attributes:
        deliveries: how many updates have been written to them.
    """

    __slots__ = (
        "_clock_ms",
        "_paced",
        "_pages",
        "_queue",
        "_readers",
        "_remind",
        "_reminders",
        "_sweeps",
        "_waits",
        "_wake",
        "deliveries",
    )  # fmt: skip

    def __init__(
        self,
        readers: Container[Reader],
        sweeps: Sweeps,
        pages: Pages,
        *,
        clock_ms: Callable[[], int],
        wake: Callable[[], object],
        remind: Callable[[int], object],
    ) -> None:
        """Begin with nobody.

        Args:
            readers: everybody attached.
            sweeps: which readers join that have caught up.
            pages: what lies behind memory.
            clock_ms: returns Unix milliseconds.
            wake: called when `run` should be called soon.
            remind: called when `run` should be called in that many milliseconds.
        """
        self.deliveries = 0
        self._readers = readers
        self._sweeps = sweeps
        self._pages = pages
        self._clock_ms = clock_ms
        self._wake = wake
        self._remind = remind
        self._queue: deque[Reader] = deque()  # not blocked
        self._paced: dict[Reader, None] = {}  # with a subscription of limited rate
        self._reminders: dict[Reader, int] = {}  # when to look at them again, Unix milliseconds
        self._waits: dict[Reader, Wait] = {}  # for pages

    @property
    def busy(self) -> bool:
        """Whether it is somebody's turn."""
        return bool(self._queue)

    def enqueue(self, reader: Reader) -> None:
        """Give a reader a turn, unless its socket is full."""
        if not reader.queued and not reader.blocked:
            reader.queued = True
            self._queue.append(reader)
            self._wake()

    def _prefer(self, reader: Reader) -> None:
        """Give a reader the next turn, since a page has come for it.

        Were it the last, the page might be gone again before, for those of all the others: nobody would ever go on.
        """
        self.enqueue(reader)
        if self._queue and self._queue[-1] is reader:
            self._queue.rotate()

    def forget(self, reader: Reader) -> None:
        """Let a reader go that is gone."""
        self.note_pace(reader)
        self._end_wait(reader)

    def note_pace(self, reader: Reader) -> None:
        """Note whether a reader has subscriptions of limited rate."""
        if any(cursor.paced for cursor in reader.cursors.values()):
            self._paced[reader] = None
        else:
            self._paced.pop(reader, None)
            self._reminders.pop(reader, None)

    def note_news(self, histories: Iterable[History]) -> None:
        """See to the readers that nothing else tells of news, since the cut of these histories has moved."""
        moved = set(histories)
        for reader, wait in self._waits.items():
            if any(c.history in moved and c.history not in wait.histories for c in reader.cursors.values()):
                self.enqueue(reader)
        for reader in self._paced:
            if any(cursor.paced and cursor.history in moved for cursor in reader.cursors.values()):
                self.enqueue(reader)

    def note_time(self) -> None:
        """See to the readers of limited rate whose time has come."""
        now_ms = self._clock_ms()
        for reader in [reader for reader, due_ms in self._reminders.items() if due_ms <= now_ms]:
            del self._reminders[reader]
            self.enqueue(reader)

    def run(self) -> None:
        """Give a slice of turns."""
        turns, updates, size_bytes = min(SLICE_READERS, len(self._queue)), SLICE_UPDATES, SLICE_BYTES
        while turns > 0 and updates > 0 and size_bytes > 0:
            turns -= 1
            reader = self._queue.popleft()
            reader.queued = False
            if reader in self._readers and not reader.blocked:
                frames = self._read_on(reader)
                updates -= len(frames)
                size_bytes -= sum(map(len, frames))

    def _read_on(self, reader: Reader) -> list[bytes]:
        """Give a reader what comes next that no sweep brings it, and make it live when that is everything.

        Returns:
            The frames that it was given.
        """
        plain = [] if reader.audience is not None else [c for c in reader.cursors.values() if not c.paced]
        reading = plain + self._take_due(reader)
        frames = self._tell_behind(reader, plain)
        for cursor in reading:
            if gap := cursor.pass_gap():
                frames += reader.stand_in(cursor, gap)
        read = reader.read(reading, READ_UPDATES, READ_BYTES)
        frames += read
        if frames:
            reader.send(frames)
            self.deliveries += len(read)
        self._plan_reminder(reader)
        if not reader.blocked:
            paced = [cursor for cursor in reader.cursors.values() if cursor.paced]
            self._go_on(reader, plain, self._wait(reader, plain + paced))
        return frames

    def _go_on(self, reader: Reader, plain: list[Cursor], waiting: set[History]) -> None:
        """Have a reader join an audience if it has everything, else give it another turn if that is of any use."""
        if reader.audience is not None or not reader.cursors:
            return
        if all(cursor.at == cursor.history.cut == cursor.history.head for cursor in plain):
            self._tell_live(reader)
            if not reader.blocked:
                self._sweeps.join(reader)
        elif not waiting or any(not cursor.at_head and cursor.history not in waiting for cursor in plain):
            self.enqueue(reader)

    def _wait(self, reader: Reader, cursors: Iterable[Cursor]) -> set[History]:
        """Have a reader called when pages are here that it needs; return the histories that it waits for."""
        needs = [(cursor.history, place) for cursor in cursors if (place := cursor.needs) is not None]
        if not needs:
            self._end_wait(reader)
            return set()
        wait = self._waits.get(reader)
        if wait is None:
            wait = self._waits[reader] = Wait(lambda: self._prefer(reader), set())
        wait.histories.clear()
        for history, place in needs:
            wait.histories.add(history)
            self._pages.want(place, wait.waiter)
        return wait.histories

    def _end_wait(self, reader: Reader) -> None:
        wait = self._waits.pop(reader, None)
        if wait is not None:
            self._pages.forget(wait.waiter)

    def _take_due(self, reader: Reader) -> list[Cursor]:
        """Return the cursors of limited rate that may read now, and note when they may again."""
        now_ms = self._clock_ms()
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
            self._remind(max(0, min(waiting) - self._clock_ms()) + 1)  # a clock's fraction of a millisecond is cut off

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
            reader.send(frames)
