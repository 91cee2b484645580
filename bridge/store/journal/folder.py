"""The folder of a journal: held by one process, with the files of one epoch in it.

lock        held while a journal is open
journal/    the epoch
ended/      what could not be used when the journal was opened last
new/, old-*/  an epoch that was never begun, epochs that are being deleted
"""

import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path

from bridge.core.errors import StartError
from bridge.store.journal.files import reason, sync_file
from bridge.store.journal.mark import Extent, Mark, Run
from bridge.store.journal.recovery import MARK
from bridge.store.journal.types import Declared

LOCK = "lock"
CURRENT = "journal"
ENDED = "ended"
NEW = "new"
OLD = "old-"


def lock(folder: Path) -> int:
    """Create a folder if there is none, and hold it until the descriptor is closed that is returned.

    Raises:
        StartError: it cannot be used, or another process holds it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StartError(_unusable(folder, error)) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        _clear(folder)
    except BlockingIOError as error:
        holder = os.pread(fd, 20, 0).decode(errors="replace").strip()
        os.close(fd)
        raise StartError(
            f"the data folder {folder} is in use by another process ({holder or 'unknown'}): "
            "give each state service a folder of its own"
        ) from error
    except OSError as error:
        os.close(fd)
        raise StartError(_unusable(folder, error)) from error
    return fd


def _unusable(folder: Path, error: OSError) -> str:
    return f"the data folder {folder} cannot be used: {reason(error)}; it must be a folder that can be written to"


def _clear(folder: Path) -> None:
    """Delete what an earlier process had no time to."""
    for path in folder.iterdir():
        if path.name == NEW or path.name.startswith(OLD):
            _delete(path)


def _delete(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def is_empty(folder: Path) -> bool:
    """Return whether there is no journal in a folder."""
    current = folder / CURRENT
    if not os.path.lexists(current):
        return True
    with suppress(OSError):
        return not any(current.iterdir())
    return False


def set_aside(folder: Path) -> Path:
    """Keep the files of the epoch apart, in the place of those that were kept before, and return where.

    Raises:
        OSError: that failed.
    """
    ended = folder / ENDED
    if os.path.lexists(ended):
        _delete(ended)
    return (folder / CURRENT).rename(ended)


def begin(folder: Path, run: Run, streams: dict[Declared, Extent]) -> tuple[Mark, Path | None]:
    """Put the folder of an epoch in the place of what is there.

    Args:
        folder: of the journal.
        run: what is true for this run; names the epoch.
        streams: that have no updates yet.

    Returns:
        The mark, and the folder of the epoch that has ended, which is to be deleted.

    Raises:
        OSError: it cannot be created; the one before is still there.
    """
    new, current = folder / NEW, folder / CURRENT
    _delete(new)
    new.mkdir(mode=0o700)
    mark = Mark(new / MARK, run, streams)
    old: Path | None = None
    try:
        if os.path.lexists(current):
            old = current.rename(folder / f"{OLD}{current.lstat().st_ino}-{run.epoch}")
        new.rename(current)
        sync_file(folder)
    except OSError:
        mark.close()
        if old is not None and not os.path.lexists(current):
            old.rename(current)
        raise
    mark.path = current / MARK
    return mark, old
