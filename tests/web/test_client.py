"""The browser client in Node.js: its tests with a clock that stands still, its types, its package."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

import bridge
from tests.clients.programs import cache, copy, install_packages, locked
from tests.system.processes import environment
from tests.web import frames
from tests.web.node import CLIENT, NODE, NPM, TESTS

FILES = sorted(TESTS.glob("*.test.js"))
SECONDS = 120


@pytest.fixture(scope="module")
def counts(tmp_path_factory) -> dict[str, int]:
    """Run every test; return what Node.js counted."""
    path = tmp_path_factory.mktemp("frames") / "frames.json"
    frames.write(path)
    command = [str(NODE), "--test", "--test-reporter=tap", *map(str, FILES)]
    more = environment(FRAMES=str(path))
    done = subprocess.run(command, env=more, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    return {name: int(count) for name, count in re.findall(r"^# (\w+) (\d+)$", done.stdout, re.MULTILINE)}


def test_every_test_passes_and_there_are_as_many_as_there_should_be(counts):
    assert counts["tests"] == counts["pass"] > 60
    assert counts["fail"] == counts["skipped"] == counts["todo"] == counts["cancelled"] == 0
    assert sum(path.read_text().count("assert.") for path in FILES) > 200


@pytest.fixture(scope="module")
def workspace() -> Path:
    """Return a folder of the user's cache with the client, and with the programs that look at it."""
    folder = cache().parent / "web"
    with locked(folder.with_name("web.lock")):
        folder.mkdir(exist_ok=True)
        copy(CLIENT, folder / "client")
        for name in ("package.json", "package-lock.json", "tsconfig.json", "usage.ts"):
            (folder / name).write_bytes((TESTS / name).read_bytes())
        install_packages(folder)
    return folder


def run(folder: Path, *command: str) -> str:
    """Run a program of Node.js that must succeed; return what it prints."""
    more = environment(PATH=os.pathsep.join([str(NODE.parent), os.environ["PATH"]]))
    done = subprocess.run(
        [str(NODE), *command], cwd=folder, env=more, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_types_are_strict(workspace):
    run(workspace, "node_modules/typescript/bin/tsc")


def test_the_package_can_be_published(workspace):
    run(workspace, "node_modules/publint/src/cli.js", "client", "--strict", "--pack", "false")
    (package,) = json.loads(run(workspace / "client", str(NPM), "pack", "--dry-run", "--json"))
    packed = {file["path"] for file in package["files"]}
    assert packed == {path.name for path in CLIENT.iterdir() if path.is_file()}


def test_it_has_the_version_of_the_bridge():
    assert json.loads((CLIENT / "package.json").read_text())["version"] == bridge.__version__


@pytest.mark.parametrize("path", sorted(CLIENT.glob("*.js")), ids=lambda path: path.name)
def test_modules_need_nothing_but_one_another(path):
    imported = re.findall(r'(?:from|import\() ?"([^"]+)"', path.read_text())
    assert all((CLIENT / name).is_file() and name.startswith("./") for name in imported)
    assert len(path.read_text().splitlines()) <= 500
    assert max(map(len, path.read_text().splitlines())) <= 120
