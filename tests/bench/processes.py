"""Real processes to measure: the bridge, and the native load generator."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
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


@contextmanager
def bridge(*arguments: str) -> Iterator[Bridge]:
    """Run `theblock-bridge` with arguments until the block ends; wait for its ready line first."""
    command = [sys.executable, "-m", "bridge", *arguments, "--log-level", "warning"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
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


def wsload(*arguments: str) -> subprocess.Popen[str]:
    """Start the load generator; it prints one JSON object at its end."""
    return subprocess.Popen([build("wsload", "-lz"), *arguments], stdout=subprocess.PIPE, text=True)


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
