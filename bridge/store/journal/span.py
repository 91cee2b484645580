"""Spans: reading records that lie in a file, each checked."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bridge.store.journal.files import read_at, read_file, windows
from bridge.store.journal.label import Damage
from bridge.store.journal.record import intact, salt_of, unpack
from bridge.store.journal.types import Record


class Span(NamedTuple):
    """Records that lie one after the other in a file."""

    path: Path
    epoch: str
    first: int  # seq of the first one
    size: int  # how many
    begin: int  # offset
    end: int


def read_span(span: Span) -> list[Record]:
    """Return the records of a span.

    Raises:
        OSError: they cannot be read.
        Damage: they are not what they were; the text is a sentence.
    """
    data = read_file(span.path, span.begin, span.end - span.begin)
    records = list(_records(data, span.epoch))
    if [record.seq for record in records] != list(range(span.first, span.first + span.size)):
        raise Damage(f"{span.path} is damaged: updates {span.first} to {span.first + span.size - 1} cannot be read")
    return records


def _records(data: bytes, epoch: str) -> Iterator[Record]:
    salt, offset = salt_of(epoch), 0
    while (found := unpack(data, offset, salt)) is not None:
        record, offset = found
        yield record


def read_spans(fd: int, path: Path, epoch: str, spans: list[tuple[int, int]]) -> Iterator[Record]:
    """Iterate over the records that lie at some places of a file, which are in order.

    Args:
        fd: of the file.
        path: of the file, as errors name it.
        epoch: of the records.
        spans: (begin, end) of each.

    Raises:
        OSError: one cannot be read.
        Damage: one is not what it was; the text is a sentence.
    """
    salt = salt_of(epoch)
    for begin, end, group in windows(spans):
        data = read_at(fd, end - begin, begin)
        for first, _ in group:
            found = unpack(data, first - begin, salt)
            if found is None:
                raise Damage(f"{path} is damaged: the update at byte {first} cannot be read")
            yield found[0]


def raw_spans(fd: int, path: Path, epoch: str, spans: list[tuple[int, int]]) -> Iterator[bytes]:
    """Iterate over such records as they are written; see `read_spans`."""
    salt = salt_of(epoch)
    for begin, end, group in windows(spans):
        data = read_at(fd, end - begin, begin)
        for first, last in group:
            raw = data[first - begin : last - begin]
            if not intact(raw, salt):
                raise Damage(f"{path} is damaged: the update at byte {first} cannot be read")
            yield raw
