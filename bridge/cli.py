"""Command line: `theblock-bridge COMMAND`.

Exit codes: 0 fine, 1 a failure while running, 2 bad settings or usage, 130 interrupted. Errors are sentences on stderr.
"""

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from bridge import __version__
from bridge.core.errors import BridgeError
from bridge.core.names import NAME, NAME_RULE
from bridge.core.position import Position
from bridge.settings import SettingsError, SidecarSettings, StateSettings, UpSettings
from bridge.settings.flags import Flags, add_flags, given_flags, unexpected
from bridge.settings.kinds import OFF, ORIGIN, PEER, Kind, number, pattern, several, url, whole
from bridge.settings.load import CONFIG_VARIABLE, Given, Resolved, build, resolve
from bridge.settings.table import PREFIX, SETTINGS, TABLES, Setting, settings_of

PROG = "theblock-bridge"

NOTE = f"""Every setting also comes from the table [NAME] of the TOML file that --config or {CONFIG_VARIABLE}
names, with - written as _, and from an environment variable: {PREFIX}LOG_LEVEL=debug is
--log-level debug. The command line overrides the environment, the environment the file."""


@dataclass(frozen=True)
class Command:
    """A command that takes settings.

    Attributes:
        name: of the command.
        settings: class of its settings.
        run: what it does with their values; returns the exit code.
        summary: what it does, in one line.
        example: its arguments, as an example that works.
        renamed: settings that here have another flag before their own.
        fixed: settings that the command itself gives.
        unused: settings that it does not take.
    """

    name: str
    settings: type[Any]
    run: Callable[[Mapping[str, Resolved]], int]
    summary: str
    example: str
    renamed: Mapping[str, str] = field(default_factory=dict)
    fixed: tuple[Given, ...] = ()
    unused: tuple[str, ...] = ()

    def flags(self) -> Flags:
        """Return the settings that it takes, with their flags."""
        left_out = {*self.unused, *(given.name for given in self.fixed)}
        return {
            setting: (self.renamed[setting.name], setting.flag) if setting.name in self.renamed else (setting.flag,)
            for setting in settings_of(self.settings)
            if setting.name not in left_out
        }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Args:
        argv: arguments after the program's name; None: those of the process.

    Raises:
        SystemExit: with code 0 after --help and --version, 2 after bad usage.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its C core writes to stderr what we tell in a sentence
    arguments, rest = _parser().parse_known_args(argv)
    try:
        code: int = arguments.start(arguments, rest)
        sys.stdout.flush()
        return code
    except SettingsError as error:
        _complain(error.errors)
        return 2
    except BridgeError as error:
        _complain([str(error)])
        return 1
    except BrokenPipeError:  # whoever read the output has gone; what Python would still write at exit goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


def _complain(errors: Sequence[str]) -> None:
    if len(errors) == 1:
        print(f"{PROG}: {errors[0]}", file=sys.stderr)
    else:
        print(f"{PROG}: {len(errors)} errors:", *errors, sep="\n  ", file=sys.stderr)


# Commands that take settings


def _state(resolved: Mapping[str, Resolved]) -> int:
    from bridge.app import run_state

    return run_state(build(StateSettings, resolved))


def _sidecar(resolved: Mapping[str, Resolved]) -> int:
    from bridge.app import run_sidecar

    return run_sidecar(build(SidecarSettings, resolved))


def _up(resolved: Mapping[str, Resolved]) -> int:
    from bridge.app import run_up

    return run_up(build(UpSettings, resolved))


def _check_config(resolved: Mapping[str, Resolved]) -> int:
    print("ok")
    return 0


def _print_config(resolved: Mapping[str, Resolved]) -> int:
    for table in TABLES.values():
        print(f"[{table}]")
        for name, entry in resolved.items():
            if entry.setting.table == table:
                print(f"{name} = {_toml(entry.setting, entry.value)}  # {entry.origin}")
        print()
    return 0


def _toml(setting: Setting, value: object) -> str:
    if isinstance(value, tuple):
        return json.dumps([str(item) for item in value])
    shown = setting.show(value)
    return shown if isinstance(value, bool | int | float) else json.dumps(shown, ensure_ascii=False)


