"""The place of a journal: its folder, and what the streams in it have in common."""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from bridge.store.journal.base import PUBLISHERS
from bridge.store.journal.files import OpenFiles
from bridge.store.journal.mark import Extent, Mark, Run
from bridge.store.journal.types import JournalLimits
from bridge.store.journal.work import Work

if TYPE_CHECKING:
    from bridge.store.journal.stream import StoredStream


class Place:
    """What the streams of one epoch have in common.

    Attributes:
        folder: of the files.
        epoch: of the positions.
        mark: says what was written.
        limits: of each stream.
        work: for the thread that waits for the disk.
        clock_ms: returns Unix milliseconds.
        files: that are open for writing.
        streams: by name.
        heard: publishers that are told apart, the one heard of longest ago first.
    """

    def __init__(
        self, folder: Path, mark: Mark, limits: JournalLimits, work: Work, clock_ms: Callable[[], int]
    ) -> None:
        self.folder = folder
        self.epoch = mark.run.epoch
        self.mark = mark
        self.limits = limits
        self.work = work
        self.clock_ms = clock_ms
        self.files = OpenFiles()
        self.streams: dict[str, StoredStream] = {}
        self.heard: OrderedDict[str, None] = OrderedDict()

    def segment_path(self, stream: str, first: int) -> Path:
        """Return where the segment of a stream is that begins with seq `first`."""
        return self.folder / f"{stream}.{first}.segment"

    def base_path(self, stream: str) -> Path:
        """Return where the base of a stream is."""
        return self.folder / f"{stream}.base"

    def renew_mark(self, run: Run | None = None) -> None:
        """Put a new mark in the place of the one that is there.

        Args:
            run: what it says; None: what the one that is there says.

        Raises:
            OSError: it cannot be written; the one before is still there.
        """
        before = self.mark
        streams = {stream.declared: Extent(stream.written, stream.synced) for stream in self.streams.values()}
        self.mark = Mark(before.path, run or before.run, streams)
        before.close()

    def hear(self, publisher: str) -> None:
        """Note that a publisher has published something."""
        self.heard[publisher] = None
        self.heard.move_to_end(publisher)
        if len(self.heard) > PUBLISHERS:
            self.heard.popitem(last=False)

    def close(self) -> None:
        """Close every file."""
        self.files.close_all()
        self.mark.close()
