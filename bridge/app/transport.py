"""Transport: what moves bytes through sockets, asyncio's own or one that costs less."""

import asyncio
from collections.abc import Callable
from importlib import import_module
from typing import cast

from bridge.core.errors import StartError

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def loop_factory(transport: str) -> LoopFactory | None:
    """Return what makes the event loop for a transport; None: as asyncio makes it.

    Args:
        transport: asyncio, or aiofastnet (https://github.com/aio-libs/aiofastnet).

    Raises:
        StartError: the package is not installed.
    """
    if transport == "asyncio":
        return None
    try:
        package = import_module(transport)
    except ImportError:
        sentence = f"transport {transport} needs the package {transport}: pip install 'theblock-bridge[fast]'"
        raise StartError(sentence) from None
    return cast(LoopFactory, package.loop_factory())
