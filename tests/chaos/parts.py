"""The processes of the bridge, as things that can be killed, stopped and started again on the same address."""

import asyncio
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from tests.chaos import clock
from tests.system.processes import COMPLAINT, ROOT, Running, addresses, environment

START_SECONDS = 60.0
"""How long a process may take to be ready: several start at once, on a busy machine."""


class Part:
    """One process.

    Attributes:
        name: of it.
        running: what runs now.
        busy: held by whatever is done to it.
        starts: how often it was started.
        complaints: what it wrote that it must not.
        ports: addresses of its first start, kept for the later ones.
    """

    def __init__(self, name: str, folder: Path, arguments: Callable[[], list[str]]) -> None:
        self.name = name
        self.running: Running | None = None
        self.busy = asyncio.Lock()
        self.starts = 0
        self.complaints: list[str] = []
        self._folder = folder / name
        self._clock = folder / f"{name}.clock"
        clock.make(self._clock)
        self._arguments = arguments

    @property
    def process_id(self) -> int:
        assert self.running is not None
        return self.running.process.pid

    @property
    def addresses(self) -> dict[str, str]:
        assert self.running is not None
        return self.running.addresses

    async def start(self) -> None:
        """Start it and wait until it is ready."""
        self.starts += 1
        folder = self._folder / str(self.starts)
        folder.mkdir(parents=True)
        command = [sys.executable, "-m", "tests.chaos.clock", str(self._clock), *self._arguments()]
        self.running = Running(folder, command, ROOT, environment())
        async with asyncio.timeout(START_SECONDS):
            while not self.running.lines and self.running.process.poll() is None:
                await asyncio.sleep(0.02)
        if not self.running.lines:
            raise AssertionError(f"{self.name} did not start: {self.running.stderr.strip()}")
        self.running.addresses = addresses(self.running.lines[0])

    @property
    def died(self) -> bool:
        """Whether it has ended by itself."""
        return self.running is not None and not self.busy.locked() and self.running.process.poll() is not None

    async def kill(self) -> None:
        """Kill it, without a warning."""
        await self._end(signal.SIGKILL)

    async def terminate(self) -> None:
        """Ask it to end."""
        await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> None:
        assert self.running is not None
        running = self.running
        running.process.send_signal(number)
        try:
            await asyncio.to_thread(running.process.wait, 30)
        except Exception:  # it did not do what it was asked to
            self.complaints.append(f"{self.name} did not end within 30 s of {number.name}")
            running.process.kill()
            await asyncio.to_thread(running.process.wait)
        if number is signal.SIGTERM and running.process.returncode != 0:
            self.complaints.append(f"{self.name} ended with {running.process.returncode} after SIGTERM")
        self._look_at(running)

    def _look_at(self, running: Running) -> None:
        assert running.process.stdin is not None
        running.process.stdin.close()
        text = running.stderr
        if found := COMPLAINT.search(text):
            start = max(0, found.start() - 200)
            self.complaints.append(f"{self.name} wrote: {text[start : found.end() + 1500]}")

    async def halt(self, seconds: float) -> None:
        """Stop it for a while, in the middle of whatever it does."""
        os.kill(self.process_id, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            os.kill(self.process_id, signal.SIGCONT)

    def set_clock(self, wrong_seconds: float) -> None:
        """Set the time of its machine."""
        clock.set_wrong(self._clock, wrong_seconds)

    def limit_files(self, size_bytes: int | None) -> None:
        """Let it write no file beyond a size, as on a full disk; None: any size again."""
        _, hard = resource.prlimit(self.process_id, resource.RLIMIT_FSIZE)
        resource.prlimit(self.process_id, resource.RLIMIT_FSIZE, (hard if size_bytes is None else size_bytes, hard))

    @property
    def memory_bytes(self) -> int:
        """Resident memory."""
        pages = int(Path(f"/proc/{self.process_id}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    async def close(self) -> None:
        """End it for good."""
        if self.running is not None and self.running.process.poll() is None:
            os.kill(self.process_id, signal.SIGCONT)
            await self.terminate()
        shutil.rmtree(self._folder, ignore_errors=True)
