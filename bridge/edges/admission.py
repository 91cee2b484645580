"""Admission: when a handshake has its turn, and what those are told that cannot be taken in now.

A thousand handshakes are half a second of work. With a rate they are spread over time: each waits for its turn, up to a
limit; beyond it clients are told when to come back.
"""

from math import ceil
from typing import Final

from aiohttp import hdrs

from bridge.core.codes import Close
from bridge.edges.guard import error_response
from bridge.edges.handshake import Refusal

LONGEST_WAIT_SECONDS: Final = 5.0
"""How long a handshake may wait for its turn: clients give one up after 10 s or more."""


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
