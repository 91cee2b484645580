"""What lies behind memory: a loader reads the pages that readers need, and whoever needs one waits here.

The state service reads its own disk, a sidecar or a relay asks its state service: what `read` does is given.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar

from google.protobuf.message import DecodeError

from bridge.core.backoff import Backoff
from bridge.core.deep import PAGE_BYTES, PAGE_UPDATES, Needed, Place, unreadable
from bridge.core.errors import JournalError, RequestError, UpstreamError
from bridge.core.hub import Hub
from bridge.core.position import Position
from generated.theblock.state.v1 import service_pb2, stream_pb2, view_pb2

log = logging.getLogger(__name__)

T = TypeVar("T")

LOADS = 4
"""How many pages are read at one time."""

TRIES = 5
"""How often a page is tried, while it could be had, until it counts as missing."""

FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 5.0

READ_SECONDS = 10.0
"""How long one try may take."""

LOOK_AGAIN_SECONDS = 0.1
"""Pause before it is asked again how far upstream is, while somebody has a position that is not known here."""

LOOK_SECONDS = 1.0
"""How often it is looked whether upstream is reached, if nothing tells of it."""

WAIT_SECONDS = 5.0
"""How long a request waits for the pages that it needs; then it is refused, and may be asked again."""


class Found(NamedTuple):
    """What was read for a page."""

    oldest: int  # seq of the oldest update that can be had of the stream; one more than the newest where there is none
    raws: Sequence[bytes]  # serialized updates, in order
    base: Sequence[bytes] = ()  # serialized updates that stand in for what is gone before them


Newest = Callable[[str], Awaitable[Position]]
"""Takes a stream; returns the position of its newest update where it comes from."""

Read = Callable[[str, int, int], Awaitable[Found]]
"""Takes stream, since (the seq behind which to read) and until (the seq before which to end)."""


class PageLoader:
    """Loads the pages that are wanted: a few at a time, each as often as it takes, within reason.

    Attributes:
        failures: how often reading failed.
    """

    def __init__(
        self,
        read: Read,
        hub: Hub,
        *,
        newest: Newest | None = None,
        random: Callable[[], float] = random.random,
    ) -> None:
        """Take on the hub's pages; `run` loads them.

        Args:
            read: reads some of a stream: all of it, or the first ones if it would be too much at once. Raises
                UpstreamError, JournalError or OSError if that cannot be done now, RequestError if it never will be.
            hub: that they are for.
            newest: asks the process that is followed how far it is; None where none is.
            random: returns a number in [0, 1), for the pauses.
        """
        self.failures = 0
        self._read = read
        self._hub = hub
        self._random = random
        self._newest = newest
        self._asked = asyncio.Event()  # for a position that is not known here
        self._wanted: asyncio.Queue[Place] = asyncio.Queue()  # bounded by the cursors there are
        hub.pages.load = self._take
        hub.pages.follows = newest is not None

    async def run(self) -> None:
        """Load what is wanted until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(LOADS):
                tasks.create_task(self._load_forever())
            if self._newest is not None:
                tasks.create_task(self._confirm_forever(self._newest))

    def _take(self, place: Place) -> None:
        if place.ahead:
            self._asked.set()
        else:
            self._wanted.put_nowait(place)

    async def _confirm_forever(self, newest: Newest) -> None:
        """Find out which positions that are not known here are worth nothing: all that are asked for in one go."""
        while True:
            await self._asked.wait()
            asked = list(self._hub.pages.ahead)
            for stream in {place.stream for place in asked}:
                await self._confirm(newest, stream, [place for place in asked if place.stream == stream])
            if self._hub.pages.ahead:
                await asyncio.sleep(LOOK_AGAIN_SECONDS)
            else:
                self._asked.clear()

    async def _confirm(self, newest: Newest, stream: str, places: list[Place]) -> None:
        try:
            async with asyncio.timeout(READ_SECONDS):
                position = await newest(stream)
        except RequestError:  # the stream is not known there
            position = None
        except (UpstreamError, OSError):  # TimeoutError is an OSError: they wait on
            return
        for place in places:
            if position is None or self._is_void(place, position):
                self._hub.pages.set_void(place)

    def _is_void(self, place: Place, newest: Position) -> bool:
        """Whether a position is worth nothing to who is followed; if we are behind that one, nothing can be told."""
        history = self._hub.histories.get(place.stream)
        if history is None or newest.epoch != history.epoch:
            return False
        return place.epoch != newest.epoch or place.start >= newest.seq

    async def _load_forever(self) -> None:
        while True:
            await self._load(await self._wanted.get())

    async def _load(self, place: Place) -> None:
        """Load a page, or say that it cannot be had."""
        backoff = Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, self._random)
        tries, problem = 0, ""
        while tries < TRIES:
            await self._until_reached()
            if not self._hub.pages.wanted(place):
                self._hub.pages.abandon(place)
                return
            try:
                async with asyncio.timeout(READ_SECONDS):
                    await self._load_once(place)
                return
            except RequestError as error:
                tries, problem = TRIES, str(error)
            except (UpstreamError, JournalError, OSError) as error:  # TimeoutError is an OSError
                problem = str(error) or type(error).__name__
                tries += self._hub.upstream_reached
            self.failures += 1
            if tries < TRIES:
                await asyncio.sleep(backoff.next())
        log.warning("updates of %s behind %d cannot be read: %s", place.stream, place.start, problem)
        self._hub.pages.refuse(place)

    async def _load_once(self, place: Place) -> None:
        """Read a page and supply it; from the beginning if it may be the oldest one, which says what is gone."""
        history = self._hub.histories.get(place.stream)
        everything = history is not None and place.start < history.reach
        found = await self._read(place.stream, 0 if everything else place.start, place.end + 1)
        if everything is not (place.start < found.oldest):  # what is gone is not what was thought
            everything = not everything
            found = await self._read(place.stream, 0 if everything else place.start, place.end + 1)
        self._hub.supply(place, found.oldest, found.raws, found.base, based=everything)

    async def _until_reached(self) -> None:
        """Wait until upstream can be asked; positions stay valid meanwhile."""
        if self._hub.upstream_reached:
            return
        news = asyncio.Event()
        self._hub.listen(news.set)
        try:
            while not self._hub.upstream_reached:
                news.clear()
                try:
                    async with asyncio.timeout(LOOK_SECONDS):
                        await news.wait()
                except TimeoutError:
                    continue
        finally:
            self._hub.unlisten(news.set)


