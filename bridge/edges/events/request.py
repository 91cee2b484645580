"""Requests for Server-Sent Events: what a client asks for."""

from typing import Final, NamedTuple

from aiohttp import hdrs, web

from bridge.core.audience import SubscriptionKey
from bridge.core.events import EVENT_FORMATS
from bridge.core.limits import Limits
from bridge.core.requests import bad
from bridge.core.update import Format
from bridge.core.vector import Vector, parse_name
from bridge.edges.state import wanted_format

PARAMETERS: Final = ("stream", "int64", "last_event_id")
"""What the query may have; `stream` as often as there are subscriptions."""


class Wanted(NamedTuple):
    """What a client asks for."""

    subscriptions: list[SubscriptionKey]
    reached: Vector  # positions of some of them, behind which they go on
    format: Format


def read_wanted(request: web.Request, limits: Limits) -> Wanted:
    """Read what a request asks for.

    Raises:
        RequestError: a parameter or Last-Event-ID is not as it must be.
    """
    query = request.query
    for name in query:
        if name not in PARAMETERS:
            raise bad(f"{name[:80]!r} is not known; allowed are {', '.join(PARAMETERS)}")
        if name != "stream" and len(query.getall(name)) > 1:
            raise bad(f"{name} may stand once")
    format_ = EVENT_FORMATS[wanted_format(query)]
    return Wanted(read_subscriptions(query.getall("stream", []), limits.sse_streams), read_reached(request), format_)


def read_subscriptions(names: list[str], limit: int) -> list[SubscriptionKey]:
    """Read the subscriptions, each once."""
    if not names:
        raise bad("no stream is named: ask for ?stream=block_updates, or for one key with ?stream=account/KEY")
    try:
        subscriptions = list(dict.fromkeys(map(parse_name, names)))
    except ValueError as error:
        raise bad(f"stream: {error}") from None
    if len(subscriptions) > limit:
        raise bad(f"that would be {len(subscriptions)} streams; a connection may have {limit}")
    return subscriptions


def read_reached(request: web.Request) -> Vector:
    """Read the id behind which to go on: a browser repeats the URL when it comes back, so the header is the newer."""
    for name, text in (
        (hdrs.LAST_EVENT_ID, request.headers.get(hdrs.LAST_EVENT_ID)),
        ("last_event_id", request.query.get("last_event_id")),
    ):
        if text:
            try:
                return Vector.parse(text)
            except ValueError as error:
                raise bad(f"{name}: {error}") from None
    return Vector({})
