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
        last = self._published(value) if self._last is None else self._last
        if value == last:
            self._last = value
            return
        try:
            self._origin.publish(value)
        except PublishError as error:
            log.warning("a value of the node cannot be published: %s", error)
        self._last = value

    def forget(self) -> None:
        """Have the next value published whatever it is, since a new epoch began."""
        self._last = None

    def _published(self, value: Message) -> Message | None:
        """Return the value that a process before this one published last in the epoch that goes on."""
        stream = self._origin.hub.catalogue.of_message(value)
        update = self._origin.hub.histories[stream.name].latest.get("")
        return None if update is None else getattr(update.message(), stream.field)
