"""Servers whose fan-out is measured: ours, the C floor, and peers, each with its arguments for the load generator."""

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from tests.bench.processes import START_SECONDS, bridge, build

PEERS: Final = Path(__file__).parent / "peers"
CACHE: Final = Path.home() / ".cache" / "theblock-bridge-bench"
"""Where `python -m tests.bench.servers` puts what the peers need: a virtual environment and node_modules."""

NCHAN: Final = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
NDK: Final = Path("/usr/lib/nginx/modules/ndk_http_module.so")


class Server(NamedTuple):
    """A running server.

    Attributes:
        pid: of the process whose processor time counts.
        arguments: for the load generator: where to connect and how to publish.
    """

    pid: int
    arguments: tuple[str, ...]


Start = Callable[[], AbstractContextManager[Server]]
"""Starts a server, and ends it."""


def free_port() -> str:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@contextmanager
def running(
    command: list[str], cwd: Path | None = None, *, says_ready: bool = True, quiet: bool = False
) -> Iterator[subprocess.Popen[str]]:
    """Run a process until the block ends."""
    stderr = subprocess.DEVNULL if quiet else None
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, cwd=cwd)
    try:
        if says_ready:
            assert process.stdout is not None
            if "ready" not in process.stdout.readline():
                raise SystemExit(f"{' '.join(command)} did not start")
        yield process
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def peer(*command: str, cwd: Path | None = None) -> Iterator[Server]:
    """Run a peer that takes two ports."""
    port, lines = free_port(), free_port()
    with running([*command, port, lines], cwd, quiet=True) as process:
        wait_for(port)
        wait_for(lines)
        yield Server(process.pid, ("-p", port, "-t", lines))


@contextmanager
def floor(mode: str) -> Iterator[Server]:
    """Run the least that a fan-out server can do, in C."""
    port, lines = free_port(), free_port()
    with running([build("floor"), port, lines, mode], says_ready=False) as process:
        wait_for(port)
        yield Server(process.pid, ("-p", port, "-t", lines))


@contextmanager
def nchan() -> Iterator[Server]:
    """Run nginx with Nchan."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        modules = "".join(f"load_module {module};\n" for module in (NDK, NCHAN) if module.exists())
        text = (PEERS / "nchan.conf").read_text().replace("PREFIX", folder).replace("WS_PORT", port)
        config = Path(folder) / "nchan.conf"
        config.write_text(text.replace("MODULE", modules))
        with running(["nginx", "-p", folder, "-c", str(config)], says_ready=False) as process:
            wait_for(port)
            yield Server(process.pid, ("-p", port, "-T", f"{port}/pub"))


@contextmanager
def ours(*flags: str, streams: tuple[str, ...] = ("bench",), path: str = "/ws?subscribe=bench") -> Iterator[Server]:
    """Run a state service, a sidecar, and what publishes through them; the sidecar is what is measured."""
    with ExitStack() as stack:
        state = stack.enter_context(
            bridge("state", "--source", "none", "--ingest", "--grpc-listen", "127.0.0.1:0", "--data-dir", "off")
        )
        sidecar = stack.enter_context(
            bridge("sidecar", "--upstream", state.addresses["grpc"], "--listen", "127.0.0.1:0", *flags)
        )
        lines = free_port()
        feeder = [sys.executable, "-m", "tests.bench.feeder", lines, state.addresses["grpc"], *streams]
        stack.enter_context(running(feeder))
        yield Server(sidecar.pid, ("-p", sidecar.port, "-P", path, "-t", lines))


def wait_for(port: str) -> None:
    """Wait until somebody listens on a port."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", int(port)), 0.1).close()
        except OSError:
            time.sleep(0.01)
            continue
        return
    raise SystemExit(f"nobody listens on {port}")


def peers() -> dict[str, Start]:
    """Return the peers that are on this machine."""
    python, node = CACHE / "venv" / "bin" / "python", shutil.which("node")
    bun = CACHE / "node_modules" / ".bin" / "bun"
    found: dict[str, Start] = {}
    for name in ("aiohttp", "websockets", "fastapi", "picows"):
        if python.exists():
            found[name] = partial(peer, str(python), str(PEERS / f"{name}_server.py"))
    if node and (CACHE / "node_modules" / "ws").exists():
        script = CACHE / "ws.mjs"  # modules are looked for beside the script
        script.write_text((PEERS / "ws.mjs").read_text())
        found["node ws"] = partial(peer, node, str(script))
    if bun.exists():
        found["bun"] = partial(peer, str(bun), str(PEERS / "bun.js"))
    if NCHAN.exists():
        found["nchan"] = nchan
    return found


def prepare() -> None:
    """Install what the peers need."""
    CACHE.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "venv", str(CACHE / "venv")], check=True)
    packages = ["aiohttp", "websockets", "fastapi", "uvicorn", "picows"]
    subprocess.run([str(CACHE / "venv/bin/pip"), "install", "--quiet", *packages], check=True)
    if shutil.which("npm"):
        (CACHE / "package.json").write_text('{"private":true}\n')
        subprocess.run(["npm", "install", "--silent", "ws", "bun"], cwd=CACHE, check=True)
    if not NCHAN.exists():
        print("Nchan is left out: on Debian it is the packages nginx and libnginx-mod-nchan", file=sys.stderr)


if __name__ == "__main__":
    prepare()
