"""A client that reads a third of what comes, from a service whose memory is short: it gets all of it, late."""

import asyncio
import json

import grpc
import pytest

from bridge.verify.oracle import Oracle
from generated.theblock.state.v1 import ingest_pb2, ingest_pb2_grpc, update_pb2
from tests.edges.rawclient import RawClient
from tests.system.processes import ANY, bridge

ROUNDS, PUBLISHED, READ = 40, 100, 30
"""So many times so many are published and so many read."""

REMEMBERED = 256
"""Updates that either process remembers; what is older the journal has."""

UPSTREAM_UNAVAILABLE = -32010

SMALL = ("--send-buffer-bytes", "8192", "--write-buffer-bytes", "8192")
RECEIVE_BUFFER_BYTES = 8192
PAD = "x" * 2000
"""With it, what fits into all buffers on the way is far less than what a reader must lag to be told so."""


class Publisher:
    """Publishes numbers, many in a request, and tells the oracle."""

    def __init__(self, channel: grpc.aio.Channel, oracle: Oracle) -> None:
        self._call = ingest_pb2_grpc.StateIngestServiceStub(channel).Publish()
        self._oracle = oracle
        self.epoch = ""
        self.seq = 0

    async def publish(self, count: int) -> None:
        request = ingest_pb2.PublishRequest()
        values = [{"n": self.seq + number, "pad": PAD} for number in range(1, count + 1)]
        for value in values:
            custom = update_pb2.CustomUpdate(type="note", json=json.dumps(value).encode())
            request.publications.add(update=update_pb2.Update(stream="notes", custom=custom))
        await self._call.write(request)
        while values:
            for acknowledged in (await self._call.read()).acknowledgements:
                self.epoch, self.seq = acknowledged.position.epoch, acknowledged.position.seq
                place = {"stream": "notes", "epoch": self.epoch, "seq": self.seq}
                self._oracle.published({"type": "note", **place, "data": values.pop(0)})


class Reader:
    """A v1 client that reads when it is told to."""

    def __init__(self, raw: RawClient, oracle: Oracle) -> None:
        self.raw = raw
        self.raw.judged = oracle.client("the slow reader", announced=True)
        self.seq = 0
        self.notices: list[str] = []

    async def read(self) -> dict:
        """Read a message, and note what it tells."""
        message = await self.raw.read_json()
        if "data" in message:
            self.seq = message["seq"]
        elif "type" in message:
            self.notices.append(message["type"])
        return message

    async def read_updates(self, count: int) -> None:
        until = self.seq + count
        while self.seq < until:
            await self.read()

    async def ask(self, method: str, *params: object) -> dict:
        """Ask until the sidecar, which has just started, can decide on positions."""
        answer: dict = {}
        async with asyncio.timeout(30):
            while "result" not in answer:
                await self.raw.ask({"jsonrpc": "2.0", "method": method, "params": params, "id": method})
                while (answer := await self.read()).get("id") != method:
                    pass
                assert "result" in answer or answer["error"]["code"] == UPSTREAM_UNAVAILABLE, answer
        return answer["result"]


@pytest.fixture
async def raw():
    """Connections to hang up in the end."""
    opened: list[RawClient] = []
    yield opened
    for client in opened:
        client.hang_up()


@pytest.mark.parametrize("transport", ["asyncio", "aiofastnet"])
async def test_a_reader_at_a_third_of_the_rate_gets_everything_late(tmp_path, raw, transport):
    oracle = Oracle()
    journal, memory = ("--data-dir", str(tmp_path / "data")), ("--history-count", str(REMEMBERED))
    with (
        bridge("state", "--source", "none", "--ingest", "--grpc-listen", ANY, *journal, *memory) as state,
        bridge(
            "sidecar", "--upstream", state.grpc, "--listen", ANY, "--transport", transport, *memory, *SMALL
        ) as sidecar,
    ):
        async with grpc.aio.insecure_channel(state.grpc) as channel:
            publisher = Publisher(channel, oracle)
            await publisher.publish(1)
            raw.append(await RawClient.dial(sidecar.port, receive_buffer_bytes=RECEIVE_BUFFER_BYTES))
            assert (await raw[0].shake(Sec_WebSocket_Protocol="theblock.v1.json")).status == 101
            reader = Reader(raw[0], oracle)
            since = {"epoch": publisher.epoch, "seq": 0}
            (row,) = (await reader.ask("state_stream.subscribe", {"stream": "notes", "since": since}))["subscriptions"]
            assert (row["recovered"], row["seq"]) == (True, 0)
            for _ in range(ROUNDS):
                await publisher.publish(PUBLISHED)
                await reader.read_updates(READ)
            assert reader.seq < publisher.seq - 8 * REMEMBERED
            while reader.seq < publisher.seq or "caught_up" not in reader.notices:
                await reader.read()
            (books,) = (await reader.ask("session.stats"))["subscriptions"]
        # Nothing is left out, nothing is made up for, and it is told once that it is behind and once that it is not.
        assert [notice for notice in reader.notices if notice in ("fell_behind", "gap", "caught_up")] == [
            "fell_behind",
            "caught_up",
        ]
        assert {name: count for name, count in books.items() if name not in ("stream", "epoch")} == {
            "start": 0, "head": publisher.seq, "delivered": publisher.seq,
            "filtered": 0, "skipped": 0, "missed": 0, "pending": 0,
        }  # fmt: skip
        verdict = oracle.verdict()
        assert verdict.ok, verdict
        assert verdict.delivered == publisher.seq == 1 + ROUNDS * PUBLISHED
