"""The methods that a client may call: checked, done on the hub at once, their results typed and not yet encoded."""

from collections.abc import Callable
from difflib import get_close_matches
from typing import Final, NamedTuple

from bridge.core.audience import Reader
from bridge.core.codes import ErrorCode
from bridge.core.cursor import ENDLESS, Books, Cursor
from bridge.core.deep import RETRY_AFTER_MS, Needed, Place, unreadable
from bridge.core.errors import RequestError
from bridge.core.history import History
from bridge.core.hub import Hub
from bridge.core.limits import Limits
from bridge.core.pages import Page, Reason, Since, obstacle, read_page
from bridge.core.position import Position
from bridge.core.requests import (
    ListHistory,
    Subscribe,
    bad,
    no_params,
    parse_history,
    parse_subscribe,
    parse_unsubscribe,
)
from bridge.core.streams import Delivery
from bridge.core.update import Format

NEAR_NAMES: Final = 100
"""How many names, the declared ones first, a name that nothing has declared is compared with: it takes 10 us each."""


class Started(NamedTuple):
    """Where a subscription begins."""

    stream: str
    key: str | None
    declared: bool
    did_you_mean: str | None  # the nearest declared name
    position: Position
    recovered: bool | None = None  # whether every update behind the position asked for follows; None: none was
    replayed: int | None = None  # how many updates are replayed; None: that is not known yet
    reason: str | None = None  # why a position could not be resumed from


class Start(NamedTuple):
    """What became of where a subscription was asked to begin; see Started."""

    recovered: bool | None = None
    replayed: int | None = None
    reason: str | None = None


class Plan(NamedTuple):
    """A subscription that can be had."""

    asked: Subscribe
    cursor: Cursor  # nobody reads with it: it stands where the subscription is to begin
    start: Start


class Subscribed(NamedTuple):
    """Result of state_stream.subscribe."""

    rows: list[Started]


class Unsubscribed(NamedTuple):
    """Result of state_stream.unsubscribe: what was subscribed and is not any more."""

    names: list[tuple[str, str | None]]


class Streams(NamedTuple):
    """Result of state_stream.list."""

    histories: list[History]


class Stats(NamedTuple):
    """Result of session.stats: the books of every subscription."""

    rows: list[tuple[Cursor, Books]]


Result = Subscribed | Unsubscribed | Streams | Page | Stats


class Answer(NamedTuple):
    """What a method returns: its result, and the frames that follow it."""

    result: Result
    frames: list[bytes]


