"""docs/doctor.md and the table of checks say the same, and every finding has a test."""

import re
from collections import Counter
from pathlib import Path

import pytest

from bridge.doctor import CHECKS, Check, Finding, frames, node, service, sidecar, websocket
from bridge.doctor.findings import NOT_MADE, UNFINISHED

DOCUMENT = Path(__file__).parent.parent.parent / "docs/doctor.md"
MODULES = (node, service, sidecar, websocket, frames)
TESTS = "\n".join(path.read_text() for path in sorted(Path(__file__).parent.glob("test_*.py")))


def row(finding: Finding) -> str:
    """Return the row of a finding in the table of its check."""
    return f"| {finding.status} | {finding.says} | {finding.do or 'nothing'} |"


def section(check: Check) -> str:
    """Return the section on a check."""
    head = f"## {check.name}\n\nLooks at {check.looks_at}." + (f" Needs `{check.needs}`." if check.needs else "")
    table = ["| status | says | do |", "|---|---|---|", *map(row, check.findings)]
    return "\n".join([head, "", *table, ""])


def test_every_check_has_its_section_in_order():
    text = DOCUMENT.read_text()
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [check.name for check in CHECKS]
    missing = [part for part in map(section, CHECKS) if part not in text]
    assert missing == [], "docs/doctor.md lacks:\n" + "\n".join(missing)


def test_what_all_checks_may_find_is_told():
    assert all(row(finding) in DOCUMENT.read_text() for finding in (NOT_MADE, UNFINISHED))


def test_checks_and_names_stand_once():
    assert max(Counter(check.name for check in CHECKS).values()) == 1
    known = [check.name for check in CHECKS]
    assert all(not check.needs or check.needs in known[: known.index(check.name)] for check in CHECKS)


def constants(module) -> dict[str, Finding]:
    return {name: value for name, value in vars(module).items() if isinstance(value, Finding)}


@pytest.mark.parametrize("module", MODULES, ids=[module.__name__ for module in MODULES])
def test_every_finding_belongs_to_a_check_and_has_a_test(module):
    listed = [finding for check in CHECKS for finding in check.findings]
    short = module.__name__.rpartition(".")[2]
    for name, finding in constants(module).items():
        assert any(finding is one for one in listed), f"{short}.{name} is in no check"
        assert f"{short}.{name}" in TESTS, f"no test finds {short}.{name}"


def test_what_fails_says_what_to_do():
    for check in CHECKS:
        for finding in check.findings:
            assert bool(finding.do) == (finding.status in ("warn", "fail")), finding
