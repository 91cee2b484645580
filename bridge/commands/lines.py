"""An update as one line for people: columns for the streams that are known, every field for others."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple
from zlib import crc32

from bridge.client import Updated

COLOURS: Final = {"dim": "2", "yellow": "33", "cyan": "36", "green": "32", "magenta": "35", "blue": "34"}
"""Names of what ECMA-48 (SGR) numbers."""

STREAM_COLOURS: Final = ("cyan", "green", "magenta", "blue")

SEQ_WIDTH: Final = 7
"""How wide the seq is at least."""

VALUE_LENGTH: Final = 18
"""The longest string that is shown whole."""


@dataclass(frozen=True, slots=True)
class Style:
    """How lines are written: with colours or without, and how wide."""

    colours: bool
    width: int

    def paint(self, text: str, colour: str) -> str:
        """Return text in a colour."""
        return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m" if self.colours else text


class Column(NamedTuple):
    """A field of data as a column; a dot leads into an object, `width` is that of its value."""

    name: str
    width: int
    optional: bool = False  # left out where there is no value, rather than shown as -


COLUMNS: Final[dict[str, tuple[Column, ...]]] = {
    "block_updates": (
        Column("height", 9),
        Column("tx_count", 5),
        Column("hash", 15),
        Column("finalized_height", 9),
        Column("replaces", 0, optional=True),
    ),
    "metrics": (
        Column("blockHeight", 9),
        Column("tps", 8),
        Column("fees", 12),
        Column("latencyMs", 8),
        Column("peers", 4),
        Column("issuance", 12),
    ),
    "network": (
        Column("peers", 4),
        Column("activeConnections", 4),
        Column("bandwidth.inbound", 10),
        Column("bandwidth.outbound", 10),
    ),
    "trading": (Column("lastPrice", 12), Column("volume24h", 15), Column("orders", 5), Column("executions", 5)),
    "energy": (Column("price", 12), Column("totalSupply", 15), Column("totalDemand", 15), Column("providers", 5)),
    "account": (Column("address", 18), Column("balance", 18), Column("nonce", 6), Column("height", 9)),
}
"""Columns of the streams that are known."""


def update_line(update: Updated, style: Style) -> str:
    """Return an update as one line, as wide as it may be. A star marks a snapshot."""
    name = clean(update.stream)
    seq = f"#{update.seq}".ljust(SEQ_WIDTH)
    head_length = len(name) + len(seq) + 2
    columns = COLUMNS.get(update.stream)
    cells = known_cells(update.data, columns) if columns else other_cells(update)
    body = "  ".join(cells).rstrip()[: max(0, style.width - head_length - 2)]
    colour = STREAM_COLOURS[crc32(name.encode()) % len(STREAM_COLOURS)]
    mark = "*" if update.snapshot else " "
    return f"{mark}{style.paint(name, colour)} {style.paint(seq, 'dim')}  {body}"


def known_cells(data: Mapping[str, object], columns: tuple[Column, ...]) -> Iterator[str]:
    """Yield the columns of a stream that is known, each as wide as it is on every line."""
    for column in columns:
        value = find(data, column.name)
        if value is not None or not column.optional:
            yield f"{column.name}={show_value(value)}".ljust(len(column.name) + 1 + column.width)


def other_cells(update: Updated) -> Iterator[str]:
    """Yield the key and every field of an update."""
    if update.key is not None:
        yield clean(update.key)
    for name, value in update.data.items():
        yield f"{clean(name)}={show_value(value)}"


def find(data: Mapping[str, object], name: str) -> object:
    """Return a field of data, None if it is not there."""
    value: object = data
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def show_value(value: object) -> str:
    """Return a value as people read it: short."""
    match value:
        case None:
            return "-"
        case str():
            text = clean(value)
            return text if len(text) <= VALUE_LENGTH else f"{text[:10]}…{text[-4:]}"
        case list():
            return f"[{len(value)}]"
        case dict():
            return "{" + " ".join(f"{clean(name)}={show_value(item)}" for name, item in value.items()) + "}"
        case bool():
            return "true" if value else "false"
        case float():
            return f"{value:.6g}"
        case _:
            return str(value)


def clean(text: str) -> str:
    """Return text with nothing in it that a terminal would act on: publishers and servers are strangers."""
    return (
        text
        if text.isprintable()
        else "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)
    )
