"""The judge of one client, for the oracle: goes through what it said and got, with the publisher's log at hand."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.jsonvalues import Data, entries_of, field_set, read_json, same, selects, trimmed

STAND_IN_LIMIT = 1000
"""How many keys' values stand in for what is missed on a stream that is read whole."""

BOOKS = ("delivered", "filtered", "skipped", "missed", "pending")

Name = tuple[str, str | None]
Event = tuple[str, Any]


class Violation(NamedTuple):
    """Something that must not be. Kinds: lost, repeated, reordered, altered, invented, unasked, books, malformed."""

    kind: str
    client: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.client}: {self.sentence}"


class Published(NamedTuple):
    """An update as the publisher's log has it."""

    type: str
    seq: int
    key: str
    prev: int
    data: Data
    time: int | None


class Log:
    """What was published.

    Attributes:
        latest: names of the streams that are delivered `latest`.
        epochs: in the order in which they began.
        streams: by name and epoch, updates by seq.
    """

    def __init__(self, latest: frozenset[str]) -> None:
        self.latest = latest
        self.epochs: list[str] = []
        self.streams: dict[str, dict[str, dict[int, Published]]] = {}

    def of(self, stream: str, epoch: str | None) -> dict[int, Published]:
        return self.streams.setdefault(stream, {}).setdefault(epoch or "", {})

    def before(self, epoch: str | None, other: str | None) -> bool:
        """Whether one epoch is known to have begun before another."""
        known = self.epochs
        return epoch in known and other in known and known.index(epoch) < known.index(other)

    @property
    def count(self) -> int:
        return sum(len(updates) for epochs in self.streams.values() for updates in epochs.values())


class Start(NamedTuple):
    """Where a subscription begins, and its options."""

    epoch: str | None
    seq: int | None
    restart: bool
    where: Mapping[str, Any] | None = None
    fields: frozenset[str] | None = None


@dataclass(eq=False)
class Subscription:
    """What is known of one subscription while a client's frames are gone through.

    Attributes:
        start: where its books begin; a guess from snapshots until it is `told`.
        anywhere: whether it may begin anywhere: nothing has told of it and it is not a new epoch.
        at: up to where everything that it wants is accounted for.
        options_at: where it stood when its options last changed.
        opening: snapshots that came before anything else since its books began where nothing was `told`.
        standing_in: snapshots ahead of it, whose range is still to be named.
        newest: the last one of each key that the client has, snapshot or update.
        filtered: whether it has had a filter since its books began.
        shared: whether another one has read the same stream at the same time.
    """

    stream: str
    key: str | None
    where: Mapping[str, Any] | None = None
    fields: frozenset[str] | None = None
    epoch: str | None = None
    start: int = 0
    told: bool = False
    anywhere: bool = False
    at: int = 0
    options_at: int = 0
    delivered: int = 0
    missed: list[tuple[int, int]] = field(default_factory=list)
    lost: set[int] = field(default_factory=set)
    opening: list[int] = field(default_factory=list)
    standing_in: list[int] = field(default_factory=list)
    newest: dict[str, int] = field(default_factory=dict)
    filtered: bool = False
    shared: bool = False

    def __str__(self) -> str:
        return f"{self.stream} {self.key or ''}".strip()

    def covers(self, update: Published) -> bool:
        """Whether an update is of its key."""
        return self.key is None or self.key == update.key

    def wants(self, update: Published) -> bool:
        return self.covers(update) and (self.where is None or selects(self.where, update.data))

    def begin(self, epoch: str | None, seq: int | None, *, told: bool) -> None:
        """Begin the books anew."""
        self.epoch, self.told = epoch, told
        self.start = self.at = self.options_at = seq or 0
        self.delivered, self.missed, self.opening, self.standing_in, self.newest = 0, [], [], [], {}
        self.filtered = self.where is not None or self.key is not None

    def change(self, where: Mapping[str, Any] | None, fields: frozenset[str] | None) -> None:
        """Change the options."""
        if where != self.where:
            self.options_at, self.newest = self.at, {}
        self.where, self.fields = where, fields
        self.filtered |= where is not None


