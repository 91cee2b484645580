"""Calls of the node, shared: equal ones in flight are one, and its answer serves those that come a moment later.

However many dashboards poll, the node is asked for one thing at most once in that moment.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bridge.core.errors import UpstreamError

CallNode = Callable[[str, dict[str, object]], Awaitable[bytes]]
"""Calls a method of the node with by-name parameters; returns the result, JSON in UTF-8. Raises NodeCallError for an
error answer of the node, RequestError where the call is not allowed, another UpstreamError if there is no answer."""

ENTRY_LIMIT = 256
"""Different calls whose answers are kept, or that are in flight."""

BYTES_LIMIT = 16 << 20
"""Memory for the answers that are kept."""

IN_FLIGHT_LIMIT = 64
"""Different calls in flight at one time; the node is given one after the other."""

Key = tuple[str, str]


@dataclass(eq=False, slots=True)
class Entry:
    """A call: in flight, or answered.

    Attributes:
        task: makes the call, and holds what came of it.
        answered_at: monotonic seconds; None while it is in flight.
        result: the last one that there was, of this call or of one before it.
        result_at: when that came, monotonic seconds.
    """

    task: asyncio.Task[bytes]
    answered_at: float | None = None
    result: bytes | None = None
    result_at: float = 0.0


class CallCache:
    """Stands before a way to call the node, and is one itself: `call` is a CallNode.

    It is for methods that only read: who asks twice within the moment gets the same answer twice, errors too.

    Attributes:
        made: how many calls were made.
        shared: how many were answered by a call that somebody else had made.
    """

    def __init__(self, call: CallNode, *, keep_seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Know no answer yet.

        Args:
            call: calls the node; it ends by itself, with TimeoutError or UpstreamError where the node is silent.
            keep_seconds: how long an answer serves others, from when it came.
            monotonic: returns seconds.
        """
        self.made = self.shared = 0
        self._call = call
        self._keep_seconds = keep_seconds
        self._monotonic = monotonic
        self._entries: dict[Key, Entry] = {}  # the ones answered least recently first
        self._in_flight = 0
        self._bytes = 0

    async def call(self, method: str, params: dict[str, object]) -> bytes:
        """Return the answer to a call: a new one, or that of an equal call in flight or just answered.

        Cancelling it leaves the call in flight, for others and for the next time.

        Args:
            method: of the node's JSON-RPC.
            params: by name; their order does not matter.

        Returns:
            The result, JSON in UTF-8.

        Raises:
            BridgeError: as of the call that it stands before; UpstreamError also where too many are in flight.
        """
        key = key_of(method, params)
        entry = self._entries.get(key)
        if entry is not None and self._serves(entry):
            self.shared += 1
        else:
            entry = self._begin(key, entry, method, params)
        return await asyncio.shield(entry.task)

    def recent(self, method: str, params: dict[str, object], seconds: float) -> bytes | None:
        """Return the last result of a call if it came at most `seconds` ago and is still held, else None."""
        entry = self._entries.get(key_of(method, params))
        if entry is None or entry.result is None or self._monotonic() - entry.result_at > seconds:
            return None
        return entry.result

    async def close(self) -> None:
        """Cancel the calls in flight, and with them whoever waits."""
        tasks = [entry.task for entry in self._entries.values() if not entry.task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _serves(self, entry: Entry) -> bool:
        return entry.answered_at is None or self._monotonic() - entry.answered_at < self._keep_seconds

    def _begin(self, key: Key, before: Entry | None, method: str, params: dict[str, object]) -> Entry:
        if self._in_flight >= IN_FLIGHT_LIMIT:
            raise UpstreamError(f"{self._in_flight} different calls wait for the node already, and no more may")
        self._in_flight += 1
        self.made += 1
        entry = Entry(asyncio.create_task(self._make(key, method, params)))
        if before is not None:
            entry.result, entry.result_at = before.result, before.result_at
        self._entries[key] = entry
        entry.task.add_done_callback(retrieve)
        return entry

    async def _make(self, key: Key, method: str, params: dict[str, object]) -> bytes:
        result = None
        try:
            result = await self._call(method, params)
            return result
        finally:
            self._in_flight -= 1
            self._settle(key, result)

    def _settle(self, key: Key, result: bytes | None) -> None:
        """Note that a call was answered, make it the newest, and let go of the oldest beyond the limits."""
        entry = self._entries.pop(key)
        entry.answered_at = self._monotonic()
        if result is not None:
            self._bytes += len(result) - len(entry.result or b"")
            entry.result, entry.result_at = result, entry.answered_at
        self._entries[key] = entry
        answered = [(at, old) for at, old in self._entries.items() if old.answered_at is not None]
        for at, old in answered[:-1]:
            if len(self._entries) <= ENTRY_LIMIT and self._bytes <= BYTES_LIMIT:
                return
            del self._entries[at]
            self._bytes -= len(old.result or b"")


def key_of(method: str, params: dict[str, object]) -> Key:
    """Return what equal calls have in common."""
    return method, json.dumps(params, sort_keys=True, separators=(",", ":"))


def retrieve(task: asyncio.Task[bytes]) -> None:
    """Take note of what came of a call that nobody may wait for any more."""
    if not task.cancelled():
        task.exception()
