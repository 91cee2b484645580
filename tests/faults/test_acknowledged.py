"""With `always`, an acknowledgement and an update wait for the disk."""

import asyncio
import os
import threading

from bridge.core.origin import Origin
from bridge.edges.grpc import StateServer
from bridge.sources.ingest import IngestService
from bridge.store.journal import Journal, Sync
from bridge.store.keeper import Keeper
from generated.theblock.state.v1 import block_pb2, ingest_pb2, update_pb2
from tests.state_service import ANY_PORT, ingest_stub_of, new_hub, until


async def test_with_always_nothing_is_acknowledged_or_sent_before_it_is_on_disk(tmp_path, monkeypatch):
    free, asked, fdatasync = threading.Event(), threading.Event(), os.fdatasync

    def wait_for_disk(fd: int) -> None:
        asked.set()
        assert free.wait(20)
        fdatasync(fd)

    monkeypatch.setattr(os, "fdatasync", wait_for_disk)
    journal = Journal.open(tmp_path, sync=Sync.ALWAYS, new_epoch=lambda: "e1", clock_ms=lambda: 0)
    keeper, hub = Keeper(journal, sync=Sync.ALWAYS, clock_ms=lambda: 0), new_hub()
    keeper.fill(hub, lambda: "e2")
    origin = Origin(hub, new_epoch=lambda: "e3", store=keeper)
    keeping = asyncio.create_task(keeper.run(origin))
    update = update_pb2.Update(stream="block_updates", block=block_pb2.BlockUpdate(height=1))
    request = ingest_pb2.PublishRequest(publications=[ingest_pb2.Publication(update=update)])
    async with (
        StateServer(ANY_PORT, [IngestService(origin)], drain_seconds=0) as server,
        ingest_stub_of(server) as stub,
    ):
        call = stub.Publish()
        await call.write(request)
        answer = asyncio.create_task(call.read())
        await until(lambda: asked.is_set() or answer.done())
        await asyncio.wait((answer,), timeout=0.2)
        assert not answer.done(), "it is not on disk yet"
        assert hub.histories["block_updates"].head == 0
        free.set()
        async with asyncio.timeout(20):
            (acknowledgement,) = (await answer).acknowledgements
        assert (acknowledgement.position.epoch, acknowledgement.position.seq) == ("e1", 1)
        assert hub.histories["block_updates"].head == 1
        call.cancel()
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    journal.close()
