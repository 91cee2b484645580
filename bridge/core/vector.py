"""Vectors: the positions of several subscriptions as one text, so that a client may keep them as one id.

    epoch;block_updates=42;account/alice=17

A part without `=` is the epoch of the parts behind it. A subscription to one key is written `stream/key`. Neither
names nor keys nor epochs can have one of the characters that separate them, so nothing is escaped.
"""

import re
from collections.abc import Mapping

from bridge.core.audience import SubscriptionKey
from bridge.core.names import KEY, KEY_RULE, NAME, NAME_RULE
from bridge.core.position import Position
from bridge.core.update import Update

EPOCH = re.compile(r"[a-z0-9]{1,32}")
SEQ = re.compile(r"0|[1-9][0-9]{0,18}")

RULE = "<epoch>;<stream>=<seq>;<stream>/<key>=<seq>"


def name_of(subscription: SubscriptionKey) -> str:
    """Return the name of a subscription: `stream` or `stream/key`."""
    stream, key = subscription
    return stream if key is None else f"{stream}/{key}"


def parse_name(text: str) -> SubscriptionKey:
    """Read the name of a subscription.

    Raises:
        ValueError: it is none; the sentence says why.
    """
    stream, slash, key = text.partition("/")
    if not NAME.fullmatch(stream):
        raise ValueError(f"{text[:80]!r} names no stream: a name matches {NAME_RULE}")
    if slash and not KEY.fullmatch(key):
        raise ValueError(f"{text[:80]!r} names no key: behind the slash it matches {KEY_RULE}")
    return stream, key if slash else None


class Vector:
    """The positions of several subscriptions, of which each has at most one.

    Attributes:
        positions: by stream and key.
    """

    __slots__ = ("positions",)

    def __init__(self, positions: Mapping[SubscriptionKey, Position]) -> None:
        """Begin at positions; one without an epoch is none."""
        self.positions = {key: position for key, position in positions.items() if position.epoch}

    def move(self, update: Update) -> None:
        """Move the subscriptions that an update is for on behind it."""
        for key in ((update.stream.name, None), (update.stream.name, update.key)):
            position = self.positions.get(key)
            if position is not None and position.epoch == update.epoch and position.seq < update.seq:
                self.positions[key] = update.position

    def __str__(self) -> str:
        """Return the text; empty where there are no positions."""
        parts: list[str] = []
        epoch = ""
        for subscription, position in self.positions.items():
            if position.epoch != epoch:
                epoch = position.epoch
                parts.append(epoch)
            parts.append(f"{name_of(subscription)}={position.seq}")
        return ";".join(parts)

    @classmethod
    def parse(cls, text: str) -> "Vector":
        """Read the text.

        Raises:
            ValueError: it is not a vector; the sentence says why.
        """
        positions: dict[SubscriptionKey, Position] = {}
        epoch = ""
        for part in text.split(";"):
            name, equals, seq = part.partition("=")
            if not equals and EPOCH.fullmatch(part):
                epoch = part
            elif not equals or not epoch or not SEQ.fullmatch(seq):
                raise ValueError(f"{part[:80]!r} does not fit in: it is written {RULE}")
            elif (subscription := parse_name(name)) in positions:
                raise ValueError(f"{name[:80]!r} stands twice")
            else:
                positions[subscription] = Position(epoch, int(seq))
        return cls(positions)
