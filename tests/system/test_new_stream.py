"""Adding a stream is adding a message: no line of Python in bridge/ changes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.system.conftest import Clients
from tests.system.processes import ANY, ROOT, bridge, run

MESSAGE = """\
syntax = "proto3";

package theblock.state.v1;

import "theblock/state/v1/options.proto";

// MempoolUpdate is what waits to go into a block.
message MempoolUpdate {
  option (stream) = {
    name: "mempool"
    type: "mempool_update"
    delivery: DELIVERY_LATEST
    unset: UNSET_NULL
  };
  // waiting transactions.
  uint64 waiting = 1;
  // oldest_hash is the hash of the transaction that waits for longest.
  bytes oldest_hash = 2 [(json).hex = true];
  // median_fee_wei in base units.
  string median_fee = 3 [(json).decimal = true];
  // full_at is when it will be full.
  optional int64 full_at = 4;
}
"""

PUBLISH = """\
import sys

import grpc
from generated.theblock.state.v1 import ingest_pb2, ingest_pb2_grpc, mempool_pb2, update_pb2

payload = mempool_pb2.MempoolUpdate(waiting=2**60 + 1, oldest_hash=bytes([0, 255]), median_fee="1" + "0" * 30)
update = update_pb2.Update(stream="mempool", mempool=payload)
with grpc.insecure_channel(sys.argv[1]) as channel:
    request = ingest_pb2.PublishRequest(publications=[ingest_pb2.Publication(update=update)])
    for answer in ingest_pb2_grpc.StateIngestServiceStub(channel).Publish(iter([request]), timeout=10):
        print(answer.acknowledgements[0].position.seq or answer.acknowledgements[0].refusal)
"""

DATA = {"waiting": 2**60 + 1, "oldestHash": "0x00ff", "medianFee": "1" + "0" * 30, "fullAt": None}


def add_stream(tree: Path) -> None:
    """Copy the product to `tree` and add a stream to its proto files; the generated code is made anew."""
    for name in ("bridge", "proto"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    folder = tree / "proto/theblock/state/v1"
    (folder / "mempool.proto").write_text(MESSAGE)
    update = (folder / "update.proto").read_text()
    for old, new in (
        ("import ", 'import "theblock/state/v1/mempool.proto";\nimport '),
        ("  oneof data {\n", "  oneof data {\n    // mempool of the node.\n    MempoolUpdate mempool = 100;\n"),
    ):
        update = update.replace(old, new, 1)
    (folder / "update.proto").write_text(update)
    execute(tree, "proto/generate.py", "--proto", str(tree / "proto"), "--output", str(tree / "generated"))


def execute(tree: Path, *arguments: str) -> str:
    """Run Python in `tree`, with the programs beside this interpreter at hand; return what it prints."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(tree)}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_a_new_stream_is_a_message_and_nothing_else(tmp_path, clients: Clients):
    add_stream(tmp_path)
    serve = ("up", "--source", "none", "--ingest", "--listen", ANY, "--grpc-listen", ANY)
    with bridge(*serve, cwd=tmp_path) as running:
        client = await clients.connect(running.port)
        await client.subscribe("mempool")
        await client.pong()  # subscribed, and there is no value yet
        assert execute(tmp_path, "-c", PUBLISH, running.grpc) == "1\n"

        update = await client.read_json()
        assert (update["type"], update["stream"], update["seq"]) == ("mempool_update", "mempool", 1)
        assert update["data"] == DATA

        http = await clients.dial(running.port)
        answer = await http.shake("/state/mempool", Upgrade=None)
        assert (answer.status, json.loads(answer.body)) == (200, update)

        table = run("streams", "--upstream", running.grpc, cwd=tmp_path).stdout
        (row,) = (line.split() for line in table.splitlines() if line.startswith("mempool "))
        assert row[1:4] == ["mempool_update", "latest", "no"]
        assert row[6] == "theblock.state.v1.MempoolUpdate"
        (shown,) = run("watch", running.http, "mempool", "--json", "--count", "1", cwd=tmp_path).stdout.splitlines()
        assert json.loads(shown)["data"] == DATA
        clients.hang_up()
