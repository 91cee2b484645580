"""Runs the bridge with a watch on its event loop: `python -m tests.bench.probe REPORT ARGUMENT ...`.

A callback that is due every millisecond notes how late it comes, and how much processor time the thread of the loop
took since the one before: the first is what a client feels, the second what the bridge is to blame for, however busy
the machine is. On SIGUSR1 what was noted since the last one is written to REPORT, as JSON; with PROFILE=1 in the
environment the functions that took longest go to stderr with it.
"""

import asyncio
import cProfile
import gc
import json
import os
import pstats
import signal
import sys
import time
from pathlib import Path

from bridge.app.process import Process
from bridge.cli import main

DUE_SECONDS = 0.001


class Watch:
    """What was noted since the last report."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._profile = cProfile.Profile() if os.environ.get("PROFILE") else None
        self._collecting = 0.0
        gc.callbacks.append(self._note_collection)
        self._loop.add_signal_handler(signal.SIGUSR1, self._report)
        self._begin()
        self._due = self._loop.time() + DUE_SECONDS
        self._loop.call_at(self._due, self._tick)

    def _begin(self) -> None:
        self._late_ms: list[float] = []  # those of more than 5 ms
        self._longest_late_ms = self._longest_cpu_ms = self._longest_gc_ms = 0.0
        self._collections = [0, 0, 0]
        self._cpu = time.thread_time()
        if self._profile is not None:
            self._profile.enable()

    def _tick(self) -> None:
        now, cpu = self._loop.time(), time.thread_time()
        late_ms, cpu_ms = (now - self._due) * 1000, (cpu - self._cpu) * 1000
        self._longest_late_ms = max(self._longest_late_ms, late_ms)
        self._longest_cpu_ms = max(self._longest_cpu_ms, cpu_ms)
        if late_ms > 5:
            self._late_ms.append(round(late_ms, 1))
        self._cpu = cpu
        self._due = now + DUE_SECONDS
        self._loop.call_at(self._due, self._tick)

    def _note_collection(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._collecting = time.thread_time()
            return
        self._collections[info["generation"]] += 1
        self._longest_gc_ms = max(self._longest_gc_ms, (time.thread_time() - self._collecting) * 1000)

    def _report(self) -> None:
        if self._profile is not None:
            self._profile.disable()
            pstats.Stats(self._profile, stream=sys.stderr).sort_stats("tottime").print_stats(30)
            self._profile = cProfile.Profile()
        report = {
            "late_ms": self._longest_late_ms,
            "cpu_ms": self._longest_cpu_ms,
            "gc_ms": self._longest_gc_ms,
            "collections": self._collections,
            "latest_ms": sorted(self._late_ms)[-10:],
        }
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps(report))
        new.replace(self._path)
        self._begin()


def run(path: Path, arguments: list[str]) -> int:
    """Run the bridge; its loop is watched from when its parts start."""
    start, watches = Process.start, []

    async def watched_start(process: Process) -> dict[str, str]:
        watches.append(Watch(path))
        return await start(process)

    Process.start = watched_start  # type: ignore[method-assign]
    return main(arguments)


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1]), sys.argv[2:]))
