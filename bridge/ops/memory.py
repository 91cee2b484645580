"""Memory goes back to the system when many readers have gone.

What they held is free within the process, and the C library keeps it, because what lies between is in use: 37 MB
after a thousand readers that were dropped with full buffers (glibc 2.36). malloc_trim(3) gives it back, in 0.1 to
0.2 ms a megabyte. Before that what refers to itself is collected, as asyncio's transports do: around it no memory can
go back.
"""

import ctypes
import gc
from typing import Final

READERS: Final = 100
"""How many must have gone for it to be worth while."""

STAYED: Final = 4
"""How many may have stayed for each that has gone, for garbage to be collected: that takes 10 us for each of them."""


class Memory:
    """Gives back what readers have left."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc only
        self._readers = 0  # the most since it was last given back

    def note(self, readers: int) -> bool:
        """Note how many readers there are; return whether memory was given back, since many have gone."""
        self._readers = max(self._readers, readers)
        gone = self._readers - readers
        if gone < READERS:
            return False
        self._readers = readers
        if readers <= STAYED * gone:
            gc.collect()
        if self._trim is not None:
            self._trim(0)
        return True
