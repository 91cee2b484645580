"""The oracle: knows what was published and what each client got, and says whether that is as it must be.

It judges from the publisher's log and the clients' raw frames alone, and shares no code with the bridge. Say what
happened in the order in which it happened for each client; the log may be completed later:

    oracle = Oracle()
    oracle.published('{"type":"block_update","stream":"block_updates","epoch":"e","seq":1,"data":{…}}')
    client = oracle.client("dashboard 1")
    client.sent('{"jsonrpc":"2.0","method":"state_stream.subscribe","params":["block_updates"],"id":1}')
    client.received(text)  # of every text frame: answers, snapshots, updates, and whatever else comes
    verdict = oracle.verdict()
    assert verdict.ok, verdict

Where a subscription does not begin with a JSON-RPC request that is answered, `client.subscribed(…)` says so; a request
of the dashboard's own protocol is understood too, but only the first frame tells where its subscription begins.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.jsonvalues import read_json
from tests.judge import Event, Judge, Log, Published, Start, Violation

LATEST = frozenset({"metrics", "network", "energy"})
"""The declared streams of which a reader that falls behind gets the newest only (protocol, section 2)."""


@dataclass(frozen=True)
class Verdict:
    """What the oracle says.

    Attributes:
        violations: what must not be; none in a good verdict.
        clients: how many were judged.
        published: how many updates the log has.
        delivered: how many updates the clients got, snapshots not counted.
    """

    violations: list[Violation]
    clients: int
    published: int
    delivered: int

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
        shown = "\n  ".join(str(violation) for violation in self.violations[:50])
        return f"{len(self.violations)} violations: {about}\n  {shown}"


class Oracle:
    """Collects what happened; `verdict` judges it."""

    def __init__(self, *, latest: Iterable[str] = LATEST) -> None:
        """Begin with an empty log.

        Args:
            latest: names of the streams that are delivered `latest`; all others are delivered `every`.
        """
        self.log = Log(frozenset(latest))
        self.clients: list[Client] = []
        self._wrong: list[Violation] = []

    def published(self, update: str | bytes | Mapping[str, Any]) -> None:
        """Take in one line of the publisher's log: an update as JSON, in the form that has everything."""
        got = update if isinstance(update, Mapping) else read_json(update)
        entry = Published(got["type"], got["seq"], got.get("key", ""), got.get("prev", 0), got["data"], got.get("time"))
        self.began(got["epoch"])
        if self.log.of(got["stream"], got["epoch"]).setdefault(entry.seq, entry) != entry:
            sentence = f"{got['stream']} {got['epoch']}-{entry.seq} was given to two updates"
            self._wrong.append(Violation("repeated", "the publisher", sentence))

    def began(self, epoch: str) -> None:
        """Note that an epoch began, where no update of it says so in time."""
        if epoch not in self.log.epochs:
            self.log.epochs.append(epoch)

    def client(self, name: str, *, int64_string: bool = False) -> "Client":
        """Return a new client.

        Args:
            name: as violations show it.
            int64_string: whether it asked for 64-bit integers as strings.
        """
        client = Client(name, int64_string)
        self.clients.append(client)
        return client

    def verdict(self, *, settled: bool = True) -> Verdict:
        """Judge.

        Args:
            settled: whether every client has had the time to get everything; if not, what is still to come is not
                taken for lost. A client that is closed is never expected to get more.
        """
        violations, delivered = list(self._wrong), 0
        for client in self.clients:
            judge = Judge(self.log, client.name, int64_string=client.int64_string)
            violations += judge.judge(client.events, settled=settled and client.open)
            delivered += judge.delivered
        return Verdict(violations, len(self.clients), self.log.count, delivered)


class Client:
    """What one client said and got, in order.

    Attributes:
        name: as violations show it.
        int64_string: whether it asked for 64-bit integers as strings.
        open: whether it can still get something.
        events: what happened, for the judge.
    """

    def __init__(self, name: str, int64_string: bool = False) -> None:
        self.name = name
        self.int64_string = int64_string
        self.open = True
        self.events: list[Event] = []

    def sent(self, text: str | bytes) -> None:
        """Note a message that the client sends; requests to subscribe and unsubscribe are understood."""
        self.events.append(("sent", text))

    def received(self, text: str | bytes) -> None:
        """Note the text of a frame that the client got."""
        self.events.append(("received", text))

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
