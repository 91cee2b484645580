"""The journal: every update on disk before anybody is sent it, so that positions outlive the process."""

import asyncio
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from bridge.core.errors import JournalError
from bridge.core.names import NAME, NAME_RULE
from bridge.store.journal import folder as folders
from bridge.store.journal.base import Base
from bridge.store.journal.files import reason
from bridge.store.journal.label import Damage
from bridge.store.journal.mark import Extent, Run
from bridge.store.journal.opening import open_folder
from bridge.store.journal.place import Place
from bridge.store.journal.publishers import Publisher, read_publishers
from bridge.store.journal.reading import Plan, first_of, pin_base, plan_page, read_page, read_values
from bridge.store.journal.stream import StoredStream
from bridge.store.journal.syncer import Syncer
from bridge.store.journal.types import Declared, JournalLimits, Record, StoredPage, Sync

log = logging.getLogger(__name__)

EMPTY = StoredPage(1, [], [])


class Journal:
    """The journal of one process.

    Everything but `read` is called from one thread; `read` from any.

    Attributes:
        notes: what opening found and did, a sentence each.
    """

    def __init__(self, folder: Path, held: int, syncer: Syncer, notes: list[str]) -> None:
        """Put together what `open` has prepared; the descriptor `held` is closed at last."""
        self.notes = notes
        self._folder = folder
        self._held = held
        self._syncer = syncer
        self._lock = syncer.lock
        self._trouble = ""  # why trimming failed last

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        limits: JournalLimits = JournalLimits(),  # noqa: B008  # it cannot be changed
        sync: Sync = Sync.BATCH,
        new_epoch: Callable[[], str],
        clock_ms: Callable[[], int],
        boot_id: str | None = None,
    ) -> "Journal":
        """Open the journal in a folder, or begin one.

        The epoch goes on if nothing that was sent can be missing; otherwise a new one begins, and what was there is
        set aside.

        Args:
            folder: where it is; it is created if it is not there.
            limits: of each stream.
            sync: when what was written is on disk for sure.
            new_epoch: makes the name of an epoch, another one each time.
            clock_ms: returns Unix milliseconds.
            boot_id: name of this run of the machine; None: the system's own.

        Raises:
            StartError: the folder cannot be used, or another process uses it.
        """
        syncer = Syncer(sync)
        opened = open_folder(folder, limits, sync, syncer.work, new_epoch, clock_ms, boot_id)
        syncer.place = opened.place
        syncer.start()
        return cls(folder, opened.held, syncer, opened.notes)

    @property
    def _place(self) -> Place:
        return self._syncer.place

    @property
    def _streams(self) -> dict[str, StoredStream]:
        return self._syncer.place.streams

    # ------------------------------------------------------------------ what there is

    @property
    def epoch(self) -> str:
        """Name of the run of positions that it keeps."""
        return self._place.epoch

    @property
    def chain(self) -> bytes | None:
        """Hash of the first block of the chain that the epoch is about; None while it is not known."""
        return self._place.mark.run.chain

    def declared(self) -> list[Declared]:
        """Return the streams that it knows."""
        return [stream.declared for stream in self._streams.values()]

    def head(self, stream: str) -> int:
        """Return the seq of the newest update of a stream, 0 where there is none."""
        found = self._streams.get(stream)
        return found.head if found is not None else 0

    def oldest(self, stream: str) -> int:
        """Return the seq of the oldest update of a stream; one more than the head where there is none."""
        found = self._streams.get(stream)
        return found.oldest if found is not None else 1

    @property
    def updates(self) -> int:
        """How many updates it holds."""
        with self._lock:
            return sum(map(len, self._streams.values()))

    @property
    def size_bytes(self) -> int:
        """Size of all files of all streams."""
        with self._lock:
            return sum(stream.size_bytes for stream in self._streams.values())

    @property
    def syncs(self) -> int:
        """How often the disk was waited for."""
        return self._syncer.syncs

    @property
    def sync_seconds(self) -> float:
        """How long the disk was waited for, all together."""
        return self._syncer.sync_seconds

    @property
    def failures(self) -> int:
        """How often reading or writing failed."""
        return self._syncer.failures

    # ------------------------------------------------------------------ writing

    def declare(self, declared: Declared) -> None:
        """Make a stream known; harmless if it is.

        Raises:
            JournalError: it has updates as something else, its name is ill-formed, or it cannot be written.
        """
        name = declared.name
        if not NAME.fullmatch(name):
            raise JournalError(f"the stream {name!r} cannot be kept: its name must match {NAME_RULE}")
        known = self._streams.get(name)
        if known is not None and known.declared == declared:
            return
        if known is not None and known.head:
            raise JournalError(
                f"stream {name!r} cannot be kept as {_describe(declared)}: the journal in {self._folder} has updates "
                f"of it as {_describe(known.declared)}; that takes a new epoch"
            )
        place = self._place
        with self._syncer.busy, self._lock:
            before = dict(place.streams)
            place.streams[name] = StoredStream(declared, place, Base(place.base_path(name), place.epoch, name), [])
            try:
                if known is None and not self._syncer.always:
                    place.mark.declare(declared)
                else:
                    place.renew_mark()  # what is acknowledged must not be of a stream that the mark may not have
            except OSError as error:
                place.streams = before
                raise self._failed(f"stream {name!r}", error) from error

    def keep_chain(self, chain: bytes) -> None:
        """Keep which chain the epoch is about: the hash of its first block.

        Raises:
            JournalError: it cannot be written.
        """
        if chain == self.chain:
            return
        run = self._place.mark.run
        try:
            self._renew(Run(run.epoch, chain, run.boot, run.always, run.clean))
        except OSError as error:
            raise self._failed("the chain", error) from error

    def append(self, stream: str, record: Record) -> None:
        """Write the next update of a stream.

        Args:
            stream: that was declared.
            record: numbered one more than the head.

        Raises:
            JournalError: it cannot be written; nothing of it is in the journal, and it may be tried again.
        """
        with self._lock:
            found = self._streams.get(stream)
            if found is None:
                raise JournalError(f"update {record.seq} of stream {stream!r} cannot be kept: it was not declared")
            if self._syncer.failure:
                raise JournalError(self._sentence(f"update {record.seq} of stream {stream!r}", self._syncer.failure))
            try:
                found.append(record)
            except (OSError, Damage) as error:
                raise self._failed(f"update {record.seq} of stream {stream!r}", error) from error
            except ValueError as error:
                raise JournalError(f"update {record.seq} of stream {stream!r} cannot be kept: it {error}") from error

    async def sync(self) -> None:
        """Wait until everything that was appended before is on disk, if `sync` is `always`; else return at once.

        Cancelling it changes nothing.

        Raises:
            JournalError: that failed for now; what was appended stays, and a later call waits for it again.
        """
        if self._syncer.always:
            await asyncio.wrap_future(self._syncer.wait())

    def trim(self, now_ms: int) -> None:
        """Drop segments that are beyond the limits; the newest update of a stream stays, and so do current values.

        What cannot be dropped for now is told in the log, once, and tried again with the next call.

        Args:
            now_ms: Unix milliseconds.
        """
        trouble = ""
        with self._lock:
            for stream in self._streams.values() if not self._syncer.failure else ():
                try:
                    stream.trim(now_ms)
                except OSError as error:
                    self._syncer.failures += 1
                    trouble = f"stream {stream.name!r} cannot be trimmed: {reason(error)}"
        if trouble and not self._trouble:
            log.error("the journal in %s grows: %s", self._folder, trouble)
        self._trouble = trouble
        if self._place.work:
            self._syncer.wake()

    def begin_epoch(self, epoch: str) -> None:
        """Begin an epoch: every update goes, and all that is known of publishers; streams stay declared.

        Raises:
            JournalError: it cannot be begun, and the one before goes on.
        """
        run = self._place.mark.run
        streams = {stream.declared: Extent() for stream in self._streams.values()}
        with self._syncer.busy, self._lock:
            try:
                mark, old = folders.begin(self._folder, Run(epoch, None, run.boot, run.always, clean=False), streams)
            except OSError as error:
                raise self._failed(f"epoch {epoch}", error) from error
            before = self._place
            place = self._syncer.place = Place(before.folder, mark, before.limits, before.work, before.clock_ms)
            before.close()
            self._syncer.forget()
            for declared in streams:
                base = Base(place.base_path(declared.name), epoch, declared.name)
                place.streams[declared.name] = StoredStream(declared, place, base, [])
            if old is not None:
                place.work.remove_folder(old)
        self._syncer.wake()

    def close(self) -> None:
        """Wait for the disk, leave the mark of a clean end, and let go of the folder; harmless when it is closed."""
        held, self._held = self._held, -1
        if held < 0:
            return
        self._syncer.stop()
        with self._lock:
            for stream in self._streams.values():
                with suppress(OSError, Damage):  # opening takes longer then
                    stream.seal()
        if self._syncer.flush(last=True):
            run = self._place.mark.run
            try:
                self._renew(Run(run.epoch, run.chain, run.boot, run.always, clean=True))
            except OSError as error:
                log.error("the journal in %s was not closed cleanly: %s", self._folder, reason(error))
        self._syncer.failure = "it is closed"
        self._place.close()
        os.close(held)

    # ------------------------------------------------------------------ reading

    def newest(self, stream: str, count: int, size_bytes: int) -> list[Record]:
        """Return the newest updates of a stream, in order.

        Args:
            stream: its name.
            count: how many at most.
            size_bytes: of records at most, but one update at least.

        Raises:
            JournalError: they cannot be read.
        """

        def plan(found: StoredStream) -> Plan:
            return plan_page(found, first_of(found, count, size_bytes) - 1, found.head + 1, count, size_bytes)

        return self._read(stream, plan).records

    def read(self, stream: str, since: int, until: int, limit: int, size_bytes: int) -> StoredPage:
        """Read a page of a stream's updates; to be called from any thread.

        Args:
            stream: its name.
            since: seq behind which the page begins.
            until: seq before which it ends.
            limit: the most updates.
            size_bytes: of records at most, but one update at least.

        Raises:
            JournalError: an update cannot be read, or is damaged.
        """
        return self._read(stream, lambda found: plan_page(found, since, until, limit, size_bytes))

    def _read(self, stream: str, plan: Callable[[StoredStream], Plan]) -> StoredPage:
        while True:
            with self._lock:
                found = self._streams.get(stream)
                if found is None:
                    return EMPTY
                oldest = found.oldest
                try:
                    planned = plan(found)
                except OSError as error:
                    raise self._unread(stream, error) from error
            try:
                return read_page(planned)
            except (OSError, Damage) as error:
                with self._lock:
                    changed = self._streams.get(stream) is not found or found.oldest != oldest
                if not changed:  # else it was dropped meanwhile: what is there now is read
                    raise self._unread(stream, error) from error

    def values(self, stream: str) -> Iterator[bytes]:
        """Iterate over the current value of every key, serialized updates, the least recently changed first.

        To be read to its end before anything is appended or trimmed.

        Raises:
            JournalError: one cannot be read, or is damaged.
        """
        found = self._streams.get(stream)
        if found is None:
            return
        try:
            with self._lock:
                base = pin_base(found)
            for record in read_values(found, base):
                yield record.raw
        except (OSError, Damage) as error:
            raise self._unread(stream, error) from error

    def publishers(self) -> Iterator[Publisher]:
        """Iterate over what is known of publishers, the one heard of longest ago first.

        Raises:
            JournalError: a file cannot be read, or is damaged.
        """
        try:
            yield from read_publishers(self._streams.values(), self._place.heard)
        except (OSError, Damage) as error:
            raise self._unread("", error) from error

    # ------------------------------------------------------------------ parts

    def _renew(self, run: Run) -> None:
        with self._syncer.busy, self._lock:
            self._place.renew_mark(run)

    def _failed(self, what: str, error: Exception) -> JournalError:
        self._syncer.failures += 1
        return JournalError(self._sentence(what, reason(error)))

    def _sentence(self, what: str, reason: str) -> str:
        return f"{what} cannot be written to {self._folder}: {reason}; make sure that there is room, then try again"

    def _unread(self, stream: str, error: Exception) -> JournalError:
        self._syncer.failures += 1
        what = f"updates of stream {stream!r}" if stream else "publishers"
        return JournalError(f"{what} cannot be read from {self._folder}: {reason(error)}")


def _describe(declared: Declared) -> str:
    return f"{declared.type} {'with' if declared.keyed else 'without'} keys"
