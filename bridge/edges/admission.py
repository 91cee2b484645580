"""Admission: when a handshake has its turn, and what those are told that cannot be taken in now.

A thousand handshakes are half a second of work. So that those who are connected get their updates meanwhile, only some
are answered in one turn of the loop. With a rate they are spread over time: each waits for its turn, up to a limit;
beyond it clients are told when to come back.
"""

import asyncio
from collections import deque
from math import ceil
from typing import Final

from aiohttp import hdrs

from bridge.core.codes import Close
from bridge.edges.guard import error_response
from bridge.edges.handshake import Refusal

LONGEST_WAIT_SECONDS: Final = 5.0
"""How long a handshake may wait for its turn: clients give one up after 10 s or more."""

AT_ONCE: Final = 16
"""How many handshakes are answered in one turn of the loop: some 4 ms; an update takes three turns to a client."""


class Slices:
    """Lets only so many go on in one turn of the loop, in the order in which they come."""

    def __init__(self, limit: int = AT_ONCE) -> None:
        """Begin with nobody waiting.

        Args:
            limit: how many may go on in one turn.
        """
        self._limit = self._left = limit
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._scheduled = False

    def take(self) -> asyncio.Future[None] | None:
        """Take a place; return what to wait for first, None: there is room in this turn. It may be cancelled."""
        loop = asyncio.get_running_loop()
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._renew, loop)
        if self._left:
            self._left -= 1
            return None
        place = loop.create_future()
        self._waiting.append(place)
        return place

    def _renew(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the next ones go on; called once a turn while somebody came in the one before."""
        self._left = self._limit
        while self._waiting and self._left:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                self._left -= 1
        self._scheduled = self._left < self._limit
        if self._scheduled:
            loop.call_soon(self._renew, loop)


class Turns:
    """Gives each comer its turn: at most so many a second, evenly, in the order in which they come."""

    def __init__(self, rate: float, longest_wait_seconds: float = LONGEST_WAIT_SECONDS) -> None:
        """Begin with nobody waiting.

        Args:
            rate: turns a second; 0: no limit.
            longest_wait_seconds: how long somebody may wait, and so, times `rate`, how many may.
        """
        self._pause = 1 / rate if rate else 0.0
        self._longest_wait_seconds = longest_wait_seconds
        self._next = 0.0  # when the next turn is free

    def take(self, now: float) -> float | None:
        """Take a turn; return in how many seconds it is, or None: too many wait already.

        Args:
            now: a time that never goes back, seconds.
        """
        turn = max(self._next, now)
        if turn - now > self._longest_wait_seconds:
            return None
        self._next = turn + self._pause
        return turn - now


def postpone(close: Close, sentence: str, retry_after_seconds: float) -> Refusal:
    """Return the refusal of a handshake that may be tried again.

    Args:
        close: what it is after a v1 handshake of a browser.
        sentence: why.
        retry_after_seconds: when to come back; Retry-After has whole seconds, and at least one.
    """
    response = error_response(503, "OVERLOADED", sentence)
    response.headers[hdrs.RETRY_AFTER] = str(max(1, ceil(retry_after_seconds)))
    return Refusal(response, close, round(1000 * retry_after_seconds))
