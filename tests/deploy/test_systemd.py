"""The units for systemd start what there is, in a way that systemd understands."""

import shlex
from configparser import ConfigParser
from pathlib import Path

import pytest

from bridge.cli import main
from bridge.settings import SidecarSettings

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted((ROOT / "deploy/systemd").iterdir())
SERVICES = [path for path in UNITS if path.suffix == ".service"]


def read(path: Path) -> ConfigParser:
    unit = ConfigParser(interpolation=None)
    unit.optionxform = str
    unit.read(path)
    return unit


def command(path: Path) -> list[str]:
    program, *arguments = shlex.split(read(path)["Service"]["ExecStart"])
    assert program.endswith("/bin/theblock-bridge")
    return arguments


def test_the_units_are_these():
    assert [path.name.removeprefix("theblock-bridge-") for path in UNITS] == [
        "sidecar.service",
        "sidecar.socket",
        "sidecar@.service",
        "state.service",
    ]


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_a_service_starts_a_command_with_settings_that_there_are(path, capsys):
    name, *flags = command(path)
    assert name == path.stem.removeprefix("theblock-bridge-").rstrip("@")
    assert main(["check-config", *flags]) == 0
    assert capsys.readouterr().out == "ok\n"


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_a_service_has_the_time_to_send_its_clients_away(path):
    service = read(path)["Service"]
    assert service["Type"] == "notify"
    assert int(service["TimeoutStopSec"]) > SidecarSettings().drain_seconds + 1


def test_either_a_socket_is_passed_or_an_address_is_shared():
    by_name = {path.name.removeprefix("theblock-bridge-"): path for path in UNITS}
    assert "--reuse-port" in command(by_name["sidecar@.service"])
    assert "--reuse-port" not in command(by_name["sidecar.service"])
    assert "--listen" not in command(by_name["sidecar.service"])
    assert read(by_name["sidecar.service"])["Unit"]["Requires"] == "theblock-bridge-sidecar.socket"
    assert read(by_name["sidecar.socket"])["Socket"]["ListenStream"] == str(SidecarSettings().listen)
