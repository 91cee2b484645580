"""The Python client of the sidecar: updates from a WebSocket, resumed by itself over reconnects.

Example:
    async with Client("ws://127.0.0.1:5000/ws", [Subscription("block_updates")]) as client:
        async for event in client:
            if isinstance(event, Updated):
                print(event.update["data"])
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from random import random
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import msgspec

from bridge.core.backoff import Backoff
from bridge.core.errors import BridgeError, UpstreamError
from bridge.core.position import Position

CONNECT_SECONDS = 10.0
"""How long connecting, and an answer to a request, may take."""

HEARTBEAT_SECONDS = 25.0
"""How often the sidecar is pinged; one that does not answer within half of it is left."""

FRAME_BYTES = 16 << 20
"""The largest frame that is taken."""

FINAL_CODES = range(4500, 5000)
"""Close codes that may not be retried."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """A stream to read.

    Attributes:
        stream: its name.
        key: of the values wanted; None: all.
        since: position of the last update that is known.
        last: how many of the newest updates to begin with; not with `since`.
    """

    stream: str
    key: str | None = None
    since: Position | None = None
    last: int | None = None

    def to_params(self) -> dict[str, object]:
        """Return it as an entry of the params of state_stream.subscribe."""
        params: dict[str, object] = {"stream": self.stream}
        if self.key is not None:
            params["key"] = self.key
        if self.since is not None:
            params["since"] = self.since._asdict()
        elif self.last is not None:
            params["last"] = self.last
        return params


@dataclass(frozen=True, slots=True)
class Connected:
    """The sidecar has answered; `subscriptions` are its acknowledgements."""

    subscriptions: list[dict[str, object]]


@dataclass(frozen=True, slots=True)
class Updated:
    """An update, or a snapshot: `update` is the whole frame, `text` as it came."""

    update: dict[str, object]
    text: str


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection is lost; another try follows after `retry_seconds`."""

    reason: str
    retry_seconds: float


Result = dict[str, list[dict[str, object]]]

Event = Connected | Updated | Disconnected


class RefusedError(BridgeError):
    """The sidecar said that trying again will not help."""


class Client:
    """Reads updates; an asynchronous iterator of events that ends only by an error that no retry mends."""

    def __init__(self, url: str, subscriptions: Sequence[Subscription]) -> None:
        """Make a client; it connects when it is iterated over.

        Args:
            url: of the sidecar; http and https are taken for ws and wss, a URL without a path for /ws.
            subscriptions: what to read; none: every stream that the sidecar knows.
        """
        self.url = websocket_url(url)
        self._wanted = {(one.stream, one.key): one for one in subscriptions}
        self._all = not subscriptions
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Get ready."""
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=CONNECT_SECONDS))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Hang up."""
        if self._http is not None:
            await self._http.close()

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Yield events, over as many connections as it takes.

        Raises:
            RefusedError: the sidecar refuses what is asked, so that trying again would not help.
        """
        backoff = Backoff(0.2, 10.0, random)
        while True:
            try:
                async with aclosing(self._connection()) as events:
                    async for event in events:
                        backoff.reset()
                        yield event
                reason = "the connection was closed"
            except (aiohttp.ClientError, UpstreamError, TimeoutError, OSError) as error:
                reason = sentence(error)
            wait_seconds = backoff.next()
            yield Disconnected(reason, wait_seconds)
            await asyncio.sleep(wait_seconds)

    async def _connection(self) -> AsyncGenerator[Event, None]:
        assert self._http is not None, "use `async with`"
        timeout = aiohttp.ClientWSTimeout(ws_close=1.0)
        async with self._http.ws_connect(
            self.url, heartbeat=HEARTBEAT_SECONDS, max_msg_size=FRAME_BYTES, timeout=timeout
        ) as socket:
            if self._all and not self._wanted:
                rows = await self._request(socket, "state_stream.list", [])
                names = [str(row["stream"]) for row in rows["streams"]]
                self._wanted = {(name, None): Subscription(name) for name in names}
            params = [one.to_params() for one in self._wanted.values()]
            answer = await self._request(socket, "state_stream.subscribe", params)
            yield Connected(answer["subscriptions"])
            async for message in socket:
                if message.type is not aiohttp.WSMsgType.TEXT:
                    raise UpstreamError(f"the sidecar sent a {message.type.name} frame")
                update = msgspec.json.decode(message.data)
                if "stream" in update:
                    self._note(update)
                    yield Updated(update, message.data)
            if socket.close_code in FINAL_CODES:
                raise RefusedError(f"the sidecar closed the connection for good: {socket.close_code}")
            raise UpstreamError(f"the sidecar closed the connection: {socket.close_code}")

    def _note(self, update: dict[str, object]) -> None:
        """Remember the position, from which the next connection goes on."""
        position = Position(str(update["epoch"]), int(str(update["seq"])))
        for key in (None, update.get("key")):
            wanted = self._wanted.get((str(update["stream"]), None if key is None else str(key)))
            if wanted is not None:
                self._wanted[wanted.stream, wanted.key] = replace(wanted, since=position, last=None)

    async def _request(self, socket: aiohttp.ClientWebSocketResponse, method: str, params: object) -> Result:
        """Call a method; nothing but its answer comes before it, as nothing is subscribed yet.

        Raises:
            RefusedError: the sidecar refuses it.
            UpstreamError: it cannot answer now.
        """
        await socket.send_str(json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": 1}))
        async with asyncio.timeout(CONNECT_SECONDS):
            message = await socket.receive()
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise UpstreamError("the sidecar hung up instead of answering")
        answer = msgspec.json.decode(message.data)
        if error := answer.get("error"):
            retry = "retry_after_ms" in (error.get("data") or {})
            raise (UpstreamError if retry else RefusedError)(f"the sidecar refuses {method}: {error['message']}")
        result: Result = answer["result"]
        return result


def websocket_url(url: str) -> str:
    """Return the WebSocket URL of a sidecar: http is taken for ws, no path for /ws."""
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    return urlunsplit(parts._replace(scheme=scheme, path=parts.path if parts.path.strip("/") else "/ws"))


def sentence(error: BaseException) -> str:
    """Return one sentence on an error of the connection."""
    if isinstance(error, aiohttp.WSServerHandshakeError):
        return f"the server answered the handshake with HTTP {error.status}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__