COMMANDS = (
    Command(
        "state",
        StateSettings,
        _state,
        "follow a node and serve its streams over gRPC: the state service",
        "state --node-url http://127.0.0.1:3030 --listen 127.0.0.1:50051",
        renamed={"grpc_listen": "--listen"},
    ),
    Command(
        "sidecar",
        SidecarSettings,
        _sidecar,
        "serve the streams of a state service over WebSocket and HTTP: the sidecar",
        "sidecar --upstream 127.0.0.1:50051 --listen 127.0.0.1:5000",
    ),
    Command(
        "up",
        UpSettings,
        _up,
        "run state service and sidecar in one process, beside one node",
        "up --node-url http://127.0.0.1:3030 --listen 127.0.0.1:5000 --grpc-listen off",
        unused=("upstream",),
    ),
    Command(
        "demo",
        UpSettings,
        _up,
        "run both on a simulated chain, with ingest on: needs no node",
        "demo --blocks-per-second 2",
        fixed=(Given("source", "simulated", "the demo command"), Given("ingest", True, "the demo command")),
        unused=("upstream",),
    ),
    Command(
        "check-config",
        UpSettings,
        _check_config,
        "check every setting, whatever the command: all errors at once, or ok",
        "check-config --config bridge.toml",
    ),
    Command(
        "print-config",
        UpSettings,
        _print_config,
        "print every setting as TOML, each with where it came from",
        "print-config --config bridge.toml",
    ),
)


