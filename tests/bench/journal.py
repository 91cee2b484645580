"""A journal of a million updates: how fast it is written, how long opening it takes after a clean end and a crash."""

import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bridge.store.journal import Declared, Journal, JournalLimits, Record, Sync
from tests.bench.processes import verdict

UPDATES, KEYS, SIZE_BYTES = 1_000_000, 100_000, 200
STREAM = Declared("account", "account_update", keyed=True, custom=False)
LIMITS = JournalLimits(count=2 * UPDATES, bytes=1 << 30)
ROUNDS = 5


def main() -> None:
    """Measure and print."""
    for name, ends in (("a clean end", True), ("a crash", False)):
        with tempfile.TemporaryDirectory() as folder:
            print(f"{UPDATES:,} updates of {SIZE_BYTES} bytes, {KEYS:,} keys, then {name}")
            writer = multiprocessing.get_context("spawn").Process(target=fill, args=(folder, ends))
            writer.start()
            writer.join()
            first = time_opening(folder)
            seconds = min(first, *(time_opening(folder) for _ in range(ROUNDS - 1)))
            verdict(first < 1, f"opened in {first:.2f} s; at best, of {ROUNDS} times, in {seconds:.2f} s")


@contextmanager
def opened(folder: str) -> Iterator[Journal]:
    """Open a journal until the block ends."""
    journal = Journal.open(
        Path(folder), limits=LIMITS, sync=Sync.OFF, new_epoch=lambda: "bench", clock_ms=lambda: int(time.time() * 1000)
    )
    yield journal
    journal.close()


def fill(folder: str, ends: bool) -> None:
    """Write the updates; runs in a process of its own, which ends without a word if it crashes."""
    with opened(folder) as journal:
        journal.declare(STREAM)
        began, raw, now_ms = time.monotonic(), bytes(SIZE_BYTES), int(time.time() * 1000)
        for seq in range(1, UPDATES + 1):
            journal.append(STREAM.name, Record(seq, seq, now_ms, f"tb{seq * 7919 % KEYS:038d}", raw))
        seconds = time.monotonic() - began
        print(f"  written in {seconds:.1f} s: {seconds / UPDATES * 1e6:.1f} us an update", flush=True)
        if not ends:
            os._exit(0)


def time_opening(folder: str) -> float:
    """Return how long opening takes, seconds."""
    began = time.monotonic()
    with opened(folder) as journal:
        seconds = time.monotonic() - began
        if journal.head(STREAM.name) != UPDATES or journal.updates != UPDATES or journal.notes:
            print(f"  MISSED: {journal.updates} updates are there: {journal.notes}")
    return seconds


if __name__ == "__main__":
    main()
