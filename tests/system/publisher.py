"""What was published: by a publisher of ours, or as a state service has it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from bridge.core.streams import Catalogue, custom_stream
from bridge.core.update import Form, Update
from bridge.verify.oracle import Oracle
from generated.theblock.state.v1 import (
    block_pb2,
    ingest_pb2,
    ingest_pb2_grpc,
    service_pb2,
    service_pb2_grpc,
    update_pb2,
)


class Publisher:
    """Publishes blocks through gRPC, and tells the oracle what it published.

    Attributes:
        height: of its newest block.
        epoch: that the newest block was published in.
        seq: of the newest block.
    """

    def __init__(self, channel: grpc.aio.Channel, oracle: Oracle) -> None:
        self._call = ingest_pb2_grpc.StateIngestServiceStub(channel).Publish()
        self._oracle = oracle
        self.height = self.seq = 0
        self.epoch = ""

    async def publish(self, count: int = 1) -> None:
        """Publish the next blocks, one after the other."""
        for _ in range(count):
            self.height += 1
            hash_ = self.height.to_bytes(32, "big")
            update = update_pb2.Update(
                stream="block_updates", block=block_pb2.BlockUpdate(height=self.height, hash=hash_)
            )
            await self._call.write(ingest_pb2.PublishRequest(publications=[ingest_pb2.Publication(update=update)]))
            async with asyncio.timeout(10):
                (acknowledged,) = (await self._call.read()).acknowledgements
            assert not acknowledged.refusal, acknowledged
            self.epoch, self.seq = acknowledged.position.epoch, acknowledged.position.seq
            data = {"height": self.height, "hash": f"0x{hash_.hex()}"}
            place = {"stream": "block_updates", "epoch": self.epoch, "seq": self.seq}
            self._oracle.published({"type": "block_update", **place, "data": data})


@asynccontextmanager
async def publishing(address: str, oracle: Oracle) -> AsyncIterator[Publisher]:
    """Connect a publisher to a state service that has ingest on and no source."""
    async with grpc.aio.insecure_channel(address) as channel:
        yield Publisher(channel, oracle)


async def read_log(address: str, oracle: Oracle) -> None:
    """Tell the oracle everything that a state service has in its history."""
    declared = Catalogue()
    async with grpc.aio.insecure_channel(address) as channel:
        stub = service_pb2_grpc.StateStreamServiceStub(channel)
        for info in (await stub.ListStreams(service_pb2.ListStreamsRequest(), timeout=10)).streams:
            stream = declared.get(info.stream) or custom_stream(info.stream, info.type, keyed=info.keyed)
            request = service_pb2.ListUpdatesRequest(stream=info.stream)
            while True:
                page = await stub.ListUpdates(request, timeout=10)
                for m in page.updates:
                    raw = m.SerializeToString()
                    oracle.published(Update(stream, m.epoch, m.seq, m.time_ms, raw, m.key, m.prev).json(Form()))
                if not page.HasField("next"):
                    break
                request.since.CopyFrom(page.next)
