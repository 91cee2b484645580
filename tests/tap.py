"""Shows every frame that a sidecar within the tests sends to `tests.frames`, whoever reads it, or nobody."""

import asyncio
import zlib
from typing import Any

from bridge.core.deflate import Deflate
from bridge.edges.wire import Wire
from tests import frames

FAULTS: list[str] = []
"""What was wrong with frames that were sent: it cannot be raised where they are."""


class Tap:
    """A transport that shows what is written to it."""

    def __init__(self, transport: asyncio.Transport, *, deflates: bool) -> None:
        self._transport = transport
        self._deflates = deflates

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        show(data, deflates=self._deflates)
        self._transport.write(data)


class TappedWire(Wire):
    """A connection of the sidecar, whose transport is tapped."""

    __slots__ = ()

    def __init__(self, transport: asyncio.Transport, *args: Any, **options: Any) -> None:
        deflates = any(isinstance(argument, Deflate) for argument in (*args, *options.values()))
        super().__init__(Tap(transport, deflates=deflates), *args, **options)


def show(data: bytes, *, deflates: bool = False) -> None:
    """Show what a server writes: whole frames."""
    try:
        for first, payload in frames.server_frames(data, deflates=deflates):
            frames.saw(first & 0x0F, payload)
    except (AssertionError, ValueError, zlib.error) as error:
        FAULTS.append(str(error))
