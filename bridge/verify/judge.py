"""The judge of one client: goes through what it said and got, with the log at hand."""

import copy
import json
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from bridge.verify import books
from bridge.verify.frames import Frame
from bridge.verify.jsonvalues import Data, entries_of, field_set, same, trimmed
from bridge.verify.log import Log, Published, Run
from bridge.verify.subscription import Counts, Name, Start, Subscription

STAND_IN_LIMIT: Final = 1000
"""How many keys' values stand in for what is missed on a stream that is read whole."""

WRONG_LIMIT: Final = 1000
"""How many violations of one client are kept."""

Event = tuple[str, Any]


class Violation(NamedTuple):
    """Something that must not be.

    Kinds: lost, repeated, reordered, altered, invented, unasked, unrecovered, unannounced, books, malformed.
    """

    kind: str
    client: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.client}: {self.sentence}"


class Judge:
    """Judges one client.

    Attributes:
        counts: what it got.
        violations: what must not be.
    """

    def __init__(self, log: Log, client: str, *, int64_string: bool, announced: bool) -> None:
        """Begin with nothing.

        Args:
            log: what was published.
            client: as violations show it.
            int64_string: whether it asked for 64-bit integers as strings.
            announced: whether every range that is missed is announced by a gap frame.
        """
        self.log = log
        self.client = client
        self.int64_string = int64_string
        self.announced = announced
        self.counts = Counts()
        self.subscriptions: dict[Name, Subscription] = {}
        self.by_stream: dict[str, list[Subscription]] = {}
        self.over: set[str] = set()  # streams that the client left without an answer: some may still be on the way
        self.asked: dict[str, list[Data]] = {}  # by request id: the subscriptions asked for
        self.gaps: set[tuple[str, str, int, int]] = set()  # announced: stream, epoch, from, to
        self.before: dict[Name, tuple[str, int]] = {}  # where subscriptions of earlier connections stood
        self.violations: list[Violation] = []

    def copy(self) -> "Judge":
        """Return one that stands where this one does, and goes on by itself."""
        other = copy.copy(self)
        other.counts = copy.copy(self.counts)
        other.subscriptions = {name: copy.deepcopy(s) for name, s in self.subscriptions.items()}
        other.by_stream = {}
        for one in other.subscriptions.values():
            other.by_stream.setdefault(one.stream, []).append(one)
        other.over, other.gaps, other.violations = set(self.over), set(self.gaps), list(self.violations)
        other.asked, other.before = dict(self.asked), dict(self.before)
        return other

    def advance(self, events: Sequence[Event], *, final: bool = False) -> int:
        """Go through what happened, as far as the log reaches.

        Args:
            events: what happened next.
            final: whether the log holds all that it ever will.

        Returns:
            How many events were gone through.
        """
        knows = self.log.knows
        for number, (what, value) in enumerate(events):
            if what == "received":
                if not final and not all(knows(*need) for need in value.needs):
                    return number
                getattr(self, "on_" + value.kind)(value)
            else:
                getattr(self, "on_" + what)(value)
        return len(events)

    def finish(self, *, settled: bool) -> list[Violation]:
        """Return what must not be.

        Args:
            settled: whether everything must have come that the client wants.
        """
        for subscription in self.subscriptions.values():
            if settled:
                self.check_end(subscription)
            self.report_lost(subscription)
        return self.violations

    def wrong(self, kind: str, sentence: str) -> None:
        """Note a violation."""
        if len(self.violations) < WRONG_LIMIT:
            self.violations.append(Violation(kind, self.client, sentence))

    # ------------------------------------------------------------------ what the client said

    def on_connected(self, _value: object) -> None:
        """Take note of a new connection: it has no subscription yet."""
        for name, subscription in list(self.subscriptions.items()):
            self.before[name] = subscription.epoch or "", subscription.at
            self.on_unsubscribed(name)
        self.over.clear()
        self.asked.clear()
        self.gaps.clear()

    def on_sent(self, text: str | bytes) -> None:
        """Take in a message."""
        try:
            message = json.loads(text)
        except ValueError:
            return  # it is not the client that is judged
        for request in message if isinstance(message, list) else [message]:
            if isinstance(request, dict):
                self.on_request(request)

    def on_request(self, request: Data) -> None:
        """Take in a request."""
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
                since = entry.get("since")
                anew = since is not None or entry.get("last") is not None
                epoch, seq = (since.get("epoch"), since.get("seq")) if isinstance(since, dict) else (None, None)
                self.on_subscribed((name, Start(epoch, seq, anew, entry.get("where"), field_set(entry))))

    def on_subscribed(self, value: tuple[Name, Start]) -> None:
        """Take note of where a subscription begins, or that its options change."""
        name, start = value
        subscription = self.subscriptions.get(name)
        if subscription is None:
            subscription = self.subscriptions[name] = Subscription(*name)
            beside = self.by_stream.setdefault(name[0], [])
            beside.append(subscription)
            for one in beside:
                one.shared |= len(beside) > 1
            start = start._replace(restart=True)
        elif not start.restart and start.seq is not None:
            if start.epoch != subscription.epoch:
                self.move_on(subscription, start.epoch, None)  # where its books begin there is not told
            self.pass_over(subscription, start.seq)
        subscription.change(start.where, start.fields)
        if start.restart:
            self.report_lost(subscription)
            subscription.begin(start.epoch, start.seq, told=start.seq is not None)

    def on_unsubscribed(self, name: Name) -> None:
        """Take note that a subscription is over."""
        if (subscription := self.subscriptions.pop(name, None)) is not None:
            self.by_stream[name[0]].remove(subscription)
            self.report_lost(subscription)

    # ------------------------------------------------------------------ what the client got

    def on_malformed(self, frame: Frame) -> None:
        """Take in what is no frame."""
        self.wrong("malformed", frame.message)

    def on_other(self, _frame: Frame) -> None:
        """Take in a frame that says nothing of updates."""

    def on_batch(self, frame: Frame) -> None:
        """Take in several answers."""
        for part in frame.message:
            getattr(self, "on_" + part.kind)(part)

    def on_error(self, frame: Frame) -> None:
        """Take in a refusal of a request that is not answered otherwise."""
        for entry in self.asked.pop(json.dumps(frame.message.get("id")), ()):
            self.on_unsubscribed((entry["stream"], entry.get("key")))

    def on_gap(self, frame: Frame) -> None:
        """Take in an announcement of missed updates."""
        gap = frame.message
        self.gaps.add((gap["stream"], gap["epoch"], gap["from"], gap["to"]))

    def on_progress(self, frame: Frame) -> None:
        """Take in how far streams have come: the client may resume from there, so it must have all before."""
        for row in frame.message["positions"]:
            for subscription in self.by_stream.get(row["stream"], ()):
                if subscription.epoch == row["epoch"]:
                    self.pass_over(subscription, row["seq"])

    def on_answer(self, frame: Frame) -> None:
        """Take in a response."""
        answer = frame.message
        entries = self.asked.pop(json.dumps(answer.get("id")), [])
        result = answer.get("result")
        if not isinstance(result, dict):
            return
        for row in result.get("subscriptions", ()):
            name = row["stream"], row.get("key")
            if "pending" in row:
                books.check(self, row, self.subscriptions.get(name))
                continue
            entry: Data = next((e for e in reversed(entries) if (e["stream"], e.get("key")) == name), {})
            anew = "recovered" in row or "replayed" in row
            if anew and isinstance(entry.get("since"), dict) and "seq" in entry["since"]:
                self.check_resumed(row, entry["since"])
            self.on_subscribed((name, Start(row["epoch"], row["seq"], anew, entry.get("where"), field_set(entry))))
        for ended in result.get("unsubscribed", ()):
            self.on_unsubscribed((ended, None) if isinstance(ended, str) else (ended["stream"], ended["key"]))

    def check_resumed(self, row: Data, since: Data) -> None:
        """Check the answer to a position: within its epoch everything behind it follows, or is named as missed."""
        what = f"{row['stream']} {row.get('key', '')}".strip()
        asked, got = f"{since['epoch']}-{since['seq']}", f"{row['epoch']}-{row['seq']}"
        reason = row.get("reason")
        if row["epoch"] != since["epoch"]:
            self.counts.renewed += 1
            if row.get("recovered") or reason != "epoch":
                self.wrong("unrecovered", f"{what}: {asked} was answered with {got}, not as one of another epoch")
            if self.log.before(row["epoch"], since["epoch"]):
                self.wrong("reordered", f"{what}: {asked} was answered with {got}, of an epoch that was over")
        elif reason in ("epoch", "ahead"):
            if reason == "epoch" or self.had((row["stream"], row.get("key")), row["epoch"]) >= since["seq"]:
                self.wrong("unrecovered", f"{what}: the client was at {asked}, and yet the answer is {reason!r}")
        elif row["seq"] != since["seq"]:
            self.wrong("unrecovered", f"{what}: {asked} was answered with {got}, without a word on what lies between")
        else:
            self.counts.resumed += 1

    def had(self, name: Name, epoch: str) -> int:
        """Return up to where a client has been served in an epoch, on this connection or on the one before."""
        subscription = self.subscriptions.get(name)
        places = [self.before.get(name, ("", 0))]
        if subscription is not None:
            places.append((subscription.epoch or "", subscription.at))
        return max((seq for its_epoch, seq in places if its_epoch == epoch), default=-1)

    def on_update(self, frame: Frame) -> None:
        """Take in an update, or a snapshot."""
        message = frame.message
        stream, epoch, seq = message["stream"], message["epoch"], message["seq"]
        update = self.log.find(message)
        if update is None:
            self.wrong("invented", f"{stream} {epoch}-{seq} was never published")
            return
        subscriptions = [s for s in self.by_stream.get(stream, ()) if s.key is None or s.key == update.key]
        if not subscriptions:
            if stream not in self.over:
                self.wrong("unasked", f"{stream} {epoch}-{seq} is of no subscription")
            return
        if (self.int64_string, subscriptions[0].fields) not in frame.proven:
            self.check_content(frame, update, subscriptions)
        snapshot = message.get("snapshot", False)
        if snapshot and "missed" not in message:  # a repetition for one is nothing to the others
            subscriptions = [s for s in subscriptions if s.epoch == epoch and seq <= s.at] or subscriptions
        for subscription in subscriptions:
            if subscription.epoch != epoch:
                self.move_on(subscription, epoch, None)
        subscriptions = [s for s in subscriptions if s.epoch == epoch]
        if "missed" in message:
            self.on_missed(message, update, subscriptions)
        elif snapshot:
            self.on_snapshot(update, subscriptions)
        elif subscriptions:
            self.on_next(message, update, subscriptions)

    def check_content(self, frame: Frame, update: Published, subscriptions: list[Subscription]) -> None:
        """Check that a frame says what was published, in the form of one of its subscriptions."""
        message = frame.message
        got, wrong = (message["type"], message.get("key", ""), message.get("prev", 0)), len(self.violations)
        prev = got[2] if update.prev is None else update.prev
        if got != (update.type, update.key, prev):
            self.wrong("altered", f"{place(message)}: type, key or prev are not those of {update}")
        if update.time is None:
            update.time = message.get("time")
        elif message.get("time") != update.time:
            self.wrong("altered", f"{place(message)}: time is {message.get('time')}, not {update.time}")
        for subscription in subscriptions:
            if same(trimmed(update.data, subscription.fields), message["data"], self.int64_string):
                if wrong == len(self.violations):
                    frame.proven.add((self.int64_string, subscription.fields))
                return
        form = trimmed(update.data, subscriptions[0].fields)
        self.wrong("altered", f"{place(message)}: data is {message['data']}, not {form}")

    def move_on(self, subscription: Subscription, epoch: str | None, seq: int | None, *, told: bool = False) -> None:
        """Begin a subscription anew in another epoch, one that is newer than its own."""
        if self.log.before(epoch, subscription.epoch):
            self.wrong("reordered", f"{subscription} goes back from epoch {subscription.epoch} to {epoch}")
            return
        subscription.anywhere = seq is None  # an epoch may begin behind what the sidecar has taken in of it
        self.report_lost(subscription)
        subscription.begin(epoch, seq, told=told)
        if subscription.anywhere:
            subscription.at = -1  # the first frame tells where it begins

    def on_snapshot(self, update: Published, subscriptions: list[Subscription]) -> None:
        """Take in a current value."""
        self.counts.snapshots += 1
        for subscription in subscriptions:
            if not subscription.told and not subscription.delivered and not subscription.missed:
                subscription.opening.append(update.seq)
                subscription.start = subscription.at = max(update.seq, subscription.at)
            elif update.seq > subscription.at and subscription.stream not in self.log.latest:
                subscription.standing_in.append(update.seq)
            subscription.newest[update.key] = max(update.seq, subscription.newest.get(update.key, 0))

    def on_missed(self, message: Data, update: Published, subscriptions: list[Subscription]) -> None:
        """Take in a snapshot that stands in for a range: for the subscriptions that stand before it."""
        first, last = message["missed"]["from"], message["missed"]["to"]
        where = f"{place(message)}, missed {first} to {last}"
        if not message.get("snapshot") or first > last:
            self.wrong("malformed", f"{where}: stands on no snapshot, or is no range")
        gap = message["stream"], message["epoch"], first, last
        if self.announced and gap not in self.gaps:
            self.wrong("unannounced", f"{where}: no gap was announced before")
        self.gaps.discard(gap)
        self.counts.gaps += 1
        self.counts.missed += last - first + 1
        for subscription in subscriptions:
            self.reopen(subscription, first)
        concerned = [s for s in subscriptions if s.at < first]
        if len(concerned) > 1:  # another one's range may begin earlier, and is still to be named
            concerned = [s for s in concerned if not self.between(s, s.at, first - 1)] or concerned
        if not concerned and not any(s.shared for s in subscriptions):
            self.wrong("repeated", f"{where}: was accounted for before")
        for subscription in concerned:
            self.pass_over(subscription, first - 1)
            run = self.log.run(subscription.stream, subscription.epoch)
            range_ = [run.updates[seq] for seq in range(max(first, run.forgotten), last + 1) if seq in run.updates]
            newest = {one.key: one for one in range_ if subscription.covers(one)}
            if subscription.stream in self.log.latest:  # what lies between two may never have been had by the sidecar
                newest = {update.key: update} if update.seq <= last else {}
            if not subscription.shared and first > run.forgotten:  # else what it stands in for is not to be told
                self.check_stand_in(where, subscription, update, newest, run)
            subscription.missed.append((first, last))
            subscription.at, subscription.opening, subscription.standing_in = last, [], []
            subscription.newest |= {key: one.seq for key, one in newest.items()}

    def check_stand_in(
        self, where: str, subscription: Subscription, update: Published, newest: dict[str, Published], run: Run
    ) -> None:
        """Check that the values that stand in for a range are those of its end.

        None is left out but those of keys that have a newer value behind the range: a sidecar that began within it
        never had them, and the newer one follows.
        """
        stood_in = {*subscription.standing_in, update.seq}
        if not stood_in <= {one.seq for one in newest.values()}:
            self.wrong("altered", f"{where}: {sorted(stood_in)} are not the values as they were at its end")
        wanted = {one.seq for one in newest.values() if subscription.wants(one) and run.newest[one.key] is one}
        if len(newest) <= STAND_IN_LIMIT and not wanted <= stood_in:
            self.wrong("lost", f"{where}: nothing stands in for {sorted(wanted - stood_in)}")

    @staticmethod
    def reopen(subscription: Subscription, first: int) -> None:
        """Take the snapshots that opened a subscription for what they are, now that `first` and more are missed."""
        opening = subscription.opening
        if opening or subscription.at < 0:
            before = [seq for seq in opening if seq < first]
            start = max(before, default=first - 1 if subscription.anywhere else 0)
            filtered = subscription.filtered
            subscription.begin(subscription.epoch, start, told=False)
            subscription.filtered = filtered
            subscription.opening = before if subscription.where is not None else []
            subscription.standing_in = [seq for seq in opening if seq >= first]

    def on_next(self, message: Data, update: Published, subscriptions: list[Subscription]) -> None:
        """Take in an update: the next one of at least one subscription."""
        seq = update.seq
        expecting = [s for s in subscriptions if seq > s.at]
        if not expecting:
            late = [s for s in subscriptions if seq in s.lost]
            for subscription in late:
                subscription.lost.discard(seq)
            self.wrong("reordered" if late else "repeated", f"{place(message)} came when its turn was over")
            return
        wanting = [s for s in expecting if s.where is None or s.wants(update)]
        if not wanting:
            self.wrong("unasked", f"{place(message)} is not what a subscription selects")
        self.counts.delivered += 1
        for subscription in wanting:
            if subscription.at < 0:
                subscription.begin(subscription.epoch, seq - 1, told=False)
            if subscription.standing_in:
                sentence = f"{subscription.standing_in} stood in for a range that nothing names"
                self.wrong("lost", f"{place(message)}: {sentence}")
                subscription.standing_in = []
            if seq > subscription.at + 1:
                self.pass_over(subscription, seq - 1)
            subscription.opening = []
            if update.key:
                self.check_chain(message, update, subscription)
            subscription.at = seq
            subscription.delivered += 1
            subscription.newest[update.key] = seq

    def check_chain(self, message: Data, update: Published, subscription: Subscription) -> None:
        """Check that `prev` names the last one of that key that the client has, so that it knows it missed none."""
        if subscription.shared or subscription.where is not None or subscription.stream in self.log.latest:
            return  # of several, a snapshot that it was not for may have been taken for the last one
        known = subscription.newest.get(update.key)
        prev = message.get("prev", 0) if update.prev is None else update.prev
        if known is not None and prev != known:
            self.wrong("lost", f"{place(message)}: prev is {prev}, but the last one of {update.key!r} was {known}")

    def pass_over(self, subscription: Subscription, seq: int) -> None:
        """Move a subscription on to `seq`: on streams delivered `every` none that is wanted may lie between."""
        if subscription.opening and subscription.where is not None and not subscription.told:
            subscription.at = subscription.opened_at(self.log.run(subscription.stream, subscription.epoch), seq)
        if seq > subscription.at:
            if subscription.at >= 0 and subscription.stream not in self.log.latest:
                subscription.lost |= self.between(subscription, subscription.at, seq)
            subscription.at = seq

    def between(self, subscription: Subscription, at: int, seq: int) -> set[int]:
        """Return the wanted updates behind `at` up to `seq`."""
        run = self.log.run(subscription.stream, subscription.epoch)
        updates, first = run.updates, max(at, run.forgotten) + 1
        if subscription.whole:  # positions are dense: where one is known of, there was one at each before it
            return set(range(first, min(seq, run.head) + 1))
        return {n for n in range(first, seq + 1) if n in updates and subscription.wants(updates[n])}

    # ------------------------------------------------------------------ the end

    def report_lost(self, subscription: Subscription) -> None:
        """Tell what a subscription has lost."""
        if subscription.lost:
            self.wrong("lost", f"{subscription} {subscription.epoch}: {ranges(subscription.lost)}")
            subscription.lost = set()

    def check_end(self, subscription: Subscription) -> None:
        """Check that nothing is left to come."""
        newest_epoch = self.log.newest_epoch(subscription.stream)
        if newest_epoch is None or subscription.epoch is None:
            return
        if self.log.before(subscription.epoch, newest_epoch):
            self.move_on(subscription, newest_epoch, 0)
        if subscription.standing_in:
            self.wrong("lost", f"{subscription}: {subscription.standing_in} stand in for a range that nothing names")
        run = self.log.run(subscription.stream, subscription.epoch)
        if subscription.stream not in self.log.latest:
            subscription.lost |= self.between(subscription, subscription.at, run.head)
            return
        for key, update in run.newest.items():
            come = subscription.newest.get(key, 0) >= update.seq or update.seq <= subscription.options_at
            if not come and subscription.wants(update):
                subscription.lost.add(update.seq)


def place(message: Data) -> str:
    """Return the place of an update, for a sentence."""
    return f"{message['stream']} {message['epoch']}-{message['seq']}"


def ranges(seqs: set[int]) -> str:
    """Return seqs for a sentence: "3, 5 to 9"."""
    found: list[list[int]] = []
    for seq in sorted(seqs):
        if found and seq == found[-1][1] + 1:
            found[-1][1] = seq
        else:
            found.append([seq, seq])
    return ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in found)
