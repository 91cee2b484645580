"""Cursors: where a subscription stands in a stream's history, and its books.

At any time `head - start = delivered + filtered + skipped + missed + pending`.
"""

from collections.abc import Iterable
from itertools import chain, takewhile
from typing import NamedTuple

from bridge.core.history import History
from bridge.core.streams import Delivery
from bridge.core.update import Missed, Update
from bridge.core.where import Where

ENDLESS = 1 << 63


class Spec(NamedTuple):
    """What a subscription asks for; subscribers with equal specs share an audience."""

    stream: str
    key: str | None = None  # None: every key
    where: Where | None = None
    fields: tuple[str, ...] | None = None
    max_rate_hz: float | None = None  # at most so many updates a second, of a stream delivered `latest`

    def matches(self, update: Update) -> bool:
        """Whether the subscription wants `update`, one of its stream."""
        if self.key is not None and self.key != update.key:
            return False
        return self.where is None or update.selected(self.where)


class Books(NamedTuple):
    """What became of every update from `start` to `head`."""

    start: int
    head: int
    delivered: int  # handed to the socket
    filtered: int  # not wanted: another key, or not selected by where
    skipped: int  # left out on a latest stream, a newer one came instead
    missed: int  # no longer held when their turn came
    pending: int  # their turn has not come


class Peek(NamedTuple):
    """What a cursor would read next."""

    updates: list[Update]  # wanted ones, in order
    end: int  # seq up to which they are complete
    ordinal: int  # ordinal up to which they are complete


class Cursor:
    """A place in a history.

    Attributes:
        spec: what is wanted.
        history: where it stands.
        epoch: of its position; another one than the history's means that it must start anew.
        start: seq where its books begin.
        at: seq up to which every update is accounted for.
        replay_to: seq up to which each update is read, on `latest` streams too.
        due_ms: when it may read again, if its rate is limited; Unix milliseconds.
        delivered, skipped, missed: see Books.
    """

    __slots__ = ("at", "delivered", "due_ms", "epoch", "history", "missed", "replay_to", "skipped", "spec", "start")

    def __init__(self, spec: Spec, history: History, at: int) -> None:
        self.spec = spec
        self.history = history
        self.due_ms = 0
        self.restart(at)

    def restart(self, at: int, *, replay_to: int = 0) -> None:
        """Begin anew behind `at`, in the history's epoch."""
        self.epoch = self.history.epoch
        self.start = self.at = at
        self.replay_to = replay_to
        self.delivered = self.skipped = self.missed = 0

    @property
    def paced(self) -> bool:
        """Whether its rate is limited: it reads by itself when it is due, never as part of an audience."""
        return self.spec.max_rate_hz is not None

    @property
    def at_head(self) -> bool:
        """Whether there is nothing to read."""
        return self.at == self.history.head

    def books(self) -> Books:
        """Return what became of every update since `start`."""
        known = self.delivered + self.skipped + self.missed
        filtered = self.at - self.start - known
        head = self.history.head
        return Books(self.start, head, self.delivered, filtered, self.skipped, self.missed, head - self.at)

    @property
    def _jumps(self) -> bool:
        """Whether only the newest update is wanted."""
        stream = self.history.stream
        return stream is not None and stream.delivery is Delivery.LATEST and self.at >= self.replay_to

    def loses(self) -> bool:
        """Whether updates behind it that may have been wanted are no longer held."""
        history, key = self.history, self.spec.key
        if self.at + 1 >= history.oldest or self._jumps:
            return False
        base = history.base.get(key) if key is not None else None
        return key is None or (base is not None and base.seq > self.at)

    def replayed(self) -> int:
        """Return how many updates it will read before live ones."""
        if self._jumps:
            return min(1, self.history.head - self.at)
        if self.spec.key is not None:
            return len(self.history.of_key(self.spec.key, self.at, len(self.history)))
        return self.history.head - self.at

    def pass_gap(self) -> Missed | None:
        """Step over updates that history no longer holds; return their range if any could have been wanted."""
        first, last = self.at + 1, self.history.oldest - 1
        if first > last or self._jumps:
            return None
        lost = self.loses()
        self.at = last
        if not lost:
            return None  # its key has not changed in that range
        self.missed += last - first + 1
        return Missed(first, last)

    def peek(self, limit: int) -> Peek:
        """Return what comes next, of at most `limit` updates looked at."""
        if self._jumps:
            return self._peek_newest()
        if self.spec.key is not None:
            examined = self.history.of_key(self.spec.key, self.at, limit)
        else:
            examined = self.history.after(self.at, limit)
        wanted = [update for update in examined if self.spec.where is None or self.spec.matches(update)]
        if len(examined) < limit:
            return Peek(wanted, self.history.head, ENDLESS)
        return Peek(wanted, examined[-1].seq, examined[-1].ordinal)

    def _peek_newest(self) -> Peek:
        history = self.history
        newest: dict[str, Update] = {}
        behind = takewhile(lambda update: update.seq > self.at, history.backwards(history.head + 1))
        no_longer_held = reversed(history.latest.values()) if self.at + 1 < history.oldest else ()
        for update in chain(behind, no_longer_held):
            if update.key not in newest and update.seq > self.at and self.spec.matches(update):
                newest[update.key] = update
        return Peek(list(reversed(newest.values())), history.head, ENDLESS)

    def advance(self, updates: int, to: int) -> None:
        """Account for having read `updates` updates and moved on to `to`."""
        if skips(self.spec, self.history):
            self.skipped += to - self.at - updates
        self.delivered += updates
        self.at = to


def skips(spec: Spec, history: History) -> bool:
    """Whether what a subscription is not given was skipped, rather than filtered out."""
    latest = history.stream is not None and history.stream.delivery is Delivery.LATEST
    return latest and spec.key is None and spec.where is None


def gather(cursors: Iterable[Cursor], limit: int) -> list[tuple[Update, Cursor]]:
    """Read on from several cursors at once, in the order of publication.

    Moves the cursors. An update that several of them want is given once, and counted in the books of each.

    Args:
        cursors: none of them with a gap before it (see `Cursor.pass_gap`).
        limit: how many updates to look at for each.

    Returns:
        Updates, each with the first cursor that wants it; empty when every cursor is at the head.
    """
    peeks = [(cursor, cursor.peek(limit)) for cursor in cursors if not cursor.at_head]
    horizon = min((peek.ordinal for _, peek in peeks), default=ENDLESS)
    found: dict[int, tuple[Update, Cursor]] = {}
    for cursor, peek in peeks:
        taken = [update for update in peek.updates if update.ordinal <= horizon]
        for update in taken:
            found.setdefault(update.ordinal, (update, cursor))
        if peek.ordinal == horizon:
            cursor.advance(len(taken), peek.end)
        elif taken:
            cursor.advance(len(taken), taken[-1].seq)
    return [found[ordinal] for ordinal in sorted(found)]
