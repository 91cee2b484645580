"""Shows every frame that a sidecar within the tests sends to `tests.frames`, whoever reads it, or nobody."""

import asyncio
from typing import Any

from bridge.edges.wire import Wire
from tests import frames

FAULTS: list[str] = []
"""What was wrong with frames that were sent: it cannot be raised where they are."""


class Tap:
    """A transport that shows what is written to it."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        show(data)
        self._transport.write(data)


class TappedWire(Wire):
    """A connection of the sidecar, whose transport is tapped."""

    __slots__ = ()

    def __init__(self, transport: asyncio.Transport, *args: Any, **options: Any) -> None:
        super().__init__(Tap(transport), *args, **options)


def show(data: bytes) -> None:
    """Show what a server writes: whole frames."""
    try:
        for first, payload in frames.server_frames(data):
            frames.saw(first & 0x0F, payload)
    except (AssertionError, ValueError) as error:
        FAULTS.append(str(error))
