"""Addresses: where a server listens and where a client connects."""

import ipaddress
import re
from dataclasses import dataclass

SOCKET_PATH_BYTES = 107
"""Longest path of a Unix socket: `sun_path` of Linux holds 108 bytes with the final zero (unix(7))."""

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_PORT = re.compile(r"[0-9]{1,5}")


@dataclass(frozen=True)
class Address:
    """A TCP address or a Unix socket; `str()` gives the text that it was read from, as gRPC takes it too.

    Attributes:
        host: name or IP address, IPv6 without brackets; "" for a Unix socket.
        port: TCP port; 0 lets the system choose one; 0 for a Unix socket too.
        path: absolute path of the Unix socket; "" for TCP.
    """

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        """Return `host:port`, `[IPv6]:port` or `unix:/path`."""
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read `host:port`, `[IPv6]:port` or `unix:/path`.

        Raises:
            ValueError: `text` is none of these; the message says why.
        """
        if text.startswith("unix:"):
            return cls(path=_socket_path(text.removeprefix("unix:")))
        host, colon, port = text.rpartition(":")
        if not colon or not _PORT.fullmatch(port) or int(port) > 65535:
            raise ValueError("it has no port from 0 to 65535 at its end")
        return cls(_host(host), int(port))


def _host(host: str) -> str:
    if not host:
        raise ValueError("it has no host: write 127.0.0.1 for this machine only, 0.0.0.0 for every IPv4 interface")
    try:
        if host.startswith("[") and host.endswith("]"):
            return str(ipaddress.IPv6Address(host[1:-1]))
        if host.rpartition(".")[2].isdigit():  # no top-level domain is a number (RFC 3696, section 2)
            return str(ipaddress.IPv4Address(host))
    except ValueError:
        raise ValueError("its host is not an IP address") from None
    if ":" in host:
        raise ValueError("an IPv6 address needs brackets")
    if not _NAME.fullmatch(host):
        raise ValueError("its host is neither a name nor an IP address")
    return host


def _socket_path(path: str) -> str:
    if not path.startswith("/") or not path.isprintable():
        raise ValueError("the path of a Unix socket is absolute and printable")
    if len(path.encode()) > SOCKET_PATH_BYTES:
        raise ValueError(f"the path of a Unix socket has at most {SOCKET_PATH_BYTES} bytes")
    return path
