"""Time as an argument: the system's clock, or one that a test winds by hand."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A call that is going to be made, unless it is cancelled."""

    def cancel(self) -> None:
        """Take the call back. Harmless after it was made."""


class Clock(ABC):
    """Where every part of the stand-in takes its time from."""

    @abstractmethod
    def now(self) -> float:
        """Return monotonic seconds."""

    @abstractmethod
    def unix_seconds(self) -> float:
        """Return the time of day, Unix seconds."""

    @abstractmethod
    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        """Call ``callback`` on the running loop once ``now()`` has reached ``when`` (seconds)."""

    async def sleep_until(self, when: float) -> None:
        """Wait until ``now()`` has reached ``when`` (seconds). Cancellation drops the timer."""
        due = asyncio.Event()
        timer = self.call_at(when, due.set)
        try:
            await due.wait()
        finally:
            timer.cancel()


class SystemClock(Clock):
    """The machine's own clock."""

    def now(self) -> float:
        return time.monotonic()

    def unix_seconds(self) -> float:
        return time.time()

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        return asyncio.get_running_loop().call_at(when, callback)


class ManualTimer:
    """A call waiting in a ``ManualClock``."""

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self.callback = None


class ManualClock(Clock):
    """A clock that stands still until a test advances it.

    Args:
        unix_seconds: the time of day at which it starts.
    """

    def __init__(self, unix_seconds: float = 1_700_000_000.0) -> None:
        self._now = 0.0
        self._started_at = unix_seconds
        self._order = itertools.count()
        self._timers: list[tuple[float, int, ManualTimer]] = []

    def now(self) -> float:
        return self._now

    def unix_seconds(self) -> float:
        return self._started_at + self._now

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        if when <= self._now:
            return asyncio.get_running_loop().call_soon(callback)
        timer = ManualTimer(callback)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    def advance(self, seconds: float) -> None:
        """Move time on by ``seconds`` and make every call that has become due, in order."""
        end = self._now + seconds
        while self._timers and self._timers[0][0] <= end:
            self._now, _, timer = heapq.heappop(self._timers)
            callback, timer.callback = timer.callback, None
            if callback is not None:
                callback()
        self._now = end
