"""The positions of several subscriptions as one text."""

import pytest

from bridge.core.position import Position
from bridge.core.update import Update
from bridge.core.vector import Vector, name_of, parse_name
from tests.core.world import CATALOGUE

ACCOUNT = next(stream for stream in CATALOGUE if stream.name == "account")
LONG = "account/" + "K" * 128


def update(seq: int, key: str, epoch: str = "e1") -> Update:
    return Update(ACCOUNT, epoch, seq, 0, b"", key)


@pytest.mark.parametrize(
    "text",
    [
        "e1;block_updates=0",
        "lq3x8f2a;block_updates=42;account/alice=17;account=3;ticks=9223372036854775807",
        "e1;block_updates=1;e2;metrics=2;e1;account/0xAB.c:d_e-f=3",
        f"{'e' * 32};{'s' * 64}=1;{LONG}=2",
    ],
)
def test_a_vector_reads_as_it_was_written(text):
    assert str(Vector.parse(text)) == text


def test_a_vector_has_the_position_of_each_subscription():
    positions = Vector.parse("e1;a=42;account/alice=17;e2;b=0").positions
    assert positions == {
        ("a", None): Position("e1", 42),
        ("account", "alice"): Position("e1", 17),
        ("b", None): Position("e2", 0),
    }


def test_an_epoch_that_is_not_known_gives_no_position():
    assert str(Vector({("a", None): Position("", 0), ("b", None): Position("e1", 7)})) == "e1;b=7"
    assert str(Vector({("a", None): Position("", 0)})) == ""


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "''"),
        ("a=1", "'a=1'"),
        ("e1;a", None),  # an epoch
        ("e1;a=", "'a='"),
        ("e1;a=-1", "'a=-1'"),
        ("e1;a=01", "'a=01'"),
        ("e1;a=1;", "''"),
        ("e1;A=1", "'A'"),
        ("e1;a/=1", "'a/'"),
        ("e1;a/b/c=1", "'a/b/c'"),
        ("e1;a=1;a=2", "stands twice"),
        ("e1;a=1;e2;a=1", "stands twice"),
        ("E1;a=1", "'E1'"),
        (f"{'e' * 33};a=1", "'eee"),
        ("e1;a=12345678901234567890", "'a=123"),
        ("e1;a=1\r\nX: y", "'a=1\\r\\n"),
        ("42", None),  # an epoch too: whoever keeps numbers is told that nothing is known of them
    ],
)
def test_what_is_no_vector_is_refused_with_a_sentence(text, wrong):
    if wrong is None:
        assert Vector.parse(text).positions == {}
        return
    with pytest.raises(ValueError, match="[.>]$|twice$|}$|\\]$") as raised:
        Vector.parse(text)
    assert wrong in str(raised.value)


@pytest.mark.parametrize("name", ["account", "account/alice", "account/a:b.c-d_e", LONG])
def test_names_of_subscriptions(name):
    assert name_of(parse_name(name)) == name


@pytest.mark.parametrize(
    "name", ["", "/", "/a", "account/", "account/a/b", "Account", "account/a b", "account/a;b", "a=1"]
)
def test_names_that_are_none(name):
    with pytest.raises(ValueError, match="matches"):
        parse_name(name)


def test_an_update_moves_the_subscriptions_that_it_is_for():
    vector = Vector.parse("e1;account=5;account/a=4;account/b=6;block_updates=9")
    vector.move(update(7, "a"))
    assert str(vector) == "e1;account=7;account/a=7;account/b=6;block_updates=9"


def test_no_update_moves_a_position_back_or_into_another_epoch():
    vector = Vector.parse("e1;account=5")
    vector.move(update(4, "a"))
    vector.move(update(9, "a", epoch="e2"))
    assert str(vector) == "e1;account=5"
