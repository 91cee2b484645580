"""Real processes to measure: the bridge, and the native load generator."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

NATIVE = Path(__file__).parent / "native"
START_SECONDS = 30


class Bridge(NamedTuple):
    """A running process of ours."""

    pid: int
    addresses: dict[str, str]  # as on its ready line: grpc, http, websocket

    @property
    def port(self) -> str:
        """Port of HTTP and WebSocket."""
        return self.addresses["http"].rpartition(":")[2]


class Slices(NamedTuple):
    """The longest slices of an event loop, as `probe` notes them, milliseconds."""

    late_ms: float  # by which a callback came too late, whoever had the processor
    cpu_ms: float  # of processor time between two callbacks
    gc_ms: float  # of processor time of one garbage collection
    collections: list[int]  # by generation
    latest_ms: list[float]  # of the callbacks that came latest

    def __str__(self) -> str:
        return (
            f"{self.cpu_ms:.1f} ms of processor time (the longest garbage collection {self.gc_ms:.1f} ms, "
            f"of {self.collections}); the latest callbacks came {self.latest_ms[-3:]} ms late"
        )


@contextmanager
def bridge(*arguments: str, program: tuple[str, ...] = ("bridge",)) -> Iterator[Bridge]:
    """Run `theblock-bridge` with arguments until the block ends; wait for its ready line first.

    Args:
        arguments: of the bridge.
        program: the module to run, and arguments that come before those.
    """
    command = [sys.executable, "-m", *program, *arguments, "--log-level", "warning"]
    state = tempfile.mkdtemp()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "XDG_STATE_HOME": state})
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if "ready:" not in line:
            raise SystemExit(f"{' '.join(arguments)} did not start")
        words = line.partition("ready:")[2].split()
        yield Bridge(process.pid, dict(zip(words[::2], words[1::2], strict=True)))
    finally:
        process.terminate()
        process.wait(START_SECONDS)
        shutil.rmtree(state, ignore_errors=True)


@contextmanager
def probed(*arguments: str) -> Iterator[tuple[Bridge, "Probe"]]:
    """Run `theblock-bridge` as `bridge` does, with a watch on its event loop."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        with bridge(*arguments, program=("tests.bench.probe", str(path))) as running:
            yield running, Probe(running.pid, path)


class Probe:
    """The watch on an event loop."""

    def __init__(self, pid: int, path: Path) -> None:
        self._pid = pid
        self._path = path

    def read(self) -> Slices:
        """Return what it has noted since it was read last."""
        self._path.unlink(missing_ok=True)
        os.kill(self._pid, signal.SIGUSR1)
        deadline = time.monotonic() + START_SECONDS
        while not self._path.exists():
            if time.monotonic() > deadline:
                raise SystemExit("the process does not answer its probe")
            time.sleep(0.01)
        return Slices(**json.loads(self._path.read_text()))


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> float:
    """Return the memory that a process has, resident, MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def verdict(good: bool, sentence: str) -> None:
    """Print a sentence, and whether what it says is as it must be."""
    print(f"  {'ok' if good else 'MISSED'}: {sentence}", flush=True)


def metric(url: str, name: str) -> float:
    """Return a metric of a process."""
    with urllib.request.urlopen(f"{url}/metrics") as response:
        for line in response.read().decode().splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
    return float("nan")


def raise_file_limit() -> int:
    """Let this process and those that it starts have as many files open as the machine allows; return how many."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def wsload(*arguments: str, stdin: int | None = None) -> subprocess.Popen[str]:
    """Start the load generator; it prints one JSON object at its end."""
    return subprocess.Popen([build("wsload", "-lz"), *arguments], stdin=stdin, stdout=subprocess.PIPE, text=True)


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for the load generator; return what it printed."""
    output, _ = process.communicate()
    if process.returncode:
        print(f"the load generator lost connections: {output}", file=sys.stderr)
    report: dict[str, Any] = json.loads(output)
    return report


def build(name: str, *libraries: str) -> str:
    """Compile a native program if its source is newer; return its path."""
    source, target = NATIVE / f"{name}.c", Path(tempfile.gettempdir()) / f"theblock-bridge-{os.getuid()}-{name}"
    if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise SystemExit("the load generator is written in C: install a C compiler and zlib's headers")
        subprocess.run([compiler, "-O2", "-o", str(target), str(source), *libraries], check=True)
    return str(target)
