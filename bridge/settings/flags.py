"""Flags: settings on the command line. argparse only collects them: `load` checks them, with all the others."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bridge.settings.load import Given, did_you_mean
from bridge.settings.table import SETTINGS, TABLES, Setting

Flags = Mapping[Setting, Sequence[str]]
"""Settings of a command, each with its flags."""


def add_flags(parser: argparse.ArgumentParser, flags: Flags) -> None:
    """Add `flags` to `parser`, a group for each TOML table."""
    for table in TABLES.values():
        settings = [setting for setting in flags if setting.table == table]
        group = parser.add_argument_group(f"[{table}]") if settings else parser
        for setting in settings:
            default = setting.show(setting.default) or "none"
            details: dict[str, Any] = {
                "dest": setting.name,
                "default": argparse.SUPPRESS,
                "help": f"{setting.doc.rstrip('.')} ({setting.allowed}; default {default})".replace("%", "%%"),
            }
            if isinstance(setting.default, bool):
                group.add_argument(*flags[setting], action=argparse.BooleanOptionalAction, **details)
            else:
                action = "append" if isinstance(setting.default, tuple) else "store"
                group.add_argument(*flags[setting], action=action, metavar=setting.kind.metavar, **details)


def given_flags(arguments: argparse.Namespace, flags: Flags) -> Iterator[Given]:
    """Yield what the parsed command line gives for the settings of `flags`."""
    for setting, names in flags.items():
        if hasattr(arguments, setting.name):
            yield Given(setting.name, getattr(arguments, setting.name), names[0])


def unexpected(rest: Sequence[str], known: Sequence[str]) -> Iterator[str]:
    """Yield a sentence for each argument that argparse left over; values are not repeated, as some are secret."""
    elsewhere = {setting.flag for setting in SETTINGS.values()}
    for before, argument in zip(("", *rest), rest, strict=False):
        flag = argument.partition("=")[0]
        if flag in elsewhere:
            yield f"flag {flag} belongs to other commands"
        elif flag.startswith("-"):
            yield f"flag {flag} is unknown{did_you_mean(flag, known)}"
        elif not before.startswith("-") or "=" in before:
            yield f"argument {argument!r} is unexpected"
