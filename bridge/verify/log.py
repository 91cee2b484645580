"""What was published, as far as the oracle has been told."""

from collections.abc import Callable
from dataclasses import dataclass, field

from bridge.verify.jsonvalues import Data


@dataclass(slots=True)
class Published:
    """An update.

    Attributes:
        type: of the update.
        seq: of its position.
        key: of the value, empty where there is none.
        prev: seq of the key's update before it, 0 if there was none; None: not known.
        data: the value, in the form that has everything.
        time: when it was published, Unix milliseconds; None: not known, the first frame of it tells.
    """

    type: str
    seq: int
    key: str
    prev: int | None
    data: Data
    time: int | None = None


@dataclass(slots=True)
class Run:
    """What was published on one stream in one epoch.

    Attributes:
        updates: by seq.
        newest: the newest update of each key.
        last: seq of the newest update of each key, up to `complete`.
        head: seq of the newest update that is known of.
        complete: up to here nothing more will be told of.
        forgotten: up to here it is not known what there was.
        closed: whether the epoch is over, so that nothing more will be told of at all.
    """

    updates: dict[int, Published] = field(default_factory=dict)
    newest: dict[str, Published] = field(default_factory=dict)
    last: dict[str, int] = field(default_factory=dict)
    head: int = 0
    complete: int = 0
    forgotten: int = 0
    closed: bool = False

    def add(self, update: Published) -> None:
        """Take in an update that is not known yet."""
        self.updates[update.seq] = update
        self.head = max(self.head, update.seq)
        known = self.newest.get(update.key)
        if known is None or known.seq < update.seq:
            self.newest[update.key] = update
        while (following := self.updates.get(self.complete + 1)) is not None:
            self.complete += 1
            if following.prev is None and (following.key in self.last or not self.forgotten):
                following.prev = self.last.get(following.key, 0)
            self.last[following.key] = following.seq

    def skip_to(self, seq: int) -> None:
        """Note that what was published up to `seq`, and is not known, will not be told of."""
        self.complete, self.head = max(self.complete, seq), max(self.head, seq)
        self.forgotten = max(self.forgotten, seq)

    def trim(self, keep: int) -> None:
        """Forget the oldest updates, so that at most `keep` of those that are complete stay."""
        while len(self.updates) > keep and self.forgotten < self.complete:
            self.forgotten += 1
            self.updates.pop(self.forgotten, None)


class Log:
    """What was published.

    Attributes:
        latest: names of the streams that are delivered `latest`.
        epochs: in the order in which they began.
        runs: by stream and epoch.
        count: how many updates there were.
        adopt: asked about an update that nobody has told of, as a frame; returns it if it may have been published.
    """

    def __init__(self, latest: frozenset[str]) -> None:
        self.latest = latest
        self.epochs: list[str] = []
        self.runs: dict[str, dict[str, Run]] = {}
        self.count = 0
        self.adopt: Callable[[Data], Published | None] = lambda _frame: None

    def run(self, stream: str, epoch: str | None) -> Run:
        """Return what was published on a stream in an epoch."""
        runs = self.runs.get(stream)
        if runs is None:
            runs = self.runs[stream] = {}
        run = runs.get(epoch or "")
        if run is None:
            run = runs[epoch or ""] = Run()
        return run

    def began(self, epoch: str) -> None:
        """Note that an epoch began."""
        if epoch not in self.epochs:
            self.epochs.append(epoch)

    def close(self, epoch: str) -> None:
        """Note that an epoch is over: nothing more will be told of what was published in it."""
        for runs in self.runs.values():
            if epoch in runs:
                runs[epoch].closed = True

    def add(self, stream: str, epoch: str, update: Published) -> Published:
        """Take in an update; return what has that position, which is another one if it was given twice."""
        self.began(epoch)
        run = self.run(stream, epoch)
        known = run.updates.get(update.seq)
        if known is not None:
            return known
        run.add(update)
        self.count += 1
        return update

    def find(self, frame: Data) -> Published | None:
        """Return the update that a frame is of; None if there was none."""
        stream, epoch, seq = frame["stream"], frame["epoch"], frame["seq"]
        run = self.run(stream, epoch)
        if (update := run.updates.get(seq)) is not None:
            return update
        if 0 < seq <= run.forgotten:
            return published(frame)
        return self.adopt(frame)

    def knows(self, stream: str, epoch: str, seq: int) -> bool:
        """Whether everything up to a position has been told that ever will be."""
        if seq <= 0:
            return True
        run = self.run(stream, epoch)
        return run.complete >= seq or run.closed

    def before(self, epoch: str | None, other: str | None) -> bool:
        """Whether one epoch is known to have begun before another."""
        known = self.epochs
        return epoch in known and other in known and known.index(epoch) < known.index(other)

    def newest_epoch(self, stream: str) -> str | None:
        """Return the epoch that began last of those in which something was published on a stream."""
        epochs = [epoch for epoch, run in self.runs.get(stream, {}).items() if run.head and epoch in self.epochs]
        return max(epochs, key=self.epochs.index, default=None)

    def trim(self, keep: int) -> None:
        """Forget the oldest updates of each stream, so that at most `keep` stay."""
        for runs in self.runs.values():
            for epoch, run in runs.items():
                run.trim(keep if epoch == self.epochs[-1] else keep // 4)


def published(frame: Data) -> Published:
    """Return the update that a frame in the form that has everything is of."""
    seq, key = frame["seq"], frame.get("key", "")
    prev = frame.get("prev") if key else 0
    return Published(frame["type"], seq, key, prev, frame["data"], frame.get("time"))