class Methods:
    """The methods, for one client.

    Attributes:
        late: whether what needs pages that are not here is refused, rather than waited for.
    """

    __slots__ = ("_hub", "_limits", "_reader", "late")

    def __init__(self, hub: Hub, reader: Reader, limits: Limits) -> None:
        self._hub = hub
        self._reader = reader
        self._limits = limits
        self.late = True

    def call(self, method: object, params: object) -> Answer:
        """Call a method.

        Raises:
            RequestError: there is no such method, or it refuses; nothing has been done then.
            Needed: it needs pages that are not here, and is not late; nothing has been done then.
        """
        if not isinstance(method, str):
            raise RequestError(ErrorCode.INVALID_REQUEST, 'a request has a "method", one of ' + ", ".join(METHODS))
        if method not in METHODS:
            data: dict[str, object] = {"methods": list(METHODS)}
            raise RequestError(ErrorCode.METHOD_NOT_FOUND, f"there is no method {method[:80]!r}", data)
        try:
            return METHODS[method](self, params)
        except Needed:
            if self.late:
                raise unreadable() from None
            raise

    def needs(self, method: object, params: object) -> tuple[Place, ...]:
        """Return the pages that a call would need first, as far as that can be told; nothing is done."""
        plan = PLANS.get(method) if isinstance(method, str) else None
        try:
            if plan is not None:
                plan(self, params)
        except Needed as needed:
            return needed.places
        except RequestError:
            pass  # which the call will tell
        return ()

    # ------------------------------------------------------------------ subscribe

    def _subscribe(self, params: object) -> Answer:
        begun = [self._begin(plan) for plan in self._plan_subscribe(params)]
        return Answer(Subscribed([row for row, _ in begun]), [frame for _, frames in begun for frame in frames])

    def _plan_subscribe(self, params: object) -> list[Plan]:
        """Return what is asked for, checked and decided on: what is left to do cannot fail."""
        asked = parse_subscribe(params, self._limits)
        self._check_room(asked)
        for subscribe in asked:
            self._check(subscribe)
        return [self._plan(subscribe) for subscribe in asked]

    def _plan(self, asked: Subscribe) -> Plan:
        """Decide on where a subscription begins.

        Raises:
            Needed: pages are needed to tell where that is.
        """
        history = self._hub.histories.get(asked.spec.stream)
        if history is None:  # nobody has subscribed to it yet
            history = self._hub.new_history(asked.spec.stream)
        cursor = Cursor(asked.spec, history, history.head)
        return Plan(asked, cursor, self._place(cursor, asked))

    def _check_room(self, asked: list[Subscribe]) -> None:
        limits = self._limits
        keys = self._reader.cursors.keys() | {(one.spec.stream, one.spec.key) for one in asked}
        undeclared = sum(self._declared(stream) is None for stream, _ in keys)
        if len(keys) > limits.subscriptions:
            raise bad(f"that would be {len(keys)} subscriptions; a connection may have {limits.subscriptions}")
        if undeclared > limits.undeclared:
            raise bad(
                f"that would be {undeclared} streams that nothing has declared; a connection may have "
                f"{limits.undeclared}"
            )

    def _declared(self, name: str) -> History | None:
        history = self._hub.histories.get(name)
        return history if history is not None and history.stream is not None else None

    def _check(self, asked: Subscribe) -> None:
        """Check what depends on the stream.

        Raises:
            RequestError: something is asked that the stream cannot do, or a position cannot be decided on now.
        """
        history = self._declared(asked.spec.stream)
        check_key(history, asked.spec.key)
        if asked.spec.max_rate_hz is not None:
            delivery = history.stream.delivery if history is not None and history.stream is not None else None
            if delivery is not Delivery.LATEST:
                raise bad(f"max_rate is for streams delivered latest, which {asked.spec.stream!r} is not")
        if asked.spec.fields is not None and self._reader.format is Format.PROTO:
            raise bad("fields is for JSON: a binary frame carries every update as it was published")
        self._check_decidable(asked.spec.stream, asked.since)

    def _check_decidable(self, stream: str, since: Since | None) -> None:
        """Check that it can be told what follows a position: an outage voids none.

        Raises:
            RequestError: it is not known here, and the state service cannot be asked.
        """
        if since is None or self._hub.upstream_reached:
            return
        history = self._hub.histories.get(stream)
        if history is not None and history.epoch:
            reason = obstacle(history, since.position) if since.position is not None else None
            if reason not in (Reason.EPOCH, Reason.AHEAD):
                return
        raise undecidable()

    def _begin(self, plan: Plan) -> tuple[Started, list[bytes]]:
        """Begin or change one subscription; return its row of the result and its snapshot."""
        asked, planned, start = plan
        spec = asked.spec
        cursor = self._hub.subscribe(self._reader, spec)
        if asked.since is not None or asked.last is not None:
            cursor.restart(planned.at, replay_to=planned.replay_to)
        declared = cursor.history.stream is not None
        near = None if declared else self._nearest(spec.stream)
        row = Started(spec.stream, spec.key, declared, near, Position(cursor.epoch, cursor.at), *start)
        begins_now = asked.since is None and not row.replayed
        wants_value = begins_now or row.reason in (Reason.EPOCH, Reason.AHEAD)
        return row, self._reader.snapshots(cursor, self._limits.page) if wants_value else []

    def _nearest(self, name: str) -> str | None:
        known = [history.name for history in self._hub.histories.values() if history.stream is not None][:NEAR_NAMES]
        return next(iter(get_close_matches(name, known, 1)), None)

    def _place(self, cursor: Cursor, asked: Subscribe) -> Start:
        """Put a cursor at the head to where it is asked to begin.

        Raises:
            Needed: pages are needed to tell where that is.
        """
        if asked.since is not None:
            return self._resume(cursor, asked.since)
        return Start(replayed=self._replay(cursor, asked.last)) if asked.last is not None else Start()

    def _confirm_void(self, history: History, position: Position) -> None:
        """Let a position pass for worth nothing only if it is so to the state service: it may not have come here yet.

        Raises:
            Needed: that is not known.
            RequestError: that could not be known in time.
        """
        try:
            history.pages.check_void(history.name, position)
        except Needed:
            if self.late:
                raise undecidable() from None
            raise

    def _resume(self, cursor: Cursor, since: Since) -> Start:
        """Put a cursor behind the position that a client has."""
        history, position = cursor.history, since.position
        reason = obstacle(history, position) if position is not None else None
        if position is not None and reason in (Reason.EPOCH, Reason.AHEAD) and history.pages.follows:
            self._confirm_void(history, position)
        if reason in (Reason.EPOCH, Reason.AHEAD):
            cursor.restart(history.head)
            return Start(recovered=False, reason=reason)
        cursor.restart(since.seq(history), replay_to=0 if position is not None else history.head)
        if cursor.loses():
            return Start(recovered=False, reason=Reason.TRIMMED)
        return Start(recovered=True, replayed=cursor.replayed())

    @staticmethod
    def _replay(cursor: Cursor, last: int) -> int | None:
        """Put a cursor before the last updates; return how many they are."""
        history, key = cursor.history, cursor.spec.key
        if key is None or not last:
            cursor.restart(max(history.head - last, history.reach - 1), replay_to=history.head)
            return cursor.replayed()
        page = read_page(history, key, history.reach - 1, None, last, reverse=True, size_bytes=ENDLESS)
        cursor.restart(page.updates[-1].seq - 1 if page.updates else history.head, replay_to=history.head)
        return len(page.updates)

    # ------------------------------------------------------------------ the others

    def _unsubscribe(self, params: object) -> Answer:
        names = [name for name in parse_unsubscribe(params) if self._hub.unsubscribe(self._reader, *name)]
        return Answer(Unsubscribed(names), [])

    def _list(self, params: object) -> Answer:
        no_params(params)
        return Answer(Streams([h for h in self._hub.histories.values() if h.stream is not None]), [])

    def _history(self, params: object) -> Answer:
        return Answer(self._page(params), [])

    def _page(self, params: object) -> Page:
        asked = parse_history(params, self._limits)
        history = self._declared(asked.stream)
        if history is None:
            near = self._nearest(asked.stream)
            raise bad(f"stream {asked.stream!r} is not declared" + (f"; did you mean {near!r}?" if near else ""))
        check_key(history, asked.key)
        self._check_decidable(asked.stream, asked.since)
        return page_of(history, asked)

    def _stats(self, params: object) -> Answer:
        no_params(params)
        self._hub.settle(self._reader)
        return Answer(Stats([(cursor, cursor.books()) for cursor in self._reader.cursors.values()]), [])


