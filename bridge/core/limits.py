"""Limits: what one client may ask for.

Each field carries `doc`, `minimum` and `maximum` in its metadata; `bridge.settings` makes a setting of each.
"""

from dataclasses import dataclass, field


def _limit(default: int, minimum: int, maximum: int, doc: str) -> int:
    return field(default=default, metadata={"doc": doc, "minimum": minimum, "maximum": maximum})


@dataclass(frozen=True)
class Limits:
    """What one client may ask for; whatever is beyond a limit is refused with a sentence that names the limit."""

    message_bytes: int = _limit(65536, 1024, 16 << 20, "Largest WebSocket message of a client, after inflation.")
    depth: int = _limit(32, 4, 128, "How deep objects and arrays may be nested in a JSON message.")
    batch: int = _limit(50, 1, 1000, "Requests in one JSON-RPC batch.")
    subscriptions: int = _limit(256, 1, 10_000, "Subscriptions of one connection.")
    undeclared: int = _limit(16, 0, 10_000, "Subscriptions of one connection to streams that nothing has declared yet.")
    last: int = _limit(1000, 1, 100_000, "Updates that a subscription may replay with `last`.")
    page: int = _limit(1000, 1, 10_000, "Updates in one page of history.")
    where_terms: int = _limit(16, 1, 256, "Terms in the `where` of one subscription.")
    fields: int = _limit(64, 1, 1024, "Names in the `fields` of one subscription.")
    bad_messages: int = _limit(20, 1, 1000, "Bad messages in a row after which a connection is closed.")
    sse_streams: int = _limit(16, 1, 32, "Subscriptions of one Server-Sent Events connection.")
    rpc_body_bytes: int = _limit(1 << 20, 1024, 16 << 20, "Largest body of `POST /rpc`.")
