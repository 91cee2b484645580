"""Requests read from JSON values: what is understood, and what is refused with which sentence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.cursor import Spec
from bridge.core.errors import RequestError
from bridge.core.limits import Limits
from bridge.core.pages import Since
from bridge.core.position import Position
from bridge.core.requests import (
    ListHistory,
    Subscribe,
    no_params,
    parse_history,
    parse_subscribe,
    parse_unsubscribe,
    shown,
)
from bridge.core.where import parse_where

LIMITS = Limits(last=10, page=20, fields=2, where_terms=2)
NAME = {"stream": "a"}


def subscribe(params: object) -> list[Subscribe]:
    return parse_subscribe(params, LIMITS)


def history(params: object) -> ListHistory:
    return parse_history(params, LIMITS)


@pytest.mark.parametrize(
    ("params", "specs"),
    [
        (["a", "b"], [Spec("a"), Spec("b")]),
        (NAME, [Spec("a")]),
        ([NAME, "b"], [Spec("a"), Spec("b")]),
        ([NAME | {"key": "0xA"}], [Spec("a", "0xA")]),
        ([NAME | {"key": None, "where": None, "fields": None, "since": None, "last": None}], [Spec("a")]),
        (["a", NAME | {"key": "k"}, "a"], [Spec("a"), Spec("a", "k")]),
        ([NAME | {"fields": ["y", "x", "y"][:2]}], [Spec("a", fields=("x", "y"))]),
        ([NAME | {"where": {"h": {"gt": 1}}}], [Spec("a", where=parse_where({"h": {"gt": 1}}, 2))]),
        ([NAME | {"max_rate": 2}], [Spec("a", max_rate_hz=2.0)]),
    ],
)
def test_subscriptions(params, specs):
    assert [one.spec for one in subscribe(params)] == specs


@pytest.mark.parametrize(
    ("entry", "since", "last"),
    [
        ({"since": {"epoch": "e", "seq": 0}}, Since(Position("e", 0)), None),
        ({"since": {"epoch": "e", "seq": 2**63}}, Since(Position("e", 2**63)), None),
        ({"since": {"height": 5}}, Since(height=5), None),
        ({"since": {"time": 5}}, Since(time_ms=5), None),
        ({"last": 0}, None, 0),
        ({"last": 10}, None, 10),
        ({"last": 3, "since": None}, None, 3),
    ],
)
def test_starts(entry, since, last):
    (one,) = subscribe([NAME | entry])
    assert (one.since, one.last) == (since, last)


def test_of_an_entry_that_comes_twice_the_last_one_counts():
    assert subscribe(["a", NAME | {"last": 3}]) == [Subscribe(Spec("a"), None, 3)]


REFUSED = [
    (None, "params must be a list of stream names or of objects of stream, key, since"),
    ([], "params must be a list"),
    ("a", "params must be a list"),
    (7, "params must be a list"),
    (True, "params must be"),
    ([7], "params[0] must be a stream name or an object"),
    (["a", None], "params[1] must be a stream name"),
    ([["a"]], "params[0] must be a stream name"),
    ({}, "stream must be a string that matches"),
    (["A"], "stream must be a string that matches [a-z][a-z0-9_]{0,63}, not 'A'"),
    (["a" * 65], "stream must be"),
    (["a\n"], "stream must be"),
    ([{"stream": 7}], "not 7"),
    ([{"stream": ["a"] * 99}], "stream must be"),
    ([NAME | {"keys": "b"}], "params[0] has 'keys', which is not known; allowed are stream, key, since, last"),
    ([NAME | {"key": ""}], "key must be a string that matches"),
    ([NAME | {"key": 5}], "key must be"),
    ([NAME | {"key": "a b"}], "key must be"),
    ([NAME | {"since": 5}], "since must be"),
    ([NAME | {"since": {}}], "since must be"),
    ([NAME | {"since": {"seq": 5}}], "since must be"),
    ([NAME | {"since": {"epoch": 1, "seq": 5}}], "since must be"),
    ([NAME | {"since": "e-5"}], "since must be"),
    ([NAME | {"since": {"epoch": "e", "seq": 5, "x": 1}}], "since must be"),
    ([NAME | {"since": {"epoch": "e", "seq": -1}}], "seq must be an integer from 0 to"),
    ([NAME | {"since": {"epoch": "e", "seq": 1.5}}], "seq must be an integer"),
    ([NAME | {"since": {"epoch": "e", "seq": True}}], "seq must be an integer"),
    ([NAME | {"since": {"epoch": "e", "seq": 2**63 + 1}}], "seq must be an integer"),
    ([NAME | {"since": {"height": -1}}], "height must be an integer"),
    ([NAME | {"since": {"time": "now"}}], "time must be an integer"),
    ([NAME | {"last": 11}], "last must be an integer from 0 to 10, not 11"),
    ([NAME | {"last": -1}], "last must be"),
    ([NAME | {"last": "1"}], "last must be"),
    ([NAME | {"last": False}], "last must be"),
    ([NAME | {"last": 1, "since": {"height": 1}}], "since and last exclude one another"),
    ([NAME | {"fields": []}], "fields must be a list of names"),
    ([NAME | {"fields": "a"}], "fields must be"),
    ([NAME | {"fields": [1]}], "fields must be"),
    ([NAME | {"fields": ["a", "b", "c"]}], "fields has 3 names; at most 2"),
    ([NAME | {"where": {}}], "where must be"),
    ([NAME | {"where": {"a": 1, "b": 1, "c": 1}}], "where has 3 terms"),
    ([NAME | {"max_rate": 0}], "max_rate must be a number above 0 and at most 1000, not 0"),
    ([NAME | {"max_rate": True}], "max_rate must be"),
    ([NAME | {"max_rate": "1"}], "max_rate must be"),
    ([NAME | {"max_rate": 1001}], "max_rate must be"),
]


@pytest.mark.parametrize(("params", "told"), REFUSED)
def test_what_is_refused(params, told):
    with pytest.raises(RequestError) as error:
        subscribe(params)
    assert told in str(error.value)
    assert error.value.code == -32602
    assert len(str(error.value)) < 300


def test_unsubscribing():
    assert parse_unsubscribe(["a", NAME | {"key": "k"}]) == [("a", None), ("a", "k")]
    assert parse_unsubscribe(NAME) == [("a", None)]
    for params in (None, [], [NAME | {"last": 1}], ["A"], [NAME | {"key": 1}]):
        with pytest.raises(RequestError):
            parse_unsubscribe(params)


def test_history():
    assert history(["a"]) == ListHistory("a", None, None, None, 20, False)
    asked = NAME | {"key": "k", "since": {"height": 1}, "until": {"epoch": "e", "seq": 4}, "limit": 5, "reverse": True}
    assert history(asked) == history([asked]) == ListHistory("a", "k", Since(height=1), Position("e", 4), 5, True)


@pytest.mark.parametrize(
    ("params", "told"),
    [
        (["a", "b"], "params must be one object"),
        ([NAME | {"limit": 0}], "limit must be an integer from 1 to 20, not 0"),
        ([NAME | {"limit": 21}], "limit must be"),
        ([NAME | {"limit": None}], "limit must be"),
        ([NAME | {"reverse": 1}], "reverse must be true or false, not 1"),
        ([NAME | {"until": 5}], "until must be"),
        ([NAME | {"until": {"height": 5}}], "until must be"),
        ([NAME | {"last": 5}], "params[0] has 'last'"),
        ([], "params must"),
    ],
)
def test_history_refused(params, told):
    with pytest.raises(RequestError) as error:
        history(params)
    assert told in str(error.value)


@pytest.mark.parametrize("params", [None, [], {}, [{}]])
def test_no_params(params):
    no_params(params)


@pytest.mark.parametrize("params", [[1], "", 0, {"a": 1}, [[]], False, "a"])
def test_no_params_refused(params):
    with pytest.raises(RequestError, match="params must be left out or empty"):
        no_params(params)


def test_values_are_shown_short():
    assert shown("a") == "'a'"
    assert shown("x" * 1000).endswith("...")
    assert len(shown("x" * 1000)) == 80


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["stream", "key", "since", "last", "where", "fields", "epoch", "seq", "height", "in", "max_rate"]
            )
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(json_values)
def test_any_value_is_understood_or_refused(params):
    for parse in (subscribe, parse_unsubscribe, history, no_params):
        try:
            parse(params)
        except RequestError as error:
            assert error.code == -32602
            assert str(error)
