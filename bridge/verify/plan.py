"""What each client of a run is: how it speaks, what it wants, and what happens to it."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import cycle, islice
from typing import Final

from bridge.verify.jsonvalues import Data
from bridge.verify.log import Log
from bridge.verify.reference import Head
from bridge.verify.visitor import Kind, Wish

SMALL_BUFFER_BYTES: Final = 131_072
"""What the kernel takes in for a slow client; with less than two segments of the loopback it would come by drops."""


class Habit(StrEnum):
    """What happens to a client."""

    STEADY = "steady"
    CUT = "cut"
    SLOW = "slow"


@dataclass(frozen=True)
class Plan:
    """A client."""

    name: str
    kind: Kind
    habit: Habit
    wishes: list[Wish]
    int64_string: bool = False

    @property
    def receive_buffer_bytes(self) -> int:
        """What the kernel takes in for it; 0: as it comes."""
        return SMALL_BUFFER_BYTES if self.habit is Habit.SLOW else 0


ROLES: Final = (
    (Kind.CLASSIC, Habit.STEADY, "whole"),
    (Kind.JSON, Habit.CUT, "whole"),
    (Kind.PROTO, Habit.CUT, "whole"),
    (Kind.JSON, Habit.SLOW, "whole"),
    (Kind.CLASSIC, Habit.CUT, "whole"),
    (Kind.JSON, Habit.CUT, "filtered"),
    (Kind.PROTO, Habit.CUT, "keys"),
    (Kind.JSON, Habit.CUT, "fields"),
    (Kind.PROTO, Habit.CUT, "filtered"),
    (Kind.CLASSIC, Habit.SLOW, "int64"),
)
"""What clients are, in turn."""


def plan(clients: int, streams: Sequence[Head], log: Log, chance: random.Random) -> list[Plan]:
    """Return what each client is.

    Args:
        clients: how many.
        streams: that they may subscribe to.
        log: values that were published, to filter by.
        chance: chooses among them.
    """
    plans: list[Plan] = []
    for number, (kind, habit, what) in enumerate(islice(cycle(ROLES), clients), 1):
        wishes = [wish_for(head, what, log, chance) for head in streams]
        name = f"{number} ({kind}, {habit}, {what})"
        plans.append(Plan(name, kind, habit, wishes, int64_string=what == "int64"))
    return plans


def wish_for(head: Head, what: str, log: Log, chance: random.Random) -> Wish:
    """Return a subscription to a stream: with a filter, a key or a field set where that is wanted and can be had."""
    run = log.run(head.stream, head.epoch)
    values = list(run.newest.values())
    if not values:
        return Wish(head.stream)
    value = chance.choice(values)
    match what:
        case "filtered":
            return Wish(head.stream, where=filter_for(value.data, chance))
        case "keys" if head.keyed:
            return Wish(head.stream, key=value.key)
        case "fields":
            names = sorted(value.data)
            return Wish(head.stream, fields=tuple(chance.sample(names, min(len(names), 2))) or None)
        case _:
            return Wish(head.stream)


def filter_for(data: Data, chance: random.Random) -> Data | None:
    """Return a filter that a value like `data` passes; None where it has no field to filter by."""
    numbers = sorted(n for n, v in data.items() if isinstance(v, int | float) and not isinstance(v, bool))
    texts = sorted(name for name, value in data.items() if isinstance(value, str) and value)
    if numbers:
        name = chance.choice(numbers)
        return {name: {"gte": data[name]}}
    return {texts[0]: {"prefix": data[texts[0]][:2]}} if texts else None
