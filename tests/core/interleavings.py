"""Random interleavings of all that may happen to a hub: `python -m tests.core.interleavings --steps 1000000`.

Goes through the rules of the state machine in test_hub_machine.py, in an order and with arguments that a seed decides,
in runs of some hundred steps; the oracle and the books judge each. What fails is reproduced by `--seed` and `--run`.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from traceback import extract_tb
from typing import Any

from bridge.core.hub import State
from tests.core.crowd import KINDS, Crowd
from tests.core.test_hub_machine import FIELDS, KEYS, SETS, STREAMS, WHERES

Arguments = dict[str, Any]

SHOWN = 30
"""How many of the last steps are shown of a run that failed."""


def number(r: Random) -> int:
    return r.randint(0, 5)


def some(r: Random, least: int, most: int, one: Callable[[Random], Any]) -> list[Any]:
    return [one(r) for _ in range(r.randint(least, most))]


def beginning(r: Random) -> Arguments:
    """Return how a world begins."""
    single = r.random() < 0.8
    return {
        "count": r.choice([1, 3, 8, 100]) if single else 1000,
        "bytes_": r.choice([3_000, 8_000, 1 << 20]) if single else 1 << 20,
        "age_ms": r.choice([0, 1000]) if single else 0,
        "slice_writes": r.choice([1, 1, 2, 3]),
        "read": r.randint(1, 4),
        "looked_at": r.randint(1, 3),
        "capacities": some(r, 3, 8, lambda r: r.choice([None, None, None, 3, 10])),
        "streams": r.choice(SETS),
        "disk": r.choice([None, 1, 3, 100]) if single else None,
        "page_updates": r.randint(1, 4),
        "page_bytes": r.choice([30_000, 1 << 20]),
        "kinds": some(r, 5, 9, lambda r: r.randrange(len(KINDS))),
        "behind_updates": r.choice([1, 3, 100]),
        "follows": r.random() < 0.5,
        "single": single,
    }


def key(r: Random) -> str | None:
    return r.choice([None, None, *KEYS])


RULES: dict[str, tuple[int, Callable[[Random], Arguments]]] = {
    "publish": (4, lambda r: {"kinds": some(r, 1, 8, lambda r: r.choice([*STREAMS, "block_updates", "metrics"])),
                              "values": [number(r) for _ in range(8)], "slices": r.randint(0, 3)}),
    "publish_what_all_want": (2, lambda r: {"count": r.randint(1, 3), "slices": r.randint(1, 2)}),
    "change_everything_in_a_sweep": (1, lambda r: {"which": number(r)}),
    "skip_metrics": (1, lambda r: {"count": r.randint(1, 3), "tps": number(r)}),
    "go_on_behind_a_gap": (1, lambda r: {"count": r.randint(1, 4),
                                         "values": some(r, 1, 4, lambda r: (r.choice(KEYS), number(r)))}),
    "begin_epoch": (1, lambda r: {}),
    "wait": (2, lambda r: {"ms": r.choice([10, 600, 2000])}),
    "change_status": (1, lambda r: {"state": r.choice(list(State))}),
    "answer_page": (3, lambda r: {"which": number(r), "refuse": r.random() < 0.25}),
    "come_back_from_far": (2, lambda r: {"which": number(r), "stream": r.choice(STREAMS), "key": key(r),
                                         "seq": r.randint(0, 6),
                                         "outcomes": some(r, 0, 4, lambda r: r.random() < 0.5)}),
    "trim_disk": (1, lambda r: {"stream": r.choice(STREAMS), "count": r.randint(1, 20), "tell": r.random() < 0.5}),
    "subscribe": (1, lambda r: {"which": number(r), "streams": r.choice(SETS)}),
    "subscribe_with_options": (4, lambda r: {"which": number(r), "stream": r.choice(STREAMS), "key": key(r),
                                             "where": r.choice(WHERES), "fields": r.choice(FIELDS),
                                             "start": r.choice(STARTS), "back": r.randint(0, 12),
                                             "max_rate": r.choice([None, 4, 20])}),
    "unsubscribe": (2, lambda r: {"which": number(r), "stream": r.choice(STREAMS), "key": key(r)}),
    "stats": (1, lambda r: {"which": number(r)}),
    "block": (2, lambda r: {"which": number(r)}),
    "drain": (3, lambda r: {"which": number(r)}),
    "leave_and_come_back": (1, lambda r: {"which": number(r), "capacity": r.choice([None, 1, 3, 10])}),
    "run_slices": (4, lambda r: {"times": r.randint(1, 3)}),
    "rest": (1, lambda r: {}),
    "tick": (1, lambda r: {"which": number(r)}),
    "settle": (1, lambda r: {}),
}  # fmt: skip
"""How often each rule has its turn, beside the others, and what it is given."""

STARTS = ("none", "none", "since", "last", "height", "time", "epoch", "ahead")


@dataclass
class Outcome:
    """What came of all runs.

    Attributes:
        steps: how many were taken.
        runs: in how many worlds.
        published: how many updates.
        delivered: how many updates clients got.
        rules: how often each had its turn.
        failure: of the first run that failed; empty if none did.
    """

    steps: int = 0
    runs: int = 0
    published: int = 0
    delivered: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    failure: str = ""


def live(seed: int, number: int, outcome: Outcome) -> None:
    """Go through one world's life.

    Raises:
        Exception: whatever a step ends with that must not be; `outcome.failure` says what led there.
    """
    r = Random(f"{seed}-{number}")
    names, weights = list(RULES), [weight for weight, _ in RULES.values()]
    taken = [("begin", beginning(r))]
    world = Crowd()
    try:
        world.set_out(**taken[0][1])
        for name in r.choices(names, weights, k=r.choice([30, 100, 300])):
            taken.append((name, RULES[name][1](r)))
            getattr(world, name)(**taken[-1][1])
            outcome.steps += 1
            outcome.rules[name] += 1
        taken.append(("teardown", {}))
        world.teardown()
    except BaseException:
        steps = [f"  {name}({', '.join(f'{k}={v!r}' for k, v in arguments.items())})" for name, arguments in taken]
        outcome.failure = "\n".join(
            [f"--seed {seed} --run {number}, step {len(taken) - 1}:", steps[0], *steps[-SHOWN:]]
        )
        world.patch.undo()
        raise
    verdict = world.world.oracle.verdict()
    outcome.runs += 1
    outcome.published += verdict.published
    outcome.delivered += verdict.delivered


def interleave(steps: int, seed: int, tell: Callable[[str], object] = lambda line: None) -> Outcome:
    """Go through worlds until so many steps have been taken.

    Args:
        steps: how many, at least.
        seed: of all chance.
        tell: takes a line on how things stand, now and then.

    Raises:
        Exception: see `live`.
    """
    outcome, began, told = Outcome(), time.monotonic(), 0
    while outcome.steps < steps:
        try:
            live(seed, outcome.runs, outcome)
        except BaseException:
            tell(outcome.failure)
            raise
        if outcome.steps * 20 // steps > told:
            told = outcome.steps * 20 // steps
            tell(f"{time.monotonic() - began:6.0f} s: {outcome.steps:,} steps in {outcome.runs:,} worlds, "
                 f"{outcome.published:,} updates published, {outcome.delivered:,} delivered")  # fmt: skip
    return outcome


def main() -> int:
    """Run, and return 0 if nothing is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.core.interleavings", description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000_000, help="how many; default 1000000")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is left to chance; default 0")
    parser.add_argument("--run", type=int, default=None, help="go through this one world only")
    options = parser.parse_args()
    if options.run is not None:
        live(options.seed, options.run, Outcome())
        print("nothing is wrong")
        return 0
    began = time.monotonic()
    try:
        outcome = interleave(options.steps, options.seed, lambda line: print(line, flush=True))
    except AssertionError as error:
        print(f"wrong: {str(error) or extract_tb(error.__traceback__)[-1].line}")
        return 1
    print(f"seed {options.seed}: {outcome.steps:,} interleavings in {time.monotonic() - began:.0f} s, 0 violations")
    print(", ".join(f"{name} {times:,}" for name, times in outcome.rules.most_common()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
