"""The node behind /rpc: asked with little patience, and its errors in the codes that clients know."""

import asyncio
import json
import re
from typing import Final

from bridge.core.codes import ErrorCode
from bridge.core.errors import NodeCallError, RequestError, UpstreamError
from bridge.edges.rpc.params import Members, bad
from bridge.ops.call_cache import CallCache

METHOD: Final = re.compile(r"[A-Za-z0-9_.]{1,128}")

PARAMS_BYTES: Final = 16_384
"""Largest params that are passed on."""

PATIENCE_SECONDS: Final = 2.0
"""How long an answer is waited for: dashboards give up after 2.5 s."""

GRACE_SECONDS: Final = 0.25
"""How long an answer is waited for where there is a recent one that can be given instead."""

RECENT_SECONDS: Final = 10.0
"""How old that one may be."""

RETRY_AFTER_MS: Final = 1000
"""When to ask again what cannot be answered now."""

MESSAGE_CHARACTERS: Final = 300
"""Of the sentences of others that are passed on."""

NODE_CODES: Final = {-32601: ErrorCode.METHOD_NOT_FOUND, -32602: ErrorCode.INVALID_PARAMS}
"""What the node's error codes mean for a client; every other one: it cannot be answered now."""

ABSENT: Final = {ErrorCode.FORBIDDEN, ErrorCode.METHOD_NOT_FOUND}
"""Refusals by which a client is told that there is no such method: dashboards then count it as missing."""


class Node:
    """Asks the node for clients.

    Args:
        cache: calls the node; None where there is none.
        patience_seconds: how long an answer is waited for.
        grace_seconds: the same, where there is a recent one.
    """

    def __init__(
        self,
        cache: CallCache | None,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        self._cache = cache
        self._patience_seconds = patience_seconds
        self._grace_seconds = grace_seconds

    async def ask(self, method: str, params: Members) -> bytes:
        """Call a method of the node.

        While the node is slow or silent, its last answer is given instead if that is recent. Cancelling it leaves the
        call to others.

        Args:
            method: as the client gave it.
            params: by name.

        Returns:
            The result, JSON in UTF-8.

        Raises:
            RequestError: there is no such method for clients, the node refused, or it cannot be asked now.
        """
        if self._cache is None or not METHOD.fullmatch(method):
            raise unknown(method)
        if len(json.dumps(params)) > PARAMS_BYTES:
            raise bad(f"params of methods of the node have at most {PARAMS_BYTES} bytes")
        recent = self._cache.recent(method, params, RECENT_SECONDS)
        patience_seconds = self._patience_seconds if recent is None else self._grace_seconds
        try:
            async with asyncio.timeout(patience_seconds):
                return await self._cache.call(method, params)
        except NodeCallError as error:
            raise refused(error) from error
        except RequestError as error:
            if error.code in ABSENT:
                raise unknown(method) from error
            raise
        except (UpstreamError, TimeoutError, OSError) as error:
            if recent is not None:
                return recent
            raise unavailable(f"the node does not answer {method} now; /health says how it does") from error


def unknown(method: str) -> RequestError:
    """Return the error for a method that there is not, or that clients may not call."""
    sentence = f"there is no method {method[:80]!r}, or it is not in the setting node_methods"
    return RequestError(ErrorCode.METHOD_NOT_FOUND, sentence)


def refused(error: NodeCallError) -> RequestError:
    """Return the error for the node's own."""
    code = NODE_CODES.get(error.code, ErrorCode.UPSTREAM_UNAVAILABLE)
    sentence = f"the node answered with error {error.code}: {error}"[:MESSAGE_CHARACTERS]
    return RequestError(code, sentence, {"node_code": error.code})


def unavailable(sentence: str) -> RequestError:
    """Return the error for what cannot be answered now."""
    data: dict[str, object] = {"retry_after_ms": RETRY_AFTER_MS}
    return RequestError(ErrorCode.UPSTREAM_UNAVAILABLE, sentence[:MESSAGE_CHARACTERS], data)
