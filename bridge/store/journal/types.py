"""What goes into the journal and comes out of it, and how much of it is kept."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Sync(StrEnum):
    """When what was written reaches the disk for sure; only a crash of the machine makes a difference."""

    BATCH = "batch"
    """Soon: a thread sees to it about every 50 ms."""
    ALWAYS = "always"
    """Before anybody is sent it: `Journal.sync` waits for it."""
    OFF = "off"
    """When the system sees fit; only a clean end waits for the disk."""


@dataclass(frozen=True, slots=True)
class JournalLimits:
    """How much of one stream is kept; whole segments go, so about three quarters of each limit stay at least."""

    count: int = 1_000_000
    """Updates."""
    bytes: int = 256 << 20
    """On disk; values that stand in for what is gone have as much again."""
    age_ms: int = 7 * 86_400_000
    """Of an update; 0: no limit."""
    segment_bytes: int = 4 << 20
    """Largest segment; one with a single larger update is larger."""
    segment_count: int = 16_384
    """Most updates of a segment."""


class Declared(NamedTuple):
    """A stream as the journal knows it."""

    name: str
    type: str
    keyed: bool
    custom: bool


class Record(NamedTuple):
    """An update as the journal keeps it."""

    seq: int
    """Number in its stream, from 1, one more with each."""
    ordinal: int
    """Its place among the updates of all streams."""
    time_ms: int
    """When it was published, Unix milliseconds."""
    key: str
    """Of the value; empty where the stream has none."""
    raw: bytes
    """Serialized `Update`."""
    publisher: str = ""
    """Id of who published it; empty: the source."""
    publisher_seq: int = 0
    """That publisher's own number of it."""


class StoredPage(NamedTuple):
    """What reading found."""

    oldest: int
    """Seq of the oldest update that is kept; one more than the head where none is."""
    records: list[Record]
    """In order."""
    base: list[bytes]
    """Serialized updates that stand in for those that were asked for and are gone, in order."""
