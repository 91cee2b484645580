"""The connection of a command to a state service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import grpc

from bridge.core.errors import UpstreamError
from bridge.ops.grpc_options import channel_options
from bridge.settings import Address

CALL_SECONDS: Final = 10.0
"""How long an answer of the state service is waited for."""

KEEPALIVE_SECONDS: Final = 30.0
"""How often a quiet connection to the state service is tried for life."""


@asynccontextmanager
async def connect(upstream: Address) -> AsyncIterator[grpc.aio.Channel]:
    """Open a channel to a state service; a failed call within becomes one clear sentence.

    Raises:
        UpstreamError: the state service did not do what was asked.
    """
    async with grpc.aio.insecure_channel(str(upstream), options=channel_options(KEEPALIVE_SECONDS)) as channel:
        try:
            yield channel
        except grpc.aio.AioRpcError as error:
            code = error.code()
            if code is grpc.StatusCode.UNAVAILABLE:
                raise UpstreamError(f"no state service answers at {upstream}") from None
            if code is grpc.StatusCode.UNIMPLEMENTED:
                raise UpstreamError(f"the state service at {upstream} does not do that: is ingest on?") from None
            raise UpstreamError(f"the state service at {upstream} says {code.name}: {error.details()}") from None
        except TimeoutError:
            raise UpstreamError(f"the state service at {upstream} does not answer") from None
