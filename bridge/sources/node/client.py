"""The client of the node: JSON-RPC over HTTP/1.1 and the /state_stream WebSocket, within the node's limits.

One client stands before a node. It paces all requests, has one of each method in flight, gives every answer a deadline
and a size, and leaves the node alone for a while once it refused for rate: the node bans an address for 60 s, and
every process on the host shares that ban (measured).
"""

import asyncio
import itertools
import os
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Annotated, Any, Self, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec

from bridge.core.errors import NodeCallError, UpstreamError
from bridge.sources.node.pace import Ban, Bucket
from bridge.sources.node.settings import NodeSettings

T = TypeVar("T")

REQUESTS_PER_SECOND = 6.0
"""Of all kinds together; with BURST, and polls that come first, at most 9 within a second: less than a tenth of what
the node allows."""

BURST = 2
PASSED_PER_SECOND = 2.0
"""Of what is passed on for others, so that it never delays the source's own calls."""

PASSED_BURST = 3
PASSED_WAITING = 64
"""How many calls for others may wait for their turn."""

RESPONSE_BYTES = 4 << 20
"""Largest answer: 200 blocks are 25 KB, 100 peers 50 KB, the metrics 50 KB."""

IDLE_SECONDS = 60.0
"""How long an unused connection is kept; the node closes it after 90 s (measured)."""

RATE_LIMITED = frozenset({-32001, -32002})
"""The node's error codes for "rate limited" and "banned"."""

MESSAGE_CHARACTERS = 500
"""Of the node's errors that are kept."""

Unsigned = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""A count, height or time of the node: what does not fit into 63 bits is none."""

NEVER_CALLED = "light.latest_header"
"""On an empty chain its handler dies and takes the chain's lock with it (measured)."""


class NodeError(NodeCallError):
    """The node answered with an error of its own.

    Attributes:
        code: JSON-RPC error code as the node gave it.
        message: as the node gave it, at most 500 characters.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message[:MESSAGE_CHARACTERS])
        self.message = message[:MESSAGE_CHARACTERS]


class NodeUnreachable(UpstreamError):
    """No connection to the node can be made."""


class NodeSilent(UpstreamError):
    """The node did not answer in time."""


class NodeUnusable(UpstreamError):
    """The node's answer is none, or not as it must be."""


class NodeBanned(UpstreamError):
    """The node refused for rate and is left alone.

    Attributes:
        retry_after: seconds until it may be asked again.
    """

    def __init__(self, what: str, retry_after: float) -> None:
        super().__init__(f"The node refused {what} for rate: it is left alone for {retry_after:.0f} s more")
        self.retry_after = retry_after


class _Error(msgspec.Struct):
    code: Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
    message: str


class _Answer(msgspec.Struct):
    id: Any = None
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: _Error | None = None


_decode_answer = msgspec.json.Decoder(_Answer).decode


