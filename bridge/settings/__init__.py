"""Settings: frozen dataclasses, read from defaults < TOML file < environment < command line.

`fields` says what settings there are, `kinds` how values are read, `table` how users see them, `load` brings all
together.
"""

from bridge.core.limits import Limits
from bridge.settings.address import Address
from bridge.settings.fields import (
    GrpcSettings,
    HistorySettings,
    JournalSettings,
    LogSettings,
    NodeSettings,
    SidecarSettings,
    StateSettings,
    UpSettings,
    WebSocketSettings,
)
from bridge.settings.load import SettingsError, load

__all__ = [
    "Address",
    "GrpcSettings",
    "HistorySettings",
    "JournalSettings",
    "Limits",
    "LogSettings",
    "NodeSettings",
    "SettingsError",
    "SidecarSettings",
    "StateSettings",
    "UpSettings",
    "WebSocketSettings",
    "load",
]
