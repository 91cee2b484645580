"""Requests as the clients of verify send them: JSON text, or the same as a ClientFrame."""

import json
from typing import Any, Final

from bridge.verify.jsonvalues import Data
from generated.theblock.state.v1 import frames_pb2

SUBSCRIBE: Final = "state_stream.subscribe"
UNSUBSCRIBE: Final = "state_stream.unsubscribe"
LIST: Final = "state_stream.list"
HISTORY: Final = "state_stream.history"
STATS: Final = "session.stats"


def request(method: str, params: list[Data] | None = None, number: int = 1, *, plain: bool = False) -> Data:
    """Return a request.

    Args:
        method: that is called.
        params: of it.
        number: its id.
        plain: as the dashboard writes it, which is not answered unless it fails; else JSON-RPC 2.0.
    """
    head: Data = {} if plain else {"jsonrpc": "2.0"}
    return {**head, "method": method, **({} if params is None else {"params": params}), "id": number}


def to_text(value: Data) -> bytes:
    """Return a request as JSON text."""
    return json.dumps(value, separators=(",", ":")).encode()


def to_binary(value: Data) -> bytes:
    """Return a request as a ClientFrame."""
    frame = frames_pb2.ClientFrame(id=value["id"])
    params = value.get("params") or [{}]
    match value["method"]:
        case "state_stream.subscribe":
            frame.subscribe.subscriptions.extend(spec_of(entry) for entry in params)
        case "state_stream.unsubscribe":
            names = [frames_pb2.SubscriptionName(stream=e["stream"], key=e.get("key") or "") for e in params]
            frame.unsubscribe.subscriptions.extend(names)
        case "state_stream.list":
            frame.list.SetInParent()
        case "state_stream.history":
            entry = params[0]
            frame.history.stream = entry["stream"]
            frame.history.limit = entry.get("limit", 0)
            if "since" in entry:
                frame.history.since.epoch, frame.history.since.seq = entry["since"]["epoch"], entry["since"]["seq"]
        case "session.stats":
            frame.stats.SetInParent()
        case method:
            raise ValueError(f"no ClientFrame has {method}")
    return frame.SerializeToString()


def spec_of(entry: Data) -> frames_pb2.SubscriptionSpec:
    """Return a subscription that is asked for."""
    spec = frames_pb2.SubscriptionSpec(stream=entry["stream"], key=entry.get("key") or "")
    since = entry.get("since")
    if since is not None:
        spec.since.epoch, spec.since.seq = since["epoch"], since["seq"]
    if entry.get("last") is not None:
        spec.last = entry["last"]
    for field, term in (entry.get("where") or {}).items():
        for test, bound in (term if isinstance(term, dict) else {"eq": term}).items():
            values = [value_of(one) for one in (bound if test == "in" else [bound])]
            spec.where.append(frames_pb2.WhereTerm(field=field, test=test, values=values))
    if entry.get("max_rate") is not None:
        spec.max_rate_hz = entry["max_rate"]
    return spec


def value_of(value: Any) -> frames_pb2.WhereValue:
    """Return a scalar of a filter."""
    match value:
        case bool():
            return frames_pb2.WhereValue(truth=value)
        case int():
            return frames_pb2.WhereValue(integer=value)
        case float():
            return frames_pb2.WhereValue(number=value)
        case str():
            return frames_pb2.WhereValue(text=value)
        case _:
            return frames_pb2.WhereValue()
