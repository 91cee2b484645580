"""What is known of publishers: what they published, so that nothing that they send again is published twice."""

from collections.abc import Collection, Iterable, Iterator
from heapq import merge
from typing import NamedTuple

from bridge.store.journal.index import Heard
from bridge.store.journal.span import read_span
from bridge.store.journal.stream import StoredStream
from bridge.store.journal.types import Record

POSITIONS = 1000
"""Of how many publications of a publisher the positions are told: the newest."""

ALL_POSITIONS = 200_000
"""Of how many publications of all publishers together."""

LOOKED_AT = 250_000
"""How many of the newest updates are looked at for positions: opening must not take for ever."""


class Publisher(NamedTuple):
    """What is known of one publisher."""

    name: str
    forgotten: int
    """Up to this publisher_seq everything was published, though where is not known of all of it."""
    positions: list[tuple[int, str, int]]
    """publisher_seq, stream and seq of the newest publications, in order."""


def read_publishers(streams: Collection[StoredStream], known: Iterable[str]) -> Iterator[Publisher]:
    """Iterate over what is known of publishers.

    Args:
        streams: that they published on.
        known: names of those that are told apart, the one heard of longest ago first.

    Raises:
        OSError: a file cannot be read.
        Damage: an update is not what it was; the text is a sentence.
    """
    memory = _Memory(known)
    tails = [_Tail(stream) for stream in streams]
    for record, name in merge(*tails, key=_newest_first):
        if not memory.room:
            break
        memory.take(record, name)
    for tail in tails:
        for record, _ in tail.begun():
            memory.forget(record.publisher, record.publisher_seq)
        for segment in tail.segments:  # all older
            memory.take_heard(segment.index().publishers)
    for stream in streams:
        memory.take_heard(stream.base.publishers)
    return memory.publishers()


def _newest_first(item: tuple[Record, str]) -> int:
    return -item[0].ordinal


class _Tail:
    """The records of a stream, the newest first.

    Attributes:
        segments: that have not been begun, the oldest first.
    """

    def __init__(self, stream: StoredStream) -> None:
        self.segments = [segment for segment in stream.segments if segment.published]
        self._name = stream.name
        self._records: list[Record] = []  # of the segment that is begun, the newest last

    def __iter__(self) -> Iterator[tuple[Record, str]]:
        while True:
            yield from self.begun()
            if not self.segments:
                return
            segment = self.segments.pop()
            self._records = read_span(segment.span(segment.first, segment.until))

    def begun(self) -> Iterator[tuple[Record, str]]:
        """Iterate over what is left of the segment that is begun."""
        while self._records:
            yield self._records[-1], self._name  # whoever asks for no more leaves it here
            self._records.pop()


class _Memory:
    def __init__(self, known: Iterable[str]) -> None:
        self._forgotten = dict.fromkeys(known, 0)
        self._positions: dict[str, list[tuple[int, str, int]]] = {name: [] for name in self._forgotten}
        self._room = ALL_POSITIONS
        self._left = LOOKED_AT

    @property
    def room(self) -> bool:
        """Whether more positions are to be told, and it is worth looking for them."""
        return self._room > 0 and self._left > 0

    def take(self, record: Record, stream: str) -> None:
        """Take in an update that is older than those before."""
        self._left -= 1
        positions = self._positions.get(record.publisher)
        if positions is None:
            return  # the source's, or of one that is not told apart any more
        if self._room and len(positions) < POSITIONS:
            positions.append((record.publisher_seq, stream, record.seq))
            self._room -= 1
        else:
            self.forget(record.publisher, record.publisher_seq)

    def take_heard(self, publishers: dict[str, Heard]) -> None:
        """Take in publications of which no positions are told."""
        for name, heard in publishers.items():
            self.forget(name, heard.publisher_seq)

    def forget(self, name: str, publisher_seq: int) -> None:
        """Note a publication of which no position is told."""
        if name in self._forgotten:
            self._forgotten[name] = max(self._forgotten[name], publisher_seq)

    def publishers(self) -> Iterator[Publisher]:
        for name, forgotten in self._forgotten.items():
            yield Publisher(name, forgotten, sorted(self._positions[name]))
