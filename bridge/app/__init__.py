"""The processes: which parts each is made of, how they start and how they end.

state: source, hub, gRPC. sidecar: gRPC source, hub, WebSocket and HTTP. up: source, hub, all edges, so that no
update takes a way through gRPC within one process.
"""

import asyncio
import gc
import os
import signal
from typing import Final

from bridge.app.process import Process
from bridge.app.transport import loop_factory
from bridge.ops.logs import set_up_logs
from bridge.ops.systemd import notify
from bridge.settings import LogSettings, SidecarSettings, StateSettings, UpSettings

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

COLLECTIONS: Final = (10_000, 3, 33)
"""Thresholds of garbage collection (gc.set_threshold).

With Python's own, 700, full collections were 28 % of the work when 4,000 clients came at once, and the longest held the
loop for 0.1 s of processor time. What is gone is freed without them, but for some 2 KB a connection that asyncio's
transport holds on to.
"""


def run_state(settings: StateSettings) -> int:
    """Run the state service until SIGTERM or SIGINT; return the exit code."""
    return run(settings.log, settings, None)


def run_sidecar(settings: SidecarSettings) -> int:
    """Run the sidecar until SIGTERM or SIGINT; return the exit code."""
    return run(settings.log, None, settings)


def run_up(settings: UpSettings) -> int:
    """Run both in one process until SIGTERM or SIGINT; return the exit code."""
    return run(settings.state.log, settings.state, settings.sidecar)


def run(logs: LogSettings, state: StateSettings | None, sidecar: SidecarSettings | None) -> int:
    """Run a process.

    Args:
        logs: what is logged.
        state: settings of the state service, if it is part of the process.
        sidecar: settings of the sidecar, if it is.

    Raises:
        BridgeError: a part could not start; the sentence says why.
    """
    set_up_logs(logs.log_level, logs.log_format)
    with asyncio.Runner(loop_factory=loop_factory(sidecar.transport if sidecar else "asyncio")) as runner:
        runner.run(serve(state, sidecar))
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # a second one must not turn the exit code into a failure
    return 0


async def serve(state: StateSettings | None, sidecar: SidecarSettings | None) -> None:
    """Run the parts of a process until it is told to stop, then end them in order."""
    process = Process(state, sidecar)
    stop = stop_signal()
    stopped = asyncio.create_task(stop.wait())
    starting = asyncio.create_task(process.start())
    try:
        await asyncio.wait([starting, stopped], return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            gc.collect()
            gc.freeze()  # what is there now stays: full collections, which hold the loop, need not look at it
            gc.set_threshold(*COLLECTIONS)
            print(ready_line(state, sidecar, starting.result()), flush=True)  # noqa: T201
            notify("READY=1", os.environ)
            await process.run_until(stop)
    finally:
        notify("STOPPING=1", os.environ)
        for task in (starting, stopped):
            task.cancel()
        await asyncio.gather(starting, stopped, return_exceptions=True)
        await process.stop()


def stop_signal() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    return stop


def ready_line(state: StateSettings | None, sidecar: SidecarSettings | None, addresses: dict[str, str]) -> str:
    """Return the line that says that the process accepts connections, and where."""
    name = "up" if state and sidecar else "state" if state else "sidecar"
    return f"theblock-bridge {name} ready: " + "  ".join(f"{kind} {address}" for kind, address in addresses.items())
