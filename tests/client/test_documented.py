"""The page on the client: its programs run, its tables are those of the code."""

import dataclasses
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import get_args

import pytest

from bridge.client import Client, Event, Patience, Subscription
from bridge.client.handshake import FINAL_STATUSES
from bridge.client.retry import FAULTY_CODES
from tests.contract.pages import ROOT, plain, table
from tests.system.processes import ANY, Running, bridge, environment

PAGE = (ROOT / "docs/client.md").read_text()
PROGRAMS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)

SHOWN = (
    r"([0-9]+ 0x[0-9a-f]{64}\n)+",
    r"([a-z0-9]{8}-[0-9]+ [0-9]+\n){4}",
    r"\[[0-9]+, [0-9]+\]\naccount [a-z0-9]{8} [0-9]+\nenergy [a-z0-9]{8} [0-9]+\n-32602 the sidecar refuses .*\n",
)
"""What each program prints."""


@pytest.fixture(scope="module")
def demo() -> Iterator[Running]:
    with bridge("demo", "--listen", ANY, "--grpc-listen", "off", "--blocks-per-second", "10") as running:
        yield running


def test_there_are_as_many_programs():
    assert len(PROGRAMS) == len(SHOWN)


@pytest.mark.parametrize(("program", "shown"), list(zip(PROGRAMS, SHOWN, strict=True)))
def test_programs(demo, tmp_path, program, shown):
    file = tmp_path / "program.py"
    file.write_text(program.replace("http://127.0.0.1:5000", demo.http))
    more = environment(PYTHONPATH=str(ROOT))
    done = subprocess.run(
        [sys.executable, "-W", "error", str(file)], env=more, capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(shown, done.stdout), done.stdout


def test_options():
    parameters = list(inspect.signature(Client).parameters)
    assert [plain(row[0]) for row in table(PAGE, "Options", "option of `Client`")] == parameters
    assert [plain(row[0]) for row in table(PAGE, "Options", "field of `Subscription`")] == [
        f.name for f in dataclasses.fields(Subscription)
    ]
    patience = {plain(row[0]): float(row[1]) for row in table(PAGE, "Options", "field of `Patience`")}
    assert patience == dataclasses.asdict(Patience())


def test_what_comes():
    assert [plain(row[0]) for row in table(PAGE, "What comes", "class")] == [kind.__name__ for kind in get_args(Event)]


def test_methods():
    methods = [name for name, _ in inspect.getmembers(Client, inspect.isfunction) if not name.startswith("_")]
    assert sorted(plain(row[0]) for row in table(PAGE, "Requests", "method of `Client`")) == methods


def test_ends():
    http, _, final, faulty, _ = (row[0] for row in table(PAGE, "Errors", "what ends a connection"))
    assert {int(text) for text in re.findall("[0-9]{3}", http)} == FINAL_STATUSES
    assert final == "close codes 4500 to 4999"
    assert faulty.startswith("close codes 1002, 1003, 1007 to 1010,")
    assert {1002, 1003, 1007, 1008, 1009, 1010} == FAULTY_CODES
