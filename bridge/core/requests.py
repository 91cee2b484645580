"""What clients ask for, read from JSON values and checked; nothing here knows how it is answered."""

from collections.abc import Mapping
from typing import NamedTuple

from bridge.core.codes import ErrorCode
from bridge.core.cursor import Spec
from bridge.core.errors import RequestError
from bridge.core.limits import Limits
from bridge.core.names import KEY, KEY_RULE, NAME, NAME_RULE
from bridge.core.pages import Since
from bridge.core.position import Position
from bridge.core.where import parse_where

SEQ_LIMIT = 1 << 63

Members = Mapping[str, object]


class Subscribe(NamedTuple):
    """One subscription that is asked for."""

    spec: Spec
    since: Since | None = None
    last: int | None = None


class ListHistory(NamedTuple):
    """A page of history that is asked for."""

    stream: str
    key: str | None
    since: Since | None
    until: Position | None
    limit: int
    reverse: bool


def bad(sentence: str) -> RequestError:
    """Return the error for parameters that cannot be."""
    return RequestError(ErrorCode.INVALID_PARAMS, sentence)


def entries(params: object, names: tuple[str, ...]) -> list[Members]:
    """Read params that are names and/or objects, by position or by name, as objects.

    Args:
        params: as they came; None where there were none.
        names: the members that an object may have.
    """
    if isinstance(params, dict):
        params = [params]
    if not isinstance(params, list) or not params:
        raise bad(f"params must be a list of stream names or of objects of {', '.join(names)}")
    found: list[Members] = []
    for index, entry in enumerate(params):
        if isinstance(entry, str):
            entry = {"stream": entry}
        if not isinstance(entry, dict):
            raise bad(f"params[{index}] must be a stream name or an object of {', '.join(names)}")
        if unknown := sorted(entry.keys() - set(names)):
            raise bad(f"params[{index}] has {unknown[0]!r}, which is not known; allowed are {', '.join(names)}")
        found.append(entry)
    return found


def no_params(params: object) -> None:
    """Check that there are no params."""
    if params not in (None, [], {}, [{}]):
        raise bad("params must be left out or empty")


def stream_name(entry: Members) -> str:
    """Read the stream."""
    name = entry.get("stream")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise bad(f"stream must be a string that matches {NAME_RULE}, not {shown(name)}")
    return name


def key_name(entry: Members) -> str | None:
    """Read the key, if there is one."""
    key = entry.get("key")
    if key is None:
        return None
    if not isinstance(key, str) or not KEY.fullmatch(key):
        raise bad(f"key must be a string that matches {KEY_RULE}, not {shown(key)}")
    return key


def shown(value: object) -> str:
    """Return a value as an error shows it: not long."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def whole(entry: Members, name: str, lowest: int, highest: int) -> int:
    """Read an integer within bounds."""
    value = entry[name]
    if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
        raise bad(f"{name} must be an integer from {lowest} to {highest}, not {shown(value)}")
    return value


def position(value: object, name: str) -> Position:
    """Read a position."""
    if not isinstance(value, dict) or value.keys() != {"epoch", "seq"} or not isinstance(value["epoch"], str):
        raise bad(f'{name} must be {{"epoch":"…","seq":n}}')
    return Position(value["epoch"], whole(value, "seq", 0, SEQ_LIMIT))


def since(entry: Members) -> Since | None:
    """Read where to begin."""
    value = entry.get("since")
    if value is None:
        return None
    if isinstance(value, dict):
        if value.keys() == {"height"}:
            return Since(height=whole(value, "height", 0, SEQ_LIMIT))
        if value.keys() == {"time"}:
            return Since(time_ms=whole(value, "time", 0, SEQ_LIMIT))
        if value.keys() == {"epoch", "seq"}:
            return Since(position(value, "since"))
    raise bad('since must be {"epoch":"…","seq":n}, {"height":n} or {"time":ms}')


def fields(entry: Members, limit: int) -> tuple[str, ...] | None:
    """Read the field set."""
    value = entry.get("fields")
    if value is None:
        return None
    if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
        raise bad("fields must be a list of names of fields of data")
    if len(value) > limit:
        raise bad(f"fields has {len(value)} names; at most {limit} are allowed")
    return tuple(sorted(set(value)))


RATE_LIMIT_HZ = 1000


def max_rate(entry: Members) -> float | None:
    """Read the most updates a second."""
    value = entry.get("max_rate")
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= RATE_LIMIT_HZ:
        raise bad(f"max_rate must be a number above 0 and at most {RATE_LIMIT_HZ}, not {shown(value)}")
    return float(value)


SUBSCRIBE = ("stream", "key", "since", "last", "where", "fields", "max_rate")


def parse_subscribe(params: object, limits: Limits) -> list[Subscribe]:
    """Read the params of state_stream.subscribe.

    Raises:
        RequestError: -32602; the sentence says which parameter and what is allowed.
    """
    wanted: dict[tuple[str, str | None], Subscribe] = {}
    for entry in entries(params, SUBSCRIBE):
        name, key = stream_name(entry), key_name(entry)
        where = parse_where(entry["where"], limits.where_terms) if entry.get("where") is not None else None
        start, last = since(entry), entry.get("last")
        if start is not None and last is not None:
            raise bad("since and last exclude one another")
        if last is not None:
            last = whole(entry, "last", 0, limits.last)
        spec = Spec(name, key, where, fields(entry, limits.fields), max_rate(entry))
        wanted[name, key] = Subscribe(spec, start, last)
    return list(wanted.values())


def parse_unsubscribe(params: object) -> list[tuple[str, str | None]]:
    """Read the params of state_stream.unsubscribe."""
    return [(stream_name(entry), key_name(entry)) for entry in entries(params, ("stream", "key"))]


HISTORY = ("stream", "key", "since", "until", "limit", "reverse")


def parse_history(params: object, limits: Limits) -> ListHistory:
    """Read the params of state_stream.history."""
    asked = entries(params, HISTORY)
    if len(asked) != 1:
        raise bad("params must be one object")
    entry = asked[0]
    limit = whole(entry, "limit", 1, limits.page) if "limit" in entry else limits.page
    reverse = entry.get("reverse", False)
    if not isinstance(reverse, bool):
        raise bad(f"reverse must be true or false, not {shown(reverse)}")
    until = position(entry["until"], "until") if entry.get("until") is not None else None
    return ListHistory(stream_name(entry), key_name(entry), since(entry), until, limit, reverse)
