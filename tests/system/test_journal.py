"""A state service and its journal, as real processes: killed, restarted, and nothing lost or repeated."""

import json
import random
import urllib.request
from typing import Any

import grpc
import pytest

from generated.theblock.state.v1 import ingest_pb2, ingest_pb2_grpc, service_pb2, service_pb2_grpc, update_pb2
from tests.system.processes import ANY, bridge, run, started, wait_for

SECONDS = 20


def publication(number: int) -> ingest_pb2.Publication:
    custom = update_pb2.CustomUpdate(type="note", json=json.dumps({"n": number}).encode())
    return ingest_pb2.Publication(publisher_seq=number, update=update_pb2.Update(stream="notes", custom=custom))


def publish(address: str, numbers: range) -> dict[int, tuple[str, int]]:
    """Publish numbers in one request each; return the positions of those that were acknowledged."""
    positions = {}
    with grpc.insecure_channel(address) as channel:
        requests = (
            ingest_pb2.PublishRequest(publisher="tester", publications=[publication(number)]) for number in numbers
        )
        try:
            for response in ingest_pb2_grpc.StateIngestServiceStub(channel).Publish(requests, timeout=SECONDS):
                for acknowledgement in response.acknowledgements:
                    position = acknowledgement.position
                    positions[acknowledgement.publisher_seq] = (position.epoch, position.seq)
        except grpc.RpcError:
            pass
    return positions


def held(address: str) -> list[tuple[int, int]]:
    """Return seq and number of every update that the service has."""
    with grpc.insecure_channel(address) as channel:
        request = service_pb2.ListUpdatesRequest(stream="notes", limit=10_000)
        response = service_pb2_grpc.StateStreamServiceStub(channel).ListUpdates(request, timeout=SECONDS)
    return [(update.seq, json.loads(update.custom.json)["n"]) for update in response.updates]


def newest(url: str) -> dict[str, Any]:
    """Return the newest block update."""
    with urllib.request.urlopen(f"{url}/state/block_updates", timeout=SECONDS) as response:
        block: dict[str, Any] = json.load(response)
    return block


@pytest.mark.parametrize("sync", ["batch", "always"])
def test_a_service_that_is_killed_goes_on_with_every_acknowledged_publication_once(tmp_path, sync):
    arguments = ("state", "--source", "none", "--ingest", "--grpc-listen", ANY, "--data-dir", str(tmp_path / "data"),
                 "--journal-sync", sync)  # fmt: skip
    chance, acknowledged, epochs, first = random.Random(7), {}, set(), 1
    for _ in range(3):
        with bridge(*arguments) as state:
            again = publish(state.grpc, range(max(1, first - 5), first + chance.randrange(5, 60)))
            for number, position in again.items():
                assert acknowledged.setdefault(number, position) == position, "a repeat was given another position"
            first = max(acknowledged) + 1
            epochs |= {epoch for epoch, _ in again.values()}
            state.process.kill()
            state.process.wait()
    assert len(epochs) == 1
    with bridge(*arguments) as state:
        notes = held(state.grpc)
        assert [seq for seq, _ in notes] == list(range(1, len(notes) + 1))
        assert {number: seq for seq, number in notes} | {} == {number: seq for number, (_, seq) in acknowledged.items()}


def test_two_services_never_share_a_folder(tmp_path):
    arguments = ("state", "--source", "none", "--grpc-listen", ANY, "--data-dir", str(tmp_path))
    with bridge(*arguments):
        refused = run(*arguments)
        assert refused.returncode == 1
        assert str(tmp_path) in refused.stderr
        assert "another process" in refused.stderr


def test_a_chain_goes_on_in_the_same_epoch_after_a_restart_and_without_a_journal_in_another(tmp_path):
    def position(*more: str, reached: int = 30) -> tuple[str, int, int]:
        with bridge("up", "--source", "simulated", "--blocks-per-second", "50", "--listen", ANY, "--grpc-listen", ANY,
                    *more, XDG_STATE_HOME=str(tmp_path)) as up:  # fmt: skip
            wait_for(lambda: newest(up.http)["seq"] > reached, "a new block")
            block = newest(up.http)
            return block["epoch"], block["seq"], block["data"]["height"]

    first = position()
    second = position(reached=first[1])
    assert first[0] == second[0]
    assert second[2] - first[2] <= second[1] - first[1]  # no block is new twice
    assert [folder.name for folder in (tmp_path / "theblock-bridge").iterdir()] == ["simulated"]
    assert position("--data-dir", "off")[0] != first[0]


def test_a_full_disk_stops_publishing_and_loses_nothing(tmp_path):
    limit = 40_000
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY)); "
        "from bridge.cli import main; sys.exit(main())"
    )
    arguments = ("state", "--source", "none", "--ingest", "--grpc-listen", ANY, "--data-dir", str(tmp_path / "data"))
    with started(*arguments, program=("-c", script)) as state:
        state.wait_for(lambda: state.lines, "ready")
        address = state.lines[0].rpartition("grpc ")[2]
        with grpc.insecure_channel(address) as channel:
            requests = (
                ingest_pb2.PublishRequest(publisher="tester", publications=[publication(n)]) for n in range(1, 1000)
            )
            responses = list(ingest_pb2_grpc.StateIngestServiceStub(channel).Publish(requests, timeout=SECONDS))
        answers = [answer for response in responses for answer in response.acknowledgements]
        kept = [answer for answer in answers if answer.HasField("position")]
        refused = [answer for answer in answers if answer.refusal]
        assert len(kept) + len(refused) == 999
        assert 0 < len(kept) < 999
        assert "cannot be written" in refused[0].refusal
        assert [seq for seq, _ in held(address)] == list(range(1, len(kept) + 1))
    with bridge(*arguments) as state:
        again = publish(state.grpc, range(1, 1000))
        assert [seq for _, seq in again.values()] == list(range(1, 1000))
        wait_for(lambda: len(held(state.grpc)) == 999, "everything")
