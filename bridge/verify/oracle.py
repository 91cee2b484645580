"""The oracle: knows what was published and what each client got, and says whether that is as it must be.

It judges from the publisher's log and the clients' raw frames alone, and shares no code with the rest of the bridge.
Say what happened in the order in which it happened for each client; the log may be completed later:

    oracle = Oracle()
    oracle.published('{"type":"block_update","stream":"block_updates","epoch":"e","seq":1,"data":{…}}')
    client = oracle.client("dashboard 1")
    client.sent('{"jsonrpc":"2.0","method":"state_stream.subscribe","params":["block_updates"],"id":1}')
    client.received(text)  # of every frame: answers, snapshots, updates, and whatever else comes
    verdict = oracle.verdict()
    assert verdict.ok, verdict

Where a subscription does not begin with a JSON-RPC request that is answered, `client.subscribed(…)` says so; a request
of the dashboard's own protocol is understood too, but without `since` only the first frame tells where it begins.

What goes on for long is judged on the way: `oracle.advance()` judges what the log already covers and forgets it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from bridge.verify.frames import Frame, Frames, frame_of
from bridge.verify.jsonvalues import Data, read_json
from bridge.verify.judge import Event, Judge, Violation
from bridge.verify.log import Log, Published, published
from bridge.verify.subscription import Counts, Start

LATEST: Final = frozenset({"metrics", "network", "energy"})
"""The declared streams of which a reader that falls behind gets the newest only."""

SHOWN: Final = 50
"""How many violations a verdict shows."""


@dataclass(frozen=True)
class Verdict:
    """What the oracle says.

    Attributes:
        violations: what must not be; none in a good verdict.
        clients: how many were judged.
        published: how many updates the log has had.
        delivered: how many updates the clients got, snapshots not counted.
        counts: what the clients got, together.
    """

    violations: list[Violation]
    clients: int
    published: int
    delivered: int
    counts: Counts = field(default_factory=Counts, compare=False)

    @property
    def ok(self) -> bool:
        """Whether everything is as it must be."""
        return not self.violations

    @property
    def kinds(self) -> set[str]:
        """What kinds of violations there are."""
        return {violation.kind for violation in self.violations}

    def __str__(self) -> str:
        about = f"{self.clients} clients, {self.published} updates published, {self.delivered} delivered"
        if self.ok:
            return f"0 lost, 0 repeated, in order, skipped accounted for: {about}"
        shown = "\n  ".join(str(violation) for violation in self.violations[:SHOWN])
        return f"{len(self.violations)} violations: {about}\n  {shown}"


class Oracle:
    """Collects what happened; `verdict` judges it.

    Attributes:
        log: what was published.
        clients: those that are judged.
        frames: reads what clients get.
    """

    def __init__(self, *, latest: Iterable[str] = LATEST) -> None:
        """Begin with an empty log.

        Args:
            latest: names of the streams that are delivered `latest`; all others are delivered `every`.
        """
        self.log = Log(frozenset(latest))
        self.clients: list[Client] = []
        self.frames = Frames()
        self._wrong: list[Violation] = []

    def published(self, update: str | bytes | Mapping[str, Any]) -> None:
        """Take in one line of the publisher's log: an update as JSON, in the form that has everything.

        Where `time` or `prev` are left out, they are not known.
        """
        got: Data = dict(update) if isinstance(update, Mapping) else read_json(update)
        entry = published(got)
        stream, epoch = got["stream"], got["epoch"]
        known = self.log.add(stream, epoch, entry)
        if known is not entry and not alike(known, entry):
            self.wrong("repeated", f"{stream} {epoch}-{entry.seq} was given to two updates")

    def wrong(self, kind: str, sentence: str) -> None:
        """Note a violation of whoever publishes."""
        self._wrong.append(Violation(kind, "the publisher", sentence))

    def began(self, epoch: str) -> None:
        """Note that an epoch began, where no update of it says so in time."""
        self.log.began(epoch)

    def close(self, epoch: str) -> None:
        """Note that an epoch is over and that its log is as it will ever be."""
        self.log.close(epoch)

    def client(self, name: str, *, int64_string: bool = False, announced: bool = False) -> "Client":
        """Return a new client.

        Args:
            name: as violations show it.
            int64_string: whether it asked for 64-bit integers as strings.
            announced: whether every range that it misses is announced by a gap frame, as in v1.
        """
        judge = Judge(self.log, name, int64_string=int64_string, announced=announced)
        client = Client(name, int64_string, judge, self.frames)
        self.clients.append(client)
        return client

    def advance(self) -> int:
        """Judge what the log covers already, and forget it; return how much is still to be judged."""
        for client in self.clients:
            client.advance()
        return sum(len(client.events) for client in self.clients)

    def verdict(self, *, settled: bool = True) -> Verdict:
        """Judge. May be asked again later.

        Args:
            settled: whether every client has had the time to get everything; if not, what is still to come is not
                taken for lost. A client that is closed is never expected to get more.
        """
        violations: list[Violation] = []
        counts = Counts()
        for client in self.clients:
            judge = client.judged()
            violations += judge.finish(settled=settled and client.open)
            counts.add(judge.counts)
        violations = self._wrong + violations
        return Verdict(violations, len(self.clients), self.log.count, counts.delivered, counts)


class Client:
    """What one client said and got, in order.

    Attributes:
        name: as violations show it.
        int64_string: whether it asked for 64-bit integers as strings.
        open: whether it can still get something.
        events: what happened since it was last judged.
    """

    def __init__(self, name: str, int64_string: bool, judge: Judge, frames: Frames) -> None:
        self.name = name
        self.int64_string = int64_string
        self.open = True
        self.events: list[Event] = []
        self._judge = judge
        self._frames = frames

    @property
    def counts(self) -> Counts:
        """What it got, as far as it was judged."""
        return self._judge.counts

    @property
    def violations(self) -> list[Violation]:
        """What was found wrong so far."""
        return self._judge.violations

    def sent(self, text: str | bytes) -> None:
        """Note a message that the client sends; requests to subscribe and unsubscribe are understood."""
        self.events.append(("sent", text))

    def received(self, text: str | bytes) -> Frame:
        """Note the text of a frame that the client got."""
        frame = self._frames.read(text)
        self.events.append(("received", frame))
        return frame

    def received_binary(self, payload: bytes) -> Frame:
        """Note a binary frame that the client got."""
        frame = self._frames.read_binary(payload)
        self.events.append(("received", frame))
        return frame

    def received_value(self, value: Data) -> Frame:
        """Note something that the client got in another way, as the JSON frame that would say it."""
        frame = frame_of(value)
        self.events.append(("received", frame))
        return frame

    def connected(self) -> None:
        """Note a new connection: the subscriptions of the one before are over."""
        self.events.append(("connected", None))

    def subscribed(
        self,
        stream: str,
        *,
        key: str | None = None,
        epoch: str | None = None,
        seq: int | None = None,
        restart: bool = True,
        where: Mapping[str, Any] | None = None,
        fields: Iterable[str] | None = None,
    ) -> None:
        """Note that a subscription stands behind a position from here on.

        Args:
            stream: its name.
            key: the one key wanted; None: all.
            epoch: of the position; None: not known, the first frame tells.
            seq: of the position.
            restart: whether its books begin anew there; else only its options change.
            where: the filter, as in a request.
            fields: the field set, as in a request.
        """
        start = Start(epoch, seq, restart, where, None if fields is None else frozenset(fields))
        self.events.append(("subscribed", ((stream, key), start)))

    def unsubscribed(self, stream: str, *, key: str | None = None) -> None:
        """Note that a subscription is over."""
        self.events.append(("unsubscribed", (stream, key)))

    def closed(self) -> None:
        """Note that the connection is gone: nothing more is expected."""
        self.open = False

    def advance(self) -> None:
        """Judge what the log covers already, and forget it."""
        del self.events[: self._judge.advance(self.events)]

    def judged(self) -> Judge:
        """Return a judge that has gone through everything, and does not change what is known here."""
        judge = self._judge.copy()
        judge.advance(self.events, final=True)
        return judge


def alike(known: Published, other: Published) -> bool:
    """Whether two accounts of an update agree in what both know."""
    return (
        (known.type, known.key, known.data) == (other.type, other.key, other.data)
        and (None in (known.prev, other.prev) or known.prev == other.prev)
        and (None in (known.time, other.time) or known.time == other.time)
    )
