"""Where a client stands in each of its streams: so it resumes without loss or repeat, and notices either.

No I/O. A place moves with what comes on its subscription:

- an acknowledgement puts it where the sidecar says; it is resumed from once the values that follow have come too;
- an update moves it to its seq, a progress frame to that of the stream;
- a snapshot moves it only where it stands in for what was missed, or begins a new epoch.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bridge.client.counts import Counts
from bridge.client.events import Event, Gap, Progress, Started, Updated
from bridge.client.subscription import Subscription
from bridge.core.position import Position
from bridge.core.streams import Catalogue, Delivery

LATEST = frozenset(stream.name for stream in Catalogue() if stream.delivery is Delivery.LATEST)
"""Streams of which updates may be skipped."""

NOWHERE = Position("", 0)


@dataclass
class Place:
    """Where a client stands with one subscription.

    Attributes:
        subscription: as it was asked for.
        at: up to where everything has come, on this connection.
        settled: where the next connection goes on; None: it asks as at first.
        gap: that was announced, while what follows it is still to come.
    """

    subscription: Subscription
    at: Position = NOWHERE
    settled: Position | None = None
    gap: Gap | None = None

    @property
    def dense(self) -> bool:
        """Whether every update of the stream, or of its key, has to come."""
        asked = self.subscription
        return asked.stream not in LATEST and asked.where is None

    @property
    def renewed(self) -> bool:
        """Whether the stream begins anew: what comes next may have any position."""
        return self.gap is not None and self.gap.reason == "epoch"

    def move(self, position: Position) -> None:
        """Stand at a position, and resume there."""
        self.at = self.settled = position
        self.gap = None

    def is_repeat(self, update: Updated) -> bool:
        """Whether an update has come before."""
        return not self.renewed and update.epoch == self.at.epoch and update.seq <= self.at.seq

    def hole_before(self, update: Updated) -> Gap | None:
        """Return what should have come before an update, did not, and was not announced."""
        if self.renewed:
            return None
        stream, key = self.subscription.name
        if update.epoch != self.at.epoch:
            return Gap(stream=stream, key=key, epoch=update.epoch, first=0, last=0, reason="unexplained")
        last = update.seq - 1 if key is None else update.prev or 0
        if not self.dense or last <= self.at.seq or (self.gap is not None and last <= self.gap.last):
            return None
        return Gap(stream=stream, key=key, epoch=update.epoch, first=self.at.seq + 1, last=last, reason="unexplained")

    def take_snapshot(self, update: Updated) -> None:
        """Move with a snapshot, if it is one that moves it."""
        missed = update.missed
        if self.renewed:
            self.at = Position(update.epoch, max(update.seq, self.at.seq))
        elif missed and update.epoch == self.at.epoch and missed.first - 1 <= self.at.seq < missed.last:
            self.move(Position(update.epoch, missed.last))


class Positions:
    """The places of all subscriptions."""

    def __init__(self, subscriptions: Iterable[Subscription], counts: Counts) -> None:
        self._places = {one.name: Place(one) for one in subscriptions}
        self._counts = counts

    def get(self, stream: str, key: str | None = None) -> Position | None:
        """Return the position from which a subscription would be resumed; None: there is none yet."""
        place = self._places.get((stream, key))
        return None if place is None else place.settled

    def add(self, subscription: Subscription) -> None:
        """Add a subscription, or change the options of the one to the same stream and key."""
        place = Place(subscription)
        if subscription.goes_on and (before := self._places.get(subscription.name)) is not None:
            place.settled = before.settled
        self._places[subscription.name] = place

    def remove(self, stream: str, key: str | None) -> None:
        """Let a subscription go."""
        self._places.pop((stream, key), None)

    def wanted(self) -> list[Subscription]:
        """Return what to ask for on a new connection: everything goes on where it stands."""
        places = self._places.values()
        return [one.subscription if one.settled is None else one.subscription.resumed(one.settled) for one in places]

    # ------------------------------------------------------------------ what comes

    def acknowledge(self, rows: Iterable[Started]) -> None:
        """Put places where the sidecar says that they begin."""
        for row in rows:
            if (place := self._places.get((row.stream, row.key))) is not None:
                place.at, place.gap = Position(row.epoch, row.seq), None

    def settle(self, rows: Iterable[Started]) -> None:
        """Note that the values which follow an acknowledgement have come."""
        for row in rows:
            place = self._places.get((row.stream, row.key))
            if place is not None and place.gap is None:
                place.settled = place.at

    def take(self, event: Event) -> Iterator[Event]:
        """Take in what came; yield what is to be told: itself, unless it is a repeat, and gaps that it shows."""
        match event:
            case Updated():
                yield from self._take_update(event)
                return
            case Gap() if (place := self._places.get((event.stream, event.key))) is not None:
                place.gap = event
                if event.reason == "epoch":
                    place.at = Position(event.epoch, 0)
            case Progress():
                for reached in event.positions:
                    position = Position(reached.epoch, reached.seq)
                    for place in self._of_stream(reached.stream):
                        if place.renewed or position.epoch != place.at.epoch or position.seq > place.at.seq:
                            place.move(position)
        yield event

    def _of_stream(self, stream: str) -> list[Place]:
        return [place for name, place in self._places.items() if name[0] == stream]

    def _take_update(self, update: Updated) -> Iterator[Event]:
        names = {(update.stream, None), (update.stream, update.key)}
        places = [place for name in names if (place := self._places.get(name)) is not None]
        if not places:
            self._counts.unasked += 1
            return
        if update.snapshot:
            for place in places:
                place.take_snapshot(update)
            self._counts.snapshots += 1
            yield update
            return
        news = [place for place in places if not place.is_repeat(update)]
        if not news:
            self._counts.repeated += 1
            return
        for place in news:
            if (hole := place.hole_before(update)) is not None:
                self._counts.unexplained += 1
                yield hole
            place.move(update.position)
        self._counts.updates += 1
        yield update