class Judge:
    """Judges one client."""

    def __init__(self, log: Log, client: str, *, int64_string: bool) -> None:
        self.log = log
        self.client = client
        self.int64_string = int64_string
        self.delivered = 0
        self.subscriptions: dict[Name, Subscription] = {}
        self.over: set[str] = set()  # streams that the client left without an answer: some may still be on the way
        self.asked: dict[str, list[Data]] = {}  # by request id: the subscriptions asked for
        self.violations: list[Violation] = []

    def judge(self, events: Iterable[Event], *, settled: bool) -> list[Violation]:
        """Go through what happened and return what must not be."""
        for what, value in events:
            getattr(self, "on_" + what)(value)
        for subscription in self.subscriptions.values():
            if settled:
                self.check_end(subscription)
            self.report_lost(subscription)
        return self.violations

    def wrong(self, kind: str, sentence: str) -> None:
        self.violations.append(Violation(kind, self.client, sentence))

    # ------------------------------------------------------------------ what the client said

    def on_sent(self, text: str | bytes) -> None:
        try:
            message = json.loads(text)
        except ValueError:
            return  # it is not the client that is judged
        for request in message if isinstance(message, list) else [message]:
            if isinstance(request, dict):
                self.on_request(request)

    def on_request(self, request: Data) -> None:
        method = request.get("method")
        if method not in ("state_stream.subscribe", "state_stream.unsubscribe"):
            return
        entries = entries_of(request.get("params"))
        if "id" in request and method == "state_stream.subscribe":
            self.asked[json.dumps(request["id"])] = entries
        if "jsonrpc" in request and "id" in request:
            return  # its answer says where it begins
        for entry in entries:
            name = entry["stream"], entry.get("key")
            if method == "state_stream.unsubscribe":
                self.over.add(entry["stream"])
                self.on_unsubscribed(name)
            else:
                anew = entry.get("since") is not None or entry.get("last") is not None
                self.on_subscribed((name, Start(None, None, anew, entry.get("where"), field_set(entry))))

    def on_subscribed(self, value: tuple[Name, Start]) -> None:
        name, start = value
        subscription = self.subscriptions.get(name)
        if subscription is None:
            subscription = self.subscriptions[name] = Subscription(*name)
            beside = [s for s in self.subscriptions.values() if s.stream == name[0]]
            for one in beside:
                one.shared |= len(beside) > 1
            start = start._replace(restart=True)
        elif not start.restart and start.seq is not None:
            if start.epoch != subscription.epoch:
                self.move_on(subscription, start.epoch, 0)  # where its books begin there is not told
            self.pass_over(subscription, start.seq)
        subscription.change(start.where, start.fields)
        if start.restart:
            self.report_lost(subscription)
            subscription.begin(start.epoch, start.seq, told=start.seq is not None)

    def on_unsubscribed(self, name: Name) -> None:
        if (subscription := self.subscriptions.pop(name, None)) is not None:
            self.report_lost(subscription)

    # ------------------------------------------------------------------ what the client got

    def on_received(self, text: str | bytes) -> None:
        try:
            message = read_json(text)
        except ValueError as error:
            self.wrong("malformed", f"{text[:200]!r} is not JSON: {error}")
            return
        for one in message if isinstance(message, list) else [message]:
            if not isinstance(one, dict):
                self.wrong("malformed", f"{text[:200]!r} is no frame")
            elif "jsonrpc" in one:
                self.on_answer(one)
            elif one.get("type") == "error":
                for entry in self.asked.pop(json.dumps(one.get("id")), ()):
                    self.subscriptions.pop((entry["stream"], entry.get("key")), None)
            elif "seq" in one and "data" in one:
                self.on_update(one)

    def on_answer(self, answer: Data) -> None:
        entries = self.asked.pop(json.dumps(answer.get("id")), [])
        result = answer.get("result")
        if not isinstance(result, dict):
            return
        for row in result.get("subscriptions", ()):
            name = row["stream"], row.get("key")
            if "pending" in row:
                self.check_books(row, self.subscriptions.get(name))
                continue
            entry: Data = next((e for e in reversed(entries) if (e["stream"], e.get("key")) == name), {})
            anew = "recovered" in row or "replayed" in row
            self.on_subscribed((name, Start(row["epoch"], row["seq"], anew, entry.get("where"), field_set(entry))))
        for ended in result.get("unsubscribed", ()):
            self.on_unsubscribed((ended, None) if isinstance(ended, str) else (ended["stream"], ended["key"]))

    def on_update(self, frame: Data) -> None:
        stream, epoch, seq = frame["stream"], frame["epoch"], frame["seq"]
        where = f"{stream} {epoch}-{seq}"
        update = self.log.of(stream, epoch).get(seq)
        if update is None:
            self.wrong("invented", f"{where} was never published")
            return
        subscriptions = [s for s in self.subscriptions.values() if s.stream == stream and s.covers(update)]
        if not subscriptions:
            if stream not in self.over:
                self.wrong("unasked", f"{where} is of no subscription")
            return
        self.check_content(where, frame, update, subscriptions)
        if frame.get("snapshot") and "missed" not in frame:  # a repetition for one is nothing to the others
            subscriptions = [s for s in subscriptions if s.epoch == epoch and seq <= s.at] or subscriptions
        for subscription in subscriptions:
            if subscription.epoch != epoch:
                self.move_on(subscription, epoch, None)
        subscriptions = [s for s in subscriptions if s.epoch == epoch]
        if "missed" in frame:
            self.on_missed(where, frame, update, subscriptions)
        elif frame.get("snapshot"):
            self.on_snapshot(update, subscriptions)
        elif subscriptions:
            self.on_next(where, update, subscriptions)

    def check_content(self, where: str, frame: Data, update: Published, subscriptions: list[Subscription]) -> None:
        """Check that a frame says what was published, in the form of one of its subscriptions."""
        if (frame["type"], frame.get("key", ""), frame.get("prev", 0)) != (update.type, update.key, update.prev):
            self.wrong("altered", f"{where}: type, key or prev are not those of {update}")
        if update.time is not None and frame.get("time") != update.time:
            self.wrong("altered", f"{where}: time is {frame.get('time')}, not {update.time}")
        forms = [trimmed(update.data, subscription.fields) for subscription in subscriptions]
        if not any(same(form, frame["data"], self.int64_string) for form in forms):
            self.wrong("altered", f"{where}: data is {frame['data']}, not {forms[0]}")

    def move_on(self, subscription: Subscription, epoch: str | None, seq: int | None, *, told: bool = False) -> None:
        """Begin a subscription anew in another epoch, one that is newer than its own."""
        if self.log.before(epoch, subscription.epoch):
            self.wrong("reordered", f"{subscription} goes back from epoch {subscription.epoch} to {epoch}")
            return
        subscription.anywhere = subscription.epoch is None and not told
        self.report_lost(subscription)
        subscription.begin(epoch, seq, told=told)
        if subscription.anywhere:
            subscription.at = -1  # the first frame tells where it begins

    def on_snapshot(self, update: Published, subscriptions: list[Subscription]) -> None:
        for subscription in subscriptions:
            if not subscription.told and not subscription.delivered and not subscription.missed:
                subscription.opening.append(update.seq)
                subscription.start = subscription.at = max(update.seq, subscription.at)
            elif update.seq > subscription.at and subscription.stream not in self.log.latest:
                subscription.standing_in.append(update.seq)
            subscription.newest[update.key] = max(update.seq, subscription.newest.get(update.key, 0))

    def on_missed(self, where: str, frame: Data, update: Published, subscriptions: list[Subscription]) -> None:
        """Take in a snapshot that stands in for a range: for the subscriptions that stand before it."""
        first, last = frame["missed"]["from"], frame["missed"]["to"]
        where += f", missed {first} to {last}"
        if not frame.get("snapshot") or first > last:
            self.wrong("malformed", f"{where}: stands on no snapshot, or is no range")
        for subscription in subscriptions:
            self.reopen(subscription, first)
        concerned = [s for s in subscriptions if s.at < first]
        if len(concerned) > 1:  # another one's range may begin earlier, and is still to be named
            concerned = [s for s in concerned if not self.between(s, s.at, first - 1)] or concerned
        if not concerned and not any(s.shared for s in subscriptions):
            self.wrong("repeated", f"{where}: was accounted for before")
        for subscription in concerned:
            self.pass_over(subscription, first - 1)
            updates = self.log.of(subscription.stream, subscription.epoch)
            range_ = [updates[seq] for seq in range(first, last + 1) if seq in updates]
            newest = {one.key: one for one in range_ if subscription.covers(one)}
            if subscription.stream in self.log.latest:  # what lies between two may never have been had by the sidecar
                newest = {update.key: update} if update.seq <= last else {}
            if not subscription.shared:  # else which of them it stands in for is not to be told
                self.check_stand_in(where, subscription, update, newest)
            subscription.missed.append((first, last))
            subscription.at, subscription.standing_in = last, []
            subscription.newest |= {key: one.seq for key, one in newest.items()}

    def check_stand_in(
        self, where: str, subscription: Subscription, update: Published, newest: dict[str, Published]
    ) -> None:
        """Check that the values that stand in for a range are those of its end, none left out."""
        stood_in = {*subscription.standing_in, update.seq}
        if not stood_in <= {one.seq for one in newest.values()}:
            self.wrong("altered", f"{where}: {sorted(stood_in)} are not the values as they were at its end")
        wanted = {one.seq for one in newest.values() if subscription.wants(one)}
        if len(newest) <= STAND_IN_LIMIT and not wanted <= stood_in:
            self.wrong("lost", f"{where}: nothing stands in for {sorted(wanted - stood_in)}")

    def reopen(self, subscription: Subscription, first: int) -> None:
        """Take the snapshots that opened a subscription for what they are, now that `first` and more are missed."""
        opening = subscription.opening
        if opening or subscription.at < 0:
            before = [seq for seq in opening if seq < first]
            start = max(before, default=first - 1 if subscription.anywhere else 0)
            filtered = subscription.filtered
            subscription.begin(subscription.epoch, start, told=False)
            subscription.filtered = filtered
            subscription.standing_in = [seq for seq in opening if seq >= first]

    def on_next(self, where: str, update: Published, subscriptions: list[Subscription]) -> None:
        """Take in an update: the next one of at least one subscription."""
        expecting = [s for s in subscriptions if update.seq > s.at]
        if not expecting:
            late = [s for s in subscriptions if update.seq in s.lost]
            for subscription in late:
                subscription.lost.discard(update.seq)
            self.wrong("reordered" if late else "repeated", f"{where} came when its turn was over")
            return
        wanting = [s for s in expecting if s.wants(update)]
        if not wanting:
            self.wrong("unasked", f"{where} is not what a subscription selects")
        self.delivered += 1
        for subscription in wanting:
            if subscription.at < 0:
                subscription.begin(subscription.epoch, update.seq - 1, told=False)
            subscription.opening = []
            if subscription.standing_in:
                self.wrong("lost", f"{where}: {subscription.standing_in} stood in for a range that nothing names")
                subscription.standing_in = []
            self.pass_over(subscription, update.seq - 1)
            self.check_chain(where, update, subscription)
            subscription.at = update.seq
            subscription.delivered += 1
            subscription.newest[update.key] = update.seq

    def check_chain(self, where: str, update: Published, subscription: Subscription) -> None:
        """Check that `prev` names the last one of that key that the client has, so that it knows it missed none."""
        known = subscription.newest.get(update.key)
        if subscription.shared:
            return  # a snapshot that it was not for may have been taken for the last one
        if subscription.stream in self.log.latest or subscription.where is not None or not update.key:
            return
        if known is not None and update.prev != known:
            self.wrong("lost", f"{where}: prev is {update.prev}, but the last one of {update.key!r} was {known}")

    def pass_over(self, subscription: Subscription, seq: int) -> None:
        """Move a subscription on to `seq`: on streams delivered `every` none that is wanted may lie between."""
        if subscription.stream not in self.log.latest:
            subscription.lost |= self.between(subscription, subscription.at, seq)
        subscription.at = max(subscription.at, seq)

    def between(self, subscription: Subscription, at: int, seq: int) -> set[int]:
        """Return the wanted updates behind `at` up to `seq`."""
        updates = self.log.of(subscription.stream, subscription.epoch)
        return {n for n in range(at + 1, seq + 1) if n in updates and subscription.wants(updates[n])}

    # ------------------------------------------------------------------ the end, and the books

    def report_lost(self, subscription: Subscription) -> None:
        if subscription.lost:
            self.wrong("lost", f"{subscription} {subscription.epoch}: {sorted(subscription.lost)}")
            subscription.lost = set()

    def check_end(self, subscription: Subscription) -> None:
        """Check that nothing is left to come."""
        epochs = [epoch for epoch, updates in self.log.streams.get(subscription.stream, {}).items() if updates]
        if not epochs or subscription.epoch is None:
            return
        newest_epoch = max(epochs, key=self.log.epochs.index)
        if self.log.before(subscription.epoch, newest_epoch):
            self.move_on(subscription, newest_epoch, 0)
        if subscription.standing_in:
            self.wrong("lost", f"{subscription}: {subscription.standing_in} stand in for a range that nothing names")
        updates = self.log.of(subscription.stream, subscription.epoch)
        if subscription.stream not in self.log.latest:
            subscription.lost |= self.between(subscription, subscription.at, max(updates, default=0))
            return
        newest = {updates[seq].key: updates[seq] for seq in sorted(updates)}
        for key, update in newest.items():
            come = subscription.newest.get(key, 0) >= update.seq or update.seq <= subscription.options_at
            if not come and subscription.wants(update):
                subscription.lost.add(update.seq)

    def check_books(self, row: Data, subscription: Subscription | None) -> None:
        """Check a row of session.stats against itself, the log, and the frames that came."""
        name = f"books of {row['stream']} {row.get('key', '')}".strip()
        if row["head"] - row["start"] != sum(row[column] for column in BOOKS) or min(row[c] for c in BOOKS) < 0:
            self.wrong("books", f"{name} do not add up: {row}")
        if subscription is None:
            self.wrong("books", f"{name}: there is no such subscription")
            return
        if row["epoch"] != subscription.epoch:
            self.move_on(subscription, row["epoch"], row["start"], told=True)
        if not subscription.told:
            self.pass_over(subscription, row["start"])
            subscription.start, subscription.told = row["start"], True
        counted = {"start": subscription.start, "delivered": subscription.delivered}
        if not subscription.shared:
            counted["missed"] = sum(last - first + 1 for first, last in subscription.missed)
        for column, count in counted.items():
            if row[column] != count:
                self.wrong("books", f"{name}: {column} is {row[column]}, but it was {count}")
        self.pass_over(subscription, row["head"] - row["pending"])
        updates = self.log.of(subscription.stream, subscription.epoch)
        if row["head"] > max(updates, default=row["head"]):
            self.wrong("books", f"{name}: head is {row['head']}, but only {max(updates)} were published")
        if row["filtered"] and not subscription.filtered:
            self.wrong("books", f"{name}: {row['filtered']} filtered, but it has no filter")
        if row["skipped"] and subscription.stream not in self.log.latest:
            self.wrong("books", f"{name}: {row['skipped']} skipped on a stream that is delivered every update")
