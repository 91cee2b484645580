"""The keeper: stands between the origin and the journal, and fills the hub with what the journal holds at the start."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from heapq import merge
from pathlib import Path
from typing import Final

from bridge.core.errors import JournalError
from bridge.core.history import HistoryLimits
from bridge.core.hub import Hub
from bridge.core.origin import Origin
from bridge.core.streams import Stream
from bridge.core.update import Update
from bridge.store.journal import Declared, Journal, Record, Sync
from generated.theblock.state.v1 import update_pb2

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 1.0
"""Pause before the disk is asked again to keep what it would not."""

TRIM_SECONDS: Final = 1.0
"""How often the journal lets go of what has grown too old."""


class Keeper:
    """Keeps what the origin publishes in a journal; a Store.

    Attributes:
        epoch: of the journal.
        immediate: whether what is written may be sent before it is on disk: not with `journal_sync` always.
        chain: hash of the first block of the chain that the epoch is about, None while it is not known.
        journal: where it is kept.
    """

    def __init__(self, journal: Journal, *, sync: Sync, clock_ms: Callable[[], int]) -> None:
        """Keep in a journal that is open.

        Args:
            journal: closed by whoever opened it.
            sync: that it was opened with.
            clock_ms: returns Unix milliseconds.
        """
        self.journal = journal
        self.epoch = journal.epoch
        self.chain = journal.chain
        self.immediate = sync is not Sync.ALWAYS
        self._clock_ms = clock_ms
        self._ordinal = 0
        self._declared = {declared.name for declared in journal.declared()}
        self._extended: dict[str, int] = {}  # how far back the hub knows that streams go on disk
        self._hub: Hub | None = None
        self._kept = self._admitted = 0  # updates of all epochs; what an epoch's end left behind counts as admitted
        self._news = asyncio.Event()
        self._durable: deque[tuple[int, asyncio.Future[None]]] = deque()

    # ------------------------------------------------------------------ at the start

    def fill(self, hub: Hub, new_epoch: Callable[[], str]) -> None:
        """Give a hub that is empty what the journal holds: the newest updates of each stream, and current values.

        From then on it is told how far back the journal goes.

        Args:
            hub: to be filled.
            new_epoch: makes the name of an epoch, in case that a stream is not what it was.
        """
        self._hub = hub
        changed = [stream.name for stream in self.journal.declared() if find_stream(hub, stream) is None]
        if any(self.journal.head(name) for name in changed):
            log.warning("a new epoch begins: in the journal %s is not what this version knows by that name",
                        ", ".join(changed))  # fmt: skip
            self.begin_epoch(new_epoch())
            self._declared.difference_update(changed)
        hub.set_epoch(self.epoch)
        newest: list[list[tuple[Record, Stream]]] = []
        for declared in self.journal.declared():
            stream = find_stream(hub, declared)
            if stream is None:
                continue  # it has no updates
            records = self.journal.newest(stream.name, hub.limits.count, hub.limits.bytes)
            self._fill_values(hub, stream, records, hub.limits)
            newest.append([(record, stream) for record in records])
        for record, stream in merge(*newest, key=ordinal_of):
            hub.admit(update_of(record, stream, self.epoch))
            self._ordinal = max(self._ordinal, record.ordinal)
        hub.lag_ms = 0
        self._extend_all()

    def _fill_values(self, hub: Hub, stream: Stream, records: list[Record], limits: HistoryLimits) -> None:
        """Begin a stream behind what is not in memory, with the values as they were there."""
        first = records[0].seq if records else self.journal.head(stream.name) + 1
        raws = list(self.journal.values(stream.name))
        if first <= self.journal.oldest(stream.name):  # what stands in for the rest is needed too
            raws += self.journal.read(stream.name, 0, first, 1, limits.bytes).base
        elif not stream.keyed:
            before = self.journal.read(stream.name, first - 2, first, 1, limits.bytes).records
            raws += [record.raw for record in before]
        values = {update.seq: update for raw in raws if (update := read_update(raw, stream)).seq < first}
        hub.begin(stream.name, self.epoch, first - 1, [values[seq] for seq in sorted(values)][-limits.keys :])

    # ------------------------------------------------------------------ what the origin calls

    def keep(self, update: Update, publisher: str, publisher_seq: int) -> None:
        """Write an update to the journal.

        Raises:
            JournalError: the disk would not have it; nothing of it is kept.
        """
        stream = update.stream
        if stream.name not in self._declared:
            self.journal.declare(Declared(stream.name, stream.type, keyed=stream.keyed, custom=stream.custom))
            self._declared.add(stream.name)
        record = Record(
            seq=update.seq,
            ordinal=self._ordinal + 1,
            time_ms=update.time_ms,
            key=update.key,
            raw=update.raw,
            publisher=publisher,
            publisher_seq=publisher_seq,
        )
        self.journal.append(stream.name, record)
        self._ordinal += 1
        if self._extended.get(stream.name) != self.journal.oldest(stream.name):
            self._extend(stream.name)
        if not self.immediate:
            self._kept += 1
            self._news.set()

    def begin_epoch(self, epoch: str) -> None:
        """Forget everything: an epoch begins.

        Raises:
            JournalError: that cannot be written.
        """
        self.journal.begin_epoch(epoch)
        self.epoch, self.chain = epoch, None
        self._extended.clear()
        self._settle(self._kept)

    def keep_chain(self, chain: bytes) -> None:
        """Write which chain the epoch is about.

        Raises:
            JournalError: the disk would not have it.
        """
        self.journal.keep_chain(chain)
        self.chain = chain

    async def durable(self) -> None:
        """Wait until everything that was kept is on disk and admitted; at once where that is not waited for."""
        if self._admitted < self._kept:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._durable.append((self._kept, done))
            await done

    # ------------------------------------------------------------------ while it runs

    async def run(self, origin: Origin) -> None:
        """Trim the journal, and admit what has reached the disk. Runs until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._trim_forever())
            if not self.immediate:
                tasks.create_task(self._sync_forever(origin))

    async def _trim_forever(self) -> None:
        while True:
            await asyncio.sleep(TRIM_SECONDS)
            self.journal.trim(self._clock_ms())
            self._extend_all()

    def _extend_all(self) -> None:
        for declared in self.journal.declared():
            self._extend(declared.name)

    def _extend(self, name: str) -> None:
        """Tell the hub how far back a stream goes on disk."""
        if self._hub is not None:
            oldest = self._extended[name] = self.journal.oldest(name)
            self._hub.extend(name, oldest)

    async def _sync_forever(self, origin: Origin) -> None:
        """Group commit: while one sync is on its way, what is written waits for the next, all of it together."""
        while True:
            await self._news.wait()
            self._news.clear()
            kept, epoch = self._kept, self.epoch
            while self._admitted < kept and epoch == self.epoch:
                try:
                    await self.journal.sync()
                except JournalError as error:
                    log.error("%s", error)
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                if epoch == self.epoch:
                    origin.admit_kept(kept - self._admitted)
                    self._settle(kept)

    def _settle(self, admitted: int) -> None:
        self._admitted = admitted
        while self._durable and self._durable[0][0] <= admitted:
            _, done = self._durable.popleft()
            if not done.done():
                done.set_result(None)


