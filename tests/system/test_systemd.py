"""What a supervisor does: it passes a socket that outlives the process, and is told how the process is."""

import asyncio
import json
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from bridge.cli import PROG
from tests.edges.rawclient import RawClient
from tests.edges.rig import until, within
from tests.edges.v1_clients import V1Connection
from tests.system.conftest import Clients
from tests.system.processes import ANY, Running, bridge, started

SUPERVISOR = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": sys.argv[2]}
os.execv(sys.executable, [sys.executable, "-m", "bridge", *sys.argv[3:]])
"""
"""Starts the bridge with an open file as descriptor 3."""

UP = ("up", "--source", "simulated", "--blocks-per-second", "50", "--data-dir", "off", "--grpc-listen", "off",
      "--drain-seconds", "1")  # fmt: skip


def passing(file: socket.socket, count: str = "1") -> dict:
    """Return how a process is started that has a file passed to it."""
    number = file.fileno()
    return {"program": ("-c", SUPERVISOR, str(number), count), "descriptors": (number,)}


@contextmanager
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as sock:
        yield sock


async def test_nobody_is_refused_while_a_process_is_restarted(clients: Clients):
    with listening() as sock, ExitStack() as stack:
        port = sock.getsockname()[1]
        first = await asyncio.to_thread(stack.enter_context, bridge(*UP, "--listen", ANY, **passing(sock)))
        assert first.http == f"http://127.0.0.1:{port}"  # not the one that --listen asks for
        v1 = await V1Connection.connect(port, "json", "/ws?subscribe=block_updates")
        classic = await clients.connect(port, "/ws?subscribe=block_updates")
        assert (await classic.read_json())["stream"] == "block_updates"
        first.process.send_signal(signal.SIGTERM)
        await v1.read_until(lambda got: got.get("type") == "going_away")
        assert (await v1.read_close())[0] == 1012
        v1.hang_up()
        waiting = [asyncio.create_task(answered(clients, port)) for _ in range(20)]
        assert (await classic.read_close())[0] == 1012
        classic.hang_up()
        assert await first.ended() == 0
        waiting += [asyncio.create_task(answered(clients, port)) for _ in range(20)]
        await asyncio.to_thread(stack.enter_context, bridge(*UP, **passing(sock)))
        assert [await within(one) for one in waiting] == [101] * 40


async def answered(clients: Clients, port: int) -> int:
    """Shake hands, however long the answer takes; return its status."""
    client = await clients.dial(port)
    return (await client.shake()).status


@pytest.mark.parametrize(
    ("count", "sentence"),
    [
        ("2", "LISTEN_FDS is '2': exactly one socket can be passed, the one for HTTP"),
        ("", "LISTEN_FDS is '': exactly one socket can be passed, the one for HTTP"),
    ],
)
def test_there_is_one_socket_to_pass(count, sentence):
    with listening() as sock:
        assert refusal(sock, count) == sentence


def test_a_socket_that_does_not_listen():
    with socket.socket() as sock:
        assert refusal(sock) == "the socket that was passed with LISTEN_FDS does not listen for connections"
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        assert refusal(sock) == "the socket that was passed with LISTEN_FDS does not listen for connections"


def test_a_file_that_is_no_socket():
    with Path(__file__).open() as file:
        assert refusal(file).startswith("LISTEN_FDS is 1, but descriptor 3 is no socket: ")


def refusal(file, count: str = "1") -> str:
    """Return the sentence of a process that could not start with a file."""
    with started(*UP, **passing(file, count)) as running:
        return last_words(running)


def last_words(running: Running) -> str:
    """Return the sentence of a process that could not start."""
    assert running.process.wait(20) == 1
    sentence = running.stderr.rstrip("\n").rpartition("\n")[2]
    assert sentence.startswith(f"{PROG}: ")
    return sentence.removeprefix(f"{PROG}: ")


def test_what_is_meant_for_another_process_is_left_alone():
    with bridge(*UP, "--listen", ANY, LISTEN_PID="1", LISTEN_FDS="1") as running:
        assert running.port


@pytest.mark.parametrize("abstract", [False, True])
async def test_the_supervisor_is_told_how_the_process_is(tmp_path, abstract):
    path = f"@{tmp_path}/notify" if abstract else f"{tmp_path}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path.replace("@", "\0"))
        sock.settimeout(10)
        with bridge(*UP, "--listen", ANY, NOTIFY_SOCKET=path) as running:
            assert await asyncio.to_thread(sock.recv, 100) == b"READY=1"
            running.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(sock.recv, 100) == b"STOPPING=1"


def test_a_supervisor_that_does_not_listen_is_no_fault(tmp_path):
    with bridge(*UP, "--listen", ANY, NOTIFY_SOCKET=f"{tmp_path}/nobody") as running:
        assert running.end() == 0
        assert running.stderr == ""


# A successor at the same address


async def test_a_successor_listens_when_it_has_caught_up_and_not_before():
    with ExitStack() as stack:
        with listening() as sock:
            nowhere = f"127.0.0.1:{sock.getsockname()[1]}"
        arguments = ("sidecar", "--upstream", nowhere, "--listen", ANY, "--reuse-port")
        running: Running = stack.enter_context(started(*arguments))
        await until(lambda: "cannot be reached" in running.stderr, "it has looked for its state service")
        assert "listens as soon as it has caught up" in running.stderr
        assert running.lines == []
        state = stack.enter_context(bridge("state", "--source", "simulated", "--listen", nowhere))
        await asyncio.to_thread(running.wait_for, lambda: running.lines, "ready")
        assert state.lines


async def test_one_that_still_waits_for_its_state_service_ends_when_it_is_told_to():
    with started("sidecar", "--upstream", "127.0.0.1:9", "--listen", ANY, "--reuse-port") as running:
        await until(lambda: "cannot be reached" in running.stderr, "it has looked for its state service")
        assert await running.ended(signal.SIGTERM) == 0
        assert running.lines == []


@pytest.mark.parametrize("shared", [False, True])
def test_two_by_accident_at_one_address_are_an_error(shared):
    with bridge(*UP, "--listen", ANY, *(["--reuse-port"] if shared else [])) as running:
        address = f"127.0.0.1:{running.port}"
        with started(*UP, "--listen", address, *([] if shared else ["--reuse-port"])) as other:
            assert last_words(other).startswith(f"{address} is taken: ")


def test_a_unix_socket_cannot_be_shared(tmp_path):
    with started(*UP, "--listen", f"unix:{tmp_path}/s", "--reuse-port") as running:
        assert running.process.wait(20) == 2
        assert running.stderr == (
            f"{PROG}: reuse_port is true (--reuse-port), but listen is a Unix socket (--listen): it must be TCP\n"
        )


# While it goes away


async def get(client: RawClient, path: str) -> tuple[int, str]:
    """Return the status of an answer, and what it says of the connection."""
    answer = await client.shake(path, Connection=None, Upgrade=None)
    return answer.status, answer.headers.get("connection", "")


@pytest.mark.parametrize("more", [(), ("--reuse-port",)], ids=["alone", "shared"])
async def test_readiness_goes_off_at_once_and_life_goes_on(clients: Clients, more):
    with bridge(*UP, "--listen", ANY, *more) as running:
        kept = {path: await clients.dial(running.port) for path in ("/readyz", "/livez", "/health")}
        for path, client in kept.items():
            assert await get(client, path) == (200, "")
        classic = await clients.connect(running.port)
        v1 = await V1Connection.connect(running.port, "json")
        running.process.send_signal(signal.SIGTERM)
        await v1.read_until(lambda got: got.get("type") == "going_away")
        found = {path: await get(client, path) for path, client in kept.items()}
        assert found == {"/readyz": (503, "close"), "/livez": (200, "close"), "/health": (200, "close")}
        if more:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", running.port), timeout=5)
        else:
            assert await get(await clients.dial(running.port), "/readyz") == (503, "close")
            assert await get(await clients.dial(running.port), "/livez") == (200, "close")
            page = await V1Connection.connect(running.port, "json", Origin="http://localhost:4173")
            code, reason = await page.read_close()
            assert (code, reason["error"], reason["retry_after_ms"] >= 0) == (1012, "restarting", True)
            page.hang_up()
        code, received = await classic.read_close()
        assert (code, json.dumps(received) != "") == (1012, True)
        classic.hang_up()
        v1.hang_up()
        assert await running.ended() == 0
