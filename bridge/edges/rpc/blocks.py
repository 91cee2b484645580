"""The blocks that history holds, by height, and how far apart they are."""

from typing import Final, NamedTuple

from bridge.core.history import History
from bridge.core.update import Update
from generated.theblock.state.v1 import block_pb2

AVERAGE_BLOCKS: Final = 20
"""How many of the newest blocks the average time between two is taken over."""


class Known(NamedTuple):
    """A block that history holds; timestamp in Unix milliseconds, None where it is not known."""

    update: Update
    timestamp: int | None


class Blocks:
    """An index of the stream of blocks, brought up to date when it is asked.

    The first look at a full history reads all of it, every later one only what is new.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._epoch = ""
        self._at = 0  # seq up to which history was read
        self._blocks: dict[int, Known] = {}  # by height, in the order of publication

    def newest_height(self) -> int | None:
        """Return the height of the newest block, None if none is known."""
        newest = self.newest()
        return None if newest is None else newest.height

    def newest(self) -> block_pb2.BlockUpdate | None:
        """Return the newest block, None if none is known."""
        update = self._history.latest.get("")
        return None if update is None else update.message().block

    def get(self, height: int) -> Update | None:
        """Return the newest update on the block of a height, None if history does not hold it."""
        self._read_on()
        known = self._blocks.get(height)
        return None if known is None else known.update

    def average_ms(self) -> float | None:
        """Return the average time between two of the newest blocks, in milliseconds.

        Returns:
            None where fewer than two of the newest in a row have a timestamp, or all of them the same.
        """
        self._read_on()
        newest = self.newest_height()
        if newest is None:
            return None
        times: list[int] = []
        for height in range(newest, max(newest - AVERAGE_BLOCKS, 0) - 1, -1):
            known = self._blocks.get(height)
            if known is None or known.timestamp is None:
                break
            times.append(known.timestamp)
        span_ms = times[0] - times[-1] if times else 0
        return round(span_ms / (len(times) - 1), 1) if span_ms > 0 else None

    def _read_on(self) -> None:
        history = self._history
        if history.epoch != self._epoch or history.head < self._at:
            self._epoch, self._at, self._blocks = history.epoch, 0, {}
        newest = history.latest.get("")
        for update in history.after(self._at, len(history)):
            self._take(update)
        if newest is not None and newest.seq > self._at:  # a snapshot that history begins with
            self._take(newest)
        self._at = history.head
        self._forget_trimmed()

    def _take(self, update: Update) -> None:
        self._at = update.seq
        block = update.message().block
        if block.HasField("replaces"):
            void = [height for height in self._blocks if height >= block.height]
            for height in void:
                del self._blocks[height]
        self._blocks.pop(block.height, None)
        self._blocks[block.height] = Known(update, block.timestamp if block.HasField("timestamp") else None)

    def _forget_trimmed(self) -> None:
        """Let go of what history has let go of, so that it does not stay in memory; the newest block stays."""
        oldest = self._history.oldest
        for height, known in list(self._blocks.items())[:-1]:
            if known.update.seq >= oldest:
                return
            del self._blocks[height]