def _add_command(commands: Any, command: Command) -> None:
    parser = _add_parser(commands, command.name, command.summary, command.example, NOTE)
    parser.usage = f"{PROG} {command.name} [--config FILE] [--SETTING VALUE ...]"
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file with settings")
    flags = command.flags()
    add_flags(parser, flags)

    def start(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
        known = ["--config", *chain.from_iterable(flags.values())]
        given: list[Given | str] = [*unexpected(rest, known), *given_flags(arguments, flags), *command.fixed]
        return command.run(resolve(command.settings, os.environ, arguments.config, given))

    parser.set_defaults(start=start)


# Commands that connect to a running bridge


(UPSTREAM,) = SidecarSettings().upstream
SIDECAR = url("http", "https", "ws", "wss")
POSITION = Kind("POSITION", "a position, EPOCH-SEQ", lambda text: Position.parse(str(text)))
COUNT = whole(1, 1_000_000_000)
DURATION = number(0.1, 31_536_000)
CLIENTS = whole(1, 1000)
STREAMS = several(pattern("STREAM", NAME.pattern, NAME_RULE), "names of streams, separated by commas")


def _run_client(name: str, options: dict[str, Any]) -> int:
    import asyncio

    from bridge.commands import publish, record, streams, verify, watch

    clients: dict[str, Callable[..., Coroutine[Any, Any, int]]] = {
        "watch": watch,
        "publish": publish,
        "record": record,
        "streams": streams,
        "verify": verify,
    }
    return asyncio.run(clients[name](**options))


def _version(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    print(f"{PROG} {__version__}")
    return 0


def _add_client(commands: Any, name: str, summary: str, example: str) -> argparse.ArgumentParser:
    parser = _add_parser(commands, name, summary, example)

    def start(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
        if rest:
            raise SettingsError(unexpected(rest, re.findall("--[a-z0-9-]+", parser.format_usage())))
        return _run_client(name, {key: value for key, value in vars(arguments).items() if key != "start"})

    parser.set_defaults(start=start)
    return parser


def _add_clients(commands: Any) -> None:
    parser = _add_client(commands, "watch", "show updates as they come", "watch http://127.0.0.1:5000 metrics")
    parser.add_argument("url", type=_reader(SIDECAR), metavar="URL", help=f"of the sidecar ({SIDECAR.allowed})")
    parser.add_argument("streams", nargs="*", metavar="STREAM", help="streams to watch; default: every stream")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--raw", dest="output", action="store_const", const="raw", help="print frames as they come")
    output.add_argument("--json", dest="output", action="store_const", const="json", help="print one update a line")
    parser.set_defaults(output="live")
    begin = parser.add_mutually_exclusive_group()
    _add_option(begin, "--since", POSITION, "begin after that update of the stream")
    _add_option(begin, "--last", COUNT, "begin with that many of the newest updates of each stream")
    _add_option(parser, "--count", COUNT, "stop after that many updates")
    parser.add_argument("--key", metavar="KEY", help="key of the values to watch; default: every key")
    parser.add_argument("--format", choices=("json", "proto"), default="json", help="format of the frames")
    parser.add_argument("--int64", action="store_true", help="have 64-bit integers as strings")

    example = """publish --stream weather --type weather_update --data '{"celsius": 21}'"""
    parser = _add_client(commands, "publish", "publish updates on a state service that has ingest on", example)
    _add_option(parser, "--upstream", PEER, "address of the state service", UPSTREAM)
    parser.add_argument("--stream", required=True, metavar="NAME", help="stream to publish on")
    parser.add_argument("--type", required=True, metavar="NAME", help="type of the updates")
    parser.add_argument(
        "--data", required=True, metavar="JSON", help="a JSON object; -: one a line from standard input"
    )
    parser.add_argument("--key", metavar="KEY", help="key of the value; default none")

    parser = _add_client(commands, "record", "record the streams of a state service", "record --output chain.recording")
    _add_option(parser, "--upstream", PEER, "address of the state service", UPSTREAM)
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="file to write")
    _add_option(parser, "--duration-seconds", DURATION, "how long to record")

    parser = _add_client(commands, "streams", "list the streams of a state service", "streams")
    _add_option(parser, "--upstream", PEER, "address of the state service", UPSTREAM)

    example = "verify http://127.0.0.1:5000 --upstream 127.0.0.1:50051 --seconds 600"
    parser = _add_client(commands, "verify", "judge a live sidecar: is anything lost, repeated, altered?", example)
    parser.add_argument("url", type=_reader(SIDECAR), metavar="URL", help=f"of the sidecar ({SIDECAR.allowed})")
    told = "address of the state service, which tells what is published; else the sidecar's history does"
    _add_option(parser, "--upstream", PEER, told)
    _add_option(parser, "--seconds", DURATION, "how long; an interrupt ends it earlier", 60.0)
    _add_option(parser, "--clients", CLIENTS, "clients of every kind: some are cut off, some are slow", 10)
    _add_option(parser, "--streams", STREAMS, "streams to subscribe to; without it: all")
    parser.add_argument("--json", dest="as_json", action="store_true", help="print the verdict as one JSON object")

    _add_doctor(commands)

    parser = _add_parser(commands, "version", "print the version", "version")
    parser.set_defaults(start=_version)


EXAMINED = ("node_url", "node_host_header", "node_token_file", "node_metrics_url", "upstream")
"""Settings that the doctor takes as flags; the others it finds where the bridge does."""

SIDECAR_OR_OFF = Kind("URL", f"{SIDECAR.allowed}, or {OFF}", lambda text: "" if text == OFF else SIDECAR.read(text))
IDLE = number(0.1, 3600)


def _add_doctor(commands: Any) -> None:
    summary = "find out what is wrong, from the node to the dashboard, and say what to do"
    note = f"{OFF} instead of an address leaves out what is there. Settings come from where the bridge has them too."
    parser = _add_parser(commands, "doctor", summary, "doctor --origin https://dashboard.example.org", note)
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file with settings")
    _add_option(parser, "--url", SIDECAR_OR_OFF, "of the sidecar, or of a proxy before it; else the setting listen")
    _add_option(parser, "--origin", ORIGIN, "of the page that is to be let in; else that of the sidecar itself")
    _add_option(parser, "--proxy-idle-seconds", IDLE, "how long a quiet WebSocket is watched")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    flags = {SETTINGS[name]: (SETTINGS[name].flag,) for name in EXAMINED}
    add_flags(parser, flags)

    def start(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
        import asyncio

        from bridge.doctor import Targets, doctor

        off = {name for name in ("node_url", "upstream") if getattr(arguments, name, None) in (OFF, [OFF])}
        asked = [given for given in given_flags(arguments, flags) if given.name not in off]
        wrong = unexpected(rest, re.findall("--[a-z0-9-]+", parser.format_usage()))
        settings = build(UpSettings, resolve(UpSettings, os.environ, arguments.config, [*wrong, *asked]))
        targets = Targets.of(settings, off, arguments.url, arguments.origin, arguments.proxy_idle_seconds)
        return asyncio.run(doctor(targets, as_json=arguments.json, show=lambda line: print(line, flush=True)))

    parser.set_defaults(start=start)


def _add_option(parser: Any, flag: str, kind: Kind[Any], summary: str, default: object = None) -> None:
    text = f"{summary} ({kind.allowed}; default {'none' if default is None else default})"
    parser.add_argument(flag, type=_reader(kind), metavar=kind.metavar, default=default, help=text)


def _reader(kind: Kind[Any]) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return kind.read(text)
        except ValueError as error:
            reason = f" ({error})" if str(error) else ""
            raise argparse.ArgumentTypeError(f"it must be {kind.allowed}{reason}") from None

    return read


# The whole


def _add_parser(commands: Any, name: str, summary: str, example: str, note: str = "") -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"{note}\n\nexample:\n  {PROG} {example}".strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    return parser


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROG,
        description="Turns a blockchain node's state into live dashboards.",
        epilog=f"example:\n  {PROG} demo\n\n{PROG} COMMAND --help tells everything about a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROG} {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        _add_command(commands, command)
    _add_clients(commands)
    return parser
