"""Publishers: they send again what was not acknowledged, and keep the log of what was."""

import asyncio
from collections import OrderedDict
from contextlib import suppress

import grpc

from bridge.verify.jsonvalues import Data, same
from bridge.verify.log import Published
from bridge.verify.oracle import Oracle
from generated.theblock.state.v1 import ingest_pb2, ingest_pb2_grpc
from tests.chaos.values import Value, value

WINDOW = 400
"""How many publications of a publisher may be without an acknowledgement."""

BATCHES_PER_SECOND = 25
"""How often a publisher sends."""

SILENCE_SECONDS = 2.5
"""How long an acknowledgement is waited for before everything is sent again, on a new call."""

REFUSED_SECONDS = 0.3
"""When what was refused is sent again."""

CHANNEL = [
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 300),
    ("grpc.use_local_subchannel_pool", 1),
]


class Ledger:
    """Everything that publishers have sent: what was acknowledged is in the oracle's log, the rest may have been.

    Attributes:
        epoch: of the newest acknowledgement.
        acknowledged: how many publications were acknowledged.
        resent: how many were sent again.
        refused: how many were refused, each time.
        unplaced: how many were acknowledged without a position; none should be, since few are sent again at a time.
        refusals: the sentences.
    """

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self.epoch = ""
        self.acknowledged = self.resent = self.refused = self.unplaced = 0
        self.refusals: set[str] = set()
        self.publishers: list[Publisher] = []
        self._open: dict[str, dict[int, Value]] = {}  # by epoch that is over: sent in it, never acknowledged in it
        self._places: dict[str, dict[int, tuple[str, int]]] = {}  # by epoch and number: stream and seq
        oracle.log.adopt = self.adopt

    def began(self, epoch: str) -> None:
        """Take note of the epoch; another one ends the one before."""
        if epoch in self._oracle.log.epochs:
            return
        if self.epoch:
            self._open[self.epoch] = {n: v for publisher in self.publishers for n, v in publisher.pending.items()}
            self._oracle.close(self.epoch)
            self._places = {self.epoch: self._places.get(self.epoch, {})}
        self.epoch = epoch
        self._oracle.began(epoch)

    def published(self, number: int, sent: Value, epoch: str, seq: int) -> None:
        """Take note of an acknowledgement."""
        self.began(epoch)
        self.acknowledged += 1
        self._place(number, sent.stream, epoch, seq)
        self._oracle.published(self._frame(sent, epoch, seq))

    def _place(self, number: int, stream: str, epoch: str, seq: int) -> None:
        """Check that a publication is published once in an epoch."""
        known = self._places.setdefault(epoch, {}).setdefault(number, (stream, seq))
        if known != (stream, seq):
            self._oracle.wrong("repeated", f"{stream} {epoch}-{seq} and -{known[1]} are the same publication")

    @staticmethod
    def _frame(sent: Value, epoch: str, seq: int) -> Data:
        place: Data = {"type": sent.type, "stream": sent.stream, "epoch": epoch, "seq": seq}
        return {**place, **({"key": sent.key} if sent.key else {}), "data": sent.data}

    def adopt(self, frame: Data) -> Published | None:
        """Return the publication that a frame is of, one whose acknowledgement was lost with its epoch."""
        stream, epoch, seq = frame["stream"], frame["epoch"], frame["seq"]
        for number, sent in self._open.get(epoch, {}).items():
            if sent.stream != stream or sent.key != frame.get("key", ""):
                continue
            if not same({name: sent.data.get(name) for name in frame["data"]}, frame["data"], True):
                continue
            self._place(number, stream, epoch, seq)
            update = Published(sent.type, seq, sent.key, None if sent.key else 0, sent.data)
            return self._oracle.log.add(stream, epoch, update)
        return None


