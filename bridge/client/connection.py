"""One WebSocket connection of a client: frames in, requests out, answers back to whoever asked."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Any, NamedTuple, TypeVar

import aiohttp
import msgspec

from bridge.client.codec import Answer, Codec, Frame, MalformedError, Params, PongFrame, Result
from bridge.client.counts import Counts
from bridge.client.errors import LostError, RefusedError, UnansweredError
from bridge.client.events import Event, GoingAway, Welcome
from bridge.client.handshake import read_close, sentence_on, websocket_url
from bridge.client.retry import Patience

FRAME_BYTES = 16 << 20
"""The largest frame that is taken."""

NO_CODE = 1005
"""Close code of a close frame without one (RFC 6455, section 7.4.1)."""

REQUEST_LIMIT = 1000
"""How many requests may be without an answer at once."""

T = TypeVar("T")


class Asked(NamedTuple):
    """A request or a ping that is on its way."""

    name: str
    read: Callable[[Result], Any]  # called with the result before anything that comes behind it is read
    answer: asyncio.Future[Any]


class Connection:
    """An open connection.

    Attributes:
        retry_after_seconds: when the sidecar wants to see the client again; None: it has not said that it goes away.
    """

    def __init__(
        self, socket: "aiohttp.ClientWebSocketResponse[bool]", codec: Codec, patience: Patience, counts: Counts
    ) -> None:
        self._socket = socket
        self._codec = codec
        self._patience = patience
        self._counts = counts
        self._numbers = count(1)
        self._asked: dict[int, Asked] = {}
        self.retry_after_seconds: float | None = None

    # ------------------------------------------------------------------ reading

    async def read_welcome(self) -> Welcome:
        """Read the first frame.

        Raises:
            LostError: it is another one or does not come, or the connection is lost.
        """
        try:
            async with asyncio.timeout(self._patience.connect_seconds):
                frame = self._decode(await self._receive())
        except TimeoutError:
            raise LostError("the server accepted the connection and then said nothing") from None
        if not isinstance(frame, Welcome):
            raise LostError("the server did not begin with a welcome", fault=True)
        return frame

    async def read(self) -> Event | None:
        """Read a frame; None if it was an answer, or is of no known kind.

        Raises:
            LostError: the connection is lost.
            RefusedError: a frame says that this client cannot be served.
        """
        frame = self._decode(await self._receive())
        match frame:
            case Answer():
                self._answer(frame)
            case PongFrame():
                self._settle(frame.timestamp, {"server_time": frame.server_time})
            case None:
                self._counts.unknown += 1
            case Welcome():
                raise LostError("the server said welcome twice", fault=True)
            case _:
                if isinstance(frame, GoingAway):
                    self.retry_after_seconds = frame.retry_after_ms / 1000
                return frame
        return None

    def _decode(self, payload: bytes) -> Frame:
        try:
            return self._codec.read(payload)
        except MalformedError as error:
            raise LostError(f"the sidecar sent a frame that cannot be read: {error}", fault=True) from error

    async def _receive(self) -> bytes:
        """Return the payload of the next frame."""
        try:
            message = await self._receive_alive()
        except (aiohttp.ClientError, OSError, UnansweredError):
            raise self._with_time(LostError("the connection was lost")) from None
        payload = message.data
        match message.type:
            case aiohttp.WSMsgType.TEXT | aiohttp.WSMsgType.BINARY:
                if (message.type is aiohttp.WSMsgType.BINARY) is not self._codec.binary:
                    raise LostError(f"the sidecar sent a {message.type.name} frame", fault=True)
                return bytes(payload)
            case aiohttp.WSMsgType.CLOSE:
                raise self._with_time(read_close(payload or NO_CODE, message.extra or ""))
            case aiohttp.WSMsgType.ERROR if isinstance(payload, aiohttp.WebSocketError):
                raise LostError(f"the sidecar broke the WebSocket protocol: {payload}", payload.code, fault=True)
            case _:
                raise self._with_time(LostError("the connection was lost"))

    async def _receive_alive(self) -> Any:
        """Return the next message; a sidecar that is silent is asked whether it is still there."""
        try:
            return await self._socket.receive(timeout=self._patience.quiet_seconds)
        except TimeoutError:
            await self._send(self._codec.ping(0))
        try:
            return await self._socket.receive(timeout=self._patience.pong_seconds)
        except TimeoutError:
            raise LostError("the sidecar has gone silent") from None

    def _with_time(self, lost: LostError) -> LostError:
        """Add when the sidecar wants to see the client again, if it has said so before."""
        if lost.retry_after_seconds is None:
            lost.retry_after_seconds = self.retry_after_seconds
        return lost

    # ------------------------------------------------------------------ asking

    async def ask(self, method: str, params: Params, read: Callable[[Result], T]) -> asyncio.Future[T]:
        """Send a request.

        Args:
            method: that is called.
            params: of it.
            read: turns the result into what the answer is; called before anything that comes behind the result is
                read, whether somebody still waits or not.

        Returns:
            The answer to come, or RefusedError, or UnansweredError when the connection is lost.

        Raises:
            UnansweredError: too many are without an answer already, or the connection is lost.
        """
        number = next(self._numbers)
        return await self._ask(number, self._codec.request(number, method, params), method, read)

    async def ask_pong(self, read: Callable[[Result], T]) -> asyncio.Future[T]:
        """Send a ping; its pong comes behind all that the sidecar sends in answer to what it was asked before."""
        number = next(self._numbers)
        return await self._ask(number, self._codec.ping(number), "ping", read)

    async def _ask(
        self, number: int, message: str | bytes, name: str, read: Callable[[Result], T]
    ) -> asyncio.Future[T]:
        if len(self._asked) >= REQUEST_LIMIT:
            raise UnansweredError(f"{REQUEST_LIMIT} requests are without an answer already")
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(retrieve)
        self._asked[number] = Asked(name, read, answer)
        await self._send(message)
        return answer

    async def _send(self, message: str | bytes) -> None:
        try:
            if isinstance(message, str):
                await self._socket.send_str(message)
            else:
                await self._socket.send_bytes(message)
        except (aiohttp.ClientError, OSError):
            raise UnansweredError("the connection was lost before the request was sent") from None

    def _answer(self, answer: Answer) -> None:
        if answer.id is None:
            raise LostError(f"the sidecar cannot read what this client sends: {answer.error}", fault=True)
        asked = self._asked.get(answer.id)
        if answer.error is None:
            self._settle(answer.id, answer.result)
        elif asked is not None:
            del self._asked[answer.id]
            if not asked.answer.done():
                asked.answer.set_exception(refusal(asked.name, answer.error))

    def _settle(self, number: int, result: Result) -> None:
        asked = self._asked.pop(number, None)
        if asked is None:
            return
        try:
            answer = asked.read(result)
        except (msgspec.MsgspecError, LookupError, TypeError) as error:
            raise LostError(f"the sidecar's answer to {asked.name} cannot be read: {error}", fault=True) from error
        if not asked.answer.done():
            asked.answer.set_result(answer)

    def give_up(self) -> None:
        """Let everybody know who still waits for an answer that there will be none."""
        for asked in self._asked.values():
            if not asked.answer.done():
                error = UnansweredError(f"the connection was lost before {asked.name} was answered")
                asked.answer.set_exception(error)
        self._asked.clear()


def refusal(name: str, error: Result) -> RefusedError:
    """Return the error of a request that was refused."""
    data = error.get("data")
    sentence = f"the sidecar refuses {name}: {error.get('message')}"
    return RefusedError(sentence, error.get("code"), data if isinstance(data, dict) else None)


@asynccontextmanager
async def dial(
    http: aiohttp.ClientSession, url: str, codec: Codec, patience: Patience, counts: Counts, token: str | None
) -> AsyncIterator[tuple[Connection, Welcome]]:
    """Connect, and close the connection at the end.

    Raises:
        RefusedError: the server refuses this client, so that trying again would not help.
        LostError: there is no connection.
    """
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        async with asyncio.timeout(patience.connect_seconds):
            socket = await http.ws_connect(
                websocket_url(url, codec.query),
                protocols=(codec.subprotocol,),
                headers=headers,
                max_msg_size=FRAME_BYTES,
                decode_text=False,
                timeout=aiohttp.ClientWSTimeout(ws_close=patience.close_seconds),
            )
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise LostError(sentence_on(error)) from error
    connection = Connection(socket, codec, patience, counts)
    try:
        if socket.protocol != codec.subprotocol:
            raise RefusedError(f"the server does not speak {codec.subprotocol}")
        welcome = await connection.read_welcome()
        counts.connections += 1
        yield connection, welcome
    finally:
        connection.give_up()
        with suppress(TimeoutError, aiohttp.ClientError, OSError):
            async with asyncio.timeout(patience.close_seconds):
                await socket.close()


def retrieve(answer: asyncio.Future[Any]) -> None:
    """Take note of an error that nobody waits for any more."""
    if not answer.cancelled():
        answer.exception()
