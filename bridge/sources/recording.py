"""The recording source: plays what was recorded, at the recorded pace or faster."""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

from bridge.core.errors import BridgeError, JournalError, PublishError
from bridge.core.hub import State
from bridge.core.origin import Origin
from bridge.sources.pace import Pace, Sleep
from bridge.store.recording_file import RecordingReader
from generated.theblock.state.v1 import update_pb2

log = logging.getLogger(__name__)

GAP_MS = 10_000
"""The longest pause that is played, in recorded time; longer ones are cut to it."""

LOOP_SECONDS = 1.0
"""The pause between two rounds of a recording that is played over and over."""

SLICE_UPDATES = 64
"""How many updates that are due at once may hold the loop, about 20 microseconds each."""


class Timeline:
    """When each update is due, in milliseconds of recorded time from the beginning.

    A recording begins with current values, which may be hours old and minutes apart: the first value of each stream
    and key is due at once, and what comes after it waits for as long as it came after what was last waited for.
    """

    def __init__(self) -> None:
        self._due_ms = 0
        self._last_ms: int | None = None  # of the update last waited for
        self._newest_ms = 0  # of the first values before any was waited for
        self._seen: set[tuple[str, str]] = set()

    def due_ms(self, update: update_pb2.Update) -> int:
        """Return when the next update is due."""
        identity = (update.stream, update.key)
        if identity not in self._seen:
            self._seen.add(identity)
            self._newest_ms = max(self._newest_ms, update.time_ms)
            return self._due_ms
        last_ms = self._newest_ms if self._last_ms is None else self._last_ms
        self._due_ms += min(max(0, update.time_ms - last_ms), GAP_MS)
        self._last_ms = update.time_ms
        return self._due_ms


class RecordingSource:
    """Feeds the streams that a recording holds, custom ones included.

    The payloads are those that were recorded, in that order, byte for byte; their positions and times are new ones.

    Attributes:
        streams: names of the declared streams in the recording.
    """

    def __init__(
        self,
        path: Path,
        speed: float = 1.0,
        *,
        loop: bool = False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """Read the recording once, to know that it is whole and what is in it.

        Args:
            path: of the file.
            speed: how many times faster than recorded it is played, 1 to 100.
            loop: whether it begins again when it has ended, in a new epoch.
            clock: returns seconds that never go back; the pace follows it.
            sleep: waits for that many seconds.

        Raises:
            BridgeError: the file cannot be read, is no recording, or is damaged.
        """
        self._reader = RecordingReader(path)
        self._speed = speed
        self._loop = loop
        self._clock = clock
        self._sleep = sleep
        count = 0
        self._names: set[str] = set()
        declared: set[str] = set()
        for update in self._reader:
            count += 1
            self._names.add(update.stream)
            if update.WhichOneof("data") not in (None, "custom"):
                declared.add(update.stream)
        self.streams = frozenset(declared)
        if self._reader.truncated:
            log.warning("recording %s ends inside an update: the %d before it are played", path, count)

    async def run(self, origin: Origin) -> None:
        """Play it, and stay when it has ended; runs until cancelled, and an update is published whole or not at all."""
        while True:
            if any(history.head for name, history in origin.hub.histories.items() if name in self._names):
                origin.begin_epoch()  # what was published before is another chain, or this one further on
            origin.hub.set_status(State.LIVE, f"playing {self._reader.path} at {self._speed:g} times its pace")
            try:
                await self._play(origin)
            except JournalError:  # not of the file's doing: whoever runs this runs it again
                raise
            except BridgeError as error:  # the file is not what it was when it was looked through
                origin.hub.set_status(State.STALE, str(error))
                break
            if not self._loop:
                origin.hub.set_status(State.STALE, "the recording has ended")
                break
            await self._sleep(LOOP_SECONDS)
        await asyncio.Event().wait()

    async def _play(self, origin: Origin) -> None:
        timeline = Timeline()
        pace = Pace(SLICE_UPDATES, clock=self._clock, sleep=self._sleep)
        refused: set[str] = set()
        for update in self._reader:
            await pace.reach(timeline.due_ms(update) / 1000 / self._speed)
            try:
                publish(origin, update)
            except PublishError as error:
                if update.stream not in refused:
                    log.warning("update %d of stream %s is not played: %s", update.seq, update.stream, error)
                refused.add(update.stream)


def publish(origin: Origin, update: update_pb2.Update) -> None:
    """Publish the payload of a recorded update anew.

    Raises:
        PublishError: it cannot be published, or it is of a stream that this version does not know.
    """
    field = update.WhichOneof("data")
    if field is None:
        raise PublishError("its value is of a kind that this version does not know")
    if field == "custom":
        origin.publish_custom(update.stream, update.custom.type, update.custom.json, key=update.key)
    else:
        origin.publish(getattr(update, field))
