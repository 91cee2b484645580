"""The gRPC server: an address of its own, the services on it, health and reflection."""

import asyncio
import errno
import socket
import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from bridge.core.errors import StartError
from bridge.ops.grpc_options import server_options
from bridge.settings.address import Address

PROBE_SECONDS = 2.0
"""How long to wait for whoever may listen on a Unix socket already."""


class Service(Protocol):
    """What can stand on a server."""

    @property
    def name(self) -> str:
        """Full name of the service."""

    def handler(self) -> "grpc.GenericRpcHandler[bytes, bytes]":
        """Return the handler of the service's methods."""

    def close(self) -> None:
        """End the streams that are open: the server is about to stop."""


class StateServer:
    """A gRPC server on an address of its own.

    Attributes:
        address: where it listens; once started, with the port that the system chose.
    """

    def __init__(
        self,
        address: Address,
        services: Sequence[Service],
        *,
        keepalive_seconds: float = 30.0,
        drain_seconds: float = 1.0,
        rpc_limit: int = 1000,
    ) -> None:
        """Describe a server; `start` starts it.

        Args:
            address: TCP or Unix socket; port 0 lets the system choose.
            services: that stand on it.
            keepalive_seconds: how often a quiet connection is tried for life.
            drain_seconds: how long calls may go on when it is left as a context manager.
            rpc_limit: how many calls there may be at one time, of all services.
        """
        self.address = address
        self._services = services
        self._keepalive_seconds = keepalive_seconds
        self._drain_seconds = drain_seconds
        self._rpc_limit = rpc_limit
        self._server: grpc.aio.Server | None = None
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]

    async def start(self) -> None:
        """Listen and serve.

        Raises:
            StartError: the address is taken or cannot be listened on.
        """
        await check_free(self.address)
        server = grpc.aio.server(
            options=server_options(self._keepalive_seconds), maximum_concurrent_rpcs=self._rpc_limit
        )
        server.add_generic_rpc_handlers([service.handler() for service in self._services])
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = [service.name for service in self._services]
        reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
        try:
            port = server.add_insecure_port(str(self.address))
        except RuntimeError as error:
            raise StartError(f"cannot listen on {self.address}") from error
        await server.start()
        self._server = server
        if not self.address.path:
            self.address = replace(self.address, port=port)
        for name in names:
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self, drain_seconds: float) -> None:
        """Take no more calls, end subscriptions, give other calls `drain_seconds`, then end them too."""
        server, self._server = self._server, None
        if server is None:
            return
        await self._health.enter_graceful_shutdown()
        for service in self._services:
            service.close()
        await server.stop(drain_seconds)

    async def __aenter__(self) -> Self:
        """Start it."""
        await self.start()
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Stop it."""
        await self.stop(self._drain_seconds)


async def check_free(address: Address) -> None:
    """Check that nobody listens on an address; a Unix socket that a dead process left is removed.

    gRPC cannot be left to find out: it replaces a Unix socket that is in use, and is content with one of the
    addresses that a name stands for.

    Raises:
        StartError: somebody does, or it cannot be listened on.
    """
    if address.path:
        await asyncio.to_thread(check_socket_file, Path(address.path))
    elif address.port:
        await check_port(address)


def check_socket_file(path: Path) -> None:
    """Check that nobody listens on a Unix socket, and remove one that a dead process left.

    Raises:
        StartError: somebody does, or the path is something else.
    """
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise StartError(f"cannot listen on unix:{path}: there is a file that is no socket")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(PROBE_SECONDS)
            probe.connect(str(path))
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        path.unlink(missing_ok=True)
        return
    except TimeoutError:
        pass  # somebody listens, but is busy
    except OSError as error:
        raise StartError(f"cannot listen on unix:{path}: {error.strerror}") from error
    raise StartError(f"unix:{path} is taken: another process listens there")


async def check_port(address: Address) -> None:
    """Check that a TCP port is free on every address that a host stands for.

    Raises:
        StartError: it is not, or none of them can be listened on.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise StartError(f"cannot listen on {address}: the host is not known") from error
    failures = [failure for family, _, _, _, name in found if (failure := bind_failure(family, name)) is not None]
    if any(failure.errno == errno.EADDRINUSE for failure in failures):
        raise StartError(f"{address} is taken: another process listens there")
    if len(failures) == len(found):
        raise StartError(f"cannot listen on {address}: {failures[0].strerror}")


def bind_failure(family: int, name: tuple[object, ...]) -> OSError | None:
    """Return why a socket cannot be bound to an address, None if it can."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(name)
    except OSError as error:
        return error
    return None
