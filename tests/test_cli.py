"""The command line, as real processes: help, errors, and what of the configuration it shows."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from bridge.cli import COMMANDS, PROG, main
from bridge.core.errors import StartError
from bridge.settings import UpSettings, load
from bridge.settings.load import resolve
from bridge.settings.table import SETTINGS

ROOT = Path(__file__).parent.parent
NAMES = [*(command.name for command in COMMANDS), "watch", "publish", "record", "streams", "doctor", "version"]


def run(*arguments: str, environment: dict[str, str] | None = None, program: tuple[str, ...] = ("-m", "bridge")):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("THEBLOCK_BRIDGE_")}
    return subprocess.run(
        [sys.executable, *program, *arguments],
        cwd=ROOT,
        env={**clean, "COLUMNS": "100", **(environment or {})},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def words(text: str) -> str:
    """Return `text` without the line breaks that --help puts anywhere."""
    return "".join(text.split())


# Help


def test_help_names_every_command():
    result = run("--help")
    assert result.returncode == 0
    assert result.stderr == ""
    for name in NAMES:
        assert f"\n    {name}" in result.stdout


@pytest.mark.parametrize("name", NAMES)
def test_help_of_a_command_has_an_example(name):
    result = run(name, "--help")
    assert result.returncode == 0
    assert result.stderr == ""
    assert f"\nexample:\n  {PROG} {name}" in result.stdout


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_help_tells_flag_default_range_and_unit_of_every_setting(command):
    shown = words(run(command.name, "--help").stdout)
    for setting, flags in command.flags().items():
        assert flags[-1] in shown
        assert words(f"({setting.allowed}; default {setting.show(setting.default) or 'none'})") in shown


def test_help_needs_neither_grpc_nor_aiohttp():
    script = (
        "import sys; from bridge.cli import main\n"
        "try: main(['up', '--help'])\n"
        "except SystemExit: print(sorted({'grpc', 'aiohttp', 'google', 'asyncio', 'bridge.app'} & set(sys.modules)))"
    )
    assert run(program=("-c", script)).stdout.endswith("\n[]\n")


def test_the_examples_of_commands_with_settings_are_valid():
    for command in COMMANDS:
        given = command.example.split()[1:]
        flags = {flag for names in command.flags().values() for flag in names} | {"--config"}
        assert {argument for argument in given if argument.startswith("--")} <= flags


@pytest.mark.parametrize("arguments", [["version"], ["--version"]])
def test_version(arguments):
    result = run(*arguments)
    assert result.returncode == 0
    assert result.stdout.startswith(f"{PROG} ")


# Usage


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["stat"], "invalid choice: 'stat'"),
        (["sidecar", "--lisen", "127.0.0.1:1"], "flag --lisen is unknown; did you mean --listen?"),
        (["sidecar", "--source", "node"], "flag --source belongs to other commands"),
        (["demo", "--source", "node"], "flag --source belongs to other commands"),
        (["up", "--upstream=127.0.0.1:1"], "flag --upstream belongs to other commands"),
        (["sidecar", "127.0.0.1:5000"], "argument '127.0.0.1:5000' is unexpected"),
        (["state", "--listen", "nowhere"], "grpc_listen = 'nowhere' from --listen must be host:port"),
        (["watch"], "required: URL"),
        (["watch", "127.0.0.1:5000"], "argument URL: it must be http://host:port"),
        (["watch", "http://127.0.0.1:5000", "--last", "0"], "argument --last: it must be a whole number from 1"),
        (["watch", "http://127.0.0.1:5000", "--since", "42"], "argument --since: it must be a position"),
        (["watch", "http://127.0.0.1:5000", "--since", "a-1", "--last", "1"], "not allowed with argument"),
        (["watch", "http://127.0.0.1:5000", "--rav"], "flag --rav is unknown; did you mean --raw?"),
        (["publish", "--upstream", "127.0.0.1:0"], "argument --upstream: it must be host:port"),
        (["publish"], "required: --stream, --type, --data"),
        (["record"], "required: --output"),
        (["record", "--output", "x", "--duration-seconds", "nan"], "argument --duration-seconds: it must be a number"),
        (["streams", "--upstrem", "x"], "flag --upstrem is unknown; did you mean --upstream?"),
    ],
)
def test_bad_usage_is_one_sentence_and_exit_code_2(arguments, sentence):
    result = run(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr


def test_values_behind_unknown_flags_are_not_repeated():
    for arguments in (["--tokn", "s3cret"], ["--tokn=s3cret"]):
        assert "s3cret" not in run("up", *arguments).stderr
        assert "s3cret" not in run("watch", "http://127.0.0.1:5000", "metrics", *arguments).stderr


# Configuration


def test_check_config_says_ok(tmp_path):
    config = tmp_path / "bridge.toml"
    config.write_text("[node]\npoll_interval_ms = 500\n")
    result = run("check-config", "--config", str(config), environment={"THEBLOCK_BRIDGE_SEED": "7"})
    assert (result.returncode, result.stdout, result.stderr) == (0, "ok\n", "")


def test_check_config_tells_every_error_at_once(tmp_path):
    config = tmp_path / "bridge.toml"
    config.write_text("[node]\npoll_interval_ms = 5\nban_secnds = 1\n[sidecar]\nupstream = ':1'\n")
    environment = {"THEBLOCK_BRIDGE_LOG_LEVEL": "loud", "THEBLOCK_BRIDGE_SEDE": "1"}
    result = run("check-config", "--config", str(config), "--listne", "x", "--seed", "-1", environment=environment)
    assert result.returncode == 2
    assert result.stdout == ""
    first, *errors = result.stderr.splitlines()
    assert first == f"{PROG}: {len(errors)} errors:"
    assert sorted(error.strip() for error in errors) == sorted(
        [
            f"poll_interval_ms = 5 from {config} [node] must be a whole number from 100 to 60000 milliseconds",
            f"{config} [node]: setting ban_secnds is unknown; did you mean ban_seconds?",
            (
                f"upstream = ':1' from {config} [sidecar] must be 1 to 16 of host:port, [IPv6]:port or unix:/path, "
                "separated by commas "
                "(it has no host: write 127.0.0.1 for this machine only, 0.0.0.0 for every IPv4 interface)"
            ),
            "log_level = 'loud' from THEBLOCK_BRIDGE_LOG_LEVEL must be one of debug, info, warning, error",
            "environment variable THEBLOCK_BRIDGE_SEDE is unknown; did you mean THEBLOCK_BRIDGE_SEED?",
            "flag --listne is unknown; did you mean --listen?",
            "seed = '-1' from --seed must be a whole number from 0 to 9223372036854775807",
        ]
    )


def test_a_server_with_bad_settings_does_not_start():
    result = run("up", environment={"THEBLOCK_BRIDGE_SEED": "x"})
    assert result.returncode == 2
    assert result.stderr.startswith(f"{PROG}: seed = 'x' from THEBLOCK_BRIDGE_SEED must be ")


def test_print_config_tells_where_each_value_came_from(tmp_path):
    config = tmp_path / "bridge.toml"
    config.write_text("[node]\npoll_interval_ms = 500\n")
    result = run(
        *("print-config", "--config", str(config), "--no-ingest"),
        *("--allowed-hosts", "a.example", "--allowed-hosts", "b.example"),
        environment={"THEBLOCK_BRIDGE_LOG_LEVEL": "debug"},
    )
    assert result.returncode == 0
    for line in (
        f"poll_interval_ms = 500  # {config} [node]",
        'log_level = "debug"  # THEBLOCK_BRIDGE_LOG_LEVEL',
        "ingest = false  # --ingest",
        'allowed_hosts = ["a.example", "b.example"]  # --allowed-hosts',
        'listen = "127.0.0.1:5000"  # default',
        'recording = "off"  # default',
    ):
        assert line in result.stdout.splitlines()


def test_what_print_config_prints_is_a_configuration(tmp_path):
    environment = {
        "THEBLOCK_BRIDGE_SOURCE": "simulated",
        "THEBLOCK_BRIDGE_BLOCKS_PER_SECOND": "0.25",
        "THEBLOCK_BRIDGE_GRPC_LISTEN": "off",
        "THEBLOCK_BRIDGE_LISTEN": "unix:/run/bridge.sock",
        "THEBLOCK_BRIDGE_ALLOWED_ORIGINS": "https://a.example,https://b.example",
    }
    config = tmp_path / "printed.toml"
    config.write_text(run("print-config", environment=environment).stdout)
    printed = tomllib.loads(config.read_text())
    assert {name for table in printed.values() for name in table} == set(SETTINGS)
    assert load(UpSettings, {}, config) == load(UpSettings, environment)
    assert all(entry.origin.startswith(str(config)) for entry in resolve(UpSettings, {}, config).values())


def test_print_config_hides_secrets(tmp_path):
    file = tmp_path / "token"
    file.write_text("s3cret")
    result = run("print-config", "--node-token-file", str(file))
    assert 'node_token_file = "***"  # --node-token-file' in result.stdout.splitlines()
    assert str(file) not in result.stdout


def test_output_that_nobody_reads_is_no_traceback():
    command = f"{sys.executable} -m bridge print-config | true; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert result.stderr == ""


# Running


@pytest.fixture
def app(monkeypatch):
    """Return a module that stands in for bridge.app, so that no server needs to run."""
    for name in list(os.environ):
        if name.startswith("THEBLOCK_BRIDGE_"):
            monkeypatch.delenv(name)
    module = ModuleType("bridge.app")
    monkeypatch.setitem(sys.modules, "bridge.app", module)
    return module


@pytest.mark.parametrize(
    ("arguments", "port"),
    [
        (["state", "--listen", "127.0.0.1:7"], 7),
        (["state", "--grpc-listen", "127.0.0.1:8"], 8),
        (["sidecar", "--listen", "127.0.0.1:9"], 9),
        (["up", "--listen", "127.0.0.1:10", "--grpc-listen", "off"], 10),
        (["demo", "--listen", "127.0.0.1:11"], 11),
    ],
)
def test_a_server_gets_its_settings_and_gives_the_exit_code(app, arguments, port):
    app.run_state = lambda settings: settings.grpc_listen.port
    app.run_sidecar = lambda settings: settings.listen.port
    app.run_up = lambda settings: settings.sidecar.listen.port
    assert main(arguments) == port


def test_a_demo_is_simulated_whatever_the_environment_says(app, monkeypatch):
    monkeypatch.setenv("THEBLOCK_BRIDGE_SOURCE", "node")
    monkeypatch.setenv("THEBLOCK_BRIDGE_INGEST", "false")
    app.run_up = lambda settings: 0 if (settings.state.source, settings.state.ingest) == ("simulated", True) else 1
    assert main(["demo"]) == 0


def test_a_failure_is_one_sentence_and_exit_code_1(app, capsys):
    def run_up(settings):
        raise StartError(f"{settings.sidecar.listen} is in use")

    app.run_up = run_up
    assert main(["up"]) == 1
    assert capsys.readouterr().err == f"{PROG}: 127.0.0.1:5000 is in use\n"


def test_an_interrupt_is_exit_code_130_without_a_traceback(app, capsys):
    def run_up(settings):
        raise KeyboardInterrupt

    app.run_up = run_up
    assert main(["up"]) == 130
    assert capsys.readouterr().err == ""
