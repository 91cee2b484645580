"""What the clients are run against: a state service, a sidecar behind it, and a publisher."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import grpc

from generated.theblock.state.v1 import block_pb2, ingest_pb2, ingest_pb2_grpc, update_pb2
from tests.system.processes import ANY, bridge, wait_for

HISTORY_COUNT = 2000
"""Updates of a stream that are remembered."""

OLD, BLOCKS = "old", "block_updates"

LOST = 100
"""So many updates of the stream OLD are remembered no more."""

BLOCK_COUNT = 300


@dataclass
class World:
    """Processes, and what has been published on them.

    Attributes:
        addresses: of the servers by kind: grpc, websocket; host:port.
        epoch: of all positions.
        counts: how many updates there are of each stream.
    """

    addresses: dict[str, str]
    stub: ingest_pb2_grpc.StateIngestServiceStub
    epoch: str = ""
    counts: dict[str, int] = field(default_factory=dict)

    def publish(self, stream: str, count: int, *, keys: str = "") -> None:
        """Publish numbered updates: the n-th has the seq n, and with keys it has one of them after the other."""
        first = self.counts.get(stream, 0) + 1
        updates = [numbered(stream, n, keys[n % len(keys)] if keys else "") for n in range(first, first + count)]
        request = ingest_pb2.PublishRequest(publications=[ingest_pb2.Publication(update=one) for one in updates])
        responses = self.stub.Publish(iter([request]), timeout=20)
        rows = [row for response in responses for row in response.acknowledgements]
        assert [(row.refusal, row.position.seq) for row in rows] == [("", n) for n in range(first, first + count)]
        self.epoch = rows[0].position.epoch
        self.counts[stream] = first + count - 1


def numbered(stream: str, n: int, key: str) -> update_pb2.Update:
    """Return the n-th update of a stream."""
    if stream == BLOCKS:
        block = block_pb2.BlockUpdate(height=n, hash=block_hash(n), tx_count=n % 3)
        return update_pb2.Update(stream=stream, block=block)
    value = {"n": n, "text": "\N{LATIN SMALL LETTER E WITH ACUTE}" * (n % 40)}
    custom = update_pb2.CustomUpdate(type="tick", json=json.dumps(value, ensure_ascii=False).encode())
    return update_pb2.Update(stream=stream, key=key, custom=custom)


def block_hash(height: int) -> bytes:
    """Return the hash of a block."""
    return height.to_bytes(32, "big")


@contextmanager
def running() -> Iterator[World]:
    """Run state service and sidecar until the block ends."""
    with ExitStack() as stack:
        history, off = ("--history-count", str(HISTORY_COUNT)), ("--data-dir", "off")
        state = stack.enter_context(bridge("state", "--source", "none", "--ingest", "--listen", ANY, *off, *history))
        sidecar = stack.enter_context(bridge("sidecar", "--listen", ANY, "--upstream", state.grpc, *history))
        channel = stack.enter_context(grpc.insecure_channel(state.grpc))
        addresses = {"grpc": state.grpc, "websocket": f"127.0.0.1:{sidecar.port}"}
        world = World(addresses, ingest_pb2_grpc.StateIngestServiceStub(channel))
        world.publish(BLOCKS, BLOCK_COUNT)
        for _ in range(4):
            world.publish(OLD, (HISTORY_COUNT + LOST) // 4)
        yield world
        wait_for(lambda: state.process.poll() is None and sidecar.process.poll() is None, "both to be still there")
