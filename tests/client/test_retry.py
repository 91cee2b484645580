"""How long a client waits, and when it gives up."""

from itertools import chain, repeat

import pytest

from bridge.client import Patience, RefusedError
from bridge.client.errors import LostError
from bridge.client.retry import Retry

PATIENCE = Patience(steady_seconds=5, first_retry_seconds=1, longest_retry_seconds=8)


def waits(*lost: tuple[LostError, float], random: float = 0.5) -> list[float]:
    retry = Retry(PATIENCE, lambda: random)
    return [retry.wait_seconds(error, lived_seconds) for error, lived_seconds in lost]


def test_pauses_double_up_to_the_longest():
    assert waits(*repeat((LostError("x"), 0.0), 6)) == [0.5, 1, 2, 4, 4, 4]


def test_each_pause_is_anything_up_to_its_upper_end():
    assert waits(*repeat((LostError("x"), 0.0), 3), random=0.0) == [0, 0, 0]


def test_a_steady_connection_begins_anew():
    assert waits(*repeat((LostError("x"), 4.9), 2), (LostError("x"), 5.0)) == [0.5, 1, 0.5]


def test_never_before_the_time_that_was_given():
    assert waits((LostError("x", retry_after_seconds=3), 0.0), random=0.0) == [3]
    assert waits((LostError("x", retry_after_seconds=3), 0.0)) == [3.5]
    assert waits((LostError("x", retry_after_seconds=1e9), 0.0), random=0.0) == [600]


@pytest.mark.parametrize("code", [4500, 4503, 4999])
def test_final_codes(code):
    with pytest.raises(RefusedError, match="^bye$"):
        waits((LostError("bye", code), 100.0))


def test_faults_are_forgiven_by_a_steady_connection_only():
    fault, other = (LostError("bad", 1002, fault=True), 0.0), (LostError("x"), 0.0)
    steady = (LostError("bad", 1002, fault=True), 5.0)
    assert len(waits(fault, fault, steady, fault)) == 4
    with pytest.raises(RefusedError, match="^bad, 3 times in a row$"):
        waits(*chain((fault, other), (fault, other), (fault,)))
