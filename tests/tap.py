"""Shows every frame that a sidecar within the tests sends to `tests.frames`, whoever reads it, or nobody."""

import asyncio
import zlib
from collections.abc import Callable
from typing import Any

from bridge.core.deflate import Deflate
from bridge.edges.sockets import Sockets
from bridge.edges.wire import Wire
from tests import frames

FAULTS: list[str] = []
"""What was wrong with frames that were sent: it cannot be raised where they are."""


class Tap:
    """A transport that shows what is written to it."""

    def __init__(self, transport: asyncio.Transport, *, deflates: bool) -> None:
        self.tapped = transport
        self._deflates = deflates

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tapped, name)

    def write(self, data: bytes) -> None:
        show(data, deflates=self._deflates)
        self.tapped.write(data)


class TappedSockets(Sockets):
    """Sockets that show what is written to them."""

    __slots__ = ()

    def add(self, transport: asyncio.Transport, write_rest: Callable[[bytes], None]) -> int | None:
        return super().add(transport.tapped, write_rest)

    def write_all(self, data: bytes, descriptors: list[int]) -> None:
        show(data, deflates=True)
        super().write_all(data, descriptors)


class TappedWire(Wire):
    """A connection of the sidecar, whose transport is tapped."""

    __slots__ = ()

    def __init__(self, transport: asyncio.Transport, *args: Any, **options: Any) -> None:
        deflates = any(isinstance(argument, Deflate) for argument in (*args, *options.values()))
        super().__init__(Tap(transport, deflates=deflates), *args, **options)

    def _write_rest(self, data: bytes) -> None:
        self._transport, tap = self._transport.tapped, self._transport  # it was shown, with what went before it
        super()._write_rest(data)
        self._transport = tap


def show(data: bytes, *, deflates: bool = False) -> None:
    """Show what a server writes: whole frames."""
    try:
        for first, payload in frames.server_frames(data, deflates=deflates):
            frames.saw(first & 0x0F, payload)
    except (AssertionError, ValueError, zlib.error) as error:
        FAULTS.append(str(error))
