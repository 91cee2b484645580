"""Filters select what an evaluator of its own says they do, and each is evaluated once an update for all clients."""

import gc
import json
import weakref
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.core import update as update_module
from bridge.core.errors import RequestError
from bridge.core.streams import custom_stream
from bridge.core.update import Update
from bridge.core.where import IN_LIMIT, Where, parse_where
from tests.core.v1_clients import JsonClient, ProtoClient, V1Client
from tests.core.world import World

TERMS = 16

# The reference: on JSON text alone, one rule of the protocol a line.


def kind(value: Any) -> str:
    """Return the JSON type of a value."""
    kinds = {bool: "boolean", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return kinds.get(type(value), "null")


def equal(value: Any, wanted: Any) -> bool:
    return kind(value) == kind(wanted) and kind(value) not in ("array", "object") and value == wanted


def ordered(value: Any, bound: Any) -> int | None:
    """Return -1, 0 or 1 as a value lies below, at or above a bound; None where the two have no order."""
    if kind(value) != kind(bound) or kind(value) not in ("number", "string"):
        return None
    return (value > bound) - (value < bound)


def selects(where: dict[str, Any], data: dict[str, Any]) -> bool:
    """Whether every term of a filter holds."""
    for name, term in where.items():
        value = data.get(name)
        if kind(term) != "object":
            if not equal(value, term):
                return False
            continue
        for test, bound in term.items():
            if test == "in":
                holds = [one for one in bound if equal(value, one)] != []
            elif test == "prefix":
                holds = kind(value) == "string" and value[: len(bound)] == bound
            else:
                wanted = {"gt": (1,), "gte": (0, 1), "lt": (-1,), "lte": (-1, 0)}[test]
                holds = ordered(value, bound) in wanted
            if not holds:
                return False
    return True


# Random data and filters, with values that meet.

NAMES = st.sampled_from(["a", "b", "height", ""])
NUMBERS = st.sampled_from([0, 1, -1, 2, 2**53, 2**53 + 1, 2**64, 0.0, -0.0, 1.0, 0.5, 1e300, 2.0**53])
TEXTS = st.sampled_from(["", "a", "ab", "abc", "b", "0", "1", "true", "\u20ac", "\U0001f600", "\uffff"])
SCALARS = NUMBERS | TEXTS | st.booleans() | st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
DATA = st.dictionaries(NAMES, SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(NAMES, SCALARS, max_size=2))
BOUNDS = st.fixed_dictionaries(
    {},
    optional={
        "in": st.lists(SCALARS, min_size=1, max_size=4),
        "prefix": TEXTS,
        **dict.fromkeys(("gt", "gte", "lt", "lte"), NUMBERS | TEXTS),
    },
).filter(bool)
WHERES = st.dictionaries(NAMES, SCALARS | BOUNDS, min_size=1, max_size=3)


@given(WHERES, st.lists(DATA, min_size=1, max_size=8))
@settings(max_examples=500, deadline=None)
def test_a_filter_selects_what_the_reference_says(where, several):
    parsed = parse_where(json.loads(json.dumps(where)), TERMS)
    for data in several:
        assert parsed.matches(data) is selects(where, data), (where, data)


@given(WHERES, st.lists(DATA, min_size=1, max_size=6))
@settings(max_examples=100, deadline=None)
def test_a_client_gets_what_the_reference_says(where, several):
    """Live, replayed, and in the books."""
    world = World()
    live, late = JsonClient(world), JsonClient(world)
    live.subscribe({"stream": "notes", "where": where})
    for data in several:
        world.origin.publish_custom("notes", "note", json.dumps(data).encode())
        world.run()
    late.subscribe({"stream": "notes", "where": where, "last": 1000})
    wanted = [seq for seq, data in enumerate(several, 1) if selects(where, data)]
    for client in (live, late):
        assert [frame["seq"] for frame in client.take() if "data" in frame] == wanted
        (books,) = client.stats()
        assert (books["delivered"], books["filtered"]) == (len(wanted), len(several) - len(wanted))


@given(WHERES)
@settings(max_examples=200, deadline=None)
def test_equal_filters_are_equal_whatever_the_order_of_their_terms(where):
    def turned(value: Any) -> Any:
        return dict(reversed([(k, turned(v)) for k, v in value.items()])) if isinstance(value, dict) else value

    first, second = parse_where(where, TERMS), parse_where(turned(where), TERMS)
    assert first == second
    assert hash(first) == hash(second)


@pytest.mark.parametrize(("one", "other"), [(1, True), (0, False), ("1", 1), (None, False), (None, "")])
def test_filters_that_select_otherwise_are_not_equal(one, other):
    assert parse_where({"a": one}, TERMS) != parse_where({"a": other}, TERMS)
    assert parse_where({"a": {"in": [one]}}, TERMS) != parse_where({"a": {"in": [other]}}, TERMS)


# Limits


@pytest.mark.parametrize(
    "where",
    [
        {f"f{number}": number for number in range(TERMS)},
        {f"f{number}": {"gt": 1, "lte": 9} for number in range(TERMS // 2)},
        {"a": {"in": list(range(IN_LIMIT))}},
    ],
    ids=["terms", "tests", "in"],
)
def test_filters_up_to_the_limit(where):
    assert parse_where(where, TERMS).matches({}) is False


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ({f"f{number}": number for number in range(TERMS + 1)}, "17 terms; at most 16"),
        ({f"f{number}": {"gt": 1, "lte": 9} for number in range(TERMS // 2)} | {"z": 1}, "17 terms; at most 16"),
        ({"a": {"in": list(range(IN_LIMIT + 1))}}, "1 to 100 values"),
    ],
    ids=["terms", "tests", "in"],
)
def test_filters_beyond_it(where, told):
    with pytest.raises(RequestError, match=told) as refusal:
        parse_where(where, TERMS)
    assert refusal.value.code == -32602


@given(st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS | st.sampled_from(
    ["in", "gt", "prefix", "eq"]), inner, max_size=3), max_leaves=8))  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_any_json_is_a_filter_or_refused_with_a_sentence(value):
    try:
        parsed = parse_where(value, TERMS)
    except RequestError as error:
        assert error.code == -32602
        assert "where" in str(error)
    else:
        assert parsed.matches({"a": 1}) in (True, False)


# Once an update


class Count:
    """Counts what is decoded and evaluated."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.evaluations: Counter[tuple[Where, int]] = Counter()
        self.decoded: Counter[int] = Counter()
        matches, data = Where.matches, Update.data
        seq = 0

        def counting_data(update: Update, *args: Any) -> Any:
            nonlocal seq
            seq = update.seq
            self.decoded[seq] += 1
            return data(update, *args)

        def counting_matches(where: Where, found: Any) -> bool:
            self.evaluations[where, seq] += 1
            return matches(where, found)

        monkeypatch.setattr(Update, "data", counting_data)
        monkeypatch.setattr(Where, "matches", counting_matches)


FILTERS = ({"height": {"gte": 3}}, {"height": {"in": [2, 4, 6]}}, {"hash": {"prefix": "0x"}})


def crowd(world: World) -> list[V1Client]:
    """Return 100 clients that share three filters, in many audiences: of two encodings, field sets and more streams."""
    clients = []
    for number in range(100):
        client = (ProtoClient if number % 4 == 0 else JsonClient)(world)
        entry: dict[str, Any] = {"stream": "block_updates", "where": FILTERS[number % 3]}
        if number % 4 == 1:
            entry["fields"] = ["height"]
        client.subscribe(entry, *(["energy"] if number % 5 == 0 else []))
        clients.append(client)
    world.run()
    return clients


def test_a_filter_is_evaluated_once_an_update_however_many_clients_share_it(world, monkeypatch):
    clients = crowd(world)
    assert len({id(client.reader.audience) for client in clients}) >= 12
    count = Count(monkeypatch)
    for height in range(1, 8):
        world.block(height)
        world.run()
    assert set(count.evaluations.values()) == {1}
    assert len(count.evaluations) == 3 * 7
    assert [client.stats()[0]["delivered"] for client in clients[:3]] == [5, 3, 7]


def test_so_it_is_for_those_that_catch_up(world, monkeypatch):
    clients = crowd(world)
    for client in clients:
        world.hub.block(client.reader)
    count = Count(monkeypatch)
    for height in range(1, 8):
        world.block(height)
    world.run()
    assert not count.evaluations
    for client in clients:
        client.drain()
    world.run()
    assert set(count.evaluations.values()) == {1}
    assert len(count.evaluations) == 3 * 7
    assert all(client.reader.audience is not None for client in clients)


def test_an_update_remembers_a_limited_number_of_outcomes(world):
    update = world.block(1)
    for number in range(10 * update_module.OUTCOMES):
        where = parse_where({"height": number}, TERMS)
        assert update.selected(where) is (number == 1)
        assert update.selected(where) is (number == 1)
        assert len(update._outcomes) <= update_module.OUTCOMES


def test_an_update_keeps_no_filter_alive(world):
    update = world.block(1)
    where = parse_where({"height": 1}, TERMS)
    assert update.selected(where)
    gone = weakref.ref(where)
    del where
    gc.collect()
    assert gone() is None
    assert update.selected(parse_where({"height": 1}, TERMS))
    assert not update.selected(parse_where({"height": 2}, TERMS))


def test_filters_that_are_equal_in_python_only_are_told_apart(world):
    """1 and true are equal to Python, and so are 1 and 1.0; the first two are not to JSON."""
    stream = custom_stream("notes", "note", keyed=False)
    update = Update(stream, "e1", 1, 0, b'z\x0f\n\x04note\x12\x07{"a":1}')
    for _ in range(2):
        assert update.selected(parse_where({"a": 1}, TERMS))
        assert not update.selected(parse_where({"a": True}, TERMS))
        assert update.selected(parse_where({"a": 1.0}, TERMS))
