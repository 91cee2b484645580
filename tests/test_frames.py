"""What watches the frames of the whole suite: it notices every one, and misses what was never there."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from generated.theblock.state.v1 import frames_pb2, update_pb2
from tests import frames
from tests.edges.rawclient import CLOSE
from tests.edges.rig import serving, until
from tests.edges.v1_clients import V1Connection

ROOT = Path(__file__).parent.parent

SMALL = "tests/core/test_position.py"
"""A file whose tests see no frame at all."""

ServerFrame, Response = frames_pb2.ServerFrame, frames_pb2.ResponseFrame


@pytest.fixture
def seen(monkeypatch) -> Counter:
    """Return a tally for this test alone, so that what is made up here does not count."""
    monkeypatch.setattr(frames, "SEEN", Counter())
    return frames.SEEN


@pytest.mark.parametrize(
    ("payload", "sentence"),
    [
        (b"", "ServerFrame without anything"),
        (b"\x0f", "no ServerFrame"),
        (b"\xfa\x01\x01x", "without anything"),
        (ServerFrame(response=Response(id=5)).SerializeToString(), "ResponseFrame without anything"),
        (ServerFrame(update=update_pb2.Update(stream="x")).SerializeToString(), "Update without anything"),
        (ServerFrame(pong=frames_pb2.PongFrame()).SerializeToString() + b"\xfa\x01\x01x", "fields that no proto file"),
        (b"\x2a\x04\x9a\x06\x01x", "fields that no proto file"),  # within a pong
    ],
)
def test_a_binary_frame_that_is_not_as_documented_is_found(seen, payload, sentence):
    with pytest.raises(frames.BadFrame, match=sentence):
        frames.saw(frames.BINARY, payload)


@pytest.mark.parametrize("payload", [b"\x03\xf4" + b'{"error":"stalled"}', b"\x0f\xa0" + b'{"error":"restarting"}'])
def test_a_close_that_is_not_in_the_table_is_found(seen, payload):
    with pytest.raises(frames.BadFrame, match="not in the table"):
        frames.saw(CLOSE, payload)


def test_the_echo_of_a_clients_code_is_not_the_sidecars_own(seen):
    frames.saw(CLOSE, (1012).to_bytes(2, "big"))
    assert not seen
    frames.saw(CLOSE, (1012).to_bytes(2, "big") + b'{"error":"restarting"}')
    assert seen == {("close", 1012): 1}


def test_what_is_seen_and_not_documented_is_told(seen):
    seen.update([("error", -32700), ("error", -32603), ("message", "gossip")])
    assert frames.undocumented() == ["error -32603", "message gossip"]


@pytest.mark.parametrize("encoding", ["json", "proto"])
async def test_frames_are_seen_that_no_client_reads(seen, encoding):
    name = ("binary update", "block") if encoding == "proto" else ("message", "block_update")
    async with serving() as rig:
        client = await V1Connection.connect(rig.port, encoding, "/ws?subscribe=block_updates")
        rig.block(1)
        await until(lambda: seen[name] == 1, "the block is sent")
        client.hang_up()


def pytest_run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_a_whole_run_that_misses_something_fails_and_names_it():
    done = pytest_run("-o", f"testpaths={SMALL}")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
    assert " passed" in done.stdout
    told = [line.rpartition(": ")[2] for line in done.stdout.splitlines() if line.startswith("the wire contract: ")]
    assert told == sorted(f"{kind} {name}" for kind, name in frames.documented())
    assert {"message block_update", "message state_stream.history.response", "message batch", "error -32700",
            "close 4004", "binary frame gap", "binary outcome stats", "binary update custom",
            "binary request authenticate"} <= set(told)  # fmt: skip


@pytest.mark.parametrize("arguments", [(SMALL,), ("-o", f"testpaths={SMALL}", "-k", "position")], ids=["file", "-k"])
def test_part_of_the_suite_is_not_judged(arguments):
    done = pytest_run(*arguments)
    assert (done.returncode, "wire contract" in done.stdout) == (0, False), done.stdout


def test_a_whole_run_that_sees_everything_passes(tmp_path):
    text = "from tests import frames\n\ndef test_all():\n    frames.SEEN.update(frames.documented())\n"
    (tmp_path / "test_all.py").write_text(text)
    done = pytest_run("-p", "tests.conftest", "-o", f"testpaths={tmp_path}")
    assert (done.returncode, "wire contract" in done.stdout) == (0, False), done.stdout