class Publisher:
    """One publisher.

    Attributes:
        name: that the service knows it by.
        pending: what was sent, or is to be, and not acknowledged; by number, in order.
    """

    def __init__(self, name: str, address: str, ledger: Ledger, first: int, step: int, rate: float) -> None:
        """Make one; `run` has it publish.

        Args:
            name: that the service knows it by.
            address: of the state service.
            ledger: keeps what is acknowledged.
            first: its first number.
            step: from one of its numbers to the next: how many publishers there are.
            rate: publications a second.
        """
        self.name = name
        self.pending: OrderedDict[int, Value] = OrderedDict()
        self.stopped = False
        self._ledger = ledger
        self._address = address
        self._next = first
        self._step = step
        self._rate = rate
        self._calls = 0
        ledger.publishers.append(self)

    async def run(self) -> None:
        """Publish until cancelled; once `stopped`, only what is pending."""
        async with grpc.aio.insecure_channel(self._address, options=CHANNEL) as channel:
            stub = ingest_pb2_grpc.StateIngestServiceStub(channel)
            while True:
                call = stub.Publish()
                try:
                    await self._publish(call)
                except (grpc.aio.AioRpcError, TimeoutError, asyncio.InvalidStateError):
                    pass
                finally:
                    call.cancel()
                await asyncio.sleep(REFUSED_SECONDS)

    async def _publish(self, call: grpc.aio.StreamStreamCall) -> None:
        self._calls += 1
        self._ledger.resent += len(self.pending)
        await self._send(call, dict(self.pending))
        reading = asyncio.ensure_future(self._read(call))
        try:
            loop = asyncio.get_running_loop()
            start, sent = loop.time(), 0
            while not reading.done():
                due = int((loop.time() - start) * self._rate)
                if self.stopped:
                    due = sent
                room = max(0, WINDOW - len(self.pending))
                fresh = {}
                for _ in range(min(due - sent, room)):
                    fresh[self._next] = self.pending[self._next] = value(self._next)
                    self._next += self._step
                sent = due
                if fresh:
                    await self._send(call, fresh)
                await asyncio.sleep(1 / BATCHES_PER_SECOND)
            await reading
        finally:
            reading.cancel()
            with suppress(asyncio.CancelledError, grpc.aio.AioRpcError, TimeoutError):
                await reading

    async def _send(self, call: grpc.aio.StreamStreamCall, values: dict[int, Value]) -> None:
        publications = [ingest_pb2.Publication(publisher_seq=n, update=v.update) for n, v in values.items()]
        if publications:
            async with asyncio.timeout(SILENCE_SECONDS):
                await call.write(ingest_pb2.PublishRequest(publisher=self.name, publications=publications))

    async def _read(self, call: grpc.aio.StreamStreamCall) -> None:
        """Read acknowledgements until something was refused or nothing more comes."""
        loop = asyncio.get_running_loop()
        reading: asyncio.Future[ingest_pb2.PublishResponse] | None = None
        heard = loop.time()
        refused = False
        try:
            while not refused:
                reading = reading or asyncio.ensure_future(call.read())
                await asyncio.wait((reading,), timeout=0.25)
                if not self.pending:
                    heard = loop.time()
                if not reading.done():
                    if loop.time() - heard > SILENCE_SECONDS:
                        return
                    continue
                response, reading, heard = reading.result(), None, loop.time()
                if response is grpc.aio.EOF:
                    return
                for acknowledgement in response.acknowledgements:
                    refused |= not self._acknowledged(acknowledgement)
        finally:
            if reading is not None:
                reading.cancel()

    def _acknowledged(self, acknowledgement: ingest_pb2.Acknowledgement) -> bool:
        """Take note of one; return whether it was published."""
        if acknowledgement.refusal:
            self._ledger.refused += 1
            self._ledger.refusals.add(acknowledgement.refusal[:200])
            return False
        number, position = acknowledgement.publisher_seq, acknowledgement.position
        sent = self.pending.get(number) or value(number)
        if not position.epoch:
            self._ledger.unplaced += 1
        else:
            self._ledger.published(number, sent, position.epoch, position.seq)
        self.pending.pop(number, None)
        return True
