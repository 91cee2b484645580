"""What the connections of an event loop share: what is read into, and the sockets that are written to."""

import asyncio
import os
from collections.abc import Callable
from typing import Final, cast

INBOX_BYTES: Final = 1 << 18
"""How much of a connection is read at once: as much as asyncio reads."""

KNOWN: Final = "asyncio.selector_events"
"""Whose transports hand bytes to the socket at once and as they are, so that doing it here comes to the same."""


class Sockets:
    """The sockets of connections, each known by its descriptor.

    What a bridge does is `send`, once a client and turn. What surrounds it costs most by touching memory that is not in
    the processor's cache: a connection's transport, its socket object, what it calls. So a sweep goes through a list of
    numbers. That is right as long as nothing waits in the transport: a connection must pause its reader as soon as
    something does (a high-water mark of 0), and let go of it before it lets something be dropped.

    Attributes:
        inbox: what is read comes there first.
    """

    __slots__ = ("_rests", "inbox")

    def __init__(self) -> None:
        """Begin with none."""
        self.inbox = memoryview(bytearray(INBOX_BYTES))
        self._rests: dict[int, Callable[[bytes], None]] = {}

    def add(self, transport: asyncio.Transport, write_rest: Callable[[bytes], None]) -> int | None:
        """Add the socket of a connection.

        Args:
            transport: of the connection.
            write_rest: called with what the socket has not taken.

        Returns:
            Its descriptor; None: its transport does more than write (TLS, aiofastnet), so it is not added.
        """
        if type(transport).__module__ != KNOWN:
            return None
        descriptor = cast("int", transport.get_extra_info("socket").fileno())
        self._rests[descriptor] = write_rest
        return descriptor

    def remove(self, descriptor: int) -> None:
        """Let go of a socket; before it is closed, since its number is given to another one."""
        del self._rests[descriptor]

    def write_all(self, data: bytes, descriptors: list[int]) -> None:
        """Write the same to many sockets; never blocks, never raises."""
        write, size = os.write, len(data)
        for descriptor in descriptors:  # nothing else in here: this is where a bridge spends its time
            try:
                sent = write(descriptor, data)
            except OSError:  # full or broken: its transport will find the same
                sent = 0
            if sent != size:
                self._rests[descriptor](data[sent:])
