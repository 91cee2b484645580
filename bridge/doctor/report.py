"""What was found, as text for people and as JSON for programs."""

import json
from collections.abc import Callable, Iterable

from bridge.doctor.checks import examine
from bridge.doctor.findings import Check, Found, Status
from bridge.doctor.targets import Targets

Report = Iterable[tuple[Check, Found]]


async def doctor(targets: Targets, *, as_json: bool, show: Callable[[str], None]) -> int:
    """Make every check and show what each found, as soon as it is known; as JSON, at the end.

    Args:
        targets: what is looked at.
        as_json: whether it is for programs.
        show: takes a line.

    Returns:
        0, or 1 if a check failed.
    """
    report: list[tuple[Check, Found]] = []
    async for check, found in examine(targets):
        report.append((check, found))
        if not as_json:
            for line in to_lines(check, found):
                show(line)
    if as_json:
        show(to_json(report))
    return 0 if healthy(report) else 1


def to_lines(check: Check, found: Found) -> list[str]:
    """Return the line of a check, and a second one with what to do."""
    status = found.finding.status
    shown = "FAIL" if status is Status.FAIL else str(status)
    lines = [f"{shown:<4}  {check.name}: {found.says}"]
    return [*lines, f"      do: {found.do}"] if found.do else lines


def to_json(report: Report) -> str:
    """Return everything as one JSON object: `{"healthy", "checks": [{"name", "status", "says", "do"}]}`."""
    rows = [(check, found) for check, found in report]
    checks = [
        {"name": check.name, "status": found.finding.status, "says": found.says, "do": found.do}
        for check, found in rows
    ]
    return json.dumps({"healthy": healthy(rows), "checks": checks}, ensure_ascii=False, indent=2)


def healthy(report: Report) -> bool:
    """Whether no check failed."""
    return all(found.finding.status is not Status.FAIL for _, found in report)
