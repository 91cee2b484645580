"""The table of all checks, and how they are run: at once, each behind the one that it needs."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from bridge.doctor.findings import NOT_MADE, UNFINISHED, Check, Found, Status
from bridge.doctor.frames import FRAME_CHECKS
from bridge.doctor.node import NODE_CHECKS
from bridge.doctor.service import SERVICE_CHECKS
from bridge.doctor.sidecar import SIDECAR_CHECKS
from bridge.doctor.targets import Targets
from bridge.doctor.websocket import WEBSOCKET_CHECKS

CHECKS: Final = (*NODE_CHECKS, *SERVICE_CHECKS, *SIDECAR_CHECKS, *WEBSOCKET_CHECKS, *FRAME_CHECKS)
"""Every check, in the order of the report; one that needs another stands behind it."""

CHECK_ANSWERS: Final = 1.5
"""How many times the deadline of one answer a whole check may take; no check needs a chain of more than two others."""


async def examine(targets: Targets) -> AsyncIterator[tuple[Check, Found]]:
    """Make every check; yield what each found, in the order of the table, as soon as it is known.

    Nothing is raised for anything that others do; cancelling it cancels the checks.
    """
    tasks: dict[str, asyncio.Task[Found]] = {}
    try:
        for check in CHECKS:
            tasks[check.name] = asyncio.create_task(make(check, tasks.get(check.needs), targets))
        for check in CHECKS:
            yield check, await tasks[check.name]
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)


async def make(check: Check, needed: asyncio.Task[Found] | None, targets: Targets) -> Found:
    """Make one check, when the one that it needs is over, if it succeeded."""
    if needed is not None and (await asyncio.shield(needed)).finding.status in (Status.FAIL, Status.SKIP):
        return NOT_MADE(needs=check.needs)
    seconds = CHECK_ANSWERS * targets.answer_seconds + (targets.idle_seconds or 0)
    try:
        async with asyncio.timeout(seconds):
            return await check.run(targets)
    except TimeoutError:
        return UNFINISHED(seconds=f"{seconds:g}")
