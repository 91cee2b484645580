"""The client: one stream of what happens, over as many connections as it takes."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from random import random
from types import TracebackType
from typing import Final, Literal, NoReturn, Self, TypeVar

import aiohttp

from bridge.client.buffer import Buffer
from bridge.client.codec import Codec, JsonCodec, Result
from bridge.client.connection import Connection, dial
from bridge.client.counts import Counts
from bridge.client.errors import LostError, RefusedError, UnansweredError
from bridge.client.events import (
    Books,
    Connected,
    Disconnected,
    Event,
    Page,
    Pong,
    Postponed,
    Started,
    StreamInfo,
    Welcome,
)
from bridge.client.handshake import check_answer, websocket_url
from bridge.client.positions import Positions
from bridge.client.protocodec import ProtoCodec
from bridge.client.requests import (
    HISTORY,
    LIST,
    STATS,
    SUBSCRIBE,
    UNSUBSCRIBE,
    Rows,
    read_books,
    read_page,
    read_rows,
    read_streams,
)
from bridge.client.retry import LONGEST_WAIT_SECONDS, Patience, Retry
from bridge.client.subscription import Subscription, given, since_params
from bridge.core.position import Position

CODECS: Final[dict[str, Callable[..., Codec]]] = {"json": JsonCodec, "proto": ProtoCodec}

NO_TIMEOUT: Final = aiohttp.ClientTimeout()
"""For aiohttp: each wait here has a deadline of its own."""

T = TypeVar("T")


class Client:
    """Reads updates from a sidecar; an asynchronous iterator that ends only by an error that no retry mends.

    It connects when it is entered with `async with`, and closes the connection when that ends. It goes on over
    reconnects behind the last update of each subscription, so that each comes once, in order; what history no
    longer holds then is told as a Gap. One task iterates; requests may be made by any.

    Attributes:
        url: of the WebSocket.
        counts: what has been counted so far.
    """

    def __init__(
        self,
        url: str,
        subscriptions: Iterable[Subscription] = (),
        *,
        format: Literal["json", "proto"] = "json",  # noqa: A002  the protocol's word
        token: str | Callable[[], str] | None = None,
        last: int | None = None,
        int64_string: bool = False,
        buffer_bytes: int = 1 << 20,
        patience: Patience | None = None,
    ) -> None:
        """Make a client.

        Args:
            url: of the sidecar; http and https are taken for ws and wss, a URL without a path for /ws.
            subscriptions: what to read; none: every stream that is declared at each connect.
            format: of the frames: JSON text or binary protobuf; what is read is the same.
            token: for access; a function is asked before each connect, so that the token can be renewed.
            last: how many of the newest updates of each to begin with, where every stream is read.
            int64_string: have 64-bit integers of data as strings.
            buffer_bytes: how much is read ahead of who takes it; then the socket is left alone.
            patience: how long to wait for what.

        Raises:
            ValueError: the URL or the format is none.
        """
        if format not in CODECS:
            raise ValueError(f"format must be one of {', '.join(CODECS)}, not {format!r}")
        self.url = websocket_url(url)
        asked = list(subscriptions)
        self._all = not asked
        self._last = last
        self._known: set[str] = set()  # streams subscribed to because they are declared, since unsubscribed or not
        self._token = token
        self._codec = CODECS[format](int64_string=int64_string)
        self._patience = patience or Patience()
        self.counts = Counts()
        self._positions = Positions(asked, self.counts)
        self._buffer = Buffer(buffer_bytes)
        self._connection: Connection | None = None
        self._online = asyncio.Event()
        self._ended = False
        self._opened: float | None = None  # loop time at which this connection came about
        self._task: asyncio.Task[None] | None = None

    def position(self, stream: str, key: str | None = None) -> Position | None:
        """Return where a subscription would be resumed, as `since` of a later client; None: nothing has come yet.

        What it covers may still wait to be taken by the iteration.
        """
        return self._positions.get(stream, key)

    # ------------------------------------------------------------------ life

    async def __aenter__(self) -> Self:
        """Begin to connect."""
        self._task = asyncio.create_task(self._run(), name="bridge client")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection; nothing is left running."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def __aiter__(self) -> Self:
        """Iterate over what happens."""
        return self

    async def __anext__(self) -> Event:
        """Return what happened next. Cancelling it loses nothing.

        Raises:
            RefusedError: the sidecar refuses this client, so that trying again would not help.
            StopAsyncIteration: the client has been left.
        """
        assert self._task is not None, "use `async with Client(...)`"
        return await self._buffer.get()

    async def _run(self) -> None:
        error: Exception = StopAsyncIteration()
        try:
            async with aiohttp.ClientSession(timeout=NO_TIMEOUT, raise_for_status=check_answer) as http:
                await self._connect_forever(http)
        except Exception as raised:  # whoever iterates gets it
            error = raised
        finally:
            self._buffer.end(error)
            self._ended = True
            self._online.set()

    async def _connect_forever(self, http: aiohttp.ClientSession) -> None:
        retry = Retry(self._patience, random)
        while True:
            try:
                await self._attend(http)
            except LostError as lost:
                wait_seconds = retry.wait_seconds(lost, self._lived_seconds())
                self._buffer.push(Disconnected(str(lost), lost.code, wait_seconds))
            await self._buffer.room()
            await asyncio.sleep(wait_seconds)

    def _lived_seconds(self) -> float:
        """Return how long the connection was open, and forget it."""
        opened, self._opened = self._opened, None
        return 0.0 if opened is None else asyncio.get_running_loop().time() - opened

    async def _attend(self, http: aiohttp.ClientSession) -> NoReturn:
        """Serve one connection from beginning to end.

        Raises:
            LostError: it has ended.
            RefusedError: trying again would not help.
        """
        token = self._token() if callable(self._token) else self._token
        async with dial(http, self.url, self._codec, self._patience, self.counts, token) as (connection, welcome):
            self._opened = asyncio.get_running_loop().time()
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._start(connection, welcome))
                    await self._read(connection)
            except ExceptionGroup as errors:
                raise errors.exceptions[0] from None
            finally:
                self._connection = None
                self._online.clear()
        raise AssertionError("reading ends by an error only")

    async def _read(self, connection: Connection) -> NoReturn:
        while True:
            await self._buffer.room()
            event = await connection.read()
            if event is not None:
                for told in self._positions.take(event):
                    self._buffer.push(told)

    # ------------------------------------------------------------------ subscriptions

    async def _start(self, connection: Connection, welcome: Welcome) -> None:
        """Subscribe on a new connection, again and again while the sidecar cannot decide on the positions."""
        if self._all:
            for stream in welcome.streams:
                if stream not in self._known:
                    self._known.add(stream)
                    self._positions.add(Subscription(stream, last=self._last))

        def told(rows: Rows) -> None:
            self._buffer.push(Connected(welcome, rows))

        while True:
            try:
                await self._begin(connection, told)
                return
            except RefusedError as refused:
                if refused.retry_after_seconds is None:
                    raise
                wait_seconds = min(refused.retry_after_seconds, LONGEST_WAIT_SECONDS) * (1 + random())
                self._buffer.push(Postponed(str(refused), wait_seconds))
            except (TimeoutError, UnansweredError):
                raise LostError("the sidecar does not answer") from None
            await self._buffer.room()
            await asyncio.sleep(wait_seconds)

    async def _begin(self, connection: Connection, told: Callable[[Rows], None]) -> None:
        wanted = self._positions.wanted()
        if not wanted:
            told(())
            self._open_for_requests(connection)
            return
        with self._buffer.overdraft():
            async with asyncio.timeout(self._patience.answer_seconds):
                answer = await self._ask_subscribe(connection, wanted, told)
                self._open_for_requests(connection)
                await answer

    def _open_for_requests(self, connection: Connection) -> None:
        """Let requests go: only now, so that they come behind the subscriptions."""
        self._connection = connection
        self._online.set()

    async def _ask_subscribe(
        self, connection: Connection, wanted: Sequence[Subscription], told: Callable[[Rows], None]
    ) -> asyncio.Future[Rows]:
        """Ask for subscriptions; their places move when the answer is read, whoever waits for it.

        What follows the answer at once, snapshots, comes before the pong of a ping behind the request: only then is a
        subscription resumed from where it began, and not begun again.
        """
        begun: list[Started] = []

        def acknowledge(result: Result) -> Rows:
            rows = read_rows(result)
            begun.extend(rows)
            told(rows)
            self._positions.acknowledge(rows)
            return rows

        answer = await connection.ask(SUBSCRIBE, [one.to_params() for one in wanted], acknowledge)
        await connection.ask_pong(lambda _pong: self._positions.settle(begun))
        return answer

    async def subscribe(self, *subscriptions: Subscription) -> Rows:
        """Subscribe to more, or change subscriptions in place; all or nothing.

        Returns:
            Where they begin.

        Raises:
            RefusedError: the sidecar refuses; nothing is subscribed.
            UnansweredError: there was no answer in time. If the sidecar gets to it on this connection, it counts.
        """

        def told(_rows: Rows) -> None:
            for one in subscriptions:
                self._positions.add(one)

        return await self._call(SUBSCRIBE, lambda connection: self._ask_subscribe(connection, subscriptions, told))

    async def unsubscribe(self, stream: str, key: str | None = None) -> None:
        """End a subscription; it is no error if there is none.

        Raises:
            UnansweredError: there was no answer in time. If the sidecar gets to it on this connection, it counts.
        """
        entry = given(stream=stream, key=key)

        def remove(_result: Result) -> None:
            self._positions.remove(stream, key)

        await self._call(UNSUBSCRIBE, lambda connection: connection.ask(UNSUBSCRIBE, [entry], remove))

    # ------------------------------------------------------------------ other requests

    async def streams(self) -> tuple[StreamInfo, ...]:
        """Describe the declared streams.

        Raises:
            UnansweredError: there was no answer in time.
        """
        return await self._call(LIST, lambda connection: connection.ask(LIST, [], read_streams))

    async def history(
        self,
        stream: str,
        key: str | None = None,
        *,
        since: Position | None = None,
        since_height: int | None = None,
        since_time_ms: int | None = None,
        until: Position | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> Page:
        """Read a page of a stream's history.

        Args:
            stream: its name.
            key: of the updates wanted; None: all.
            since: the page begins behind it; None: with the oldest update held.
            since_height: it begins with the first update of at least that height.
            since_time_ms: it begins with the first update published then or later, Unix milliseconds.
            until: it ends before it; None: behind the newest.
            limit: of its length; None: as many as the sidecar allows.
            reverse: the newest first.

        Raises:
            RefusedError: the sidecar refuses: the sentence says what is allowed.
            UnansweredError: there was no answer in time.
        """
        params = given(
            stream=stream,
            key=key,
            since=since_params(since, since_height, since_time_ms),
            until=None if until is None else until._asdict(),
            limit=limit,
            reverse=reverse or None,
        )
        return await self._call(HISTORY, lambda connection: connection.ask(HISTORY, [params], read_page))

    async def stats(self) -> tuple[Books, ...]:
        """Return the sidecar's books: what became of every update of each subscription of this connection.

        Raises:
            UnansweredError: there was no answer in time.
        """
        return await self._call(STATS, lambda connection: connection.ask(STATS, [], read_books))

    async def ping(self) -> Pong:
        """Ask whether the sidecar is there.

        Raises:
            UnansweredError: there was no answer in time.
        """
        loop = asyncio.get_running_loop()
        sent = loop.time()

        def read(result: Result) -> Pong:
            return Pong(result["server_time"], loop.time() - sent)

        return await self._call("ping", lambda connection: connection.ask_pong(read))

    async def _call(self, name: str, ask: Callable[[Connection], Awaitable[asyncio.Future[T]]]) -> T:
        """Make a request as soon as there is a connection, and wait for its answer."""
        seconds = self._patience.answer_seconds
        with self._buffer.overdraft():
            try:
                async with asyncio.timeout(seconds):
                    return await (await ask(await self._open()))
            except TimeoutError:
                raise UnansweredError(f"no answer to {name} within {seconds:g} s") from None

    async def _open(self) -> Connection:
        while self._connection is None:
            if self._ended:
                raise UnansweredError("the client has ended")
            await self._online.wait()
        return self._connection
