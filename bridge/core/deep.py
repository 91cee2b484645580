"""Pages: updates that lie behind memory, read again from where they are kept on disk, for whoever needs them.

A page is an aligned run of positions; one that would be too large is cut, and the next one begins where it ends. Who
needs a page that is not here asks for it and is told when to look again; a loader, which does the reading, is told by
`load` and answers with `supply` or `refuse`. A page is loaded once however many wait for it, and all pages together
keep to a limit of memory.
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from google.protobuf.message import DecodeError

from bridge.core.codes import ErrorCode
from bridge.core.errors import RequestError, UpstreamError
from bridge.core.position import Position
from bridge.core.streams import Delivery
from bridge.core.update import Update
from generated.theblock.state.v1 import view_pb2

if TYPE_CHECKING:
    from bridge.core.history import History

PAGE_UPDATES = 512
"""How many positions a page has at most."""

PAGE_BYTES = 1 << 20
"""How large what is read for a page may be, unless a single update is larger."""

STAND_INS = 1000
"""How many values, of as many keys, stand in for what is gone at most."""

STAND_IN_BYTES = 512 << 10
"""How large they may be together, unless a single one is larger."""

CUTS = 10_000
"""Of how many runs of positions it is remembered where their pages were cut."""

REFUSED_MS = 10_000
"""For how long a page that cannot be had is not asked for again."""

SURE_MS = 2000
"""For how long what was read from another process says that everything behind it can be had there too."""

VOID_MS = 10_000
"""For how long it is taken as known that a position is worth nothing."""

RETRY_AFTER_MS = 1000
"""When a client should ask again for what cannot be read now."""

LARGEST_VALUE_BYTES = 260 << 10
"""More than any value that one more key would have added."""

Waiter = Callable[[], object]


class Place(NamedTuple):
    """Where a page begins; or, where another process is followed, a position that is not known here (yet)."""

    stream: str
    epoch: str
    start: int  # seq behind which it begins: a multiple of PAGE_UPDATES, or where a page that was cut ends
    ahead: bool = False

    @property
    def end(self) -> int:
        """Seq of the last position that the page may have."""
        return (self.start // PAGE_UPDATES + 1) * PAGE_UPDATES


class Needed(Exception):
    """Pages are needed to go on; nothing has been done. `places` says which ones."""

    def __init__(self, *places: Place) -> None:
        super().__init__(f"needed: {places}")
        self.places = places


class DeepPage:
    """Updates of a stream from `first` to `end`, complete on the disk that they were read from.

    Attributes:
        place: where it begins.
        first: seq of the first position that it has: behind `place.start`, unless that is gone.
        end: seq of the last position that it has.
        updates: in order.
        base: values that stand in for what is gone before it, the newest of each key, in order; at most STAND_INS.
        based: whether those were asked for.
        refused: whether it cannot be had; it has nothing then.
        read_ms: when it was read, or could not be, Unix milliseconds.
        size_bytes: what it costs in memory now, encoded forms included.
    """

    __slots__ = ("base", "based", "end", "first", "place", "read_ms", "refused", "size_bytes", "updates")

    def __init__(
        self, place: Place, first: int, end: int, updates: list[Update], base: list[Update], *, based: bool
    ) -> None:
        self.place = place
        self.first = first
        self.end = end
        self.updates = updates
        self.base = base
        self.based = based
        self.refused = False
        self.read_ms = 0
        self.size_bytes = 0
        for update in (*updates, *base):
            update.page = self
            self.size_bytes += update.size_bytes

    @property
    def base_whole(self) -> bool:
        """Whether a key without a value in `base` has certainly changed nowhere in what is gone."""
        size = sum(len(update.raw) for update in self.base)
        return len(self.base) < STAND_INS and size < STAND_IN_BYTES - LARGEST_VALUE_BYTES

    def after(self, seq: int) -> list[Update]:
        """Return its updates behind `seq`, in order."""
        return self.updates[bisect_right(self.updates, seq, key=attrgetter("seq")) :]


class Pages:
    """The pages that are held, and who waits for others.

    Attributes:
        load: told which page is wanted; None: nothing lies behind memory.
        limit_bytes: of memory, encoded forms included; the newest page always stays.
        size_bytes: of memory now.
        loads: how many pages have been loaded.
        hits: how often a reader read from a page that was held.
        failures: how many pages could not be had.
        follows: whether another process's positions are followed, which may be ahead of what has come here.
        ahead: positions that somebody has, and that have not come here or are of an epoch that is not known here.
    """

    __slots__ = ("_clock_ms", "_cuts", "_pages", "_void", "_waits", "ahead", "failures", "follows", "hits",
                 "limit_bytes", "load", "loads", "size_bytes")  # fmt: skip

    def __init__(self, clock_ms: Callable[[], int] = lambda: 0, limit_bytes: int = 64 << 20) -> None:
        self.load: Callable[[Place], object] | None = None
        self.limit_bytes = limit_bytes
        self.follows = False
        self.ahead: dict[Place, None] = {}
        self._void: dict[Place, int] = {}  # since when that is known, Unix milliseconds
        self.size_bytes = self.loads = self.hits = self.failures = 0
        self._clock_ms = clock_ms
        self._pages: OrderedDict[Place, DeepPage] = OrderedDict()  # the least recently used first
        self._waits: dict[Place, dict[Waiter, None]] = {}
        self._cuts: dict[Place, list[int]] = {}  # where pages ended before their run did, by the first place of the run

    @property
    def waiting(self) -> int:
        """How many wait for a page."""
        return sum(map(len, self._waits.values()))

    @property
    def held(self) -> list[DeepPage]:
        """The pages that are held, the least recently used first."""
        return list(self._pages.values())

    # ------------------------------------------------------------------ what readers call

    def find(self, history: "History", at: int) -> tuple[Place, DeepPage | None]:
        """Return the page that has the position behind `at`, None if it is not here, and its place."""
        place = self._nearest(Place(history.name, history.epoch, at - at % PAGE_UPDATES), at)
        while (page := self._pages.get(place)) is not None:
            if page.refused and not self._lasts(page.read_ms, REFUSED_MS):
                self._let_go(place)
                return place, None
            if page.end > at:
                if page.first > at + 1 >= history.reach:  # more can be had now than when it was read
                    return place, None
                self._pages.move_to_end(place)
                return place, page
            place = place._replace(start=page.end)
        return place, None

    def _nearest(self, first: Place, at: int) -> Place:
        """Return the place of the page that has the position behind `at`, or one before it, in the run of `first`."""
        cuts = self._cuts.get(first, ())
        index = bisect_right(cuts, at)
        return first._replace(start=cuts[index - 1]) if index else first

    def require(self, history: "History", at: int) -> DeepPage:
        """Return the page that has the position behind `at`.

        Raises:
            Needed: it is not here.
            RequestError: it cannot be had now.
        """
        place, page = self.find(history, at)
        if page is None:
            raise Needed(place)
        if page.refused:
            raise unreadable()
        return page

    def vouches(self, history: "History", page: DeepPage) -> bool:
        """Whether it is known that all updates from a page on can be had: it was read just now, or they are held."""
        return self._lasts(page.read_ms, SURE_MS) or self.holds(history, page, history.oldest)

    def holds(self, history: "History", page: DeepPage, end: int) -> bool:
        """Whether all updates from a page on and before `end` are held in pages."""
        while page.end + 1 < end:
            _, behind = self.find(history, page.end)
            if behind is None or behind.refused or behind.first > page.end + 1:
                return False
            page = behind
        return True

    def want(self, place: Place, waiter: Waiter) -> None:
        """Ask for a page; `waiter` is called, once, when it is worth looking again."""
        waiters = self._waits.get(place)
        if waiters is not None:
            waiters[waiter] = None
            return
        self._waits[place] = {waiter: None}
        if place.ahead:
            self.ahead[place] = None
        assert self.load is not None  # else nothing lies behind memory
        self.load(place)

    def forget(self, waiter: Waiter) -> None:
        """Let go of somebody who waits no more."""
        for waiters in self._waits.values():
            waiters.pop(waiter, None)

    def grow(self, page: DeepPage, size_bytes: int) -> None:
        """Note that a page that is held costs more, since an update on it was encoded."""
        page.size_bytes += size_bytes
        self.size_bytes += size_bytes
        self._keep_to_limit()

    def arrived(self, has: Callable[[Place], bool]) -> list[Waiter]:
        """Return who waited for a position that has come.

        Args:
            has: whether a position has come.
        """
        come = [place for place in self.ahead if has(place) or not self._waits.get(place)]
        for place in come:
            del self.ahead[place]
        return [waiter for place in come for waiter in self._waits.pop(place, ())]

    def is_void(self, place: Place) -> bool:
        """Whether it is known that a position is worth nothing, to the process that is followed too."""
        return place in self._void and self._lasts(self._void[place], VOID_MS)

    def _lasts(self, since_ms: int, ms: int) -> bool:
        """Whether something is no older than so many milliseconds; nothing is where the clock was set back."""
        return 0 <= self._clock_ms() - since_ms < ms

    def check_void(self, stream: str, position: Position) -> None:
        """Let a position pass for worth nothing only if it is so to the process that is followed: it may come yet.

        Raises:
            Needed: that is not known.
        """
        place = Place(stream, position.epoch, position.seq - 1, ahead=True)
        if self.follows and not self.is_void(place):
            raise Needed(place)

    def set_void(self, place: Place) -> None:
        """Note that a position is worth nothing, and have everybody look who waits for it."""
        self._void = {known: since for known, since in self._void.items() if self._lasts(since, VOID_MS)}
        self._void[place] = self._clock_ms()
        self.ahead.pop(place, None)
        self._wake(place)

    # ------------------------------------------------------------------ what a loader calls

    def wanted(self, place: Place) -> bool:
        """Whether anybody still waits for a page."""
        return bool(self._waits.get(place))

    def abandon(self, place: Place) -> None:
        """Note that a page that nobody waits for is not being loaded any more."""
        self._waits.pop(place, None)

    def supply(
        self,
        history: "History",
        place: Place,
        oldest: int,
        raws: Iterable[bytes],
        base: Iterable[bytes],
        *,
        based: bool,
    ) -> None:
        """Take a page in, and have everybody look who waits for it.

        Args:
            history: of its stream.
            place: of the page.
            oldest: seq of the oldest update that can be had of the stream.
            raws: serialized updates behind `place.start` or, where those are gone, from `oldest` on; in order.
            base: serialized updates that stand in for what is gone before them.
            based: whether `base` stands in for everything that is gone.

        Raises:
            UpstreamError: the updates are not those of that page.
        """
        page = make_page(history, place, oldest, raws, base, based=based)
        history.extend(oldest)
        self.loads += 1
        if page is not None:
            page.read_ms = self._clock_ms()
            self._put(page)
        self._wake(place)

    def refuse(self, place: Place) -> None:
        """Note that a page cannot be had, and have everybody look who waits for it."""
        self.failures += 1
        page = DeepPage(place, place.start + 1, place.end, [], [], based=True)
        page.refused, page.read_ms = True, self._clock_ms()
        self._put(page)
        self._wake(place)

    def drop(self, name: str) -> list[Waiter]:
        """Let go of the pages of a stream, since its positions begin anew; return who waits for one of them."""
        for place in [place for place in self._pages if place.stream == name]:
            self._let_go(place)
        for place in [place for place in self._cuts if place.stream == name]:
            del self._cuts[place]
        waits = [place for place in self._waits if place.stream == name]
        return [waiter for place in waits for waiter in self._waits.pop(place)]

    # ------------------------------------------------------------------ memory

    def _put(self, page: DeepPage) -> None:
        self._let_go(page.place)
        self._pages[page.place] = page
        self.size_bytes += page.size_bytes
        if page.end < page.place.end:
            self._note_cut(page)
        self._keep_to_limit()

    def _note_cut(self, page: DeepPage) -> None:
        """Remember where a page was cut, so that the next one is found without it."""
        first = page.place._replace(start=page.place.end - PAGE_UPDATES)
        if len(self._cuts) >= CUTS and first not in self._cuts:
            self._cuts.clear()
        cuts = self._cuts.setdefault(first, [])
        index = bisect_right(cuts, page.end)
        if not index or cuts[index - 1] != page.end:
            cuts.insert(index, page.end)

    def _keep_to_limit(self) -> None:
        while self.size_bytes > self.limit_bytes and len(self._pages) > 1:
            self._let_go(next(iter(self._pages)))

    def _let_go(self, place: Place) -> None:
        page = self._pages.pop(place, None)
        if page is not None:
            self.size_bytes -= page.size_bytes
            for update in (*page.updates, *page.base):
                update.page = None  # so that it is gone at once, not when garbage is collected

    def _wake(self, place: Place) -> None:
        for waiter in self._waits.pop(place, ()):
            waiter()


def unreadable() -> RequestError:
    """Return the error for old updates that cannot be read now."""
    sentence = "older updates cannot be read from where they are kept now; ask again"
    return RequestError(ErrorCode.UPSTREAM_UNAVAILABLE, sentence, {"retry_after_ms": RETRY_AFTER_MS})


def make_page(
    history: "History", place: Place, oldest: int, raws: Iterable[bytes], base: Iterable[bytes], *, based: bool
) -> DeepPage | None:
    """Return a page as it was read, None if everything that it could have is gone.

    Raises:
        UpstreamError: the updates are not those of that page.
    """
    first, last = max(place.start + 1, oldest), min(place.end, history.head)
    if first > last:
        return None
    read = (read_update(history, raw) for raw in raws)
    updates = [update for update in read if update.seq <= last]  # what a store has kept may not be published yet
    assert history.stream is not None  # it has updates
    dense = history.stream.delivery is Delivery.EVERY
    at = first - 1
    for update in updates:
        if update.seq <= at or (dense and update.seq != at + 1):
            raise UpstreamError(f"a page of {history.name!r} goes on with {update.seq} behind {at}")
        at = update.seq
    if dense and not updates:
        raise UpstreamError(f"a page of {history.name!r} that begins with {first} is empty")
    stand_ins = [update for update in (read_update(history, raw) for raw in base) if update.seq < first]
    return DeepPage(place, first, at if updates else last, updates, stand_ins, based=based)


def read_update(history: "History", raw: bytes) -> Update:
    """Return a serialized update of a history's stream and epoch.

    Raises:
        UpstreamError: it is none.
    """
    try:
        view = view_pb2.UpdateView.FromString(raw)
    except DecodeError as error:
        raise UpstreamError(f"a page of {history.name!r} has something that is no update") from error
    if (view.stream, view.epoch) != (history.name, history.epoch) or history.stream is None:
        raise UpstreamError(f"a page of {history.name!r} has an update of {view.stream!r} in epoch {view.epoch!r}")
    return Update(history.stream, view.epoch, view.seq, view.time_ms, raw, view.key, view.prev)
