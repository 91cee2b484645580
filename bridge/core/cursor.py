"""Cursors: where a subscription stands in a stream's history, and its books.

A cursor reads on from memory or, where it stands behind that, from pages; what can be had nowhere it steps over. At any
time `head - start = delivered + filtered + skipped + missed + pending`.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain, takewhile
from operator import attrgetter
from typing import NamedTuple

from bridge.core.deep import DeepPage, Needed, Place
from bridge.core.history import Gone, History
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
    deep: bool = False  # whether they are read from behind memory, where there are no ordinals


class Gap(NamedTuple):
    """Updates that a cursor will not read."""

    missed: Missed
    values: Sequence[Update]  # that stand in for them, in order


class Step(NamedTuple):
    """A step over updates that cannot be had, or among which is none that is wanted."""

    to: int  # seq up to which they are
    missed: Missed | None = None  # those that may have been wanted
    values: Sequence[Update] = ()  # that stand in for them, in order


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

    @property
    def needs(self) -> Place | None:
        """Place of the page that must be here before it can go on, if there is one."""
        ahead = self._ahead()
        return ahead if isinstance(ahead, Place) else None

    def confirm(self) -> None:
        """Make sure that it is known now whether what is behind it and not in memory can be had.

        Raises:
            Needed: another process has it, and has not said so of late.
        """
        history, ahead = self.history, self._ahead()
        if history.pages.follows and self.at + 1 >= history.reach:
            if isinstance(ahead, Place):
                raise Needed(ahead)
            if isinstance(ahead, DeepPage) and not history.pages.vouches(history, ahead):
                raise Needed(ahead.place)

    def loses(self) -> bool:
        """Whether updates behind it that may have been wanted cannot be had.

        Raises:
            Needed: that is not known without a page.
        """
        self.confirm()
        history, ahead = self.history, self._ahead()
        if isinstance(ahead, Place) and self.at + 1 < history.reach:
            if self.spec.key is not None:
                raise Needed(ahead)
            return True
        if isinstance(ahead, DeepPage) and self.at + 1 < history.reach:
            return not history.pages.holds(history, ahead, history.reach)
        return isinstance(ahead, Step) and ahead.missed is not None

    def replayed(self) -> int | None:
        """Return how many updates it will read before live ones, None if that is not known: a key's, behind memory."""
        history, key = self.history, self.spec.key
        if self._jumps:
            return min(1, history.head - self.at)
        if key is None:
            return history.head - self.at
        if self.at + 1 < history.oldest and history.trimmed(key) > self.at:
            return None
        return len(history.of_key(key, self.at, len(history)))

    def pass_gap(self) -> Gap | None:
        """Step over updates that cannot be had; return them if any could have been wanted."""
        ahead, first = self._ahead(), self.at + 1
        if not isinstance(ahead, Step):
            return None
        self.at = ahead.to
        if ahead.missed is None:
            return None
        self.missed += ahead.missed.last - first + 1
        return Gap(ahead.missed, ahead.values)

    def peek(self, limit: int) -> Peek:
        """Return what comes next, of at most `limit` updates looked at; nothing where `pass_gap` or a page is due."""
        history, key, where = self.history, self.spec.key, self.spec.where
        if self._jumps:
            return self._peek_newest()
        ahead = self._ahead()
        if isinstance(ahead, DeepPage):
            history.pages.hits += 1
            behind = ahead.after(self.at)
            wanted = [update for update in behind[:limit] if self.spec.matches(update)]
            return Peek(wanted, ahead.end if len(behind) <= limit else behind[limit - 1].seq, 0, deep=True)
        if ahead is not None:
            return Peek([], self.at, 0, deep=True)
        examined = history.of_key(key, self.at, limit) if key is not None else history.after(self.at, limit)
        wanted = [update for update in examined if where is None or self.spec.matches(update)]
        if len(examined) < limit:
            return Peek(wanted, history.head, ENDLESS)
        return Peek(wanted, examined[-1].seq, examined[-1].ordinal)

    # ------------------------------------------------------------------ behind memory

    def _ahead(self) -> DeepPage | Place | Step | None:
        """Return what lies before it.

        Returns:
            The page to read on from; its place, if it is not here; a step to take; None: it reads on from memory.
        """
        history, key, first = self.history, self.spec.key, self.at + 1
        if first >= history.oldest or self._jumps:
            return None
        if key is not None and history.trimmed(key) <= self.at:
            return Step(history.oldest - 1)
        place, page = history.pages.find(history, self.at)
        if page is not None and not page.refused and page.first <= first:
            return page
        if first >= history.reach:
            return place if page is None else self._over(page)
        gone = history.gone()
        if isinstance(gone, DeepPage):
            return self._over(gone)
        return gone if isinstance(gone, Place) else self._over_gone(gone)

    def _over_gone(self, gone: Gone) -> Step:
        """Return the step over what is gone."""
        history, key, first = self.history, self.spec.key, self.at + 1
        values = [update for update in gone.values if update.seq >= first and key in (None, update.key)]
        if key is None:
            if not gone.values:
                return self._to_memory()
            return Step(gone.last, Missed(first, gone.last), values or gone.values[-1:])
        if history.trimmed(key) <= gone.last:  # it did not change between that and memory
            return Step(history.oldest - 1, Missed(first, gone.last), values) if values else self._to_memory()
        if values or gone.whole:
            return Step(gone.last, Missed(first, gone.last) if values else None, values)
        return self._to_memory()

    def _over(self, page: DeepPage) -> Step | Place:
        """Return the step over pages that cannot be had, to the first update that can: it stands in for them.

        Where there are keys it would stand in for one only, so the step goes on to memory, which knows of each.
        """
        history = self.history
        if history.stream is None or history.stream.keyed:
            return self._to_memory()
        at = page.end
        while at + 1 < history.oldest:
            place, behind = history.pages.find(history, at)
            if behind is None:
                return place
            if behind.updates:
                value = behind.updates[0]
                return Step(value.seq, Missed(self.at + 1, value.seq), [value])
            at = behind.end
        return self._to_memory()

    def _to_memory(self) -> Step:
        """Return the step over everything that is not in memory; where no value is known of that, to one that is."""
        history, key, first = self.history, self.spec.key, self.at + 1
        if key is not None:
            values = [history.base[key]] if key in history.base else []
        else:
            bases = list(history.base.values())
            values = [update for update in bases if update.seq >= first] or bases[-1:]
        if not values:
            held = history.of_key(key, self.at, len(history)) if key is not None else history.after(self.at, 1)
            if held:
                return Step(held[0].seq, Missed(first, held[0].seq), held[:1])
        return Step(history.oldest - 1, Missed(first, history.oldest - 1), values)

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


