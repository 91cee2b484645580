"""What the judge knows of one subscription of a client, and what it counts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bridge.verify.jsonvalues import selects
from bridge.verify.log import Published, Run

Name = tuple[str, str | None]
"""Stream and key; None: every key."""


class Start(NamedTuple):
    """Where a subscription begins, and its options."""

    epoch: str | None
    seq: int | None
    restart: bool
    where: Mapping[str, Any] | None = None
    fields: frozenset[str] | None = None


@dataclass(eq=False, slots=True)
class Subscription:
    """What is known of one subscription while a client's frames are gone through.

    Attributes:
        start: where its books begin; a guess from snapshots until it is `told`.
        anywhere: whether it may begin anywhere, since nothing has told where.
        at: up to where everything that it wants is accounted for; -1: not known yet.
        options_at: where it stood when its options last changed.
        opening: snapshots that came before anything else since its books began where nothing was `told`.
        standing_in: snapshots ahead of it, whose range is still to be named.
        newest: the last one of each key that the client has, snapshot or update.
        filtered: whether it has had a filter since its books began.
        shared: whether another one has read the same stream at the same time.
    """

    stream: str
    key: str | None
    where: Mapping[str, Any] | None = None
    fields: frozenset[str] | None = None
    epoch: str | None = None
    start: int = 0
    told: bool = False
    anywhere: bool = False
    at: int = 0
    options_at: int = 0
    delivered: int = 0
    missed: list[tuple[int, int]] = field(default_factory=list)
    lost: set[int] = field(default_factory=set)
    opening: list[int] = field(default_factory=list)
    standing_in: list[int] = field(default_factory=list)
    newest: dict[str, int] = field(default_factory=dict)
    filtered: bool = False
    shared: bool = False

    def __str__(self) -> str:
        return f"{self.stream} {self.key or ''}".strip()

    @property
    def name(self) -> Name:
        """Stream and key."""
        return self.stream, self.key

    @property
    def whole(self) -> bool:
        """Whether it wants every update of the stream."""
        return self.key is None and self.where is None

    def covers(self, update: Published) -> bool:
        """Whether an update is of its key."""
        return self.key is None or self.key == update.key

    def wants(self, update: Published) -> bool:
        """Whether it selects an update."""
        return self.covers(update) and (self.where is None or selects(self.where, update.data))

    def begin(self, epoch: str | None, seq: int | None, *, told: bool) -> None:
        """Begin the books anew."""
        self.epoch, self.told = epoch, told
        self.start = self.at = self.options_at = seq or 0
        self.delivered, self.missed, self.opening, self.standing_in, self.newest = 0, [], [], [], {}
        self.filtered = not self.whole

    def opened_at(self, run: Run, end: int) -> int:
        """Return the last place up to `end` at which the snapshots that opened it are all that it wants.

        Snapshots are the current values of what a filter selects: an update that it selects and that was superseded
        by one that it does not select, both before it began, is not among them.
        """
        opening = {run.updates[seq].key for seq in self.opening if seq in run.updates}
        place, current = self.at, set[str]()
        for seq in range(self.at + 1, end + 1):
            update = run.updates.get(seq)
            if update is None or update.key in opening:
                break
            if self.wants(update):
                current.add(update.key)
            else:
                current.discard(update.key)
            if not current:
                place = seq
        return place

    def change(self, where: Mapping[str, Any] | None, fields: frozenset[str] | None) -> None:
        """Change the options."""
        if where != self.where:
            self.options_at, self.newest = self.at, {}
        self.where, self.fields = where, fields
        self.filtered |= where is not None


@dataclass(slots=True)
class Counts:
    """What a client got.

    Attributes:
        delivered: updates, snapshots not counted.
        snapshots: current values.
        resumed: positions that a subscription went on behind.
        gaps: ranges that were named as missed.
        missed: updates in these.
        renewed: positions that were answered with another epoch.
    """

    delivered: int = 0
    snapshots: int = 0
    resumed: int = 0
    gaps: int = 0
    missed: int = 0
    renewed: int = 0

    def add(self, other: "Counts") -> None:
        """Add what another client got."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))
