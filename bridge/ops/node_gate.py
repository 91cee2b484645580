"""The gate before the node: what clients may ask of it, how much at once, and what of its answers stays here."""

from collections.abc import Callable, Collection
from typing import Final

import msgspec

from bridge.core.codes import ErrorCode
from bridge.core.errors import RequestError, UpstreamError
from bridge.ops.call_cache import CallNode

LARGEST_PAGES: Final = {"light.headers": 200, "net.peer_stats_all": 1000}
"""Highest `limit` of methods that give as much as they are asked for, holding the chain's lock meanwhile."""

Members = dict[str, object]


class NodeGate:
    """Stands before a way to call the node, and is one itself: `call` is a CallNode."""

    def __init__(self, call: CallNode, methods: Collection[str]) -> None:
        """Let some methods through.

        Args:
            call: calls the node.
            methods: that clients may call.
        """
        self._call = call
        self._methods = frozenset(methods)

    async def call(self, method: str, params: Members) -> bytes:
        """Call a method if it is allowed.

        Returns:
            The result, JSON in UTF-8.

        Raises:
            RequestError: it is not allowed.
            UpstreamError: as of the call that it stands before.
        """
        if method not in self._methods:
            raise not_allowed(method)
        largest, limit = LARGEST_PAGES.get(method), params.get("limit")
        if largest is not None and isinstance(limit, int) and limit > largest:
            params = params | {"limit": largest}
        result = await self._call(method, params)
        shape = SHAPES.get(method)
        return result if shape is None else reshaped(method, result, shape)


def not_allowed(method: str) -> RequestError:
    """Return the error for a method that clients may not call."""
    sentence = f"method {method[:200]!r} of the node may not be called: it is not in the setting node_methods"
    return RequestError(ErrorCode.FORBIDDEN, sentence)


def reshaped(method: str, result: bytes, shape: Callable[[Members], None]) -> bytes:
    """Return a result changed by `shape` if it is an object, else as it is.

    Raises:
        UpstreamError: it is not JSON.
    """
    try:
        value = msgspec.json.decode(result)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UpstreamError(f"the node's answer to {method!r} is not JSON: {error}") from error
    if isinstance(value, dict):
        shape(value)
    return msgspec.json.encode(value)


def hide_path(status: Members) -> None:
    """Take out the path of a file on the node's host."""
    status.pop("database_path", None)


def keep_text_mode(status: Members) -> None:
    """Take out a launch mode that is no text: dashboards break on it."""
    if not isinstance(status.get("launch_mode", ""), str):
        del status["launch_mode"]


SHAPES: Final[dict[str, Callable[[Members], None]]] = {
    "governor.status": keep_text_mode,
    "net.overlay_status": hide_path,
}
"""What is changed in the results of methods."""
