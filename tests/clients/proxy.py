"""A TCP proxy that cuts connections: after so many bytes, in the middle of whatever is on its way, or at once."""

import socket
import struct
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER that makes a close a reset: what the peer has not read is lost."""


class Proxy:
    """Passes bytes on between clients and a server.

    Attributes:
        address: where it listens, host:port.
        cuts: how many connections it has cut because their bytes were used up.
        refused: how many connections it has turned away.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = host, int(port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:{1}".format(*self._listener.getsockname())
        self.cuts = self.refused = 0
        self._lock = threading.Lock()
        self._budgets: deque[int] = deque()  # bytes from the server until the next cut
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._refusing = self._closing = False
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def cut_after(self, bytes_: int) -> None:
        """Cut whatever connection passes on that many more bytes of the server, after the cuts asked for before."""
        with self._lock:
            self._budgets.append(bytes_)

    @contextmanager
    def away(self) -> Iterator[None]:
        """Cut every connection and turn new ones away until the block ends."""
        with self._lock:
            self._refusing = True
            pairs = list(self._pairs)
        for pair in pairs:
            self._end(pair)
        try:
            yield
        finally:
            with self._lock:
                self._refusing = False

    def close(self) -> None:
        """Cut every connection and listen no more."""
        self._closing = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self.away():
            self._thread.join()

    def _accept(self) -> None:
        threads = []
        while not self._closing:
            try:
                client, _ = self._listener.accept()
            except OSError:
                break
            pair = self._connect(client)
            if pair is None:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                client.close()
                continue
            for pump in (self._pass_requests, self._pass_responses):
                thread = threading.Thread(target=pump, args=(pair,))
                thread.start()
                threads.append(thread)
        for thread in threads:
            thread.join()

    def _connect(self, client: socket.socket) -> tuple[socket.socket, socket.socket] | None:
        """Connect a client to the server; None if it is to be turned away."""
        try:
            server = socket.create_connection(self._target)
        except OSError:
            return None
        with self._lock:
            if self._refusing or self._closing:
                self.refused += 1
                server.close()
                return None
            self._pairs.add((client, server))
        return client, server

    def _pass_requests(self, pair: tuple[socket.socket, socket.socket]) -> None:
        client, server = pair
        with suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)
        self._end(pair)

    def _pass_responses(self, pair: tuple[socket.socket, socket.socket]) -> None:
        client, server = pair
        with suppress(OSError):
            while data := server.recv(65536):
                allowed, cut = self._spend(len(data))
                client.sendall(data[:allowed])
                if cut:
                    break
        self._end(pair)

    def _spend(self, size: int) -> tuple[int, bool]:
        """Return how many bytes of so many may be passed on, and whether the connection is cut behind them."""
        with self._lock:
            if not self._budgets:
                return size, False
            if self._budgets[0] > size:
                self._budgets[0] -= size
                return size, False
            self.cuts += 1
            return self._budgets.popleft(), True

    def _end(self, pair: tuple[socket.socket, socket.socket]) -> None:
        with self._lock:
            if pair not in self._pairs:
                return
            self._pairs.discard(pair)
            if self.cuts % 2:  # every other time without a good-bye
                pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        for end in pair:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
