"""Pace: keeping to a plan of absolute times, so that small delays never add up, and never holding the loop."""

import asyncio
import time
from collections.abc import Awaitable, Callable

LATE_SECONDS = 10.0
"""How late a step may be. One that is later moves the plan, so that hours slept through are not made up for."""

Sleep = Callable[[float], Awaitable[object]]


class Pace:
    """A plan that begins now."""

    def __init__(
        self, slice_steps: int, *, clock: Callable[[], float] = time.monotonic, sleep: Sleep = asyncio.sleep
    ) -> None:
        """Begin.

        Args:
            slice_steps: how many steps that are late are done in a row before the loop gets its turn.
            clock: returns seconds that never go back.
            sleep: waits for that many seconds.
        """
        self._slice_steps = slice_steps
        self._clock = clock
        self._sleep = sleep
        self._begun = clock()
        self._steps = 0

    async def reach(self, elapsed_seconds: float) -> None:
        """Wait until that much of the plan has passed; if it has already, give the loop its turn now and then."""
        late = self._clock() - self._begun - elapsed_seconds
        self._steps += 1
        if late < 0:
            await self._sleep(-late)
        elif self._steps >= self._slice_steps:
            await self._sleep(0)
        else:
            return
        self._steps = 0
        self._begun += max(0.0, late - LATE_SECONDS)
