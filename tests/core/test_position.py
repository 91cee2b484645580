"""The text form of a position."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.position import Position


@given(st.from_regex(r"[a-z0-9]{1,32}", fullmatch=True), st.integers(0, 10**20 - 1))
def test_what_is_written_is_read(epoch, seq):
    assert Position.parse(str(Position(epoch, seq))) == (epoch, seq)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "e",
        "e-",
        "-1",
        "e-1 ",
        "e-1\n",
        "E-1",
        "e-01",
        "e--1",
        "e-1-2",
        "e-+1",
        "e-1.0",
        "é-1",
        "e-\u0661",
        "e" * 33 + "-1",
        "e-" + "1" * 21,
    ],
)
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError, match="<epoch>-<seq>"):
        Position.parse(text)


def test_the_form_of_the_protocol():
    assert str(Position("lq3x8f2a", 42)) == "lq3x8f2a-42"
