"""Filters: `where` selects updates by the fields of their data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import cast

from bridge.core.codes import ErrorCode
from bridge.core.errors import RequestError

Scalar = str | int | float | bool | None
Test = Callable[[object, object], bool]

RULE = 'a term is a value, {"in":[…]}, {"prefix":"…"}, or bounds of {"gt","gte","lt","lte"}'
IN_LIMIT = 100
"""The most values in one `in`."""


def same(found: object, wanted: object) -> bool:
    """Whether two JSON scalars are equal; true is not 1, 1 is 1.0."""
    return isinstance(found, bool) == isinstance(wanted, bool) and found == wanted


def comparable(found: object, bound: object) -> bool:
    """Whether two values have an order: numbers with numbers, strings with strings."""
    if isinstance(found, bool) or isinstance(bound, bool):
        return False
    numbers = isinstance(found, int | float) and isinstance(bound, int | float)
    return numbers or (isinstance(found, str) and isinstance(bound, str))


TESTS: dict[str, Test] = {
    "eq": same,
    "in": lambda found, wanted: any(same(found, value) for value in cast("tuple[Scalar, ...]", wanted)),
    "prefix": lambda found, wanted: isinstance(found, str) and found.startswith(cast(str, wanted)),
    "gt": lambda found, bound: comparable(found, bound) and cast(float, found) > cast(float, bound),
    "gte": lambda found, bound: comparable(found, bound) and cast(float, found) >= cast(float, bound),
    "lt": lambda found, bound: comparable(found, bound) and cast(float, found) < cast(float, bound),
    "lte": lambda found, bound: comparable(found, bound) and cast(float, found) <= cast(float, bound),
}


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Where:
    """A filter: every term must hold. Equal filters are equal objects, so that each is evaluated once an update.

    Attributes:
        terms: (field, test, wanted) triples in a canonical order.
    """

    terms: tuple[tuple[str, str, str, object], ...]

    def matches(self, data: Mapping[str, object]) -> bool:
        """Whether `data` is selected. A field that is not there is null, and so is what JSON writes as null."""
        return all(TESTS[test](as_written(data.get(field)), wanted) for field, test, _, wanted in self.terms)


def as_written(value: object) -> object:
    """Return a value as JSON writes it: NaN and infinities are null."""
    return None if isinstance(value, float) and not isfinite(value) else value


def parse_where(value: object, limit: int) -> Where:
    """Read the `where` of a request.

    Args:
        value: as it came.
        limit: the most terms allowed.

    Raises:
        RequestError: it is not a filter; the sentence says which term and what is allowed.
    """
    if not isinstance(value, dict) or not value:
        raise refused("where must be an object of terms by field")
    terms = [term for field, wanted in value.items() for term in parse_term(field, wanted)]
    if len(terms) > limit:
        raise refused(f"where has {len(terms)} terms; at most {limit} are allowed")
    return Where(tuple(sorted(terms, key=lambda term: term[:3])))


def parse_term(field: str, wanted: object) -> list[tuple[str, str, str, object]]:
    """Read one field's terms: (field, test, a text that orders and tells apart, wanted)."""
    if not isinstance(wanted, dict):
        return [(field, "eq", repr(wanted), scalar(field, wanted))]
    if not wanted or not all(name in TESTS and name != "eq" for name in wanted):
        raise refused(f"where.{field}: {RULE}")
    return [(field, test, repr(bound), operand(field, test, bound)) for test, bound in wanted.items()]


def operand(field: str, test: str, bound: object) -> object:
    """Check what a test compares with."""
    if test == "in":
        if not isinstance(bound, list) or not bound or len(bound) > IN_LIMIT:
            raise refused(f"where.{field}.in must be a list of 1 to {IN_LIMIT} values")
        return tuple(scalar(field, value) for value in bound)
    if test == "prefix" and not isinstance(bound, str):
        raise refused(f"where.{field}.prefix must be a string")
    if not isinstance(bound, int | float | str) or isinstance(bound, bool):
        raise refused(f"where.{field}.{test} must be a number or a string")
    return bound


def scalar(field: str, value: object) -> Scalar:
    """Check that `value` is a JSON scalar."""
    if not isinstance(value, str | int | float | bool | None):
        raise refused(f"where.{field}: {RULE}")
    return value


def refused(sentence: str) -> RequestError:
    """Return the error for a filter that cannot be."""
    return RequestError(ErrorCode.INVALID_PARAMS, sentence)