async def when_there(hub: Hub, attempt: Callable[[], T], seconds: float | None = None) -> T:
    """Return what an attempt returns, made again whenever a page has come that it needs.

    Args:
        hub: whose pages they are.
        attempt: raises Needed, and has done nothing then, while pages are missing.
        seconds: how long they are waited for; None: WAIT_SECONDS.

    Raises:
        RequestError: they have not come in time; or the attempt's own.
    """
    came = asyncio.Event()
    try:
        async with asyncio.timeout(WAIT_SECONDS if seconds is None else seconds):
            while True:
                try:
                    return attempt()
                except Needed as needed:
                    came.clear()
                    for place in needed.places:
                        hub.pages.want(place, came.set)
                    await came.wait()
    except TimeoutError:
        raise unreadable() from None
    finally:
        hub.pages.forget(came.set)


# ---------------------------------------------------------------------- where pages are read from


class StoredRecord(Protocol):
    """An update on disk."""

    @property
    def raw(self) -> bytes:
        """The serialized update."""


class Stored(Protocol):
    """What was read from disk."""

    @property
    def oldest(self) -> int:
        """Seq of the oldest update on disk; one more than the newest where there is none."""

    @property
    def records(self) -> Sequence[StoredRecord]:
        """The updates."""

    @property
    def base(self) -> Sequence[bytes]:
        """Serialized updates that stand in for what is gone before them."""


def from_disk(read: Callable[[str, int, int, int, int], Stored]) -> Read:
    """Return what reads pages from this machine's disk.

    Args:
        read: takes stream, since, until, the most updates and how large they may be; called in a thread.
    """

    async def read_page(stream: str, since: int, until: int) -> Found:
        stored = await asyncio.to_thread(read, stream, since, until, PAGE_UPDATES, PAGE_BYTES)
        return Found(stored.oldest, [record.raw for record in stored.records], stored.base)

    return read_page


def newest_upstream(call: Callable[[service_pb2.ListUpdatesRequest], Awaitable[bytes]]) -> Newest:
    """Return what asks a state service how far it is.

    Args:
        call: as for `from_upstream`.
    """

    async def newest(stream: str) -> Position:
        request = service_pb2.ListUpdatesRequest(stream=stream, limit=1, reverse=True)
        try:
            info = view_pb2.ListUpdatesResponseView.FromString(await call(request)).info
        except DecodeError as error:
            raise UpstreamError("the state service sent a page that is none of its own") from error
        return Position(info.epoch, info.newest)

    return newest


def from_upstream(call: Callable[[service_pb2.ListUpdatesRequest], Awaitable[bytes]], hub: Hub) -> Read:
    """Return what reads pages from a state service.

    Args:
        call: calls ListUpdates and returns the serialized response. Raises UpstreamError if that cannot be had now,
            RequestError if it never will be.
        hub: fed by that service.
    """

    async def read_page(stream: str, since: int, until: int) -> Found:
        epoch = hub.history(stream).epoch
        request = service_pb2.ListUpdatesRequest(
            stream=stream,
            since=stream_pb2.Position(epoch=epoch, seq=since),
            until=stream_pb2.Position(epoch=epoch, seq=until),
            limit=PAGE_UPDATES,
        )
        try:
            response = view_pb2.ListUpdatesResponseView.FromString(await call(request))
        except DecodeError as error:
            raise UpstreamError("the state service sent a page that is none of its own") from error
        if response.info.epoch != epoch:
            raise UpstreamError(f"the state service is in epoch {response.info.epoch!r} now, not in {epoch!r}")
        return Found(response.info.oldest or response.info.newest + 1, response.updates, response.base)

    return read_page
