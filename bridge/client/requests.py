"""The requests of a client: their methods, params and results."""

from typing import Final

import msgspec

from bridge.client.codec import Result
from bridge.client.events import Books, Missed, Page, Started, StreamInfo, Updated
from bridge.core.position import Position

SUBSCRIBE: Final = "state_stream.subscribe"
UNSUBSCRIBE: Final = "state_stream.unsubscribe"
LIST: Final = "state_stream.list"
HISTORY: Final = "state_stream.history"
STATS: Final = "session.stats"

Rows = tuple[Started, ...]


def read_rows(result: Result) -> Rows:
    """Read the result of state_stream.subscribe."""
    return msgspec.convert(result["subscriptions"], Rows, strict=False)


def read_streams(result: Result) -> tuple[StreamInfo, ...]:
    """Read the result of state_stream.list."""
    return msgspec.convert(result["streams"], tuple[StreamInfo, ...], strict=False)


def read_books(result: Result) -> tuple[Books, ...]:
    """Read the result of session.stats."""
    return msgspec.convert(result["subscriptions"], tuple[Books, ...], strict=False)


def read_page(result: Result) -> Page:
    """Read the result of state_stream.history."""
    updates = msgspec.convert(result["updates"], tuple[Updated, ...])
    behind = result.get("next")
    missed = result.get("missed")
    return Page(
        updates,
        None if behind is None else Position(behind["epoch"], int(behind["seq"])),
        None if missed is None else msgspec.convert(missed, Missed, strict=False),
    )
