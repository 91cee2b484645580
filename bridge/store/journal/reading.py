"""Reading a stream: pages, the newest updates, the current value of every key."""

import os
from bisect import bisect_right
from collections.abc import Iterator
from heapq import nlargest
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from bridge.store.journal.base import KEYS, read_places
from bridge.store.journal.files import opened
from bridge.store.journal.index import numbers
from bridge.store.journal.segment import Segment
from bridge.store.journal.span import Span, read_span, read_spans
from bridge.store.journal.stream import StoredStream
from bridge.store.journal.types import Record, StoredPage

STAND_INS = 1000
"""The most updates that stand in for those that are gone: the newest."""

by_first = attrgetter("first")


class Pinned(NamedTuple):
    """The base of a stream as it was, whatever becomes of it; `fd` is to be closed."""

    fd: int
    path: Path
    places: dict[str, int]  # of the value of each key, in no order


class Plan(NamedTuple):
    """What makes a page; made while nothing is written, carried out while everything may be."""

    epoch: str
    since: int
    oldest: int
    spans: list[Span]
    base: Pinned | None  # where something that was asked for is gone


def plan_page(stream: StoredStream, since: int, until: int, limit: int, size_bytes: int) -> Plan:
    """Return what `read_page` is to read.

    Args:
        stream: of the updates.
        since: seq behind which the page begins.
        until: seq before which it ends.
        limit: the most updates.
        size_bytes: of records at most, but one update at least.

    Raises:
        OSError: the base cannot be opened.
    """
    first = max(since + 1, stream.oldest)
    until = min(until, stream.head + 1, first + limit)
    spans = list(_spans(stream, first, until, size_bytes))
    base = pin_base(stream) if since + 1 < stream.oldest else None
    return Plan(stream.epoch, since, stream.oldest, spans, base)


def pin_base(stream: StoredStream) -> Pinned | None:
    """Return the base of a stream; None if it has none. To be called while nothing is written.

    Raises:
        OSError: it cannot be opened.
    """
    base = stream.base
    if not base.size_bytes:
        return None
    return Pinned(os.open(base.path, os.O_RDONLY | os.O_CLOEXEC), base.path, base.places())


def _spans(stream: StoredStream, first: int, until: int, size_bytes: int) -> Iterator[Span]:
    number = bisect_right(stream.segments, first, key=by_first) - 1
    at_least = first + 1
    while first < until:
        segment = stream.segments[number]
        last = min(until, segment.until)
        within = max(min(segment.until_within(first, size_bytes), last), min(at_least, last))
        if within > first:
            span = segment.span(first, within)
            size_bytes -= span.end - span.begin
            yield span
        if within < last:
            return
        first, number = last, number + 1


def read_page(plan: Plan) -> StoredPage:
    """Carry out a plan.

    Raises:
        OSError: a file cannot be read; it may have been dropped meanwhile.
        Damage: an update is not what it was; the text is a sentence.
    """
    base: list[bytes] = []
    if plan.base is not None:
        fd, path, places = plan.base
        try:
            newest = nlargest(STAND_INS, places.values())[::-1]
            base = [record.raw for record in read_places(fd, path, plan.epoch, newest) if record.seq > plan.since]
        finally:
            os.close(fd)
    records = [record for span in plan.spans for record in read_span(span)]
    return StoredPage(plan.oldest, records, base)


def first_of(stream: StoredStream, count: int, size_bytes: int) -> int:
    """Return the seq of the first of the newest updates: at most `count`, of at most `size_bytes`, but at least one."""
    first = stream.head + 1
    for segment in reversed(stream.segments):
        first = min(first, segment.first_within(size_bytes))
        size_bytes -= segment.records_bytes
        if size_bytes <= 0 or stream.head + 1 - first >= count:
            break
    return max(min(first, stream.head), stream.head + 1 - count, stream.oldest)


def read_values(stream: StoredStream, base: Pinned | None) -> Iterator[Record]:
    """Iterate over the current value of every key, the least recently changed first; at most KEYS, the newest.

    Args:
        stream: whose segments are not dropped meanwhile.
        base: of the stream, which is closed.

    Raises:
        OSError: one cannot be read.
        Damage: one is not what it was; the text is a sentence.
    """
    try:
        wanted, found = _newest(stream)
        if base is not None and stream.declared.keyed:
            rest = sorted(place for key, place in base.places.items() if key not in found)
            rest = rest[max(len(rest) + len(found) - KEYS, 0) :]
            yield from read_places(base.fd, base.path, stream.epoch, rest)
    finally:
        if base is not None:
            os.close(base.fd)
    for segment, spans in reversed(wanted):
        with opened(segment.path) as fd:
            yield from read_spans(fd, segment.path, stream.epoch, spans)


def _newest(stream: StoredStream) -> tuple[list[tuple[Segment, list[tuple[int, int]]]], set[str]]:
    """Return where the newest value of each key lies in the segments, the last segment first, and the keys."""
    wanted: list[tuple[Segment, list[tuple[int, int]]]] = []
    found: set[str] = set()
    for segment in reversed(stream.segments):
        index = segment.index()
        spans = segment.spans_of(numbers(index.newest))
        new = [span for key, span in zip(index.keys, spans, strict=True) if key not in found]
        found.update(index.keys)
        wanted.append((segment, new[max(len(found) - KEYS, 0) :]))
        if len(found) >= KEYS or (found and not stream.declared.keyed):
            break
    return wanted, found
