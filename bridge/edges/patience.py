"""How long a peer is waited for, and how it is noticed that its socket takes nothing."""

import asyncio
import socket
from dataclasses import dataclass
from typing import cast


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a peer is waited for, and how much is held for it.

    Attributes:
        ping_interval_seconds: silence after which it is pinged.
        pong_timeout_seconds: silence after a ping after which it is aborted.
        stall_timeout_seconds: how long its socket may take nothing.
        send_buffer_bytes: SO_SNDBUF, so that the kernel does not hide a stall.
        write_buffer_bytes: answers that may wait in the process before its next messages wait.
    """

    ping_interval_seconds: float = 25.0
    pong_timeout_seconds: float = 10.0
    stall_timeout_seconds: float = 60.0
    send_buffer_bytes: int = 65_536
    write_buffer_bytes: int = 131_072


def bound_buffers(transport: asyncio.Transport, patience: Patience) -> socket.socket | None:
    """Bound what is held for a peer: in the kernel so much, and in the process what was written last, not more.

    Args:
        transport: of the connection; it pauses its protocol as soon as something waits in it.
        patience: how much.

    Returns:
        The socket; None if there is none.
    """
    transport.set_write_buffer_limits(high=0)
    sock = cast("socket.socket | None", transport.get_extra_info("socket"))
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, patience.send_buffer_bytes)
    return sock


class Stall:
    """Whether a socket takes nothing, and since when. Times are of the loop."""

    __slots__ = ("_left_bytes", "_since")

    def __init__(self) -> None:
        """Begin with a socket that takes everything."""
        self._since: float | None = None
        self._left_bytes = 0

    def begin(self, now: float, left_bytes: int) -> None:
        """Note that the socket takes no more, and what is left to write."""
        self._since, self._left_bytes = now, left_bytes

    def end(self) -> None:
        """Note that it takes more again."""
        self._since = None

    @property
    def lasts(self) -> bool:
        """Whether it is full."""
        return self._since is not None

    def longer_than(self, seconds: float, now: float, left_bytes: int) -> bool:
        """Whether it is full and has taken nothing for longer than that; called from time to time."""
        if self._since is None:
            return False
        if left_bytes < self._left_bytes:
            self._since = now
        over = now - self._since > seconds
        if not over:
            self._left_bytes = left_bytes  # more than before where answers were added
        return over
