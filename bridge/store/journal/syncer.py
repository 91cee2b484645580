"""The syncer: a thread that waits for the disk, deletes what was dropped and writes bloated bases anew."""

import logging
import os
import shutil
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

from bridge.core.errors import JournalError
from bridge.store.journal.base import Base
from bridge.store.journal.files import reason, sync_file
from bridge.store.journal.label import Damage
from bridge.store.journal.place import Place
from bridge.store.journal.segment import Segment
from bridge.store.journal.types import Sync
from bridge.store.journal.work import Round, Work

log = logging.getLogger(__name__)

BATCH_SECONDS = 0.05
"""How long what was written gathers before it is synced."""

RETRY_SECONDS = 1.0
"""How long after a failure it is tried again, at most."""


class Syncer:
    """Keeps what is on disk in step with what was written.

    Attributes:
        lock: guards `work`, `place` and all that the streams hold.
        busy: held while files are worked on without `lock`; to be taken first.
        work: what there is to do.
        place: of the journal.
        syncs: how often the disk was waited for.
        sync_seconds: how long, all together.
        failures: how often reading or writing failed.
        failure: why nothing may be written for now; empty while all is well.
    """

    def __init__(self, mode: Sync) -> None:
        """Do nothing until it is started."""
        self.lock = threading.Lock()
        self.busy = threading.Lock()
        self.work = Work(self.wake if mode is Sync.BATCH else lambda: None)
        self.place: Place
        self.syncs = self.failures = 0
        self.sync_seconds = 0.0
        self.failure = ""
        self._mode = mode
        self._synced = 0  # updates, as `work` counts them
        self._waiters: list[tuple[int, Future[None]]] = []
        self._suspect: set[Segment | Base] = set()  # the system may have forgotten what was written to them
        self._awake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)

    @property
    def always(self) -> bool:
        """Whether what is sent waits for the disk."""
        return self._mode is Sync.ALWAYS

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what there is to do stays."""
        self._closing.set()
        self._awake.set()
        if self._thread.ident is not None:
            self._thread.join()

    def wake(self) -> None:
        """Have the thread do what there is to do."""
        self._awake.set()

    def wait(self) -> "Future[None]":
        """Return what is done when everything that was written is on disk; JournalError when that failed."""
        future: Future[None] = Future()
        with self.lock:
            if self._synced >= self.work.updates and not self.failure:
                future.set_result(None)
                return future
            self._waiters.append((self.work.updates, future))
        self.wake()
        return future

    def forget(self) -> None:
        """Leave everything undone, since an epoch begins; nothing is left to wait for. The caller holds both locks."""
        self.work.forget()
        self._suspect.clear()
        self._succeed(self.work.updates)

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
        delay = BATCH_SECONDS
        while True:
            self._awake.wait()
            if self._mode is Sync.BATCH:
                self._closing.wait(BATCH_SECONDS)
            if self._closing.is_set():
                return
            self._awake.clear()
            if self.flush():
                delay = BATCH_SECONDS
            else:
                self._closing.wait(delay)
                delay = min(2 * delay, RETRY_SECONDS)
                self._awake.set()

    def flush(self, *, last: bool = False) -> bool:
        """Do what there is to do; return whether it succeeded.

        Args:
            last: wait for the disk whatever the mode is, and leave bases as they are.
        """
        syncing = last or self._mode is not Sync.OFF
        with self.busy:
            with self.lock:
                taken = self.work.take()
                if not syncing:
                    self.work.put_back(taken._replace(removals=[]))
            try:
                if syncing:
                    self._sync(taken)
                for path in taken.removals:
                    _remove(path)
                if not last:
                    self._compact()
            except (OSError, Damage) as error:
                self._fail(taken, error)
                return False
            except Exception as error:  # whatever it is: appending must end, and somebody be told
                log.exception("the journal's thread failed")
                self._fail(taken, error)
                return False
        return True

    def _sync(self, taken: Round) -> None:
        place, started = self.place, time.perf_counter()
        for file in taken.dirty:
            self._sync_file(file)
        if taken.named:
            sync_file(place.folder)
        with self.lock:
            for stream, written in taken.written.items():
                place.mark.put_synced(stream.name, written)
                stream.synced = written
            if taken.dirty or taken.named:
                self.syncs += 1
                self.sync_seconds += time.perf_counter() - started
            self._succeed(taken.updates)

    def _sync_file(self, file: Segment | Base) -> None:
        """Sync a file; one whose sync failed before is written anew, since the system may take it for written."""
        try:
            if file in self._suspect:
                self._rewrite(file)
                self._suspect.discard(file)
                return
            with self.lock:
                fd = self.place.files.duplicate(file)
            try:
                os.fdatasync(fd)
            finally:
                os.close(fd)
        except (OSError, Damage):
            self._suspect.add(file)
            raise

    def _rewrite(self, file: Segment | Base) -> None:
        if isinstance(file, Base):
            self._compact_one(file)
            return
        file.rewrite()
        with self.lock:
            self.place.files.close(file)
        sync_file(file.path.parent)

    def _compact(self) -> None:
        with self.lock:
            bloated = list(self.work.bloated)
            self.work.bloated.clear()
        for base in bloated:
            try:
                self._compact_one(base)
            except OSError as error:
                self.failures += 1
                log.error("%s cannot be written anew: %s; it grows until it can", base.path, reason(error))

    def _compact_one(self, base: Base) -> None:
        place = self.place
        with self.lock:
            base.frozen = True
            known = set(place.heard)
        try:
            new = base.compact(place.limits.bytes, known, durable=self._mode is not Sync.OFF)
            with self.lock:
                base.replace(new, place.files)
                self.work.named()
        finally:
            base.frozen = False
            with suppress(OSError):
                base.new_path.unlink(missing_ok=True)

    # ------------------------------------------------------------------ outcome

    def _succeed(self, count: int) -> None:
        self._synced = max(self._synced, count)
        if self.failure:
            self.failure = ""
            log.warning("the journal in %s can be written again", self.place.folder.parent)
        waiting, self._waiters = self._waiters, []
        for target, future in waiting:
            if target > self._synced:
                self._waiters.append((target, future))
            elif future.set_running_or_notify_cancel():
                future.set_result(None)

    def _fail(self, taken: Round, error: Exception) -> None:
        with self.lock:
            self.work.put_back(taken)
            self.failures += 1
            if not self.failure:
                log.error("the journal in %s cannot be written: %s; until it can, nothing is published",
                          self.place.folder.parent, reason(error))  # fmt: skip
            self.failure = reason(error)
            waiting, self._waiters = self._waiters, []
        sentence = (
            f"updates cannot be said to be on disk in {self.place.folder.parent}: {reason(error)}; it is tried again"
        )
        for _, future in waiting:
            if future.set_running_or_notify_cancel():
                future.set_exception(JournalError(sentence))


def _remove(path: Path) -> None:
    """Delete a file or a folder; what cannot be deleted now is deleted when the journal is opened again."""
    with suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
