"""What README.md tells people to type works."""

import json
import re
import shlex
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from bridge.cli import COMMANDS, PROG
from tests.standin.node import StandinNode
from tests.system.conftest import Clients
from tests.system.processes import ANY, ROOT, Running, bridge, enter, run

README = (ROOT / "README.md").read_text()
PROGRAM = f".venv/bin/{PROG}"
HTTP, GRPC, NODE = "127.0.0.1:5000", "127.0.0.1:50051", "http://127.0.0.1:3030"
"""Addresses that README.md names; tests put those of their own processes in their place."""


def blocks(language: str) -> list[str]:
    """Return the code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def lines() -> list[str]:
    """Return the lines that are typed into a shell."""
    return [line for block in blocks("sh") for line in block.splitlines() if line.strip() and line[0] != "#"]


ELSEWHERE = ("git clone <this repository> theblock-bridge && cd theblock-bridge", "make demo")
"""Lines that are tried elsewhere: .ci/run does what a newcomer does. The recipe of `make demo` is tried here."""

SERVERS = {
    "up": ["http", "websocket", "grpc"],
    "state": ["grpc"],
    "sidecar": ["http", "websocket"],
}
"""Commands that run until they are stopped, with what their ready line names."""


@pytest.fixture(scope="module")
def demo() -> Iterator[Running]:
    recipe = re.search(
        r"^demo:.*\n\t.*/theblock-bridge (.*) \$\(ARGS\)$", (ROOT / "Makefile").read_text(), re.MULTILINE
    )
    assert recipe is not None
    with bridge(*recipe[1].split(), "--listen", ANY, "--grpc-listen", ANY, "--blocks-per-second", "10") as running:
        yield running


def arguments(line: str, **places: str) -> list[str]:
    """Return the arguments of a line, with addresses of ours in place of those that it names."""
    assert line.startswith(f"{PROGRAM} ")
    for name, place in places.items():
        line = line.replace({"http": HTTP, "grpc": GRPC, "node": NODE}[name], place)
    return shlex.split(line)[1:]


def test_every_line_is_tried():
    for line in lines():
        if line not in ELSEWHERE:
            assert line.split()[0] == PROGRAM, line
            assert line.split()[1] in {*SERVERS, "watch"}, line


async def test_the_servers_follow_a_node(clients: Clients):
    async with StandinNode() as node:
        node.chain.mine(3)
        with ExitStack() as stack:
            upstream = ""
            for line in lines():
                command = line.split()[1]
                if line in ELSEWHERE or command not in SERVERS:
                    continue
                grpc = upstream if command == "sidecar" else ANY
                given = arguments(line, http=ANY, grpc=grpc, node=node.url)
                if command == "up":  # its ports are the usual ones, which may be taken here
                    given += ["--listen", ANY, "--grpc-listen", ANY]
                running = await enter(stack, *given)
                assert list(running.addresses) == SERVERS[command]
                upstream = running.addresses.get("grpc", upstream)
                if "http" in running.addresses:
                    client = await clients.connect(running.port, "/ws?subscribe=block_updates")
                    update = await client.read_json()
                    assert update["data"]["hash"] == f"0x{node.chain.blocks[update['data']['height']].hash}"
                    client.hang_up()


def test_watch(demo):
    watched = [line for line in lines() if line.split()[1:2] == ["watch"]]
    assert watched
    for line in watched:
        done = run(*arguments(line, http=demo.http.removeprefix("http://")), "--count", "3")
        assert (done.returncode, done.stderr) == (0, "")
        assert "block_updates #" in done.stdout


async def test_the_line_for_the_console_of_a_browser(demo, clients: Clients):
    (line,) = (line for block in blocks("js") for line in block.splitlines())
    url = re.fullmatch(r'new WebSocket\("ws://(.+)"\)\.onmessage = .+', line)[1]
    assert url.startswith(f"{HTTP}/")
    client = await clients.connect(demo.port, url.removeprefix(HTTP))
    assert (await client.read_json())["type"] == "block_update"


def test_the_addresses_are_those_that_are_listened_on_by_default():
    printed = run("print-config").stdout
    for name, address in (("listen", HTTP), ("grpc_listen", GRPC), ("upstream", [GRPC]), ("node_url", NODE)):
        assert f"{name} = {json.dumps(address)}  # default" in printed


def test_the_table_of_commands_is_complete():
    shown = dict(re.findall(r"^\| `([a-z-]+)` \| (.+) \|$", README, re.MULTILINE))
    clients = ["watch", "publish", "record", "streams", "verify", "doctor", "version"]
    assert list(shown) == [*(command.name for command in COMMANDS), *clients]
    told = run("--help", COLUMNS="300").stdout
    for name, summary in shown.items():
        assert re.search(rf"^    {name}\s+{re.escape(summary)}$", told, re.MULTILINE), name
