"""Opening: the journal that is in a folder goes on, or a new epoch begins there."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from bridge.core.errors import StartError
from bridge.store.journal import folder as folders
from bridge.store.journal.files import reason as reason_of
from bridge.store.journal.identity import read_boot_id
from bridge.store.journal.label import Damage
from bridge.store.journal.mark import Extent, Mark, Run
from bridge.store.journal.place import Place
from bridge.store.journal.recovery import MARK, Recovery, heard_of, recover, sync_all
from bridge.store.journal.stream import StoredStream
from bridge.store.journal.types import JournalLimits, Sync
from bridge.store.journal.work import Work


class Opened(NamedTuple):
    """A folder that a journal can be kept in."""

    held: int  # descriptor that holds the folder
    place: Place
    notes: list[str]


def open_folder(
    folder: Path,
    limits: JournalLimits,
    sync: Sync,
    work: Work,
    new_epoch: Callable[[], str],
    clock_ms: Callable[[], int],
    boot_id: str | None,
) -> Opened:
    """Hold a folder, and go on with the epoch that is in it or begin one; the arguments are those of `Journal.open`.

    Raises:
        StartError: the folder cannot be used, or another process holds it.
    """
    held = folders.lock(folder)
    boot = read_boot_id() if boot_id is None else boot_id
    current = folder / folders.CURRENT
    try:
        found, reason = _find(folder, boot)
        if found is None:
            if not folders.is_empty(folder):
                reason += f"; what was there is kept in {folders.set_aside(folder)}"
            run = Run(new_epoch(), None, boot, sync is Sync.ALWAYS, clean=False)
            mark, old = folders.begin(folder, run, {})
            place = Place(current, mark, limits, work, clock_ms)
            if old is not None:
                work.remove_folder(old)
            return Opened(held, place, [f"epoch {run.epoch} begins, since {reason}"])
        place = Place(current, _mark(current, found, boot, sync), limits, work, clock_ms)
    except OSError as error:
        os.close(held)
        raise StartError(f"the journal in {folder} cannot be opened: {reason_of(error)}") from error
    except BaseException:
        os.close(held)
        raise
    place.heard = heard_of(found.streams.values())
    for declared in place.mark.declared:
        stream = found.streams[declared]
        place.streams[declared.name] = StoredStream(
            declared, place, stream.base, stream.segments, synced=stream.written
        )
    return Opened(held, place, found.notes)


def _find(folder: Path, boot: str) -> tuple[Recovery | None, str]:
    """Return the journal that is in a folder; None if there is none that can be relied on, and why."""
    if folders.is_empty(folder):
        return None, f"there was no journal in {folder}"
    try:
        return recover(folder / folders.CURRENT, boot), ""
    except Damage as error:
        return None, str(error)


def _mark(folder: Path, found: Recovery, boot: str, sync: Sync) -> Mark:
    """Leave a mark that the journal is in use, before anything is written to it.

    Custom streams without updates are forgotten: such a stream begins with its first update.
    """
    run = found.run
    if not run.clean:
        sync_all(folder)
    streams = {
        declared: Extent(stream.written, stream.written)
        for declared, stream in found.streams.items()
        if stream.written or not declared.custom
    }
    return Mark(folder / MARK, Run(run.epoch, run.chain, boot, sync is Sync.ALWAYS, clean=False), streams)
