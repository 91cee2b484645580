"""Judge a live bridge."""

import asyncio
import json
import signal
import sys
from contextlib import AsyncExitStack

from bridge.commands.upstream import connect
from bridge.core.errors import BridgeError
from bridge.settings import Address
from bridge.verify.reference import ServicePages, SidecarPages
from bridge.verify.run import Report, VerifyError, Wanted
from bridge.verify.run import verify as judge
from bridge.verify.websocket import Target


async def verify(
    *,
    url: str,
    upstream: Address | None,
    seconds: float,
    clients: int,
    streams: tuple[str, ...] | None,
    as_json: bool,
) -> int:
    """Have clients of every kind read a live bridge, cut them off at random, and judge what they get.

    Args:
        url: of the sidecar.
        upstream: the state service, which tells what was published; None: the sidecar's history does.
        seconds: how long; an interrupt ends it earlier, and then too there is a verdict.
        clients: how many.
        streams: that they subscribe to; None: all.
        as_json: whether the verdict is one JSON object.

    Returns:
        0, or 1 if anything is wrong.

    Raises:
        BridgeError: it cannot be judged.
    """
    wanted = Wanted(Target.of(url), seconds, clients, streams or ())

    def tell(line: str) -> None:
        print(line, file=sys.stderr if as_json else sys.stdout, flush=True)

    async with AsyncExitStack() as stack:
        if upstream is None:
            pages: ServicePages | SidecarPages = SidecarPages(wanted.target)
        else:
            pages = ServicePages(await stack.enter_async_context(connect(upstream)))
        work = asyncio.ensure_future(judge(wanted, pages, tell))
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, work.cancel)
        try:
            report = await work
        except VerifyError as error:
            raise BridgeError(str(error)) from None
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
        finally:
            asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)
    if as_json:
        print(json.dumps(report.to_object(), ensure_ascii=False, indent=2), flush=True)
    else:
        for line in to_lines(report):
            print(line, flush=True)
    return 0 if report.ok else 1


def to_lines(report: Report) -> list[str]:
    """Return a report for people."""
    counts = report.verdict.counts
    return [
        f"streams: {', '.join(report.streams)}",
        f"{report.connections} connections, {report.cuts} of them cut off",
        f"{counts.resumed} positions resumed, {counts.renewed} answered with another epoch",
        f"{counts.gaps} gaps of {counts.missed} updates together, each named",
        *report.faults,
        str(report.verdict),
        "the bridge is as it must be" if report.ok else "the bridge is NOT as it must be",
    ]
