"""`verify` as a process: what is right is said to be right, whatever is cut; what is wrong is found."""

import asyncio
import json
import re
import signal
import subprocess
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack

import pytest

from bridge.cli import PROG
from tests.doctor.proxy import chatty, listening, silent
from tests.edges.rig import until
from tests.system.processes import ANY, Running, bridge, enter, run, started
from tests.verify.spoiler import Spoil, spoiling


@pytest.fixture(scope="module")
def demo() -> Iterator[Running]:
    with bridge("demo", "--listen", ANY, "--grpc-listen", ANY, "--blocks-per-second", "20") as running:
        yield running


async def verify(url: str, *more: str, seconds: float = 2) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(run, "verify", url, "--seconds", str(seconds), *more, seconds=60)


@pytest.mark.parametrize("reference", ["history", "state service"])
async def test_what_is_right_is_said_to_be_right(demo, reference):
    told = ["--upstream", demo.grpc] if reference == "state service" else []
    result = await verify(demo.http, *told, "--json", seconds=5)
    found = json.loads(result.stdout)
    assert (result.returncode, found["ok"]) == (0, True), result
    assert (found["violations"], found["faults"], found["clients"]) == ([], [], 10)
    assert found["delivered"] > found["published"] > 100
    assert found["cuts"] > 0
    assert found["resumed"] > 0
    assert found["connections"] >= found["clients"] + found["cuts"]


async def test_some_streams_for_people(demo):
    result = await verify(demo.http, "--streams", "block_updates,account", "--clients", "3")
    assert (result.returncode, result.stderr) == (0, "")
    assert "streams: block_updates, account\n" in result.stdout
    assert "0 lost, 0 repeated, in order" in result.stdout
    assert result.stdout.endswith("the bridge is as it must be\n")


def every(number: int, spoil: Spoil) -> Spoil:
    """Return what spoils one update in so many."""
    count = 0

    def some(value: dict) -> list[dict]:
        nonlocal count
        count += 1
        return spoil(value) if count % number == 0 else [value]

    return some


SPOILT: dict[str, tuple[str, Spoil]] = {
    "dropped": ("lost", lambda value: []),
    "repeated": ("repeated", lambda value: [value, value]),
    "altered": ("altered", lambda value: [value | {"data": {**value["data"], "height": 7, "more": True}}]),
    "invented": ("invented", lambda value: [value, value | {"epoch": "another"}]),
}


@pytest.mark.parametrize("name", SPOILT)
async def test_what_is_wrong_is_found(demo, name):
    kind, spoil = SPOILT[name]
    async with spoiling(demo.port, every(40, spoil)) as url:
        result = await verify(url, "--upstream", demo.grpc, "--clients", "4")
    assert result.returncode == 1
    assert f"\n{kind}: " in result.stdout.replace("  ", ""), result.stdout
    assert result.stdout.endswith("the bridge is NOT as it must be\n")


def metric(sidecar: Running, name: str) -> float:
    """Return a metric of a sidecar."""
    with urllib.request.urlopen(f"{sidecar.http}/metrics", timeout=5) as response:
        (line,) = (
            line for line in response.read().decode().splitlines() if line.startswith(f"theblock_bridge_{name} ")
        )
    return float(line.rpartition(" ")[2])


@pytest.fixture
async def stack() -> AsyncIterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


async def test_a_sidecar_that_is_killed_in_the_middle_is_still_as_it_must_be(stack):
    state = await enter(stack, "state", "--source", "simulated", "--blocks-per-second", "20", "--listen", ANY,
                        "--data-dir", "off")  # fmt: skip
    arguments = ("sidecar", "--upstream", state.grpc, "--listen")
    sidecar = await enter(stack, *arguments, ANY)
    judging = ("verify", sidecar.http, "--upstream", state.grpc, "--clients", "4", "--seconds", "6")
    process = stack.enter_context(started(*judging))
    await until(lambda: process.lines, "it has begun")
    await until(lambda: metric(sidecar, "deliveries_total") > 500, "clients read")
    sidecar.process.kill()
    await asyncio.to_thread(sidecar.process.wait)
    await enter(stack, *arguments, f"127.0.0.1:{sidecar.port}")
    assert await process.ended(seconds=60) == 0, process.stdout
    assert process.stdout.endswith("the bridge is as it must be\n")
    connections = re.search(r"(\d+) connections", process.stdout)
    assert connections is not None
    assert int(connections[1]) >= 8


async def test_an_interrupt_ends_it_with_a_verdict(demo):
    with started("verify", demo.http, "--clients", "2", "--seconds", "600", "--streams", "energy") as process:
        await until(lambda: process.lines, "it has begun")
        assert await process.ended(signal.SIGINT, 40) == 0
        assert process.stdout.endswith("the bridge is as it must be\n")


async def test_what_cannot_be_judged_is_said_in_a_sentence(demo):
    result = await verify("http://127.0.0.1:9")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"{PROG}: cannot connect to 127.0.0.1:9: Connection refused\n"
    result = await verify(demo.http, "--streams", "block_updates,nothing")
    assert result.returncode == 1
    assert result.stderr.startswith(f"{PROG}: nothing has declared stream 'nothing'; there are block_updates, ")
    result = await verify(demo.http, "--upstream", "127.0.0.1:9")
    assert result.returncode == 1
    assert result.stderr.startswith(f"{PROG}: the state service says UNAVAILABLE")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["ftp://127.0.0.1"], "it must be http://host:port"),
        (["http://127.0.0.1:9", "--clients", "0"], "it must be a whole number from 1 to 1000"),
        (["http://127.0.0.1:9", "--streams", "A b"], "names of streams"),
        (["http://127.0.0.1:9", "--seconds", "soon"], "it must be a number"),
        (["http://127.0.0.1:9", "--faults", "9"], "--faults"),
    ],
)
async def test_wrong_usage(arguments, sentence):
    result = await asyncio.to_thread(run, "verify", *arguments)
    assert result.returncode == 2
    assert sentence in " ".join(result.stderr.split())


@pytest.mark.parametrize("handler", [chatty, silent])
async def test_what_is_no_sidecar(handler):
    async with listening(handler) as port:
        result = await asyncio.to_thread(run, "verify", f"http://127.0.0.1:{port}", seconds=30)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "HTTP server" in result.stderr or "said nothing" in result.stderr
