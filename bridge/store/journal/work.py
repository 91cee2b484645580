"""Work: what there is to do for the thread that waits for the disk, so that nobody else has to."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from bridge.store.journal.base import Base
from bridge.store.journal.segment import Segment


class Owner(Protocol):
    """A stream, as the thread knows it; `synced` of its bytes are known to be on disk."""

    synced: int

    @property
    def name(self) -> str:
        """Name of the stream."""

    @property
    def written(self) -> int:
        """Bytes of its records since the beginning of the epoch."""


class Round(NamedTuple):
    """Work taken at once."""

    dirty: dict[Segment | Base, Owner]
    written: dict[Owner, int]  # as it was then
    named: bool
    removals: list[Path]
    updates: int  # that were written until then


class Work:
    """What is to be done; guarded by the journal's lock.

    Attributes:
        updates: how many were written.
        bloated: bases to be written anew, and whose they are.
    """

    def __init__(self, wake: Callable[[], object]) -> None:
        """Have nothing to do yet; `wake` is called when there is something."""
        self.updates = 0
        self.bloated: dict[Base, Owner] = {}
        self._wake = wake
        self._clear()

    def _clear(self) -> None:
        self._dirty: dict[Segment | Base, Owner] = {}
        self._named = False
        self._removals: list[Path] = []

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._dirty or self._named or self._removals or self.bloated)

    def wrote(self, file: Segment | Base, owner: Owner) -> None:
        """Have a file synced that was written to."""
        if file not in self._dirty:
            self._dirty[file] = owner
            self._wake()

    def named(self) -> None:
        """Have the folder synced: there is a new file in it."""
        self._named = True

    def remove(self, segment: Segment) -> None:
        """Have a segment deleted, once everything is synced that was written before."""
        self._dirty.pop(segment, None)
        self._removals.append(segment.path)
        self._wake()

    def remove_folder(self, path: Path) -> None:
        """Have a folder deleted, with all that is in it."""
        self._removals.append(path)
        self._wake()

    def compact(self, base: Base, owner: Owner) -> None:
        """Have a base written anew."""
        self.bloated[base] = owner
        self._wake()

    def take(self) -> Round:
        """Return all there is to sync and to delete, and forget it."""
        written = {owner: owner.written for owner in self._dirty.values()}
        taken = Round(self._dirty, written, self._named, self._removals, self.updates)
        self._clear()
        return taken

    def put_back(self, taken: Round) -> None:
        """Have done once more what failed."""
        self._dirty = taken.dirty | self._dirty
        self._named |= taken.named
        self._removals = taken.removals + self._removals

    def forget(self) -> None:
        """Leave everything undone, since the files are no longer of any use."""
        self._clear()
        self.bloated.clear()
