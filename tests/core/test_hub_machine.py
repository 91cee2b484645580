"""Random histories of a hub: whatever happens, in whatever order, the oracle and the books agree with it."""

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from bridge.core import catchup as catchup_module
from bridge.core import deep, pages
from bridge.core.deflate import Deflate
from bridge.core.history import HistoryLimits
from bridge.core.hub import State
from generated.theblock.state.v1 import account_pb2, block_pb2, metrics_pb2
from tests.core.disk import Disk
from tests.core.world import CATALOGUE, Client, World, elsewhere, metrics_data

EXAMPLES = int(os.environ.get("HUB_EXAMPLES", "150"))

KEYS = ("a", "b", "c")
STREAMS = ("block_updates", "metrics", "account", "notes", "rooms")
KEYED = ("account", "rooms")
SETS = (("block_updates",), ("metrics", "block_updates"), ("account",), STREAMS)
WHERES: tuple[Any, ...] = (
    None,
    None,
    {"height": {"gte": 3, "lt": 40}},
    {"nonce": 2},
    {"tps": {"in": [1.0, 2.0]}},
    {"text": {"prefix": "x"}},
)
FIELDS: tuple[Any, ...] = (None, None, ["height"], ["nonce", "text"])

number = st.integers(0, 5)


class HubMachine(RuleBasedStateMachine):
    """Several clients of several kinds; small histories, small slices, sockets that fill up."""

    @initialize(
        count=st.sampled_from([1, 3, 8, 100]),
        bytes_=st.sampled_from([3_000, 8_000, 1 << 20]),
        age_ms=st.sampled_from([0, 1000]),
        slice_writes=st.sampled_from([1, 1, 2, 3]),
        read=st.integers(1, 4),
        looked_at=st.integers(1, 3),
        capacities=st.lists(st.sampled_from([None, None, None, 3, 10]), min_size=3, max_size=8),
        streams=st.sampled_from(SETS),
        disk=st.sampled_from([None, 1, 3, 100]),
        page_updates=st.integers(1, 4),
        page_bytes=st.sampled_from([30_000, 1 << 20]),
    )
    def begin(
        self,
        count: int,
        bytes_: int,
        age_ms: int,
        slice_writes: int,
        read: int,
        looked_at: int,
        capacities: list[int | None],
        streams: tuple[str, ...],
        disk: int | None,
        page_updates: int,
        page_bytes: int,
    ) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(deep, "PAGE_UPDATES", page_updates)
        self.patch.setattr(pages, "PAGE_UPDATES", page_updates)
        self.patch.setattr(catchup_module, "READ_UPDATES", read)
        self.patch.setattr(catchup_module, "SLICE_READERS", looked_at)
        self.world = World(limits=HistoryLimits(count, bytes_, age_ms, 1000), slice_writes=slice_writes)
        self.hub = self.world.hub
        self.hub.pages.limit_bytes = page_bytes
        if disk is not None:
            self.world.disk = Disk(self.hub, part=disk)
        self.height = 0
        self.names = 0
        self.clients: list[Client] = []
        self.streams = streams
        for capacity in capacities:
            self.arrive(capacity, streams)
        self.settle()

    def arrive(self, capacity: int | None, streams: tuple[str, ...]) -> None:
        self.names += 1
        deflate = Deflate(minimum_bytes=150) if self.names % 3 == 0 else None  # some updates are shorter
        self.clients.append(self.world.client(f"client {self.names}", capacity=capacity, deflate=deflate))
        self.clients[-1].subscribe(*streams)

    def one(self, which: int) -> Client:
        return self.clients[which % len(self.clients)]

    # ------------------------------------------------------------------ publishing

    @rule(
        kinds=st.lists(st.sampled_from([*STREAMS, "block_updates", "metrics"]), min_size=1, max_size=8),
        values=st.lists(number, min_size=8, max_size=8),
        slices=st.integers(0, 3),
    )
    def publish(self, kinds: list[str], values: list[int], slices: int) -> None:
        for kind, value in zip(kinds, values, strict=False):
            self.publish_one(kind, value)
        self.run_slices(slices)

    @rule(count=st.integers(1, 3), slices=st.integers(1, 2))
    def publish_what_all_want(self, count: int, slices: int) -> None:
        """Publish on every stream, so that a sweep has something for everybody and takes more than one slice."""
        for value in range(count):
            for kind in STREAMS:
                self.publish_one(kind, value)
        self.run_slices(slices)

    @rule(which=number)
    def change_everything_in_a_sweep(self, which: int) -> None:
        self.publish_what_all_want(1, 1)
        client = self.one(which)
        client.subscribe(*self.streams)
        self.publish_what_all_want(1, 1)

    def publish_one(self, kind: str, value: int) -> None:
        match kind:
            case "block_updates":
                self.height += 1
                self.world.block(self.height)
            case "metrics":
                self.world.metrics(float(value))
            case "account":
                self.world.account(KEYS[value % 3], value)
            case "notes":
                self.world.custom("notes", {"text": "xyz"[value % 3], "nonce": value})
            case "rooms":
                self.world.custom("rooms", {"text": "xz"[value % 2]}, KEYS[value % 3])

    @rule(count=st.integers(1, 3), tps=number)
    def skip_metrics(self, count: int, tps: int) -> None:
        """Take in the newest metrics only, as a sidecar does that has fallen behind."""
        self.world.metrics(0.0)
        stream, head = CATALOGUE.get("metrics"), self.hub.histories["metrics"].head
        assert stream is not None
        for seq in range(head + 1, head + count + 1):
            update = elsewhere(self.world, stream, seq, metrics_pb2.MetricsUpdate(tps=tps), metrics_data(float(tps)))
        self.hub.admit(update)

    @rule(count=st.integers(1, 4), values=st.lists(st.tuples(st.sampled_from(KEYS), number), min_size=1, max_size=4))
    def go_on_behind_a_gap(self, count: int, values: list[tuple[str, int]]) -> None:
        """Go on behind updates that were published elsewhere and will never be had here."""
        blocks, accounts, metrics = (CATALOGUE.get(name) for name in ("block_updates", "account", "metrics"))
        assert blocks is not None
        assert accounts is not None
        assert metrics is not None
        history = self.hub.histories["block_updates"]
        for seq in range(history.head + 1, history.head + count + 1):
            self.height += 1
            payload = block_pb2.BlockUpdate(height=self.height, hash=b"\1")
            update = elsewhere(self.world, blocks, seq, payload, {"height": self.height, "hash": "0x01"})
        self.hub.begin("block_updates", history.epoch, update.seq, [update])
        history = self.hub.histories["account"]
        newest = dict(history.latest)
        changed = {}
        for seq, (key, nonce) in enumerate(values, history.head + 1):
            payload_ = account_pb2.AccountUpdate(address=key, nonce=nonce)
            prev = newest[key].seq if key in newest else 0
            update = elsewhere(
                self.world, accounts, seq, payload_, {"address": key, "nonce": nonce}, key=key, prev=prev
            )
            newest[key] = update
            changed.pop(key, None)
            changed[key] = update
        self.hub.begin("account", history.epoch, update.seq, changed.values())
        history = self.hub.histories["metrics"]
        update = elsewhere(self.world, metrics, history.head + 1, metrics_pb2.MetricsUpdate(tps=1), metrics_data(1.0))
        self.hub.begin("metrics", history.epoch, update.seq, [update])

    @rule()
    def begin_epoch(self) -> None:
        self.world.begin_epoch()

    @rule(ms=st.sampled_from([10, 600, 2000]))
    def wait(self, ms: int) -> None:
        self.world.wait(ms)

    @rule(state=st.sampled_from(list(State)))
    def change_status(self, state: State) -> None:
        self.hub.set_status(state, "so it is")

    # ------------------------------------------------------------------ what lies behind memory

    @rule(which=number, refuse=st.sampled_from([False, False, False, True]))
    def answer_page(self, which: int, refuse: bool) -> None:
        if self.world.disk is not None:
            self.world.disk.answer_one(refuse=refuse, which=which)

    @rule(
        which=number,
        stream=st.sampled_from(STREAMS),
        key=st.sampled_from([None, None, *KEYS]),
        seq=st.integers(0, 6),
        outcomes=st.lists(st.booleans(), max_size=4),
    )
    def come_back_from_far(self, which: int, stream: str, key: str | None, seq: int, outcomes: list[bool]) -> None:
        """Resume behind an old position, and have some pages come or be refused."""
        history = self.hub.histories.get(stream)
        if history is None or history.head < seq:
            return
        entry: dict[str, Any] = {"stream": stream, "since": {"epoch": history.epoch, "seq": seq}}
        if stream in KEYED and key is not None:
            entry["key"] = key
        self.begin_somewhere(self.one(which), entry)
        for refuse in outcomes:
            self.run_slices(2)
            self.answer_page(which, refuse)

    @rule(stream=st.sampled_from(STREAMS), count=st.integers(1, 20), tell=st.booleans())
    def trim_disk(self, stream: str, count: int, tell: bool) -> None:
        """Let go of the oldest updates on disk, which may not be known here yet."""
        if self.world.disk is not None and stream in self.hub.histories:
            self.world.disk.trim(stream, count, tell=tell)

    # ------------------------------------------------------------------ clients

    @rule(which=number, streams=st.sampled_from(SETS))
    def subscribe(self, which: int, streams: tuple[str, ...]) -> None:
        self.one(which).subscribe(*streams)

    @rule(
        which=number,
        stream=st.sampled_from(STREAMS),
        key=st.sampled_from([None, None, *KEYS]),
        where=st.sampled_from(WHERES),
        fields=st.sampled_from(FIELDS),
        start=st.sampled_from(["none", "none", "since", "last", "height", "time", "epoch", "ahead"]),
        back=st.integers(0, 12),
        max_rate=st.sampled_from([None, 1, 20]),
    )
    def subscribe_with_options(
        self,
        which: int,
        stream: str,
        key: str | None,
        where: Any,
        fields: Any,
        start: str,
        back: int,
        max_rate: int | None,
    ) -> None:
        history = self.hub.histories.get(stream)
        entry: dict[str, Any] = {"stream": stream, "where": where, "fields": fields}
        if stream == "metrics":
            entry["max_rate"] = max_rate
        if stream in KEYED:
            entry["key"] = key
        head, epoch = (history.head, history.epoch) if history is not None else (0, self.hub.epoch)
        match start:
            case "since":
                entry["since"] = {"epoch": epoch, "seq": max(0, head - back)}
            case "ahead":
                entry["since"] = {"epoch": epoch, "seq": head + back + 1}
            case "epoch":
                entry["since"] = {"epoch": "old", "seq": back}
            case "last":
                entry["last"] = back
            case "height":
                entry["since"] = {"height": max(0, self.height - back)}
            case "time":
                entry["since"] = {"time": self.world.now_ms - 100 * back}
        self.begin_somewhere(self.one(which), entry)

    def begin_somewhere(self, client: Client, entry: dict[str, Any]) -> None:
        """Subscribe; where that begins may be on a page that cannot be had now."""
        answer = client.call("state_stream.subscribe", entry)
        if "error" in answer:
            assert answer["error"]["code"] == -32010
            assert any(page.refused for page in self.hub.pages.held)

    @rule(which=number, stream=st.sampled_from(STREAMS), key=st.sampled_from([None, None, *KEYS]))
    def unsubscribe(self, which: int, stream: str, key: str | None) -> None:
        self.one(which).call("state_stream.unsubscribe", {"stream": stream} | ({"key": key} if key else {}))

    @rule(which=number)
    def stats(self, which: int) -> None:
        self.one(which).stats()

    @rule(which=number)
    def block(self, which: int) -> None:
        if not self.one(which).reader.blocked:
            self.hub.block(self.one(which).reader)

    @rule(which=number)
    def drain(self, which: int) -> None:
        self.one(which).drain()

    @rule(which=number, capacity=st.sampled_from([None, 1, 3, 10]))
    def leave_and_come_back(self, which: int, capacity: int | None) -> None:
        client = self.one(which)
        client.leave()
        self.clients.remove(client)
        self.arrive(capacity, self.streams)

    # ------------------------------------------------------------------ time passes

    @rule(times=st.integers(1, 3))
    def run_slices(self, times: int) -> None:
        for _ in range(times):
            self.world.slice()
        self.check_counts()

    @rule()
    def settle(self) -> None:
        """Let every client read until there is nothing more, then judge."""
        for _ in range(1000):
            for client in self.clients:
                client.drain()
            if self.world.disk is not None:
                self.world.disk.answer_all()
            if not self.world.scheduled:
                if not self.world.reminders:
                    break
                self.world.wait(100)
            self.world.slice()
        assert not self.world.scheduled
        assert not self.world.reminders
        for client in self.clients:
            for row in client.stats():
                assert row["pending"] == 0
                assert row["head"] == self.hub.histories[row["stream"]].head
            client.drain()
        self.check_counts()
        verdict = self.world.oracle.verdict()
        assert verdict.ok, verdict

    def check_counts(self) -> None:
        """Check that nothing is held that nobody needs."""
        for history in self.hub.histories.values():
            held = history.after(0, len(history))
            assert history.size_bytes == sum(update.size_bytes for update in held)
            cursors = [cursor for client in self.clients for cursor in client.reader.cursors.values()]
            assert history.cursors == sum(cursor.history is history for cursor in cursors)
            assert history.stream is not None or history.cursors
        held = self.hub.pages.held
        assert self.hub.pages.size_bytes == sum(page.size_bytes for page in held)
        assert all(page.size_bytes == sum(u.size_bytes for u in (*page.updates, *page.base)) for page in held)
        assert len(held) <= 1 or self.hub.pages.size_bytes <= self.hub.pages.limit_bytes

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            verdict = self.world.oracle.verdict(settled=False)
            assert verdict.ok, verdict
            self.settle()
            for client in self.clients:
                client.leave()
            self.check_counts()
            assert not self.hub.readers
            assert self.hub.catching_up == 0
            assert self.hub.pages.waiting == 0
        finally:
            self.patch.undo()


HubMachine.TestCase.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=50, suppress_health_check=list(HealthCheck)
)
TestHub = HubMachine.TestCase
