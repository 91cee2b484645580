"""Intake: takes the responses of a state service into the hub, each update once, in order, its bytes untouched.

No I/O and no clock. What a response tells is believed only where it fits: an update that came before is dropped, one
that leaves a hole on a stream delivered `every` is a fault, and the subscription is to be made anew.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from bridge.core.hub import Hub
from bridge.core.position import Position
from bridge.core.streams import Delivery, Stream
from bridge.core.update import Update
from bridge.core.update import field as update_field
from bridge.sources.faults import Doubt, Doubted, Fault
from generated.theblock.state.v1 import service_pb2, stream_pb2, update_pb2, view_pb2

log = logging.getLogger(__name__)

SLICE = 500
"""Updates taken in before other work gets its turn."""

CUSTOM = update_pb2.CustomUpdate.DESCRIPTOR.full_name


@dataclass
class Subscriptions:
    """What has become of the subscriptions to a state service.

    Attributes:
        calls: how often Subscribe was called.
        reconnects: how often one was followed again after it had been lost.
        updates: how many updates were taken in.
        repeats: how many were dropped because they had come before.
        conflated: how many were dropped because a newer one of a `latest` stream came in the same response.
        faults: how often the service broke the protocol.
        given_up: how many positions were given up because the service failed at them again and again.
    """

    calls: int = 0
    reconnects: int = 0
    updates: int = 0
    repeats: int = 0
    conflated: int = 0
    faults: int = 0
    given_up: int = 0


@dataclass
class Beginning:
    """A stream that begins behind a position, with the values as they are there, by key."""

    epoch: str
    seq: int
    values: dict[str, Update] = field(default_factory=dict)


def asks_always(_stream: str, _at: Position) -> bool:
    """No position is spent."""
    return False


class Intake:
    """Takes responses into the hub.

    Attributes:
        counts: what has become of the subscriptions.
        source: state of the service's source, None until it is told.
    """

    def __init__(self, hub: Hub, counts: Subscriptions, *, history_count: int) -> None:
        """Begin without a position.

        Args:
            hub: where the updates go.
            counts: is counted up.
            history_count: with how many updates a stream begins that is new here.
        """
        self._hub = hub
        self._history_count = history_count
        self._followed: set[str] = set()  # streams with a position to go on from
        self._skipped: set[str] = set()  # streams that this version knows nothing of
        self._asked: set[str] = set()  # streams to go on with that have not started yet
        self._given_up: set[str] = set()  # streams whose positions are worth nothing, until they begin
        self._beginnings: dict[str, Beginning] = {}  # until all their values are there
        self._newest: dict[str, int] = {}  # seq of the newest update when the stream started
        self._oldest: dict[str, int] = {}  # seq of the oldest that could be had then
        self._latest: dict[bytes, str] = {}  # `latest` streams without keys by what their updates open with
        self._behind = True
        self.counts = counts
        self.source: stream_pb2.SourceStatus | None = None

    def request(self, is_spent: Callable[[str, Position], bool] = asks_always) -> service_pb2.SubscribeRequest:
        """Return the request that goes on where the last subscription ended.

        Args:
            is_spent: whether a position is not to be asked for; its stream goes on behind whatever is missing.
        """
        positions = self.positions
        self._asked = set(positions)
        self._beginnings.clear()
        self._newest.clear()
        self._behind = True
        self.source = None
        starts = [
            service_pb2.StreamStart(stream=name)  # the current value, then live updates
            if is_spent(name, at)
            else service_pb2.StreamStart(stream=name, since=stream_pb2.Position(epoch=at.epoch, seq=at.seq))
            for name, at in sorted(positions.items())
        ]
        return service_pb2.SubscribeRequest(streams=starts, all=True, all_last=self._history_count)

    @property
    def positions(self) -> dict[str, Position]:
        """The positions to go on from, by stream."""
        histories = self._hub.histories
        names = self._followed - self._given_up
        return {name: Position(histories[name].epoch, histories[name].head) for name in names}

    @property
    def suspects(self) -> dict[str, Position]:
        """The positions that the service may have failed at: of streams that are not where it says that they are."""
        newest = self._newest
        return {
            name: at
            for name, at in self.positions.items()
            if name in self._beginnings or name not in newest or at.seq < newest[name]
        }

    def compare(self, infos: Iterable[stream_pb2.StreamInfo]) -> Doubted | None:
        """Return why a state service would take our positions for worth nothing, None if it would not.

        Args:
            infos: all streams of the service.
        """
        known = {info.stream: info for info in infos}
        positions = self.positions
        for name in positions.keys() & known.keys():
            if known[name].epoch != positions[name].epoch:
                return Doubted(Doubt.EPOCH, frozenset(positions), known[name].epoch)
        newest = {name: info.newest for name, info in known.items()}
        behind = {name for name, at in positions.items() if newest.get(name, 0) < at.seq}
        return Doubted(Doubt.BEHIND, frozenset(behind), self._hub.epoch) if behind else None

    def give_up(self, doubted: Doubted) -> None:
        """Have streams begin anew in the next subscription, since their positions are worth nothing."""
        self._given_up |= doubted.streams

    def keep_positions(self) -> None:
        """Take back `give_up` for the streams that have not begun anew since."""
        self._given_up.clear()

    @property
    def caught_up(self) -> bool:
        """Whether everything has come that the service had when the subscription began."""
        if self._behind and self._newest and not self._beginnings:
            heads = self._hub.histories
            self._behind = any(heads[name].head < newest for name, newest in self._newest.items())
        return not self._behind

    def take(self, response: view_pb2.SubscribeResponseView) -> Iterator[None]:
        """Take a response in, yielding now and then so that other work gets its turn.

        Raises:
            Doubted: the service takes positions for worth nothing.
            Fault: the response breaks the protocol; subscribe again.
        """
        if response.HasField("source"):
            self.source = response.source
        self._start_streams(response.started)
        for gap in response.gaps:
            self._pass_gap(gap)
        yield from self._take_values(response.snapshots)
        if response.updates or response.progress:
            self._begin()
        yield from self._take_updates(response.updates)

    # ------------------------------------------------------------------ beginnings

    def _start_streams(self, starts: Iterable[service_pb2.StreamStarted]) -> None:
        """Note where streams begin."""
        doubts: dict[Doubt, dict[str, str]] = {}  # epochs by stream
        for started in starts:
            if (doubt := self._start(started)) is not None:
                doubts.setdefault(doubt, {})[started.info.stream] = started.info.epoch
        for doubt, epochs in doubts.items():
            raise Doubted(doubt, frozenset(epochs), next(iter(epochs.values())))

    def _start(self, started: service_pb2.StreamStarted) -> Doubt | None:
        """Note where a stream begins; return why its position, if one was asked for, is worth nothing."""
        info = started.info
        asked = info.stream in self._asked
        self._asked.discard(info.stream)
        if not self._know(info):
            return None
        if asked:
            history = self._hub.histories[info.stream]
            if info.epoch != history.epoch or started.reason == stream_pb2.REASON_EPOCH:
                return Doubt.EPOCH
            if started.seq < history.head or started.reason == stream_pb2.REASON_AHEAD:
                return Doubt.BEHIND
        self._newest[info.stream] = info.newest
        self._oldest[info.stream] = info.oldest or info.newest + 1
        nothing_missing = asked and started.seq == self._hub.histories[info.stream].head
        if not started.recovered and not nothing_missing:
            self._beginnings[info.stream] = Beginning(info.epoch, started.seq)
        else:
            self._hub.extend(info.stream, self._oldest[info.stream])
        return None

    def _know(self, info: stream_pb2.StreamInfo) -> bool:
        """Return whether the stream can be followed; one that cannot is skipped, which is logged once."""
        if info.stream in self._skipped:
            return False
        stream: Stream | None = self._hub.catalogue.get(info.stream)
        if stream is None and info.message == CUSTOM:
            stream = self._hub.find_stream(info.stream, info.type, keyed=info.keyed)
        if stream is not None and stream.message == info.message and stream.keyed == info.keyed:
            if stream.delivery is Delivery.LATEST and not stream.keyed:
                self._latest[update_field(1, stream.name.encode())] = stream.name
            return True
        log.warning("stream %r carries %s, which this version does not know: left out", info.stream, info.message)
        self._skipped.add(info.stream)
        return False

    def _pass_gap(self, gap: service_pb2.Gap) -> None:
        """Note that a stream goes on behind updates that will not come."""
        if gap.stream in self._skipped or gap.stream in self._beginnings:
            return
        if gap.stream not in self._followed:
            raise Fault(f"it told of a gap in stream {gap.stream!r}, which it had not started", gap.stream)
        if gap.to > self._hub.histories[gap.stream].head:
            self._beginnings[gap.stream] = Beginning(gap.epoch, gap.to)

    def _take_values(self, snapshots: Iterable[bytes]) -> Iterator[None]:
        """Keep the values that streams begin with, until all of them are there."""
        for count, raw in enumerate(snapshots, 1):
            view = view_pb2.UpdateView.FromString(raw)
            beginning = self._beginnings.get(view.stream)
            if beginning is not None:
                values = beginning.values
                values[view.key] = self._update(view, raw)
                if len(values) > self._hub.limits.keys:
                    del values[next(iter(values))]
            if count % SLICE == 0:
                yield

    def _begin(self) -> None:
        """Begin the streams whose beginning is known, all of it."""
        beginnings, self._beginnings = self._beginnings, {}
        for name, beginning in beginnings.items():
            history = self._hub.history(name)
            if name in self._given_up and history.epoch == beginning.epoch and history.head <= beginning.seq:
                self._hub.begin(name, beginning.epoch, 0)  # else it would pass for a gap in what clients have
            self._hub.begin(name, beginning.epoch, beginning.seq, beginning.values.values())
            self._hub.extend(name, self._oldest.get(name, beginning.seq + 1))
            self._followed.add(name)
            self._given_up.discard(name)
        for epoch in {beginning.epoch for beginning in beginnings.values()} - {self._hub.epoch}:
            self._hub.set_epoch(epoch)

    # ------------------------------------------------------------------ updates

    def _take_updates(self, updates: Iterable[bytes]) -> Iterator[None]:
        for count, raw in enumerate(self._conflate(list(updates)), 1):
            self._take_update(view_pb2.UpdateView.FromString(raw), raw)
            if count % SLICE == 0:
                yield

    def _conflate(self, updates: list[bytes]) -> list[bytes]:
        """Leave out, unread, what a newer update of a `latest` stream supersedes: nobody would see it.

        What the service replays is history that was asked for: it is not left out.
        """
        kept: list[bytes] = []
        seen: set[bytes] = set()
        for raw in reversed(updates):
            opening = raw[: raw[1] + 2] if len(raw) > 1 else raw
            name = self._latest.get(opening)
            if name is not None:
                if opening in seen:
                    continue
                if self._hub.histories[name].head >= self._newest.get(name, 0):
                    seen.add(opening)
            kept.append(raw)
        self.counts.conflated += len(updates) - len(kept)
        kept.reverse()
        return kept

    def _take_update(self, view: view_pb2.UpdateView, raw: bytes) -> None:
        if view.stream in self._skipped:
            return
        if view.stream not in self._followed:
            raise Fault(f"it sent an update of stream {view.stream!r}, which it had not started", view.stream)
        history = self._hub.histories[view.stream]
        if view.epoch != history.epoch:
            sentence = f"it went over to epoch {view.epoch!r} on stream {view.stream!r} without a word"
            raise Fault(sentence, view.stream)
        if view.seq <= history.head:
            self.counts.repeats += 1
            return
        update = self._update(view, raw)
        if update.stream.delivery is Delivery.EVERY and view.seq != history.head + 1:
            sentence = f"it left out updates {history.head + 1} to {view.seq - 1} of stream {view.stream!r}"
            raise Fault(sentence, view.stream)
        self._hub.admit(update)
        self.counts.updates += 1

    def _update(self, view: view_pb2.UpdateView, raw: bytes) -> Update:
        stream = self._hub.histories[view.stream].stream
        assert stream is not None  # it was declared when it started
        return Update(stream, view.epoch, view.seq, view.time_ms, raw, view.key, view.prev)
