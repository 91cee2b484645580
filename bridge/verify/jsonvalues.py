"""JSON values for the oracle: how they are read, compared and selected, apart from how the bridge does it."""

import json
from collections.abc import Mapping
from typing import Any

Data = dict[str, Any]


def read_json(text: str | bytes) -> Any:
    """Read JSON as the strictest client would: no key twice, no NaN, one line of UTF-8.

    Raises:
        ValueError: it is not.
    """

    def members(pairs: list[tuple[str, Any]]) -> Data:
        if len(dict(pairs)) != len(pairs):
            raise ValueError(f"a key stands twice in {pairs}")
        return dict(pairs)

    def constant(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    decoded = text if isinstance(text, str) else text.decode()
    if "\n" in decoded:
        raise ValueError("a frame is one line")
    return json.loads(decoded, object_pairs_hook=members, parse_constant=constant)


def entries_of(params: Any) -> list[Data]:
    """Return the subscriptions that params name, as objects."""
    entries = [params] if isinstance(params, dict) else params if isinstance(params, list) else []
    entries = [{"stream": entry} if isinstance(entry, str) else entry for entry in entries]
    return [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("stream"), str)]


def field_set(entry: Data) -> frozenset[str] | None:
    """Return the field set that an entry asks for."""
    return frozenset(map(str, entry["fields"])) if isinstance(entry.get("fields"), list) else None


def trimmed(data: Data, fields: frozenset[str] | None) -> Data:
    """Return data with the fields that were asked for."""
    return data if fields is None else {name: value for name, value in data.items() if name in fields}


def same(published: Any, got: Any, int64_string: bool) -> bool:
    """Whether a value is what was published: true is not 1; an integer may be a string where that was asked for."""
    if isinstance(published, dict):
        return (
            isinstance(got, dict)
            and published.keys() == got.keys()
            and all(same(value, got[name], int64_string) for name, value in published.items())
        )
    if isinstance(published, list):
        return (
            isinstance(got, list)
            and len(published) == len(got)
            and all(same(one, other, int64_string) for one, other in zip(published, got, strict=True))
        )
    if int64_string and isinstance(published, int) and isinstance(got, str):
        return str(published) == got
    return isinstance(published, bool) == isinstance(got, bool) and published == got


def selects(where: Mapping[str, Any], data: Mapping[str, Any]) -> bool:
    """Whether a filter, as in a request, selects an update (protocol, section 3)."""
    return all(term_holds(term, data.get(name)) for name, term in where.items())


def term_holds(term: Any, value: Any) -> bool:
    """Whether one term of a filter holds for a value."""
    if not isinstance(term, dict):
        return same(term, value, False)
    ordered = {str: str, int: float, float: float}
    for test, bound in term.items():
        if test == "in":
            holds = any(same(one, value, False) for one in bound)
        elif test == "prefix":
            holds = isinstance(value, str) and value.startswith(bound)
        elif type(value) not in ordered or ordered[type(value)] is not ordered.get(type(bound)):
            holds = False
        else:
            holds = {"gt": value > bound, "gte": value >= bound, "lt": value < bound, "lte": value <= bound}[test]
        if not holds:
            return False
    return True
