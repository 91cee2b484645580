"""What was published, read from pages of history: on a way of its own, beside that of the clients that are judged."""

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final, NamedTuple, Protocol

import grpc

from bridge.verify.binary import stream_value, update_value
from bridge.verify.jsonvalues import Data, read_json
from bridge.verify.log import Published, published
from bridge.verify.oracle import Oracle
from bridge.verify.requests import HISTORY, LIST, request, to_text
from bridge.verify.visitor import SUBPROTOCOLS, Kind
from bridge.verify.websocket import NotConnectedError, Target, WebSocket, connect
from generated.theblock.state.v1 import service_pb2, service_pb2_grpc, stream_pb2

POLL_SECONDS: Final = 0.2
"""How often it is asked what is new."""

ANSWER_SECONDS: Final = 10.0

EARLIER: Final = 1000
"""How many updates from before the beginning are read: a client may ask for some."""

FINISH_SECONDS: Final = 15.0
"""How long it may take at the end to read what there is."""

PAGES: Final = 20
"""How many pages of one stream are read before the others get their turn."""


class ReferenceLostError(Exception):
    """What tells of what was published cannot be asked now; the text says why."""


class Head(NamedTuple):
    """How far a stream has come."""

    stream: str
    latest: bool
    keyed: bool
    epoch: str
    oldest: int  # 0 where nothing is held
    newest: int


class Page(NamedTuple):
    """A page of history."""

    updates: list[Data]
    more: bool


class Pages(Protocol):
    """Where pages of history come from."""

    async def heads(self) -> list[Head]:
        """Return every declared stream.

        Raises:
            ReferenceLostError: it cannot be asked now.
        """

    async def page(self, stream: str, epoch: str, seq: int) -> Page:
        """Return what follows a position; nothing where it is of another epoch.

        Raises:
            ReferenceLostError: it cannot be asked now.
        """

    async def close(self) -> None:
        """Ask no more."""


def head_of(row: Data) -> Head:
    """Return what a row of state_stream.list says."""
    oldest = row["oldest"]["seq"] if row["oldest"] else 0
    newest = row["newest"]
    return Head(row["stream"], row["delivery"] == "latest", row["keyed"], newest["epoch"], oldest, newest["seq"])


