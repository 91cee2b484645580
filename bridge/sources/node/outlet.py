"""Outlet: publishes a value when it differs from the one published last."""

import logging

from google.protobuf.message import Message

from bridge.core.errors import PublishError
from bridge.core.origin import Origin

log = logging.getLogger("bridge.node")


class Outlet:
    """Publishes the value of one stream, on change only.

    Args:
        origin: gives it its position.
    """

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._last: Message | None = None

    def put(self, value: Message) -> None:
        """Publish `value` unless it is what was published last."""
        if value == self._last:
            return
        try:
            self._origin.publish(value)
        except PublishError as error:
            log.warning("a value of the node cannot be published: %s", error)
        self._last = value

    def forget(self) -> None:
        """Have the next value published whatever it is, since a new epoch began."""
        self._last = None
