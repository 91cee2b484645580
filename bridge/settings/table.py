"""Table: every setting as users see it.

A setting has one name everywhere: `history_count` is the TOML key (in the table of its class), `--history-count` the
flag and `THEBLOCK_BRIDGE_HISTORY_COUNT` the environment variable. Those of `Limits` are named `limit_…`.
"""

from collections.abc import Iterator
from dataclasses import Field, dataclass, fields
from typing import Any

from bridge.core.limits import Limits
from bridge.settings.fields import (
    GrpcSettings,
    HistorySettings,
    JournalSettings,
    LogSettings,
    NodeSettings,
    SidecarSettings,
    StateSettings,
    WebSocketSettings,
)
from bridge.settings.kinds import OFF, Kind, whole

PREFIX = "THEBLOCK_BRIDGE_"
"""Of every environment variable that is a setting."""

UNITS = {"_ms": "milliseconds", "_seconds": "seconds", "_bytes": "bytes"}
"""Unit of a setting, by the end of its name."""

TABLES: dict[type[Any], str] = {
    StateSettings: "state",
    NodeSettings: "node",
    SidecarSettings: "sidecar",
    WebSocketSettings: "websocket",
    HistorySettings: "history",
    JournalSettings: "journal",
    Limits: "limits",
    GrpcSettings: "grpc",
    LogSettings: "log",
}
"""TOML table of each class of settings."""


@dataclass(frozen=True)
class Setting:
    """One setting, as users see it.

    Attributes:
        name: its one name.
        table: TOML table that it is in.
        kind: how its value is read.
        default: its value when nobody gives one.
        doc: what it is, one sentence.
        secret: whether its value is kept out of everything that is printed.
    """

    name: str
    table: str
    kind: Kind[Any]
    default: object
    doc: str
    secret: bool

    @property
    def flag(self) -> str:
        """Its flag on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return PREFIX + self.name.upper()

    @property
    def allowed(self) -> str:
        """What is allowed, with the unit: completes "it must be …"."""
        unit = next((unit for end, unit in UNITS.items() if self.name.endswith(end)), "")
        return f"{self.kind.allowed} {unit}".rstrip()

    def show(self, value: object) -> str:
        """Return `value` as text that can be read back, or `***` for a secret."""
        if value is None:
            return OFF
        if self.secret:
            return "***"
        match value:
            case bool():
                return str(value).lower()
            case float():
                return str(value).removesuffix(".0")
            case tuple():
                return ",".join(map(str, value))
        return str(value)


def _setting(table: type[Any], entry: Field[Any]) -> Setting:
    data = entry.metadata
    kind = data.get("kind") or whole(data["minimum"], data["maximum"])
    secret = data.get("secret", False)
    return Setting(setting_name(table, entry), TABLES[table], kind, entry.default, data["doc"], secret)


def setting_name(table: type[Any], entry: Field[Any]) -> str:
    """Return the name of the setting that is field `entry` of class `table`."""
    return f"limit_{entry.name}" if table is Limits else entry.name


def part(entry: Field[Any]) -> type[Any] | None:
    """Return the class of settings that a field holds; None where the field is a setting itself."""
    factory: object = entry.default_factory
    return next((table for table in TABLES if table is factory), None)


def settings_of(table: type[Any]) -> Iterator[Setting]:
    """Yield the settings of a class and of its parts, each once."""
    yield from {name: SETTINGS[name] for name in _names(table)}.values()


def _names(table: type[Any]) -> Iterator[str]:
    parts = [(entry, part(entry)) for entry in fields(table)]
    yield from (setting_name(table, entry) for entry, inner in parts if not inner)
    for _, inner in parts:
        if inner:
            yield from _names(inner)


SETTINGS: dict[str, Setting] = {
    setting_name(table, entry): _setting(table, entry) for table in TABLES for entry in fields(table) if not part(entry)
}
"""Every setting by name."""
