"""A wall clock that can be set: `python -m tests.chaos.clock FILE ARGUMENTS` runs the bridge with it.

FILE holds by how many nanoseconds the clock is wrong. The monotonic clock goes on, as it does when a machine's time
is set.
"""

import mmap
import sys
import time
from pathlib import Path
from struct import Struct

OFFSET = Struct("q")


def make(file: Path) -> None:
    """Make the file of a clock that is right."""
    file.write_bytes(OFFSET.pack(0))


def set_wrong(file: Path, seconds: float) -> None:
    """Set a clock: that many seconds wrong from now on."""
    with file.open("r+b") as opened:
        opened.write(OFFSET.pack(int(seconds * 1e9)))


def main() -> int:
    """Run the bridge; return its exit code."""
    with Path(sys.argv[1]).open("rb") as opened:
        held = mmap.mmap(opened.fileno(), OFFSET.size, access=mmap.ACCESS_READ)
    now_ns = time.time_ns
    time.time_ns = lambda: now_ns() + OFFSET.unpack_from(held)[0]  # type: ignore[assignment]
    from bridge.cli import main as run  # the clock comes first

    return run(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
