"""Listening for HTTP."""

import os
from typing import Final

from aiohttp import web

from bridge.core.errors import StartError
from bridge.edges.grpc.server import check_free
from bridge.settings import Address

BACKLOG: Final = 4096
"""Connections that wait to be accepted."""


async def start_site(runner: web.AppRunner, address: Address) -> web.BaseSite:
    """Listen for HTTP.

    Raises:
        StartError: the address is taken or cannot be listened on.
    """
    await check_free(address)  # asyncio replaces a Unix socket that is in use
    site: web.BaseSite
    if address.path:
        site = web.UnixSite(runner, address.path, backlog=BACKLOG)
    else:
        site = web.TCPSite(runner, address.host, address.port, backlog=BACKLOG)
    try:
        await site.start()
    except OSError as error:
        raise StartError(f"cannot listen on {address}: {os.strerror(error.errno) if error.errno else error}") from None
    return site


def site_url(runner: web.AppRunner, address: Address) -> str:
    """Return the URL on which the process accepts HTTP, with the port that it was given."""
    if address.path:
        return f"http+unix:{address.path}"
    port = runner.addresses[0][1]
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"http://{host}:{port}"