def journal_folder(setting: str, source: str, environment: dict[str, str], home: Path) -> Path | None:
    """Return the folder that `data_dir` names, None for off.

    Args:
        setting: a path, auto or off.
        source: names the folder where it is auto: two kinds of source never share one.
        environment: for XDG_STATE_HOME.
        home: the user's.
    """
    if setting == "off":
        return None
    if setting != "auto":
        return Path(setting).expanduser()
    state = environment.get("XDG_STATE_HOME", "")
    base = Path(state) if Path(state).is_absolute() else home / ".local" / "state"
    return base / "theblock-bridge" / source


def ordinal_of(item: tuple[Record, Stream]) -> int:
    """Return where a record stands in the order of publication over all streams."""
    return item[0].ordinal


def find_stream(hub: Hub, declared: Declared) -> Stream | None:
    """Return the stream that a journal knows by a name; None if the name is something else here."""
    known = hub.catalogue.get(declared.name)
    if known is None:
        return hub.find_stream(declared.name, declared.type, keyed=declared.keyed) if declared.custom else None
    same = (known.type, known.keyed) == (declared.type, declared.keyed) and not declared.custom
    return known if same else None


def update_of(record: Record, stream: Stream, epoch: str) -> Update:
    """Return the update that a record keeps."""
    prev = update_pb2.Update.FromString(record.raw).prev if stream.keyed else 0
    return Update(stream, epoch, record.seq, record.time_ms, record.raw, record.key, prev)


def read_update(raw: bytes, stream: Stream) -> Update:
    """Return the update of serialized bytes."""
    message = update_pb2.Update.FromString(raw)
    return Update(stream, message.epoch, message.seq, message.time_ms, raw, message.key, message.prev)
