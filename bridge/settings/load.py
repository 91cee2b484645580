"""Load: settings from defaults < TOML file < environment < command line, with every error at once."""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from bridge.core.errors import BridgeError
from bridge.settings.fields import StateSettings
from bridge.settings.table import PREFIX, SETTINGS, TABLES, Setting, part, setting_name, settings_of

S = TypeVar("S")

CONFIG_VARIABLE = PREFIX + "CONFIG"
"""Environment variable with the path of the TOML file, for where no `--config` is given."""

CONFIG_LIMIT_BYTES = 1 << 20
"""Largest TOML file that is read."""

DEFAULT = "default"
"""Origin of a value that nobody gave."""

_SERVICE_LINK = re.compile(r"\w*(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
_SERVICE_URL = re.compile(r"(tcp|udp|sctp)://.*")


class SettingsError(BridgeError):
    """Settings are wrong.

    Attributes:
        errors: one sentence each: what is wrong, where it came from, what is allowed.
    """

    def __init__(self, errors: Iterable[str]) -> None:
        """Join `errors`, one a line."""
        self.errors = tuple(errors)
        super().__init__("\n".join(self.errors))


@dataclass(frozen=True)
class Given:
    """A value that somebody gave for a setting, not read yet.

    Attributes:
        name: of the setting.
        value: text, or a TOML value.
        origin: where it came from, in words.
    """

    name: str
    value: object
    origin: str


@dataclass(frozen=True)
class Resolved:
    """The value of a setting, and where it came from."""

    setting: Setting
    value: Any
    origin: str


def load(
    table: type[S], environment: Mapping[str, str], config: Path | None = None, given: Iterable[Given | str] = ()
) -> S:
    """Return the settings of a command.

    Args:
        table: class of the settings: StateSettings, SidecarSettings, UpSettings or one of their parts.
        environment: environment variables.
        config: TOML file; None: the one that the environment names, if any.
        given: values of the command line, the last one of a name counts; text is an error found there.

    Raises:
        SettingsError: something is wrong; it tells everything that is.
    """
    return build(table, resolve(table, environment, config, given))


def resolve(
    table: type[Any], environment: Mapping[str, str], config: Path | None = None, given: Iterable[Given | str] = ()
) -> dict[str, Resolved]:
    """Return every setting of `table` by name, with its value and origin; arguments and errors are those of `load`.

    Every value given for a setting of `table` is checked, also one that another overrides. Of other settings only the
    names are, so that one file and one environment serve several commands.
    """
    if config is None and environment.get(CONFIG_VARIABLE):
        config = Path(environment[CONFIG_VARIABLE])
    resolved = {setting.name: Resolved(setting, setting.default, DEFAULT) for setting in settings_of(table)}
    names = set(resolved)
    errors: list[str] = []
    for item in chain(_from_file(config), _from_environment(environment), given):
        if isinstance(item, str):
            errors.append(item)
        elif item.name in names:
            try:
                resolved[item.name] = Resolved(
                    SETTINGS[item.name], SETTINGS[item.name].kind.read(item.value), item.origin
                )
            except ValueError as error:
                errors.append(_refusal(item, str(error)))
                resolved.pop(item.name, None)
    errors += _contradictions(table, resolved)
    if errors:
        raise SettingsError(errors)
    return resolved


def build(table: type[S], resolved: Mapping[str, Resolved]) -> S:
    """Return `table` with the values of `resolved`."""
    values: dict[str, Any] = {}
    for entry in fields(table):  # type: ignore[arg-type]
        inner = part(entry)
        values[entry.name] = build(inner, resolved) if inner else resolved[setting_name(table, entry)].value
    return table(**values)


def _refusal(given: Given, reason: str) -> str:
    setting = SETTINGS[given.name]
    shown = "" if setting.secret else _quote(given.value)
    return f"{given.name}{shown} from {given.origin} must be {setting.allowed}" + (f" ({reason})" if reason else "")


def _quote(value: object) -> str:
    """Return ` = value`, or "" where it cannot be written or may hold a password or a token."""
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        return ""
    if "@" in text or "?" in text:
        return ""
    return f" = {text}" if len(text) <= 80 else f" = {text[:80]}..."


def _from_file(config: Path | None) -> Iterator[Given | str]:
    """Yield the values of a TOML file, and its errors as text."""
    if config is None:
        return
    tables = _read_toml(config)
    if isinstance(tables, str):
        yield tables
        return
    for table, entries in tables.items():
        if table in SETTINGS:
            yield f"{config}: {table} must be in the table [{SETTINGS[table].table}]"
        elif table not in TABLES.values():
            yield f"{config}: table [{table}] is unknown{did_you_mean(table, TABLES.values())}"
        elif not isinstance(entries, dict):
            yield f"{config}: [{table}] must be a table of settings"
        else:
            for name, value in entries.items():
                if name not in SETTINGS:
                    yield f"{config} [{table}]: setting {name} is unknown{did_you_mean(name, SETTINGS)}"
                elif SETTINGS[name].table != table:
                    yield f"{config} [{table}]: {name} must be in the table [{SETTINGS[name].table}]"
                else:
                    yield Given(name, value, f"{config} [{table}]")


def _read_toml(config: Path) -> dict[str, Any] | str:
    try:
        with config.open("rb") as file:
            content = file.read(CONFIG_LIMIT_BYTES + 1)
        if len(content) > CONFIG_LIMIT_BYTES:
            return f"{config} is larger than {CONFIG_LIMIT_BYTES} bytes"
        return tomllib.loads(content.decode())
    except OSError as error:
        return f"{config} cannot be read: {error.strerror}"
    except RecursionError:
        return f"{config} is not TOML: it is nested too deep"
    except ValueError as error:
        return f"{config} is not TOML: {error}"


def _from_environment(environment: Mapping[str, str]) -> Iterator[Given | str]:
    """Yield the values of the environment, and its errors as text."""
    known = {setting.variable: name for name, setting in SETTINGS.items()}
    for variable, value in environment.items():
        if variable in known:
            yield Given(known[variable], value, variable)
        elif variable.startswith(PREFIX) and variable != CONFIG_VARIABLE and not _is_service_link(variable, value):
            yield f"environment variable {variable} is unknown{did_you_mean(variable, known)}"


def _is_service_link(variable: str, value: str) -> bool:
    """Whether Kubernetes or Docker set it because a service is called theblock-bridge, as they do for every service."""
    return bool(_SERVICE_LINK.fullmatch(variable) or (variable.endswith("_PORT") and _SERVICE_URL.fullmatch(value)))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean …?` with the nearest known name, or "" where none is near."""
    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _contradictions(table: type[Any], resolved: Mapping[str, Resolved]) -> Iterator[str]:
    source, recording = resolved.get("source"), resolved.get("recording")
    if source and recording and source.value == "recording" and recording.value is None:
        yield f"source is recording ({source.origin}), but recording is off ({recording.origin}): it must name a file"
    grpc_listen = resolved.get("grpc_listen")
    if table is StateSettings and grpc_listen and grpc_listen.value is None:
        origin = grpc_listen.origin
        yield f"grpc_listen is off ({origin}), but the state command serves nothing else: it must be an address"
    listen, reuse_port = resolved.get("listen"), resolved.get("reuse_port")
    if listen and reuse_port and reuse_port.value and listen.value.path:
        yield f"reuse_port is true ({reuse_port.origin}), but listen is a Unix socket ({listen.origin}): it must be TCP"