class NodeClient:
    """Asks the node; use it as an async context manager.

    Attributes:
        node: host and port, as they are shown to people.
        latency: called with the round-trip time of every answer, milliseconds.
    """

    def __init__(
        self,
        settings: NodeSettings,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        requests_per_second: float = REQUESTS_PER_SECOND,
    ) -> None:
        """Make a client that has no connection yet.

        Args:
            settings: of the node.
            monotonic: returns seconds.
            requests_per_second: of all kinds together.
        """
        url = urlsplit(settings.url)
        self.node = url.netloc.rpartition("@")[2]
        self.latency: Callable[[float], object] = lambda _: None
        self._settings = settings
        self._url = f"{url.scheme}://{url.netloc}"
        self._headers = {"Host": settings.host_header} if settings.host_header else {}
        if settings.token:
            self._headers["Authorization"] = f"Bearer {settings.token}"
        self._monotonic = monotonic
        self._bucket = Bucket(requests_per_second, BURST)
        self._passed = Bucket(PASSED_PER_SECOND, PASSED_BURST)
        self._passing = asyncio.Lock()
        self._waiting = 0
        self._ban = Ban()
        self._energy_ban = Ban()
        self._methods: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._ids = itertools.count(1)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=16, keepalive_timeout=IDLE_SECONDS),
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent"),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def banned_for(self) -> float:
        """Return for how many seconds the node is left alone, 0 when it is not."""
        return self._ban.left(self._monotonic())

    # ------------------------------------------------------------------ JSON-RPC

    async def ask(self, method: str, params: dict[str, object], *, first: bool = False) -> bytes:
        """Call a method of the node for the source itself.

        Args:
            method: name; one call of each is in flight, more wait.
            params: by name.
            first: do not wait for its turn; the caller keeps an interval of its own, and the others make room.

        Returns:
            The result, JSON.

        Raises:
            NodeError: the node answered with an error.
            NodeBanned: the node refused for rate, now or before.
            NodeUnreachable: no connection.
            NodeSilent: no answer in time.
            NodeUnusable: the answer cannot be used.
        """
        refuse_deadly(method)
        async with self._methods[method]:
            await self._take_turn(method, first=first)
            return await self._in_time(method, self._post(method, params))

    async def call(self, method: str, params: dict[str, object]) -> bytes:
        """Call a method of the node for somebody else: one at a time, and slower than the source's own calls.

        Args:
            method: name; whether it is allowed was checked before.
            params: by name.

        Returns:
            The result, JSON.

        Raises:
            UpstreamError: as of `ask`; and where its turn did not come in time.
        """
        refuse_deadly(method)
        if self._waiting >= PASSED_WAITING:
            raise NodeSilent(f"{self._waiting} calls wait for the node already, and no more may")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._settings.call_timeout_seconds):
                async with self._passing:
                    self._check_ban(method)
                    await asyncio.sleep(self._passed.take(self._monotonic()))
                    return await self.ask(method, params)
        except TimeoutError:
            raise self._silent(method) from None
        finally:
            self._waiting -= 1

    async def _post(self, method: str, params: dict[str, object]) -> bytes:
        request_id = next(self._ids)
        body = msgspec.json.encode({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})
        asked_at = self._monotonic()
        headers = {**self._headers, "Content-Type": "application/json"}
        async with self._open().post(f"{self._url}/", data=body, headers=headers, allow_redirects=False) as response:
            self._check_status(response.status, method)
            answered = await _read(response)
        self.latency((self._monotonic() - asked_at) * 1000)
        return self._result(method, request_id, answered)

    def _result(self, method: str, request_id: int, answered: bytes) -> bytes:
        try:
            answer = _decode_answer(answered)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise NodeUnusable(f"the answer to {method} is not JSON-RPC: {error}") from error
        if answer.error is not None:
            if answer.error.code in RATE_LIMITED:
                ban = self._energy_ban if _is_energy(method) else self._ban
                raise self._begin_ban(ban, method)
            raise NodeError(answer.error.code, answer.error.message)
        if answer.id != request_id or answer.result is msgspec.UNSET:
            raise NodeUnusable(f"the answer to {method} has no result, or another id than the request")
        return bytes(answer.result)

    # ------------------------------------------------------------------ what is not JSON-RPC

    async def get(self, url: str) -> str:
        """Read a text over HTTP, as the metrics port gives it: without the token, on a connection closed after it.

        Raises:
            UpstreamError: as of `ask`.
        """
        async with self._methods[url]:
            await self._take_turn("its metrics")
            return await self._in_time("its metrics", self._get(url))

    async def _get(self, url: str) -> str:
        async with self._open().get(url, headers={"Connection": "close"}, allow_redirects=False) as response:
            self._check_status(response.status, "its metrics")
            return (await _read(response)).decode(errors="replace")

    async def open_stream(self) -> aiohttp.ClientWebSocketResponse[bool]:
        """Open /state_stream. The node never answers a ping, and no close: whoever reads it needs a deadline.

        Returns:
            The WebSocket; text messages come as bytes.

        Raises:
            UpstreamError: as of `ask`.
        """
        await self._take_turn("/state_stream")
        return await self._in_time("/state_stream", self._upgrade())

    async def _upgrade(self) -> aiohttp.ClientWebSocketResponse[bool]:
        try:
            return await self._open().ws_connect(
                f"{self._url}/state_stream",
                headers=self._headers,
                max_msg_size=self._settings.message_limit_bytes,
                autoping=False,
                decode_text=False,
                timeout=aiohttp.ClientWSTimeout(ws_close=0.1),
            )
        except aiohttp.WSServerHandshakeError as error:
            self._check_status(error.status, "/state_stream")
            raise NodeUnusable(f"the node did not open /state_stream: {error.message}") from error

    # ------------------------------------------------------------------ limits, deadlines and bans

    async def _take_turn(self, what: str, *, first: bool = False) -> None:
        self._check_ban(what)
        wait = self._bucket.take(self._monotonic())
        if not first:
            await asyncio.sleep(wait)
            self._check_ban(what)

    def _check_ban(self, what: str) -> None:
        now = self._monotonic()
        for ban in (self._ban, self._energy_ban) if _is_energy(what) else (self._ban,):
            if left := ban.left(now):
                raise NodeBanned(what, left)

    def _begin_ban(self, ban: Ban, what: str) -> NodeBanned:
        ban.begin(self._monotonic(), self._settings.ban_seconds)
        return NodeBanned(what, self._settings.ban_seconds)

    def _check_status(self, status: int, what: str) -> None:
        if status == 429:
            raise self._begin_ban(self._ban, what)
        if status == 403:
            raise NodeUnusable(
                f"the node refused {what} with HTTP 403: it does not answer to this Host header (set node_host_header "
                "to a name that its rpc.allowed_hosts has)"
            )
        if status not in (200, 101):
            raise NodeUnusable(f"the node answered {what} with HTTP {status}")

    def _silent(self, what: str) -> NodeSilent:
        timeout = self._settings.call_timeout_seconds
        return NodeSilent(f"the node at {self.node} did not answer {what} within {timeout:g} s")

    async def _in_time(self, what: str, asking: Awaitable[T]) -> T:
        """Await `asking` with the deadline of a call, and say what went wrong in the source's own words."""
        try:
            async with asyncio.timeout(self._settings.call_timeout_seconds):
                return await asking
        except TimeoutError:
            raise self._silent(what) from None
        except aiohttp.ClientConnectorError as error:
            number = error.os_error.errno
            reason = os.strerror(number) if number and number > 0 else str(error.os_error)
            raise NodeUnreachable(f"The node at {self.node} cannot be reached: {reason}") from error
        except (aiohttp.ClientError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise NodeUnusable(f"the node at {self.node} ended the connection of {what}: {reason}") from error

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise NodeUnreachable(f"The node at {self.node} is not asked now: the source is not running")
        return self._session


def refuse_deadly(method: str) -> None:
    """Refuse the method that may kill the node.

    Raises:
        NodeUnusable: it is that one.
    """
    if method == NEVER_CALLED:
        raise NodeUnusable(f"{NEVER_CALLED} is never called, since a node with an empty chain dies of it")


def _is_energy(method: str) -> bool:
    return method.startswith("energy.")


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > RESPONSE_BYTES:
            raise NodeUnusable(f"the node's answer has more than {RESPONSE_BYTES} bytes")
    return bytes(body)
