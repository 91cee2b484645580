"""What may happen to the files of a journal while the state service is down, and whether an epoch must begin then."""

import os
import random
import shutil
from pathlib import Path

SEALED = b"tbj.seal"
"""A sealed segment ends with it: nothing more is written to it."""

RECORDS_FROM = 4096
"""Behind so many bytes of a segment there is no label any more, only records; before its last quarter no index yet."""


def largest(folder: Path) -> int:
    """Return the size of the largest file of a folder, in bytes."""
    return max((path.stat().st_size for path in folder.rglob("*") if path.is_file()), default=0)


def segments(folder: Path) -> list[Path]:
    """Return the segments with records."""
    found = (path for path in folder.rglob("journal/*.segment") if path.stat().st_size > 2 * RECORDS_FROM)
    return sorted(found)


def last_segments(folder: Path) -> list[Path]:
    """Return the segments that are still written to."""
    return [path for path in segments(folder) if not path.read_bytes().endswith(SEALED)]


def flip_bit(folder: Path, chance: random.Random) -> bool:
    """Flip one bit of a record."""
    found = segments(folder)
    if not found:
        return False
    path = chance.choice(found)
    size = path.stat().st_size
    with path.open("r+b") as file:
        at = chance.randrange(RECORDS_FROM, size * 3 // 4)
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1 << chance.randrange(8)]))
    return True


def flip_mark(folder: Path, chance: random.Random) -> bool:
    """Flip one bit of the file that says what was written."""
    path = folder / "journal" / "mark"
    data = bytearray(path.read_bytes())
    data[chance.randrange(20)] ^= 1 << chance.randrange(8)
    with path.open("r+b") as file:  # the same file: a new one would be a copy
        file.write(data)
    return True


def truncate(folder: Path, chance: random.Random) -> bool:
    """Cut off the end of a segment: updates that were sent."""
    found = last_segments(folder)
    if not found:
        return False
    path = chance.choice(found)
    os.truncate(path, path.stat().st_size - chance.randint(1, RECORDS_FROM))
    return True


def tear(folder: Path, chance: random.Random) -> bool:
    """Leave half of a record at the end of a segment, as a process leaves it that was killed within a write."""
    found = last_segments(folder)
    if found:
        with chance.choice(found).open("ab") as file:
            file.write(chance.randbytes(chance.randint(1, 300)))
    return False


def lose_segment(folder: Path, chance: random.Random) -> bool:
    """Delete one segment."""
    found = segments(folder)
    if found:
        chance.choice(found).unlink()
    return bool(found)


def lose(folder: Path, chance: random.Random) -> bool:
    """Delete everything."""
    shutil.rmtree(folder)
    return True


def restore(folder: Path, backup: Path) -> bool:
    """Put a copy that was made earlier in the place of what is there; the newest state, where there is none."""
    if not backup.exists():
        shutil.copytree(folder, backup)
    shutil.rmtree(folder)
    shutil.copytree(backup, folder)
    return True
