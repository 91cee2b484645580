"""History: what the hub remembers of one stream, bounded by count, bytes, age and number of keys.

Behind what is in memory there may be more on disk, down to `reach`: it is read again page by page.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from typing import NamedTuple, cast

from bridge.core.deep import DeepPage, Pages, Place
from bridge.core.streams import Stream
from bridge.core.update import Form, Update

by_seq = attrgetter("seq")


@dataclass(frozen=True, slots=True)
class HistoryLimits:
    """How much one stream's history holds."""

    count: int = 4096  # updates
    bytes: int = 16 << 20  # of memory, encoded forms included
    age_ms: int = 3_600_000  # 0: no limit
    keys: int = 200_000  # of a keyed stream whose current value is held


class Gone(NamedTuple):
    """What cannot be had any more."""

    last: int  # seq of the newest of it
    values: list[Update]  # that stand in for it: the newest of each key, in order
    whole: bool  # whether a key that is not among them has certainly none


class History:
    """One stream's updates, the newest ones in order, and the current value of each key.

    What it holds is what is in memory; only `reach`, `gone` and `trimmed` know of more.

    `seq` is dense on streams delivered `every`. On `latest` streams the updates between two that are held may
    never have been taken in.

    Attributes:
        name: of the stream.
        stream: what it is; None while nothing has declared the name.
        epoch: of the positions.
        head: seq of the newest update, 0 before the first.
        cut: seq up to which the last sweep serves live subscribers.
        cut_before: the cut before that sweep.
        latest: the current value of each key, the least recently changed first; "" is the key where there is none.
        base: the newest update of each key that is no longer held, the value that stands in for what was trimmed;
            in the order of publication.
        pages: what lies behind memory, of every stream.
        cursors: how many cursors stand in it.
        taken: how many updates have been taken in.
    """

    __slots__ = ("_bytes", "_reach", "_start", "_updates", "base", "cursors", "cut", "cut_before", "epoch", "head",
                 "latest", "limits", "name", "pages", "stream", "taken")  # fmt: skip

    def __init__(
        self, name: str, stream: Stream | None, epoch: str, limits: HistoryLimits, pages: Pages | None = None
    ) -> None:
        self.pages = Pages() if pages is None else pages
        self.name = name
        self.stream = stream
        self.epoch = epoch
        self.limits = limits
        self.cursors = self.taken = 0
        self.reset(epoch, 0)

    def reset(self, epoch: str, seq: int) -> None:
        """Forget everything; the next update is number `seq` + 1 of `epoch`."""
        self.epoch = epoch
        self.head = self.cut = self.cut_before = seq
        self.latest: dict[str, Update] = {}
        self.base: dict[str, Update] = {}
        self._updates: list[Update | None] = []  # None below _start
        self._start = 0
        self._bytes = 0
        self._reach = 0  # 0: nothing is behind memory

    def __len__(self) -> int:
        """How many updates it holds."""
        return len(self._updates) - self._start

    @property
    def oldest(self) -> int:
        """Seq of the oldest update held; one more than `head` where none is."""
        return self._at(self._start).seq if len(self) else self.head + 1

    @property
    def reach(self) -> int:
        """Seq of the oldest update that can be had; `oldest` where nothing is behind memory."""
        return min(self._reach, self.oldest) if self._reach else self.oldest

    def extend(self, reach: int) -> None:
        """Note that updates from `reach` on can be had from behind memory, if there is anything to read them with."""
        self._reach = reach if self.pages.load is not None else 0

    @property
    def size_bytes(self) -> int:
        """Memory held, as counted against the limit."""
        return self._bytes

    def skip_to(self, seq: int) -> None:
        """Forget what is held, since updates up to `seq` will never be had; current values stay."""
        self.base = dict(self.latest)
        self._updates, self._start, self._bytes = [], 0, 0
        self.head = self.cut = self.cut_before = seq

    def append(self, update: Update) -> None:
        """Take in the newest update."""
        self.taken += 1
        self.head = update.seq
        self._updates.append(update)
        self._bytes += update.size_bytes
        known = self.latest.pop(update.key, None)
        self.latest[update.key] = update
        if known is not None and known.seq != update.prev and update.key:
            self.base.pop(update.key, None)  # there was a newer one, of which nothing has come here

    def put_snapshot(self, update: Update) -> None:
        """Take in a current value that was published before what follows: it is a base, not part of the history."""
        known = self.latest.get(update.key)
        if known is None or known.seq < update.seq:
            for values in (self.latest, self.base):
                values.pop(update.key, None)
                values[update.key] = update

    def trim(self, now_ms: int) -> None:
        """Let go of what is beyond the limits; the newest update always stays."""
        limits = self.limits
        oldest_ms = now_ms - limits.age_ms if limits.age_ms else None
        while len(self) > 1 and (
            len(self) > limits.count
            or self._bytes > limits.bytes
            or (oldest_ms is not None and self._at(self._start).time_ms < oldest_ms)
        ):
            self._trim_one()
        for values in (self.latest, self.base):
            while len(values) > limits.keys:
                del values[next(iter(values))]

    def _trim_one(self) -> None:
        update = self._at(self._start)
        self._updates[self._start] = None
        self._start += 1
        self._bytes -= update.size_bytes
        self.base.pop(update.key, None)
        self.base[update.key] = update
        if self._start > 64 and self._start * 2 > len(self._updates):
            del self._updates[: self._start]
            self._start = 0

    def _at(self, index: int) -> Update:
        update = self._updates[index]
        assert update is not None
        return update

    def _index_after(self, seq: int) -> int:
        """Index of the first update behind `seq`."""
        if not len(self):
            return self._start
        guess = self._start + seq + 1 - self.oldest
        if self._start <= guess < len(self._updates) and self._at(guess).seq == seq + 1:
            return guess
        return bisect_right(self._updates, seq, lo=self._start, key=by_seq)

    def after(self, seq: int, limit: int) -> list[Update]:
        """Return at most `limit` updates behind `seq`, in order."""
        start = self._index_after(seq)
        return self._updates[start : start + limit]  # type: ignore[return-value]  # no None from _start on

    def get(self, seq: int) -> Update | None:
        """Return the update numbered `seq`, None if it is not held."""
        index = self._index_after(seq - 1)
        update = self._updates[index] if index < len(self._updates) else None
        return update if update is not None and update.seq == seq else None

    def backwards(self, until: int) -> Iterator[Update]:
        """Iterate over the updates before `until`, the newest first."""
        for index in range(self._index_after(until - 1) - 1, self._start - 1, -1):
            yield self._at(index)

    def of_key(self, key: str, seq: int, limit: int) -> list[Update]:
        """Return at most `limit` updates of `key` behind `seq`, in order: the first ones.

        Follows `prev` from the newest, so it costs one step an update of that key.
        """
        found: list[Update] = []
        update = self.latest.get(key)
        while update is not None and update.seq > seq and update.seq >= self.oldest:
            found.append(update)
            update = self.get(update.prev) if update.prev else None
        found.reverse()
        return found[:limit]

    def value_at(self, key: str, seq: int) -> Update | None:
        """Return the value that `key` had at `seq`, None if it had none or it is not known."""
        if self.stream is None or not self.stream.keyed:
            update = next(self.backwards(seq + 1), None)
        else:
            update = self.latest.get(key)
            while update is not None and update.seq > seq:
                update = self.get(update.prev)
        if update is None:
            update = self.base.get(key)
        return update if update is not None and update.seq <= seq else None

    def first_since(self, before: Callable[[Update], bool]) -> int:
        """Return the seq before the first update that does not lie before what is looked for.

        Args:
            before: whether an update does; once it is false it stays so.
        """
        index = bisect_left(self._updates, True, lo=self._start, key=lambda update: not before(cast(Update, update)))
        return self._at(index).seq - 1 if index < len(self._updates) else self.head

    def trimmed(self, key: str) -> int:
        """Return the seq of the newest update of `key` that is no longer held, 0 if there is none."""
        if (base := self.base.get(key)) is not None:
            return base.seq
        update = self.latest.get(key)
        while update is not None and update.seq >= self.oldest:
            before = self.get(update.prev) if update.prev else None
            if before is None:
                return update.prev
            update = before
        return update.seq if update is not None else 0

    def gone(self) -> Gone | DeepPage | Place:
        """Return what is before `reach`.

        Returns:
            What stands in for it; the page that would say so, if it cannot be had; its place, if it is not here.
        """
        reach = self.reach
        if reach == self.oldest:
            return Gone(reach - 1, list(self.base.values()), whole=True)
        place, page = self.pages.find(self, reach - 1)
        if page is None or not page.based:
            return place
        if page.refused:
            return page
        values = {update.key: update for update in page.base}
        values |= {update.key: update for update in self.base.values() if update.seq < page.first}
        return Gone(page.first - 1, sorted(values.values(), key=by_seq), page.base_whole)

    def current(self, limit: int) -> list[Update]:
        """Return the current values of at most `limit` keys, those that changed last, in order."""
        newest = list(islice(reversed(self.latest.values()), limit))
        newest.reverse()
        return newest

    def frame(self, update: Update, form: Form) -> bytes:
        """Return `update` encoded as `form`, and count the memory if it was not before."""
        before = update.size_bytes
        frame = update.frame(form)
        if update.size_bytes != before:
            if update.page is not None:
                self.pages.grow(update.page, update.size_bytes - before)
            elif self.get(update.seq) is update:  # a base is not held
                self._bytes += update.size_bytes - before
        return frame
