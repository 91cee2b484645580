"""Real processes of the bridge: started, waited for until they are ready, and never left behind."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent

ANY = "127.0.0.1:0"
"""An address whose port the system chooses."""

STOP_SECONDS = 10.0
WAIT_SECONDS = 20.0

COMPLAINT = re.compile(
    r"Traceback|Warning|never (awaited|retrieved)|Exception ignored|Task was destroyed|Unclosed|^[EWF]\d{4} ",
    re.MULTILINE,
)
"""What no process of ours may write to stderr, whatever happens around it."""


class Running:
    """A process that was started.

    Attributes:
        process: itself.
        addresses: as on its ready line: grpc, http, websocket.
    """

    def __init__(
        self,
        folder: Path,
        command: list[str],
        cwd: Path,
        environment: Mapping[str, str],
        descriptors: Sequence[int] = (),
    ) -> None:
        self._stdout, self._stderr = folder / "stdout", folder / "stderr"
        with self._stdout.open("wb") as stdout, self._stderr.open("wb") as stderr:
            self.process = subprocess.Popen(
                command,
                cwd=cwd,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=stdout,
                stderr=stderr,
                pass_fds=tuple(descriptors),
            )
        self.addresses: dict[str, str] = {}

    @property
    def stdout(self) -> str:
        """What it has written."""
        return self._stdout.read_text()

    @property
    def stderr(self) -> str:
        """What it has complained about."""
        return self._stderr.read_text()

    @property
    def lines(self) -> list[str]:
        """The whole lines that it has written."""
        return self.stdout.split("\n")[:-1]

    @property
    def http(self) -> str:
        """URL of its HTTP server."""
        return self.addresses["http"]

    @property
    def websocket(self) -> str:
        """URL of its WebSocket."""
        return self.addresses["websocket"]

    @property
    def port(self) -> int:
        """Port of HTTP and WebSocket."""
        return int(self.http.rpartition(":")[2])

    @property
    def grpc(self) -> str:
        """Address of its gRPC server."""
        return self.addresses["grpc"]

    def wait_for(self, condition: Callable[[], object], what: str) -> None:
        """Wait until a condition holds; fail at once if the process ends first."""
        wait_for(lambda: condition() or self.process.poll() is not None, what)
        assert condition(), f"the process ended with {self.process.poll()}, not {what}: {self.stdout}{self.stderr}"

    def send(self, text: str) -> None:
        """Write to its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def end(self, number: signal.Signals = signal.SIGTERM, seconds: float = STOP_SECONDS) -> int:
        """Send a signal, wait until the process is gone, and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(seconds)

    async def ended(self, number: signal.Signals | None = None, seconds: float = STOP_SECONDS) -> int:
        """Send a signal, if one is given, and return the exit code, while other tasks go on."""
        if number is not None:
            self.process.send_signal(number)
        return await asyncio.to_thread(self.process.wait, seconds)

    def close(self) -> None:
        """See to it that the process is gone, and that it has not complained."""
        try:
            if self.process.poll() is None:
                self.end()
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            if self.process.stdin is not None:
                self.process.stdin.close()
        assert not COMPLAINT.search(self.stderr), self.stderr


def wait_for(condition: Callable[[], object], what: str, seconds: float = WAIT_SECONDS) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain for {what}"
        time.sleep(0.01)


def environment(**more: str) -> dict[str, str]:
    """Return an environment without settings of ours, in which every warning is shown."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("THEBLOCK_BRIDGE_")}
    return {**clean, "PYTHONWARNINGS": "default", "COLUMNS": "100", **more}


@contextmanager
def started(
    *arguments: str,
    program: tuple[str, ...] = ("-m", "bridge"),
    cwd: Path = ROOT,
    descriptors: Sequence[int] = (),
    **more: str,
) -> Iterator[Running]:
    """Run a program until the block ends; by default the bridge, with arguments.

    Args:
        arguments: of the program.
        program: what comes before them.
        cwd: where it runs.
        descriptors: open files that it gets.
        more: environment variables.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, *program, *arguments]
        more.setdefault("XDG_STATE_HOME", folder)  # journals of tests are nobody else's
        running = Running(Path(folder), command, cwd, environment(**more), descriptors)
        try:
            yield running
        finally:
            running.close()


@contextmanager
def bridge(*arguments: str, **details: Any) -> Iterator[Running]:
    """Run a server of the bridge until the block ends; wait for its ready line first. Details are those of started."""
    with started(*arguments, **details) as running:
        running.wait_for(lambda: running.lines, "ready")
        running.addresses = addresses(running.lines[0])
        yield running


async def enter(stack: ExitStack, *arguments: str) -> Running:
    """Run a server of the bridge until the stack is left, while other tasks go on."""
    return await asyncio.to_thread(stack.enter_context, bridge(*arguments))


def addresses(line: str) -> dict[str, str]:
    """Return the addresses on a ready line."""
    words = line.partition(" ready: ")[2].split()
    return dict(zip(words[::2], words[1::2], strict=True))


def run(
    *arguments: str, text: str = "", cwd: Path = ROOT, seconds: float = WAIT_SECONDS, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run a command of the bridge to its end.

    Args:
        arguments: of the command.
        text: its standard input.
        cwd: where it runs.
        seconds: how long it may take.
        more: environment variables.
    """
    done = subprocess.run(
        [sys.executable, "-m", "bridge", *arguments],
        cwd=cwd,
        env=environment(**more),
        input=text,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert not COMPLAINT.search(done.stderr), done.stderr
    return done
