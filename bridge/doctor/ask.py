"""Asking over HTTP, each time on a new connection, with a deadline, and with words for what goes wrong."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Final

import aiohttp
import msgspec
from multidict import CIMultiDictProxy

from bridge.doctor.targets import ANSWER_SECONDS

BODY_BYTES: Final = 4 << 20
"""How much of an answer is read."""

CONNECT_SHARE: Final = 0.75
"""The part of the deadline that connecting may take, so that a lost packet is told from a program that says nothing."""


class Reason(Enum):
    """Why there is no answer."""

    UNREACHABLE = "no connection can be made"
    SILENT = "nothing is said"
    CLOSED = "the connection is closed instead"
    FOREIGN = "what is said is not HTTP"


class Unanswered(Exception):
    """There is no answer; the text says why, as the end of a sentence.

    Attributes:
        reason: why.
    """

    def __init__(self, reason: Reason, why: str) -> None:
        super().__init__(why)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer.

    Attributes:
        status: of HTTP.
        headers: of HTTP.
        body: what was read of it.
        ms: how long it took.
    """

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes
    ms: float

    @property
    def what(self) -> str:
        """What answered, as far as it says: "HTTP 404 from nginx"."""
        server = self.headers.get("Server", "")
        return f"HTTP {self.status}" + (f" from {server[:80]}" if server else "")


class _Error(msgspec.Struct):
    code: str
    message: str


class Refusal(msgspec.Struct):
    """The body of a refusal by the sidecar."""

    error: _Error


def refusal(answer: Answer) -> _Error | None:
    """Return why the sidecar itself refuses, None if the answer is none of its refusals."""
    try:
        return msgspec.json.decode(answer.body, type=Refusal).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


@asynccontextmanager
async def session(seconds: float, socket_path: str = "") -> AsyncIterator[aiohttp.ClientSession]:
    """Open what asks, for at most `seconds`; its errors, and the deadline's, become `Unanswered`.

    Args:
        seconds: until everything must be over.
        socket_path: of the Unix socket to connect to; "": TCP.

    Raises:
        Unanswered: there is no answer.
    """
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=seconds * CONNECT_SHARE)
    connector: aiohttp.BaseConnector
    if socket_path:
        connector = aiohttp.UnixConnector(socket_path, force_close=True)
    else:
        connector = aiohttp.TCPConnector(force_close=True)
    try:
        async with (
            asyncio.timeout(seconds),
            aiohttp.ClientSession(
                connector=connector,
                timeout=timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("Accept-Encoding", "User-Agent"),
            ) as asking,
        ):
            yield asking
    except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
        raise explain(error, seconds) from error


def explain(error: Exception, seconds: float) -> Unanswered:
    """Return an error of asking in words."""
    match error:
        case aiohttp.ConnectionTimeoutError():
            why = (
                f"no connection within {seconds * CONNECT_SHARE:g} s; the address is wrong, or a firewall drops packets"
            )
            return Unanswered(Reason.UNREACHABLE, why)
        case TimeoutError():
            return Unanswered(Reason.SILENT, f"no answer within {seconds:g} s")
        case aiohttp.ClientConnectorDNSError():
            return Unanswered(Reason.UNREACHABLE, f"the name {error.host} is not known")
        case aiohttp.ClientConnectorCertificateError():
            return Unanswered(Reason.UNREACHABLE, f"its certificate is not trusted ({error.certificate_error})")
        case aiohttp.ClientConnectorSSLError():
            return Unanswered(Reason.UNREACHABLE, "it does not speak TLS, which https:// asks for")
        case aiohttp.ClientConnectorError():
            return Unanswered(Reason.UNREACHABLE, in_words(error.os_error))
        case aiohttp.WSServerHandshakeError():
            return Unanswered(Reason.CLOSED, f"the handshake is answered with HTTP {error.status}")
        case aiohttp.ClientResponseError() | aiohttp.ClientPayloadError():
            return Unanswered(Reason.FOREIGN, "it does not speak HTTP")
        case aiohttp.InvalidURL():
            return Unanswered(Reason.UNREACHABLE, "the address cannot be one")
        case _:
            return Unanswered(Reason.CLOSED, "the connection is closed without an answer")


def in_words(error: OSError) -> str:
    """Return why a connection cannot be made."""
    if error.errno in (errno.ECONNREFUSED, errno.ENOENT) or f"[Errno {errno.ECONNREFUSED}]" in str(error):
        return "nothing listens there"  # a name with several addresses has its reasons in one text only
    return os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)


async def fetch(
    url: str,
    *,
    post: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    seconds: float = ANSWER_SECONDS,
    socket_path: str = "",
) -> Answer:
    """Ask once; a redirection is an answer.

    Args:
        url: of http or https.
        post: body to send with POST; None: GET.
        headers: more of them.
        seconds: how long the answer may take.
        socket_path: of the Unix socket to connect to; "": TCP.

    Raises:
        Unanswered: there is no answer.
    """
    began = asyncio.get_running_loop().time()
    method = "GET" if post is None else "POST"
    async with (
        session(seconds, socket_path) as asking,
        asking.request(method, url, data=post, headers=headers, allow_redirects=False) as response,
    ):
        body = bytearray()
        if response.status != 101:
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > BODY_BYTES:
                    break
        ms = (asyncio.get_running_loop().time() - began) * 1000
        response.close()
        return Answer(response.status, response.headers, bytes(body), ms)
