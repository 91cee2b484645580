"""The methods that a client may call: checked, done on the hub at once, their results typed and not yet encoded."""

from collections.abc import Callable
from difflib import get_close_matches
from typing import Final, NamedTuple

from bridge.core.audience import Reader
from bridge.core.codes import ErrorCode
from bridge.core.cursor import Books, Cursor
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

RETRY_AFTER_MS: Final = 1000
"""When to ask again while the state service cannot be reached."""


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
    replayed: int | None = None  # how many updates are replayed
    reason: str | None = None  # why a position could not be resumed from


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
    """The methods, for one client."""

    __slots__ = ("_hub", "_limits", "_reader")

    def __init__(self, hub: Hub, reader: Reader, limits: Limits) -> None:
        self._hub = hub
        self._reader = reader
        self._limits = limits

    def call(self, method: object, params: object) -> Answer:
        """Call a method.

        Raises:
            RequestError: there is no such method, or it refuses; nothing has been done then.
        """
        if not isinstance(method, str):
            raise RequestError(ErrorCode.INVALID_REQUEST, 'a request has a "method", one of ' + ", ".join(METHODS))
        if method not in METHODS:
            data: dict[str, object] = {"methods": list(METHODS)}
            raise RequestError(ErrorCode.METHOD_NOT_FOUND, f"there is no method {method[:80]!r}", data)
        return METHODS[method](self, params)

    # ------------------------------------------------------------------ subscribe

    def _subscribe(self, params: object) -> Answer:
        asked = parse_subscribe(params, self._limits)
        self._check_room(asked)
        for subscribe in asked:
            self._check(subscribe)
        begun = [self._begin(subscribe) for subscribe in asked]
        return Answer(Subscribed([row for row, _ in begun]), [frame for _, frames in begun for frame in frames])

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
        raise RequestError(
            ErrorCode.UPSTREAM_UNAVAILABLE,
            "the state service cannot be reached, so the position cannot be decided on; keep it and ask again",
            {"retry_after_ms": RETRY_AFTER_MS},
        )

    def _begin(self, asked: Subscribe) -> tuple[Started, list[bytes]]:
        """Begin or change one subscription; return its row of the result and its snapshot."""
        spec = asked.spec
        cursor = self._hub.subscribe(self._reader, spec)
        declared = cursor.history.stream is not None
        near = None if declared else self._nearest(spec.stream)
        row = Started(spec.stream, spec.key, declared, near, Position(cursor.epoch, cursor.at))
        if asked.since is not None:
            row = self._resume(row, cursor, asked)
        elif asked.last is not None:
            row = row._replace(replayed=self._replay(cursor, asked.last))
        row = row._replace(position=Position(cursor.epoch, cursor.at))
        begins_now = asked.since is None and not row.replayed
        wants_value = begins_now or row.reason in (Reason.EPOCH, Reason.AHEAD)
        return row, self._reader.snapshots(cursor, self._limits.page) if wants_value else []

    def _nearest(self, name: str) -> str | None:
        known = [history.name for history in self._hub.histories.values() if history.stream is not None][:NEAR_NAMES]
        return next(iter(get_close_matches(name, known, 1)), None)

    @staticmethod
    def _resume(row: Started, cursor: Cursor, asked: Subscribe) -> Started:
        """Put a cursor behind the position that a client has."""
        assert asked.since is not None
        history, position = cursor.history, asked.since.position
        if position is None:
            cursor.restart(asked.since.seq(history), replay_to=history.head)
            if cursor.loses():
                return row._replace(recovered=False, reason=Reason.TRIMMED)
            return row._replace(recovered=True, replayed=cursor.replayed())
        reason = obstacle(history, position)
        if reason in (Reason.EPOCH, Reason.AHEAD):
            cursor.restart(history.head)
            return row._replace(recovered=False, reason=reason)
        cursor.restart(position.seq)
        if reason is not None and cursor.loses():
            return row._replace(recovered=False, reason=reason)
        return row._replace(recovered=True, replayed=cursor.replayed())

    @staticmethod
    def _replay(cursor: Cursor, last: int) -> int:
        """Put a cursor before the last updates; return how many they are."""
        history = cursor.history
        if cursor.spec.key is None:
            at = max(history.head - last, history.oldest - 1)
        else:
            updates = history.of_key(cursor.spec.key, 0, len(history))[-last:] if last else []
            at = updates[0].seq - 1 if updates else history.head
        cursor.restart(at, replay_to=history.head)
        return cursor.replayed()

    # ------------------------------------------------------------------ the others

    def _unsubscribe(self, params: object) -> Answer:
        names = [name for name in parse_unsubscribe(params) if self._hub.unsubscribe(self._reader, *name)]
        return Answer(Unsubscribed(names), [])

    def _list(self, params: object) -> Answer:
        no_params(params)
        return Answer(Streams([h for h in self._hub.histories.values() if h.stream is not None]), [])

    def _history(self, params: object) -> Answer:
        asked = parse_history(params, self._limits)
        history = self._declared(asked.stream)
        if history is None:
            near = self._nearest(asked.stream)
            raise bad(f"stream {asked.stream!r} is not declared" + (f"; did you mean {near!r}?" if near else ""))
        check_key(history, asked.key)
        self._check_decidable(asked.stream, asked.since)
        return Answer(page_of(history, asked), [])

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
        RequestError: a position is of another epoch.
    """
    since = asked.since
    for position in (since.position if since else None, asked.until):
        if position is not None and position.epoch != history.epoch:
            data: dict[str, object] = {"reason": Reason.EPOCH, "epoch": history.epoch}
            raise RequestError(ErrorCode.INVALID_PARAMS, f"{position} is not of epoch {history.epoch}", data)
    start = since.seq(history) if since else history.oldest - 1
    until = asked.until.seq if asked.until is not None else None
    return read_page(history, asked.key, start, until, asked.limit, reverse=asked.reverse)
