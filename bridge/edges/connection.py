"""What connections have in common that stay open: how they are checked, told of what concerns all, and ended."""

import asyncio
from typing import Protocol

from bridge.core.codes import Close
from bridge.core.hub import Status


class Connection(Protocol):
    """A connection that updates are sent on.

    Attributes:
        closed: set when it is gone.
    """

    closed: asyncio.Future[None]

    def check(self, now: float) -> bool:
        """Do what is due, about once a second, at a loop time; return whether it was dropped, for taking nothing."""

    def tell_upstream(self, status: Status) -> None:
        """Tell that the state of what feeds the hub has changed."""

    def announce(self, close: Close, retry_after_ms: int) -> None:
        """Tell that it will be closed, and when to come back."""

    def close(self, close: Close, message: str, **more: int) -> None:
        """End it, and say why; `more` may have retry_after_ms."""

    def abort(self) -> None:
        """Drop it at once."""
