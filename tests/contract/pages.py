"""The documents, read as tables."""

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PROTOCOL: Final = (ROOT / "docs/protocol.md").read_text()
OPERATIONS: Final = (ROOT / "docs/operations.md").read_text()


def table(text: str, title: str, first: str) -> list[list[str]]:
    """Return the cells of a table's rows, without the quotes of code that is all of a cell.

    Args:
        text: of the document.
        title: the table stands below it.
        first: what the head of the table begins with.
    """
    section = re.split(rf"^#+ {re.escape(title)}$", text, flags=re.MULTILINE)[1]
    section = re.split(r"^#+ ", section, flags=re.MULTILINE)[0]
    for block in section.split("\n\n"):
        head, *rows = block.strip().splitlines() or [""]
        if head.startswith(f"| {first} |"):
            return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[1:]]
    raise AssertionError(f"there is no table of {first!r} below {title!r}")


def quoted(cell: str) -> list[str]:
    """Return what stands as code in a cell."""
    return re.findall(r"`([^`]+)`", cell)


def plain(cell: str) -> str:
    """Return a cell without the quotes of code."""
    return cell.strip("`")
