"""The drain: how connections are sent away before the end, so that they do not all come back at once."""

import asyncio
from collections.abc import Callable, Mapping
from random import random, shuffle
from typing import Final

from bridge.core.codes import Close
from bridge.edges.connection import Connection

HANG_UP_SECONDS: Final = 0.3
"""How long clients may take to hang up when the time is over."""

SLICE: Final = 100
"""Connections told or closed before other work gets its turn."""


class Drain:
    """Sends the connections of an edge away.

    v1 clients are told at once when to come back, each at a time of its own, and are served until then. Classic ones
    cannot be told, and those that exist have few reconnects in their lives: none of these must be in vain, so they are
    served to the end, when a successor is most likely there.

    Attributes:
        close: with what connections are closed.
    """

    def __init__(
        self, wires: Mapping[Connection, str | None], seconds: float, close: Close, *, successor: bool
    ) -> None:
        """Plan it; it begins now.

        Args:
            wires: the connections that are open, now and later, each with what it speaks; None: the classic dialect.
            seconds: over how long they are sent away.
            close: with what they are closed.
            successor: whether somebody else takes new connections already, so that who comes meanwhile may come back
                at once; else only after the end.
        """
        self._loop = asyncio.get_running_loop()
        self._wires = wires
        self._seconds = seconds
        self._begin = self._loop.time()
        self._end = self._begin + seconds
        self._return = self._begin if successor else self._end
        self.close = close

    async def run(self) -> None:
        """Send them away. It ends when all are gone; what has not hung up a moment after the end is aborted."""
        own: dict[Connection, float] = {}
        v1 = [wire for wire, subprotocol in self._wires.items() if subprotocol is not None]
        shuffle(v1)
        times = spread(len(v1), self._seconds, random)
        for number, (wire, seconds) in enumerate(zip(v1, times, strict=True), 1):
            wire.announce(self.close, round(1000 * seconds))
            own[wire] = self._loop.time() + seconds
            if number % SLICE == 0:
                await asyncio.sleep(0)
        for wire, seconds in zip(v1, times, strict=True):
            await asyncio.wait([wire.closed], timeout=max(0.0, self._begin + seconds - self._loop.time()))
            self._send_away(wire, own[wire] - self._loop.time())
        await self._until_gone(self._end)
        left = list(self._wires)
        for number, (wire, seconds) in enumerate(zip(left, spread(len(left), self._seconds, random), strict=True), 1):
            self._send_away(wire, seconds)
            if number % SLICE == 0:
                await asyncio.sleep(0)
        await self._until_gone(self._end + HANG_UP_SECONDS)
        for wire in list(self._wires):
            wire.abort()

    def _send_away(self, wire: Connection, retry_after_seconds: float) -> None:
        wire.close(self.close, self.close.meaning, retry_after_ms=max(0, round(1000 * retry_after_seconds)))

    async def _until_gone(self, deadline: float) -> None:
        """Wait until all are gone, or a loop time."""
        while (open_ := [wire.closed for wire in self._wires if not wire.closed.done()]) and (
            (seconds := deadline - self._loop.time()) > 0
        ):
            await asyncio.wait(open_, timeout=seconds)

    def retry_after_seconds(self) -> float:
        """Return when somebody who comes meanwhile may come back: also spread, and not before it makes sense."""
        return max(0.0, self._return - self._loop.time()) + self._seconds * random()


def spread(count: int, seconds: float, random: Callable[[], float]) -> list[float]:
    """Return times from 0 to `seconds`, ascending: one at random in each of `count` equal parts.

    Uniform whatever the count: of the times before any moment there are as many as there should be, give or take one;
    drawn one by one they would be off by the square root of the count.

    Args:
        count: how many.
        seconds: that they are spread over.
        random: returns a number in [0, 1).
    """
    return [seconds * (number + random()) / count for number in range(count)]
