"""Poller: asks the node for one thing again and again, and copes with all that can go wrong."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from bridge.core.backoff import Backoff
from bridge.core.errors import UpstreamError
from bridge.sources.node.client import NodeBanned, NodeError

log = logging.getLogger("bridge.node")

LONGEST_WAIT_SECONDS = 30.0


class Poller:
    """Calls `step` every `interval` seconds.

    When `step` has failed for longer than `forget_after`, what it brought is no longer true: `forget` is called. An
    error of the node's own (no such method, no permission) does not go away by itself: it is told once, and the next
    try comes after `refused` seconds.
    """

    def __init__(
        self,
        what: str,
        step: Callable[[], Awaitable[object]],
        forget: Callable[[], object],
        *,
        interval: float,
        refused: float,
        forget_after: float,
        monotonic: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        """Make a poller that has not begun.

        Args:
            what: is asked for, as it is said in the log.
            step: asks once; raises UpstreamError where the node does not do what was asked.
            forget: drops what the last steps brought.
            interval: seconds between two steps.
            refused: seconds after the node's own error.
            forget_after: seconds without success.
            monotonic: returns seconds.
            random: returns a number in [0, 1).
        """
        self._what = what
        self._step = step
        self._forget = forget
        self._interval = interval
        self._refused = refused
        self._forget_after = forget_after
        self._monotonic = monotonic
        self._backoff = Backoff(interval, LONGEST_WAIT_SECONDS, random)
        self._told: str | None = None

    async def run(self) -> None:
        """Ask until cancelled."""
        succeeded_at = self._monotonic()
        while True:
            began = self._monotonic()
            try:
                await self._step()
            except NodeBanned as error:
                wait = error.retry_after
            except NodeError as error:
                self._tell(f"the node answered with error {error.code}: {error}")
                self._forget()
                wait = self._refused
            except UpstreamError as error:
                log.debug("%s: %s", self._what, error)
                wait = self._backoff.next()
            else:
                self._told = None
                self._backoff.reset()
                succeeded_at = self._monotonic()
                wait = max(0.0, began + self._interval - succeeded_at)
            if self._monotonic() - succeeded_at > self._forget_after:
                self._forget()
            await asyncio.sleep(wait)

    def _tell(self, sentence: str) -> None:
        if sentence != self._told:
            self._told = sentence
            log.warning("%s: %s; it is left out", self._what, sentence)
