"""Sweeps: live delivery. Everything published since the last one, joined into one buffer an audience, to its members.

A sweep is written in slices, so that a large audience never holds the loop. The cut is what live readers have been
served; a reader joins at the beginning of a sweep, when the cut stands at the head, and is served by every later one.
"""

from itertools import islice

from bridge.core.audience import Audience, Reader
from bridge.core.history import History
from bridge.core.update import Update


class Job:
    """What a sweep has still to write to an audience.

    Attributes:
        buffer: what is written.
        updates: how many are in it.
        waiting: for whom, each with its address.
    """

    __slots__ = ("buffer", "updates", "waiting")

    def __init__(self, buffer: bytes, updates: int, waiting: dict[Reader, object]) -> None:
        self.buffer = buffer
        self.updates = updates
        self.waiting = waiting

    def take(self, writes: int) -> list[object]:
        """Return the addresses of at most so many of those who wait: they wait no more."""
        if len(self.waiting) <= writes:
            taken = list(self.waiting.values())
            self.waiting.clear()
            return taken
        return [self.waiting.pop(reader) for reader in list(islice(self.waiting, writes))]


class Sweeps:
    """The audiences, and what they are given.

    Attributes:
        deliveries: how many updates have been written to members.
    """

    __slots__ = ("_audiences", "_dirty", "_interested", "_jobs", "_pending", "_swept", "deliveries")

    def __init__(self) -> None:
        self.deliveries = 0
        self._dirty: dict[History, None] = {}  # with updates behind the cut
        self._swept: dict[History, None] = {}  # with a cut that the last sweep moved
        self._audiences: dict[object, Audience] = {}
        self._interested: dict[tuple[str, str | None], dict[Audience, None]] = {}
        self._pending: dict[Audience, None] = {}  # with updates that no sweep has taken
        self._jobs: dict[Audience, Job] = {}  # of the sweep in progress

    @property
    def busy(self) -> bool:
        """Whether there is something to write, or to begin a sweep for."""
        return bool(self._jobs or self._dirty)

    @property
    def due(self) -> bool:
        """Whether a sweep can begin and has something to do."""
        return bool(self._dirty) and not self._jobs

    # ------------------------------------------------------------------ what is published

    def touch(self, history: History) -> None:
        """Note that the head of a history has moved."""
        self._dirty[history] = None

    def add(self, history: History, update: Update) -> None:
        """Take the newest update of a history for the audiences that may want it."""
        self._dirty[history] = None
        for audience in self._interested.get((history.name, None), ()):
            audience.pending.append(update)
            self._pending[audience] = None
        if update.key:
            for audience in self._interested.get((history.name, update.key), ()):
                if not audience.pending or audience.pending[-1] is not update:
                    audience.pending.append(update)
                    self._pending[audience] = None

    # ------------------------------------------------------------------ writing

    def begin(self) -> dict[History, None]:
        """Begin a sweep: move the cuts to the heads, and take what is pending.

        Returns:
            The histories whose cut has moved.
        """
        for history in self._swept:
            history.cut_before = history.cut
        self._swept, self._dirty = self._dirty, {}
        for history in self._swept:
            history.cut_before, history.cut = history.cut, history.head
        pending, self._pending = self._pending, {}
        for audience in pending:
            buffer, updates = audience.take()
            if buffer:
                self._jobs[audience] = Job(buffer, updates, audience.members.copy())
        return self._swept

    def write(self, writes: int) -> None:
        """Write to at most so many members."""
        while self._jobs and writes > 0:
            audience, job = next(iter(self._jobs.items()))
            taken = job.take(writes)
            if not job.waiting:
                del self._jobs[audience]
            writes -= len(taken)
            self.deliveries += job.updates * len(taken)
            audience.write_all(job.buffer, taken)

    # ------------------------------------------------------------------ members

    def join(self, reader: Reader) -> None:
        """Make a reader at the cut a member of the audience that wants the same."""
        identity = reader.identity
        audience = self._audiences.get(identity)
        if audience is None:
            audience = self._audiences[identity] = reader.make_audience()
            for key in audience.tallies:
                self._interested.setdefault(key, {})[audience] = None
        audience.join(reader)

    def leave(self, reader: Reader) -> None:
        """Take a reader out of its audience, served by the sweep in progress, its books closed."""
        audience = reader.audience
        if audience is None:
            return
        job = self._jobs.get(audience)
        if job is not None and job.waiting.pop(reader, None) is not None:
            self.deliveries += job.updates
            reader.write(job.buffer)
        if reader.audience is audience:  # the write may have blocked it, which took it out
            audience.leave(reader)
            self._drop_if_empty(audience)

    def forget(self, reader: Reader) -> None:
        """Let a reader go that is gone: it is served nothing more."""
        audience = reader.audience
        if audience is not None:
            del audience.members[reader]
            reader.audience = None
            if (job := self._jobs.get(audience)) is not None:
                job.waiting.pop(reader, None)
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
