"""The rollout: which visitors are told to use the WebSocket."""

import hashlib
import logging
from pathlib import Path
from typing import Final

from bridge.core.errors import BridgeError

log = logging.getLogger(__name__)

FILE_BYTES: Final = 64
"""How much of the file is read: a number is not longer."""

ALLOWED: Final = "a number from 0 to 100"


class Rollout:
    """Says whether a visitor is in, by a percentage that may change while the process runs.

    Visitors stay on their side: each has a place from 0 up to 100 that depends on its id alone, and is in while the
    percentage is above that. So a percentage that grows takes nobody out.
    """

    def __init__(self, percent: float = 100.0, file: Path | None = None) -> None:
        """Make one.

        Args:
            percent: of the visitors.
            file: holds the percentage instead. It is read whenever a visitor asks, which is once a page load; while it
                holds none, the last one that it held counts.

        Raises:
            BridgeError: the file holds no percentage.
        """
        self._percent = percent
        self._file = file
        self._fault = ""
        if file is not None:
            try:
                self._percent = read_percent(file)
            except (OSError, ValueError):
                raise BridgeError(f"websockets_percent_file {file} must hold {ALLOWED}, and nothing else") from None

    def admits(self, visitor: str | None) -> bool:
        """Whether a visitor is in; one without an id is, once everybody is."""
        percent = self._percent_now()
        return percent == 100 if visitor is None else place(visitor) < percent

    def _percent_now(self) -> float:
        if self._file is None:
            return self._percent
        fault = ""
        try:
            self._percent = read_percent(self._file)
        except (OSError, ValueError):
            fault = f"websockets_percent_file {self._file} holds no percentage now"
        if fault and not self._fault:
            log.warning("%s, so it stays at %g until it holds %s", fault, self._percent, ALLOWED)
        self._fault = fault
        return self._percent


def place(visitor: str) -> float:
    """Return the place of a visitor, from 0 up to, not including, 100: evenly spread, and always the same."""
    number = int.from_bytes(hashlib.sha256(visitor.encode(errors="surrogatepass")).digest()[:6], "big")
    return number * 100 / (1 << 48)


def read_percent(file: Path) -> float:
    """Read a percentage.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds something else.
    """
    with file.open("rb") as opened:
        text = opened.read(FILE_BYTES + 1)
    percent = float(text)
    if len(text) > FILE_BYTES or not 0 <= percent <= 100:
        raise ValueError
    return percent
