"""Filters: what they select, what is refused, and that equal ones are the same."""

import math

import pytest

from bridge.core.errors import RequestError
from bridge.core.where import IN_LIMIT, parse_where

DATA = {"height": 7, "price": 1.5, "hash": "0xabc", "final": True, "none": None, "list": [1], "bad": math.nan}


@pytest.mark.parametrize(
    "where",
    [
        {"height": 7},
        {"height": 7.0},
        {"final": True},
        {"none": None},
        {"not_there": None},
        {"bad": None},
        {"hash": "0xabc"},
        {"height": {"in": [1, 7]}},
        {"height": {"in": [None, 7.0]}},
        {"hash": {"prefix": "0xa"}},
        {"hash": {"prefix": ""}},
        {"height": {"gt": 6.9}},
        {"height": {"gte": 7}},
        {"height": {"lt": 10**30}},
        {"height": {"lte": 7, "gte": 7}},
        {"hash": {"gt": "0xabb", "lt": "0xabd"}},
        {"height": 7, "final": True},
        {"price": {"lt": 2}},
    ],
)
def test_what_is_selected(where):
    assert parse_where(where, 16).matches(DATA)


@pytest.mark.parametrize(
    "where",
    [
        {"height": 8},
        {"height": "7"},
        {"final": 1},
        {"final": "true"},
        {"none": False},
        {"none": 0},
        {"list": None},
        {"height": {"in": [1, 2]}},
        {"final": {"in": [1]}},
        {"height": {"prefix": "7"}},
        {"hash": {"prefix": "0xb"}},
        {"height": {"gt": 7}},
        {"height": {"lt": 7}},
        {"height": {"gt": "0"}},
        {"hash": {"gt": 0}},
        {"final": {"gte": 0}},
        {"none": {"lt": 1}},
        {"bad": {"lt": 1}},
        {"bad": {"gte": 1}},
        {"list": {"gt": 0}},
        {"height": 7, "final": False},
        {"height": {"gte": 7, "lt": 7}},
    ],
)
def test_what_is_not_selected(where):
    assert not parse_where(where, 16).matches(DATA)


@pytest.mark.parametrize(
    ("where", "told"),
    [
        (None, "where must be an object"),
        ([], "where must be an object"),
        ("height", "where must be an object"),
        ({}, "where must be an object"),
        ({"a": {}}, "where.a: a term is"),
        ({"a": {"like": 1}}, "where.a: a term is"),
        ({"a": {"eq": 1}}, "where.a: a term is"),
        ({"a": []}, "where.a: a term is"),
        ({"a": {"gt": 1, "x": 1}}, "where.a"),
        ({"a": {"in": []}}, "where.a.in must be a list of 1 to 100"),
        ({"a": {"in": 1}}, "where.a.in must be a list"),
        ({"a": {"in": [[]]}}, "where.a: a term is"),
        ({"a": {"in": [1] * (IN_LIMIT + 1)}}, "where.a.in must be a list"),
        ({"a": {"prefix": 1}}, "where.a.prefix must be a string"),
        ({"a": {"gt": None}}, "where.a.gt must be a number or"),
        ({"a": {"lt": True}}, "where.a.lt must be a number or"),
        ({"a": {"gte": [1]}}, "where.a.gte must be a number or"),
        ({"a": 1, "b": {"gt": 1, "lt": 2}}, "where has 3 terms; at most 2 are allowed"),
    ],
)
def test_what_is_refused(where, told):
    with pytest.raises(RequestError) as error:
        parse_where(where, 2)
    assert told in str(error.value)
    assert error.value.code == -32602


def test_equal_filters_are_equal_objects_and_others_are_not():
    one, same = parse_where({"a": 1, "b": {"lt": 2, "gt": 1}}, 16), parse_where({"b": {"gt": 1, "lt": 2}, "a": 1}, 16)
    assert one == same
    assert hash(one) == hash(same)
    assert len({parse_where({"a": value}, 16) for value in (1, True, 1.5, "1", None, 1)}) == 5
