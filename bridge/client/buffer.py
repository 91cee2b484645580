"""What has come and is not taken yet: bounded, so that a client that takes slowly reads slowly."""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from bridge.client.events import Event, Updated

EVENT_BYTES = 1000
"""What an event is taken to cost beside its frame; a decoded frame costs a few times its size."""

OVERDRAFT_BYTES = 16 << 20
"""How much more the buffer may hold while an answer is awaited, which comes behind what is under way."""


class Buffer:
    """Events on their way from the connection to whoever takes them."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._events: deque[Event] = deque()
        self._bytes = 0
        self._lent = 0
        self._error: Exception | None = None
        self._some = asyncio.Event()
        self._room = asyncio.Event()

    @property
    def size_bytes(self) -> int:
        """What it holds."""
        return self._bytes

    @property
    def full(self) -> bool:
        """Whether it takes no more for now."""
        return self._bytes >= self._limit_bytes + (OVERDRAFT_BYTES if self._lent else 0)

    def push(self, event: Event) -> None:
        """Add an event; await `room` before the next frame is read."""
        self._events.append(event)
        self._bytes += weight_bytes(event)
        self._some.set()

    def end(self, error: Exception) -> None:
        """Let `get` raise `error` once everything is taken."""
        self._error = error
        self._some.set()

    async def room(self) -> None:
        """Wait until there is room."""
        while self.full:
            self._room.clear()
            await self._room.wait()

    async def get(self) -> Event:
        """Take the oldest event out, waiting for one; nothing is taken if it is cancelled."""
        while not self._events:
            if self._error is not None:
                raise self._error
            self._some.clear()
            await self._some.wait()
        event = self._events.popleft()
        self._bytes -= weight_bytes(event)
        self._room.set()
        return event

    @contextmanager
    def overdraft(self) -> Iterator[None]:
        """Hold more than usual while an answer is awaited, so that one who asks between two events gets it."""
        self._lent += 1
        self._room.set()
        try:
            yield
        finally:
            self._lent -= 1


def weight_bytes(event: Event) -> int:
    """Return what an event counts for."""
    return EVENT_BYTES + (len(event.raw) if isinstance(event, Updated) else 0)
