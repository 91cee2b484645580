"""Plants a fault in a copy of the repository, and has its detector look."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from tests.faults.table import Fault

ROOT = Path(__file__).resolve().parent.parent.parent

LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "node_modules", "screens", "build", "dist")

SECONDS = 300
"""How long a detector may take; one that hangs has found something too."""

SHOWN = 160
"""How much is shown of what a detector says."""

FAILED = 1
"""How a detector ends that found something: tests that cannot be run end otherwise."""


class Found(NamedTuple):
    """What a detector did."""

    code: int | None  # with which it ended; None: it did not
    seconds: float
    output: str

    @property
    def sentence(self) -> str:
        """What it says, in short."""
        if self.code is None:
            return f"nothing came in {SECONDS} s"
        lines = [" ".join(line.split()) for line in self.output.splitlines()]
        wrong = [number for number, line in enumerate(lines) if line.startswith("wrong:")]
        if wrong:
            return " ".join(lines[wrong[0] : wrong[0] + 2])[:SHOWN]
        raised = [line.removeprefix("E ") for line in lines if line.startswith("E ")]
        for kind in ("AssertionError", "assert ", "Error"):
            if found := [line for line in raised if kind in line]:
                return found[0][:SHOWN]
        return ""


def copy_repository(folder: Path) -> Path:
    """Copy what tests need; return where it is."""
    copy = folder / "repository"
    shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
    return copy


def spoiled(text: str, fault: Fault) -> str:
    """Return a file with a fault in it."""
    assert text.count(fault.before) == 1, f"{fault.name}: {fault.file} has its place {text.count(fault.before)} times"
    return text.replace(fault.before, fault.after)


def command(detector: tuple[str, ...]) -> list[str]:
    """Return the command of a detector."""
    if detector[0] == "-m":
        return [sys.executable, *detector]
    options = ("-x", "-q", "-p", "no:cacheprovider", "-o", f"faulthandler_timeout={SECONDS}")
    return [sys.executable, "-m", "pytest", *options, *detector]


def look(copy: Path, detector: tuple[str, ...]) -> Found:
    """Have a detector look at a copy."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(copy)}
    began = time.monotonic()
    with subprocess.Popen(
        command(detector), cwd=copy, env=environment, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        try:
            output, _ = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            output, _ = process.communicate()
            return Found(None, time.monotonic() - began, output)
        except BaseException:
            os.killpg(process.pid, 9)
            raise
    return Found(process.returncode, time.monotonic() - began, output)


def plant(copy: Path, fault: Fault) -> Found:
    """Plant a fault, have its detector look, and take it out again."""
    path = copy / "bridge" / fault.file
    text = path.read_text()
    path.write_text(spoiled(text, fault))
    try:
        return look(copy, fault.detector)
    finally:
        path.write_text(text)