def gather(cursors: Iterable[Cursor], limit: int, size_bytes: int = ENDLESS) -> list[tuple[Update, Cursor]]:
    """Read on from several cursors at once: within memory in the order of publication, behind it stream by stream.

    Moves the cursors. An update that several of them want is given once, and counted in the books of each.

    Args:
        cursors: none of them with a gap before it (see `Cursor.pass_gap`).
        limit: how many updates to look at for each, and to give at most.
        size_bytes: how large these may be together, serialized, unless a single one is larger.

    Returns:
        Updates, each with the first cursor that wants it; empty when every cursor is at the head or needs a page.
    """
    peeks = [(cursor, cursor.peek(limit)) for cursor in cursors if not cursor.at_head]
    deep = {cursor.history: None for cursor, peek in peeks if peek.deep}
    memory = [(cursor, peek, peek.ordinal) for cursor, peek in peeks if cursor.history not in deep]
    found = merge(memory, attrgetter("ordinal"), limit, size_bytes)
    for history in deep:
        # Cursors of one stream stay together, so that no update is given twice.
        together = [(cursor, peek, peek.end) for cursor, peek in peeks if cursor.history is history]
        left_bytes = size_bytes - sum(len(update.raw) for update, _ in found)
        if len(found) < limit and left_bytes > 0:
            found += merge(together, attrgetter("seq"), limit - len(found), left_bytes)
    return found


def merge(
    peeks: list[tuple[Cursor, Peek, int]], place_of: Callable[[Update], int], limit: int, size_bytes: int
) -> list[tuple[Update, Cursor]]:
    """Take what cursors would read next in one order, and move them.

    Args:
        peeks: the cursors, what each would read, and up to which place that is complete.
        place_of: returns the place of an update.
        limit: how many updates to take at most.
        size_bytes: how large they may be together, unless a single one is larger.
    """
    horizon = min((end for _, _, end in peeks), default=ENDLESS)
    found: dict[int, tuple[Update, Cursor]] = {}
    for cursor, peek, _ in peeks:
        for update in peek.updates:
            if place_of(update) > horizon:
                break
            found.setdefault(place_of(update), (update, cursor))
    places = sorted(found)
    taken = fitting([len(found[place][0].raw) for place in places], limit, size_bytes)
    if taken < len(places):
        horizon = places[taken - 1]
    for cursor, peek, end in peeks:
        own = [update for update in peek.updates if place_of(update) <= horizon]
        if end == horizon:
            cursor.advance(len(own), peek.end)
        elif own:
            cursor.advance(len(own), own[-1].seq)
    return [found[place] for place in places[:taken]]


def fitting(sizes: list[int], limit: int, size_bytes: int) -> int:
    """Return how many of the first things there is room for, at least one if there is any."""
    for count, size in enumerate(sizes):
        size_bytes -= size
        if count == limit or (count and size_bytes < 0):
            return count
    return len(sizes)
