"""Listening for HTTP: at an address of our own, at one shared with a successor, or on a socket that was passed."""

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from typing import Final

from bridge.core.errors import StartError
from bridge.edges.grpc.server import check_free
from bridge.settings import Address

QUEUE: Final = 4096
"""Connections that wait to be accepted; the kernel may allow fewer (net.core.somaxconn)."""

ACCEPTS: Final = 32
"""Connections accepted in one turn of the loop: the others wait in the kernel while open ones get their updates."""


class Listener:
    """Accepts connections.

    Attributes:
        shared: whether what comes when this process accepts no more is not lost: a successor takes it, or it waits in
            the socket that was passed.
    """

    def __init__(
        self,
        protocol: Callable[[], asyncio.BaseProtocol],
        address: Address,
        *,
        reuse_port: bool = False,
        passed: socket.socket | None = None,
    ) -> None:
        """Describe where; `start` listens.

        Args:
            protocol: makes what serves a connection.
            address: TCP or Unix socket; port 0 lets the system choose.
            reuse_port: whether processes of the same user that allow it too may listen at the same TCP address.
            passed: a socket that listens already; the address is not used then.
        """
        self._protocol = protocol
        self._address = address
        self._reuse_port = reuse_port
        self._passed = passed
        self._server: asyncio.Server | None = None
        self._sockets: list[socket.socket] = []  # the same that the server has, so that they outlive it
        self.shared = reuse_port or passed is not None

    async def start(self) -> None:
        """Listen.

        Raises:
            StartError: the address is taken or cannot be listened on.
        """
        if not self.shared:
            await check_free(self._address)  # asyncio replaces a Unix socket that is in use
        try:
            self._server = await self._listen()
        except OSError as error:
            if self._reuse_port and error.errno == errno.EADDRINUSE:
                sentence = f"{self._address} is taken: who listens there does so without reuse_port, or as another user"
                raise StartError(sentence) from None
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
            raise StartError(f"cannot listen on {self._address}: {reason}") from None
        self._sockets = [listening.dup() for listening in self._server.sockets]
        for listening in self._sockets:
            listening.listen(QUEUE)

    async def _listen(self) -> asyncio.Server:
        loop, address = asyncio.get_running_loop(), self._address
        if self._passed is not None:
            return await loop.create_server(self._protocol, sock=self._passed, backlog=ACCEPTS)
        if address.path:
            return await loop.create_unix_server(self._protocol, address.path, backlog=ACCEPTS)
        return await loop.create_server(
            self._protocol, address.host, address.port, backlog=ACCEPTS, reuse_port=self._reuse_port or None
        )

    @property
    def url(self) -> str:
        """URL at which connections are accepted, with the port that the system chose."""
        name = self._sockets[0].getsockname()
        if isinstance(name, (str, bytes)):
            return f"http+unix:{os.fsdecode(name)}"
        host = self._address.host if self._passed is None else name[0]
        return f"http://[{host}]:{name[1]}" if ":" in host else f"http://{host}:{name[1]}"

    async def stop(self) -> None:
        """Accept no more.

        Connections that nobody has accepted yet would be reset with the socket: they are accepted now. Those in a
        socket that was passed stay there, for whoever gets it next.
        """
        if self._server is not None:
            self._server.close()
        waiting = [] if self._passed is not None else [peer for own in self._sockets for peer in take_all(own)]
        for own in self._sockets:
            own.close()
        self._server, self._sockets = None, []
        loop = asyncio.get_running_loop()
        accepting = (loop.connect_accepted_socket(self._protocol, peer) for peer in waiting)
        await asyncio.gather(*accepting, return_exceptions=True)


def take_all(listening: socket.socket) -> list[socket.socket]:
    """Accept every connection that waits."""
    listening.setblocking(False)
    peers: list[socket.socket] = []
    try:
        while len(peers) < QUEUE:
            peers.append(listening.accept()[0])
            peers[-1].setblocking(False)
    except OSError:  # there is no more, or no more can be had
        pass
    return peers
