"""How a connection is taken over from aiohttp, once the head of the answer is written."""

import asyncio

from aiohttp import web


def take_over(transport: asyncio.Transport, protocol: asyncio.BaseProtocol) -> None:
    """Make `protocol` that of a connection, and let aiohttp take it for lost.

    So nothing of aiohttp's is kept for it. Its parser, its request and the coroutines of a handler that waits were ten
    of the 14 KB that a connection took, and were unwound one by one when a thousand clients went at once. A handler
    should return when it has called this; what it returns is not sent.

    Args:
        transport: of a connection that aiohttp serves.
        protocol: what it calls from now on; `connection_made` is not called.
    """
    handler = transport.get_protocol()
    assert isinstance(handler, web.RequestHandler)
    transport.set_protocol(protocol)
    handler.transport = None  # else it would close it
    handler.connection_lost(None)