METHODS: Final[dict[str, Callable[[Methods, object], Answer]]] = {
    "state_stream.subscribe": Methods._subscribe,
    "state_stream.unsubscribe": Methods._unsubscribe,
    "state_stream.list": Methods._list,
    "state_stream.history": Methods._history,
    "session.stats": Methods._stats,
}
"""The methods by name."""


PLANS: Final[dict[str, Callable[[Methods, object], object]]] = {
    "state_stream.subscribe": Methods._plan_subscribe,
    "state_stream.history": Methods._page,
}
"""What finds out, without doing anything, what methods need that are about the past."""


def undecidable() -> RequestError:
    """Return the error for a position that cannot be decided on, since the state service cannot be asked."""
    return RequestError(
        ErrorCode.UPSTREAM_UNAVAILABLE,
        "the state service cannot be reached, so the position cannot be decided on; keep it and ask again",
        {"retry_after_ms": RETRY_AFTER_MS},
    )


def check_key(history: History | None, key: str | None) -> None:
    """Check that a stream, if it is declared, has keys where one is asked for.

    Raises:
        RequestError: it has none.
    """
    if history is not None and history.stream is not None and key is not None and not history.stream.keyed:
        raise bad(f"stream {history.name!r} has no keys")


def page_of(history: History, asked: ListHistory) -> Page:
    """Return the page of history that is asked for.

    Raises:
        RequestError: a position is of another epoch, or pages cannot be had now.
        Needed: pages are needed that are not here.
    """
    since = asked.since
    for position in (since.position if since else None, asked.until):
        if position is not None and position.epoch != history.epoch:
            data: dict[str, object] = {"reason": Reason.EPOCH, "epoch": history.epoch}
            raise RequestError(ErrorCode.INVALID_PARAMS, f"{position} is not of epoch {history.epoch}", data)
    start = since.seq(history) if since else history.reach - 1
    until = asked.until.seq if asked.until is not None else None
    return read_page(history, asked.key, start, until, asked.limit, reverse=asked.reverse)
