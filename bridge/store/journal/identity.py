"""Identity: what tells a file from a copy of it, and one run of the machine from another."""

import ctypes
import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

AT_EMPTY_PATH = 0x1000
STATX_BTIME = 0x800
STATX_BYTES = 256
MASK = struct.Struct("=I")
BORN = struct.Struct("=qI")
BORN_AT = 0x50
"""Where `stx_btime` lies in `struct statx`, the same on every architecture: statx(2)."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Identity(NamedTuple):
    """What tells a file from a copy of it.

    A copy has another inode number, but the number of a file that was deleted may be given again at once, so the time
    of birth is what counts: no program can set it, and neither chown, chmod nor another mount changes it.
    """

    device: int
    inode: int
    born_ns: int  # 0 where the file system does not tell it

    def same(self, other: "Identity") -> bool:
        """Return whether both are of one file; the device number counts only where the time of birth is not known."""
        if self.born_ns and other.born_ns:
            return (self.inode, self.born_ns) == (other.inode, other.born_ns)
        return (self.device, self.inode) == (other.device, other.inode)


def identity(fd: int) -> Identity:
    """Return the identity of an open file.

    Raises:
        OSError: the system does not tell.
    """
    stat = os.fstat(fd)
    return Identity(stat.st_dev, stat.st_ino, _born_ns(fd, stat))


def _born_ns(fd: int, stat: os.stat_result) -> int:
    """Return when a file was created, Unix nanoseconds; 0 where that is not known. Python has no statx before 3.15."""
    buffer = ctypes.create_string_buffer(STATX_BYTES)
    with suppress(AttributeError, OSError):  # a C library without statx
        statx = ctypes.CDLL(None).statx
        failed = statx(fd, b"", AT_EMPTY_PATH, ctypes.c_uint(STATX_BTIME), buffer)
        if not failed and MASK.unpack_from(buffer)[0] & STATX_BTIME:
            seconds, nanoseconds = BORN.unpack_from(buffer, BORN_AT)
            return int(seconds) * 1_000_000_000 + int(nanoseconds)
    return int(getattr(stat, "st_birthtime", 0) * 1e9)


def read_boot_id() -> str:
    """Return the name of this run of the machine; empty where the system does not tell."""
    with suppress(OSError, UnicodeDecodeError):
        return BOOT_ID.read_text().strip()
    return ""