class SidecarPages:
    """Pages from a sidecar, through a WebSocket connection of its own."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._socket: WebSocket | None = None
        self._numbers = count(1)
        self._answers: dict[object, asyncio.Future[Data]] = {}

    async def heads(self) -> list[Head]:
        """See Pages."""
        return [head_of(row) for row in (await self._ask(LIST, None))["streams"]]

    async def page(self, stream: str, epoch: str, seq: int) -> Page:
        """See Pages."""
        result = await self._ask(HISTORY, [{"stream": stream, "since": {"epoch": epoch, "seq": seq}}])
        return Page(result.get("updates", []), "next" in result)

    async def close(self) -> None:
        """See Pages."""
        if self._socket is not None:
            await self._socket.drop()

    async def _ask(self, method: str, params: list[Data] | None) -> Data:
        """Return a result; an empty one where a position is refused."""
        if self._socket is None or self._socket.ended.done():
            try:
                self._socket = await connect(self._target, self._take, SUBPROTOCOLS[Kind.JSON])
            except NotConnectedError as error:
                raise ReferenceLostError(str(error)) from error
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        self._socket.send(1, to_text(request(method, params, number)))
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await asyncio.wait((answer, self._socket.ended), return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            self._socket.abort()
            raise ReferenceLostError(f"the sidecar does not answer {method}") from None
        finally:
            del self._answers[number]
        if not answer.done():
            raise ReferenceLostError("the sidecar closed the connection")
        result = answer.result().get("result", {})
        return result if isinstance(result, dict) else {}

    def _take(self, _opcode: int, payload: bytes) -> None:
        if b'"jsonrpc"' in payload:
            value = read_json(payload)
            waiting = self._answers.get(value.get("id"))
            if waiting is not None and not waiting.done():
                waiting.set_result(value)


class ServicePages:
    """Pages from a state service, through gRPC."""

    def __init__(self, channel: Any) -> None:
        """Make it.

        Args:
            channel: to the state service, of grpc.aio; it is left open.
        """
        self._stub = service_pb2_grpc.StateStreamServiceStub(channel)

    async def heads(self) -> list[Head]:
        """See Pages."""
        answer = await self._ask(self._stub.ListStreams, service_pb2.ListStreamsRequest())
        return [head_of(stream_value(info)) for info in answer.streams]

    async def page(self, stream: str, epoch: str, seq: int) -> Page:
        """See Pages."""
        since = stream_pb2.Position(epoch=epoch, seq=seq)
        try:
            asked = service_pb2.ListUpdatesRequest(stream=stream, since=since)
            answer = await self._ask(self._stub.ListUpdates, asked)
        except ReferenceLostError as error:
            if isinstance(error.__cause__, grpc.aio.AioRpcError) and error.__cause__.code() in REFUSALS:
                return Page([], False)
            raise
        return Page([update_value(update) for update in answer.updates], answer.HasField("next"))

    async def close(self) -> None:
        """See Pages."""

    async def _ask(self, call: Any, message: Any) -> Any:
        try:
            return await call(message, timeout=ANSWER_SECONDS)
        except grpc.aio.AioRpcError as error:
            code = error.code()
            raise ReferenceLostError(f"the state service says {code.name}: {error.details()}") from error


REFUSALS: Final = (grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT,
                   grpc.StatusCode.NOT_FOUND)  # fmt: skip
"""Answers to a position of another epoch, or to a stream that there is no more."""


@dataclass
class Reference:
    """Tells the oracle what is published, as long as it runs.

    Attributes:
        oracle: that is told.
        pages: where it is read.
        heads: as it was last told.
        lost: why it could not be asked the last time; empty where it could.
    """

    oracle: Oracle
    pages: Pages
    heads: dict[str, Head] = field(default_factory=dict)
    lost: str = ""
    _first: bool = True
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def begin(self) -> list[Head]:
        """Read what there is.

        Raises:
            ReferenceLostError: it cannot be asked.
        """
        heads = await self.pages.heads()
        self.oracle.log.latest = frozenset(head.stream for head in heads if head.latest)
        self.oracle.log.adopt = self.adopt
        await self._read_all(heads)
        self._first = False
        return heads

    async def follow(self) -> None:
        """Read what is new. Runs until cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            with contextlib.suppress(ReferenceLostError):
                await self.catch_up()

    async def catch_up(self) -> None:
        """Read everything that is new.

        Raises:
            ReferenceLostError: it cannot be asked now.
        """
        async with self._reading:
            try:
                await self._read_all(await self.pages.heads())
                self.lost = ""
            except ReferenceLostError as error:
                self.lost = str(error)
                raise

    async def finish(self) -> str:
        """Read everything that there is now; return why it cannot be had, empty if it can."""
        deadline = time.monotonic() + FINISH_SECONDS
        behind = True
        while behind and time.monotonic() < deadline:
            with contextlib.suppress(ReferenceLostError):
                await self.catch_up()
            log = self.oracle.log
            behind = any(not log.knows(head.stream, head.epoch, head.newest) for head in self.heads.values())
            behind = behind or bool(self.lost)
            if self.lost:
                await asyncio.sleep(POLL_SECONDS)
        return self.lost or ("it cannot be read as fast as updates are published" if behind else "")

    def head(self, stream: str) -> tuple[str | None, int]:
        """Return the epoch and the seq of a stream's newest update."""
        head = self.heads.get(stream)
        return (head.epoch, head.newest) if head is not None else (None, 0)

    async def _read_all(self, heads: list[Head]) -> None:
        for head in heads:
            self._note(head)
            await self._read(head)

    def _note(self, head: Head) -> None:
        """Take note of the epoch; where it is another one, the one before is over."""
        log = self.oracle.log
        if head.latest and head.stream not in log.latest:
            log.latest |= {head.stream}
        known = self.heads.get(head.stream)
        self.heads[head.stream] = head
        if head.epoch and head.epoch not in log.epochs:
            if known is not None and known.epoch:
                self.oracle.close(known.epoch)
            self.oracle.began(head.epoch)
        run = log.run(head.stream, head.epoch)
        if known is None or known.epoch != head.epoch:
            held = max(head.oldest - 1, 0) if head.oldest else head.newest
            run.skip_to(max(held, head.newest - EARLIER) if self._first else held)

    async def _read(self, head: Head) -> None:
        run = self.oracle.log.run(head.stream, head.epoch)
        for _ in range(PAGES):
            if run.complete >= head.newest:
                return
            page = await self.pages.page(head.stream, head.epoch, run.complete)
            self._take(head, page.updates)
            if page.updates:
                self._complete(head, page.updates[-1]["seq"])
            if not page.more:
                return

    def _take(self, head: Head, updates: list[Data]) -> None:
        run, before = self.oracle.log.run(head.stream, head.epoch), 0
        for update in updates:
            seq = update["seq"]
            if not head.latest and seq != run.complete + 1:
                if before:
                    self.oracle.wrong("lost", f"history of {head.stream} {head.epoch} has {seq} behind {before}")
                run.skip_to(seq - 1)  # let go of before it was read
            before = seq
            self.oracle.published(update)

    def _complete(self, head: Head, seq: int) -> None:
        run = self.oracle.log.run(head.stream, head.epoch)
        run.complete = max(run.complete, seq)  # of latest streams a sidecar may never have had those between

    def adopt(self, frame: Data) -> Published | None:
        """Take for published what it cannot know: the end of an epoch that is over, and what was skipped."""
        run = self.oracle.log.run(frame["stream"], frame["epoch"])
        if run.closed or frame["stream"] in self.oracle.log.latest:
            return published(frame)
        return None
