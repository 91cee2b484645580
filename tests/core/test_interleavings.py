"""Random interleavings: a small run; `python -m tests.core.interleavings` goes on for a million."""

import pytest

from tests.core import interleavings
from tests.core.crowd import Crowd
from tests.core.interleavings import RULES, Outcome, interleave, live


@pytest.mark.parametrize("seed", range(4))
def test_twenty_thousand_interleavings_leave_nothing_wrong(seed):
    told: list[str] = []
    outcome = interleave(5000, seed, told.append)
    assert outcome.steps >= 5000
    assert set(outcome.rules) == set(RULES)
    assert outcome.delivered > outcome.published > 5000
    assert outcome.runs >= len(told) > 10


def test_every_rule_of_the_state_machine_has_its_turn():
    assert {rule.function.__name__ for rule in Crowd().rules} <= set(RULES)


def test_the_same_seed_does_the_same():
    first, again, other = Outcome(), Outcome(), Outcome()
    live(5, 1, first)
    live(5, 1, again)
    live(5, 2, other)
    assert first == again != other


def test_what_fails_is_told_with_what_led_there(monkeypatch):
    monkeypatch.setattr(interleavings, "RULES", {"settle": (1, lambda r: {}), "gone": (1, lambda r: {})})
    told: list[str] = []
    with pytest.raises(AttributeError, match="gone"):
        interleave(1000, 7, told.append)
    (failure,) = told
    assert failure.startswith("--seed 7 --run 0, step ")
    assert failure.endswith("  gone()")
