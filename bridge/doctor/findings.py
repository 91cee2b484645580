"""What a check is, and what it may find: a status, a sentence, and what to do."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from bridge.doctor.targets import Targets

VALUE_CHARACTERS: Final = 300
"""How much of what others say goes into a sentence."""


class Status(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"  # it works, with less than there could be
    FAIL = "fail"
    SKIP = "skip"  # not looked at


@dataclass(frozen=True, slots=True)
class Found:
    """What one check found, in words.

    Attributes:
        finding: which of the check's findings it is.
        says: one sentence.
        do: what to do about it; "" where nothing is to be done.
    """

    finding: "Finding"
    says: str
    do: str


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a check may find; call it with the values of the names in braces.

    Attributes:
        status: how the check ends with it.
        says: one sentence, with names of values in braces.
        do: what to do about it, the same way.
    """

    status: Status
    says: str
    do: str = ""

    def __call__(self, **values: object) -> Found:
        """Return it with values: text of others is cut short and cannot steer a terminal."""
        shown = {name: printable(str(value)) for name, value in values.items()}
        return Found(self, self.says.format(**shown), self.do.format(**shown))


@dataclass(frozen=True, slots=True)
class Check:
    """A row of the table of checks.

    Attributes:
        name: of the check.
        looks_at: what it looks at, in words.
        run: looks.
        findings: what it may find.
        needs: name of the check without which this one is not made; "": none.
    """

    name: str
    looks_at: str
    run: Callable[[Targets], Awaitable[Found]]
    findings: tuple[Finding, ...]
    needs: str = ""


NOT_MADE = Finding(Status.SKIP, "not looked at, since the check {needs} did not succeed")
"""What every check that needs another one may find."""

UNFINISHED = Finding(
    Status.FAIL, "was not over within {seconds} s", "run the doctor again; if it stays so, whatever answers is too slow"
)
"""What every check may find."""


def printable(text: str) -> str:
    """Return text of others as one short printable line."""
    line = "".join(letter if letter.isprintable() else " " for letter in " ".join(text.split()))
    return line if len(line) <= VALUE_CHARACTERS else line[: VALUE_CHARACTERS - 1] + "…"


def moment(unix_ms: int) -> str:
    """Return a point in time in words; what cannot be one is unknown."""
    try:
        then = datetime.fromtimestamp(unix_ms / 1000, UTC)
    except (OverflowError, OSError, ValueError):
        return "an unknown time"
    return f"{then:%Y-%m-%d %H:%M:%S} UTC"
