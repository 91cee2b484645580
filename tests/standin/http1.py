"""The node's own HTTP/1.1: what it reads, what it makes nothing of, and how it writes."""

from __future__ import annotations

import asyncio
import random
import re
from dataclasses import dataclass, field

VERBS = frozenset({"GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS"})
MAX_LINE_BYTES = 256 * 1024
JSON_TYPE = "application/json"
REASONS = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    429: "Too Many Requests",
}
"""Every other status, 101 too, is "Unknown" to the node."""


class Unreadable(Exception):
    """Not a request that the node understands: it closes the connection without a byte."""


class BodyTooLarge(Exception):
    """The announced body is too long: the node resets the connection."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request.

    Attributes:
        verb: in capitals.
        path: without the query and without empty segments; ``/`` for the root.
        headers: names in lower case; of a repeated one the last counts.
        body: as long as ``Content-Length`` says; chunked encoding is not known.
        keep_alive: False unless ``Connection`` is absent or exactly ``keep-alive``.
    """

    verb: str
    path: str
    headers: dict[str, str]
    body: bytes
    keep_alive: bool

    @property
    def bearer(self) -> str | None:
        """The bearer token of its ``Authorization``, None without one."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() if scheme == "Bearer" else None


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An answer. ``close``: the node ends the connection after it, whatever the request wished."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    close: bool = False


def _path(target: str) -> str:
    segments = target.partition("?")[0].split("/")
    return "/" + "/".join(segment for segment in segments if segment)


async def _line(reader: asyncio.StreamReader) -> str:
    try:
        return (await reader.readuntil(b"\n")).decode()
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, UnicodeDecodeError):
        raise Unreadable from None


async def read_request(reader: asyncio.StreamReader, first: bytes, max_body_bytes: int) -> HttpRequest:
    """Read the rest of a request whose first byte is ``first``.

    Raises:
        Unreadable: it is not HTTP/1.1 with a known verb and a ``Host``, or it ended early.
        BodyTooLarge: ``Content-Length`` is above ``max_body_bytes``.
    """
    words = (first.decode("latin-1") + (await _line(reader) if first != b"\n" else "")).split()
    if len(words) != 3 or words[0] not in VERBS or words[2] != "HTTP/1.1":
        raise Unreadable
    headers: dict[str, str] = {}
    while (line := await _line(reader)) not in ("\r\n", "\n"):
        name, colon, value = line.partition(":")
        if not colon:
            raise Unreadable
        headers[name.strip().lower()] = value.strip()
    length = headers.get("content-length", "0")
    if "host" not in headers or not re.fullmatch(r"[0-9]{1,18}", length):
        raise Unreadable
    if int(length) > max_body_bytes:
        raise BodyTooLarge
    try:
        body = await reader.readexactly(int(length))
    except asyncio.IncompleteReadError:
        raise Unreadable from None
    keep_alive = headers.get("connection", "keep-alive").lower() == "keep-alive"
    return HttpRequest(words[0], _path(words[1]), headers, body, keep_alive)


def response_bytes(response: HttpResponse, keep_alive_seconds: float, shuffle: random.Random) -> bytes:
    """Write an answer, its headers in random order, as they come out of the node's hash map.

    Args:
        response: what to write; without ``close`` the connection is kept for ``keep_alive_seconds``.
        shuffle: decides the order.
    """
    headers = {"content-length": str(len(response.body)), **response.headers}
    if "connection" not in headers:
        headers["connection"] = "close" if response.close else "keep-alive"
        if not response.close:
            headers["keep-alive"] = f"timeout={int(keep_alive_seconds)}"
    lines = [f"{name}: {value}" for name, value in headers.items()]
    shuffle.shuffle(lines)
    head = [f"HTTP/1.1 {response.status} {REASONS.get(response.status, 'Unknown')}", *lines]
    return "\r\n".join([*head, "", ""]).encode() + response.body
