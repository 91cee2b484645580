"""StateIngestService: publishers put updates into the hub through gRPC.

Each publication is acknowledged, in order: with the position that it was given, or with a sentence on why it was
refused. A refusal, or a message that cannot be read, never ends the stream of a publisher; only a message of more than
4 MiB does, which gRPC itself refuses with RESOURCE_EXHAUSTED. An acknowledgement comes behind the write to the journal,
which also remembers who published what: so a publisher that sends again after a crash of either side publishes nothing
twice.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable

import grpc
from google.protobuf.message import DecodeError

from bridge.core.errors import JournalError, PublishError
from bridge.core.names import KEY, KEY_RULE
from bridge.core.origin import Origin
from bridge.core.position import Position
from generated.theblock.state.v1 import ingest_pb2, stream_pb2, update_pb2

log = logging.getLogger(__name__)

PUBLISHERS = 10_000
"""How many publishers are told apart; of one not heard of for longest it is forgotten what it published."""

POSITIONS = 1000
"""Of how many publications of a publisher the positions are remembered."""

ALL_POSITIONS = 200_000
"""Of how many publications of all publishers together: some 50 MB."""

REFUSALS = 10_000
"""Of how many publications of a publisher it is remembered that they were refused."""

SLICE = 100
"""Publications acknowledged in one response, before other work gets its turn."""

Context = grpc.aio.ServicerContext[bytes, bytes]


class Publisher:
    """What is remembered of one publisher.

    Attributes:
        positions: given to its newest publications, by publisher_seq.
        forgotten: up to this publisher_seq positions are no longer known; all was published but what was refused.
        refused: publisher_seq of what was refused and has not been published since, the one refused longest ago first.
        unsure: up to this publisher_seq it is no longer known either what was refused.
    """

    __slots__ = ("forgotten", "positions", "refused", "unsure")

    def __init__(self) -> None:
        self.positions: OrderedDict[int, Position] = OrderedDict()
        self.refused: OrderedDict[int, None] = OrderedDict()
        self.forgotten = self.unsure = 0

    def has_published(self, seq: int) -> bool:
        """Whether a publication was published.

        Raises:
            PublishError: that is not known any more.
        """
        if seq in self.positions:
            return True
        if seq > self.forgotten or seq in self.refused:
            return False
        if seq <= self.unsure:
            raise PublishError(
                f"publication {seq} is too old to tell whether it was published, so many were refused since; "
                "send it with a new publisher_seq to have it published for sure"
            )
        return True

    def forget_refusal(self) -> None:
        """Let go of the publication that was refused longest ago."""
        seq, _ = self.refused.popitem(last=False)
        self.unsure = max(self.unsure, seq)

    def forget_one(self) -> None:
        """Let go of the position of the oldest publication."""
        seq, _ = self.positions.popitem(last=False)
        self.forgotten = max(self.forgotten, seq)


class Publishers:
    """What is remembered of publishers, so that nothing is published twice. Bounded in every direction."""

    def __init__(
        self,
        *,
        publishers: int = PUBLISHERS,
        positions: int = POSITIONS,
        all_positions: int = ALL_POSITIONS,
        refusals: int = REFUSALS,
    ) -> None:
        """Remember nothing yet.

        Args:
            publishers: how many are told apart.
            positions: how many positions are remembered of each.
            all_positions: how many positions, and how many refusals, are remembered together.
            refusals: how many refusals are remembered of each.
        """
        self._publishers = publishers
        self._positions = positions
        self._all_positions = all_positions
        self._known: OrderedDict[str, Publisher] = OrderedDict()  # the one heard of longest ago first
        self._refusals = refusals
        self._count = self._refused = 0

    def forget(self) -> None:
        """Forget everything: what was published is gone with its epoch."""
        self._known.clear()
        self._count = self._refused = 0

    def restore(self, name: str, forgotten: int, positions: Iterable[tuple[int, Position]]) -> None:
        """Take in what a journal knows of a publisher.

        Args:
            name: of the publisher.
            forgotten: up to this publisher_seq it is not known what was published.
            positions: of its newest publications, by publisher_seq, in order.
        """
        publisher = self.get(name)
        publisher.forgotten = forgotten
        for seq, position in positions:
            self.remember(publisher, seq, position)

    def get(self, name: str) -> Publisher:
        """Return what is remembered of a publisher, heard of now."""
        publisher = self._known.get(name)
        if publisher is None:
            publisher = self._known[name] = Publisher()
            if len(self._known) > self._publishers:
                _, forgotten = self._known.popitem(last=False)
                self._count -= len(forgotten.positions)
                self._refused -= len(forgotten.refused)
        self._known.move_to_end(name)
        return publisher

    def remember(self, publisher: Publisher, seq: int, position: Position) -> None:
        """Remember the position that a publication was given; `publisher` is the one heard of last."""
        if seq in publisher.refused:
            del publisher.refused[seq]
            self._refused -= 1
        publisher.positions[seq] = position
        self._count += 1
        if len(publisher.positions) > self._positions:
            publisher.forget_one()
            self._count -= 1
        elif self._count > self._all_positions:
            next(known for known in self._known.values() if known.positions).forget_one()
            self._count -= 1

    def refuse(self, publisher: Publisher, seq: int) -> None:
        """Remember that a publication was refused; `publisher` is the one heard of last."""
        if seq in publisher.refused:
            return
        publisher.refused[seq] = None
        self._refused += 1
        if len(publisher.refused) > self._refusals:
            publisher.forget_refusal()
            self._refused -= 1
        elif self._refused > self._all_positions:
            next(known for known in self._known.values() if known.refused).forget_refusal()
            self._refused -= 1


class IngestService:
    """StateIngestService.

    Attributes:
        name: full name of the service.
        published: how many publications were published.
        repeated: how many were acknowledged again.
        refused: how many were refused.
    """

    name = ingest_pb2.DESCRIPTOR.services_by_name["StateIngestService"].full_name

    def __init__(self, origin: Origin, *, publishers: Publishers | None = None) -> None:
        """Publish what publishers send.

        Args:
            origin: gives the positions; what it owns is refused.
            publishers: what is remembered of publishers.
        """
        self._origin = origin
        self._publishers = publishers or Publishers()
        self._epoch = origin.epoch
        self._closing = asyncio.Event()
        self.published = self.repeated = self.refused = 0

    def handler(self) -> "grpc.GenericRpcHandler[bytes, bytes]":
        """Return the handler of the service's methods."""
        methods = {"Publish": grpc.stream_stream_rpc_method_handler(self._publish_all)}
        return grpc.method_handlers_generic_handler(self.name, methods)

    def close(self) -> None:
        """End every publisher's stream with UNAVAILABLE, behind the acknowledgement of all that was published."""
        self._closing.set()

    async def _publish_all(self, _requests: object, context: Context) -> None:
        """Take requests until the publisher ends its stream."""
        closing = asyncio.ensure_future(self._closing.wait())
        reading: asyncio.Future[bytes] | None = None
        try:
            while True:
                reading = asyncio.ensure_future(context.read())
                await asyncio.wait((reading, closing), return_when=asyncio.FIRST_COMPLETED)
                if not reading.done():
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "the state service is going away")
                raw = reading.result()
                if raw is grpc.aio.EOF:  # type: ignore[attr-defined]
                    return
                async for response in self._respond(raw):
                    await context.write(response)
        except grpc.aio.InternalError as error:  # the connection is gone
            log.debug("a publisher's stream ended: %s", error)
        finally:
            closing.cancel()
            if reading is not None:
                reading.cancel()

    async def _respond(self, raw: bytes) -> AsyncIterator[bytes]:
        """Publish what a request holds, yielding the responses: what is acknowledged will outlive this process."""
        request = ingest_pb2.PublishRequest()
        try:
            request.ParseFromString(raw)
        except DecodeError:
            self.refused += 1
            refusal = f"the message is not a serialized {request.DESCRIPTOR.full_name}; nothing of it was published"
            acknowledgement = ingest_pb2.Acknowledgement(refusal=refusal)
            yield ingest_pb2.PublishResponse(acknowledgements=[acknowledgement]).SerializeToString()
            return
        for start in range(0, len(request.publications), SLICE):
            publications = request.publications[start : start + SLICE]
            acknowledgements = [self.acknowledge(request.publisher, publication) for publication in publications]
            await self._origin.durable()
            yield ingest_pb2.PublishResponse(acknowledgements=acknowledgements).SerializeToString()

    def acknowledge(self, publisher: str, publication: ingest_pb2.Publication) -> ingest_pb2.Acknowledgement:
        """Publish a publication unless it was before, and say what became of it.

        A publication so old that its position is no longer remembered is acknowledged without one. One that was
        refused may be sent again, with the same publisher_seq.
        """
        acknowledgement = ingest_pb2.Acknowledgement(publisher_seq=publication.publisher_seq)
        try:
            position = self._publish_once(publisher, publication)
        except (PublishError, JournalError) as error:
            self.refused += 1
            acknowledgement.refusal = str(error)
        else:
            if position is not None:
                acknowledgement.position.CopyFrom(stream_pb2.Position(epoch=position.epoch, seq=position.seq))
        return acknowledgement

    def _publish_once(self, name: str, publication: ingest_pb2.Publication) -> Position | None:
        """Return the position of a publication; None if it was published, but it is not known any more where."""
        seq = publication.publisher_seq
        if seq == 0:
            return self._publish(publication.update, "", 0)
        if not KEY.fullmatch(name):
            raise PublishError(f"the publisher {name[:200]!r} is ill-formed: it must match {KEY_RULE}")
        if self._epoch != self._origin.epoch:
            self._epoch = self._origin.epoch
            self._publishers.forget()
        publisher = self._publishers.get(name)
        if publisher.has_published(seq):
            self.repeated += 1
            return publisher.positions.get(seq)
        try:
            position = self._publish(publication.update, name, seq)
        except (PublishError, JournalError):
            self._publishers.refuse(publisher, seq)
            raise
        self._publishers.remember(publisher, seq, position)
        return position

    def _publish(self, update: update_pb2.Update, name: str, seq: int) -> Position:
        kind = update.WhichOneof("data")
        if kind is None:
            raise PublishError("the update has no data")
        if kind == "custom":
            custom = update.custom
            published = self._origin.publish_custom(
                update.stream, custom.type, custom.json, key=update.key, publisher=name, publisher_seq=seq
            )
        else:
            self._check_declared(update, kind)
            published = self._origin.publish(getattr(update, kind), publisher=name, publisher_seq=seq)
        self.published += 1
        return published.position

    def _check_declared(self, update: update_pb2.Update, kind: str) -> None:
        """Check that an update of a declared stream names that stream and that it may be published.

        Raises:
            PublishError: it does not, or it may not.
        """
        data = getattr(update, kind)
        stream = self._origin.hub.catalogue.of_message(data)
        if update.stream != stream.name:
            raise PublishError(f"{stream.message} belongs on stream {stream.name!r}, not on {update.stream[:200]!r}")
        if stream.name in self._origin.owned:
            raise PublishError(
                f"stream {stream.name!r} is fed by the source of this state service; nobody else may publish on it"
            )
        if update.key and (not stream.keyed or update.key != getattr(data, stream.key_field)):
            allowed = f"{stream.key_field} of its data, or nothing" if stream.keyed else "nothing"
            raise PublishError(f"the key {update.key[:200]!r} is wrong: on stream {stream.name!r} it must be {allowed}")
