"""Pauses between tries: they double up to a limit, are spread over their whole range, and begin again."""

from bridge.core.backoff import Backoff


def test_the_upper_end_doubles_up_to_the_limit() -> None:
    backoff = Backoff(0.1, 5.0, lambda: 1.0)
    assert [round(backoff.next(), 3) for _ in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_a_pause_is_anything_up_to_the_upper_end() -> None:
    numbers = iter([0.0, 0.5, 0.25])
    backoff = Backoff(1.0, 10.0, lambda: next(numbers))
    assert [backoff.next() for _ in range(3)] == [0.0, 1.0, 1.0]


def test_reset_begins_again() -> None:
    backoff = Backoff(0.1, 5.0, lambda: 1.0)
    for _ in range(6):
        backoff.next()
    backoff.reset()
    assert backoff.next() == 0.1


def test_the_limit_holds_for_the_first_pause_too() -> None:
    assert Backoff(10.0, 2.0, lambda: 1.0).next() == 2.0
