"""The table of planted faults: small mistakes as people make them, and what has to find each."""

from typing import NamedTuple

INTERLEAVINGS = ("-m", "tests.core.interleavings", "--steps", "60000", "--seed", "0")
"""A detector: random interleavings, judged by the oracle and the books."""


class Fault(NamedTuple):
    """A mistake in the product."""

    name: str
    file: str  # below bridge/
    before: str  # stands there once
    after: str  # takes its place
    detector: tuple[str, ...] = INTERLEAVINGS  # arguments of Python, or tests by file and function


DAMAGE = "tests/store/test_journal_damage.py::"
VOID = "tests/core/test_void.py::"
CONFIRM = "tests/ops/test_confirm.py::"
KILLED = (
    "tests/system/test_journal.py::test_a_service_that_is_killed_goes_on_with_every_acknowledged_publication_once",
)

FAULTS: tuple[Fault, ...] = (
    # ------------------------------------------------------------------ delivery
    Fault(
        "a wake-up is lost",
        "core/hub.py",
        "if self._sweeps.busy or self._catch_up.busy:",
        "if self._sweeps.busy:",
    ),
    Fault(
        "a reader is not woken when its socket takes more again",
        "core/hub.py",
        "        reader.blocked = False\n        self._catch_up.enqueue(reader)\n",
        "        reader.blocked = False\n",
    ),
    Fault(
        "a reader that waits for a page is not told of other streams",
        "core/catchup.py",
        "for reader, wait in self._waits.items():\n            if any(",
        "for reader, wait in self._waits.items():\n            if reader.fell and any(",
    ),
    Fault(
        "the cut is not moved",
        "core/sweeps.py",
        "history.cut_before, history.cut = history.cut, history.head",
        "history.cut_before = history.cut",
    ),
    Fault(
        "a sweep serves a reader twice that left and came back",
        "core/sweeps.py",
        "job.waiting.pop(reader, None) is not None:\n            self.deliveries",
        "job.waiting.get(reader) is not None:\n            self.deliveries",
    ),
    Fault(
        "a reader leaves without what the sweep had for it",
        "core/sweeps.py",
        "            reader.write(job.buffer)\n",
        "            if reader.fell:\n                reader.write(job.buffer)\n",
    ),
    Fault(
        "a reader joins before it has everything",
        "core/catchup.py",
        "if all(cursor.at == cursor.history.cut == cursor.history.head for cursor in plain):",
        "if all(cursor.at == cursor.history.head for cursor in plain):",
    ),
    Fault(
        "a paced reader loses the last value",
        "core/catchup.py",
        "if waiting and self._reminders.get(reader) != min(waiting):",
        "if waiting and reader.audience is None and self._reminders.get(reader) != min(waiting):",
    ),
    Fault(
        "having fallen behind is never over",
        "core/catchup.py",
        "behind, reader.behind, reader.fell = reader.behind, None, False",
        "behind, reader.fell = reader.behind, False",
    ),
    # ------------------------------------------------------------------ books and subscriptions
    Fault(
        "the books are off by one when a reader leaves",
        "core/audience.py",
        "            cursor.delivered += tally.delivered\n",
        "            cursor.delivered += max(0, tally.delivered - 1)\n",
    ),
    Fault(
        "what was skipped is not in the books",
        "core/audience.py",
        "            cursor.skipped += tally.skipped\n",
        "            cursor.skipped = tally.skipped\n",
    ),
    Fault(
        "whoever goes leaves a cursor behind",
        "core/hub.py",
        "        for cursor in reader.cursors.values():\n            self._release(cursor)\n",
        "",
    ),
    Fault(
        "a key is not looked at where there is a filter",
        "core/cursor.py",
        "        if self.key is not None and self.key != update.key:\n",
        "        if self.where is None and self.key not in (None, update.key):\n",
    ),
    Fault(
        "the outcome of one filter is taken for that of another",
        "core/update.py",
        "outcome = self._outcomes.get(ref(where))",
        "outcome = next(iter(self._outcomes.values()), None)",
    ),
    Fault(
        "a snapshot is ahead of its cursor",
        "core/audience.py",
        'value = history.value_at(cursor.spec.key or "", cursor.at)',
        'value = history.latest.get(cursor.spec.key or "")',
    ),
    Fault(
        "prev is that of another key",
        "core/origin.py",
        "before = history.latest.get(key)",
        "before = next(reversed(history.latest.values()), None)",
    ),
    # ------------------------------------------------------------------ recovery
    Fault(
        "a resume is off by one",
        "core/pages.py",
        "            return self.position.seq\n",
        "            return max(0, self.position.seq - 1)\n",
    ),
    Fault(
        "what cannot be had whole is begun in part",
        "core/methods.py",
        "return [self._plan(subscribe) for subscribe in asked]",
        "return (self._plan(subscribe) for subscribe in asked)",
        (VOID + "test_of_several_streams_none_begins_before_all_can",),
    ),
    Fault(
        "epochs are not compared",
        "core/pages.py",
        "    if position.epoch != history.epoch:\n        return Reason.EPOCH\n",
        "",
    ),
    Fault(
        "an epoch begins and readers go on as if it had not",
        "core/hub.py",
        "            if renewed:\n                self._restart(reader, history)\n",
        "            if renewed and not reader.blocked:\n                self._restart(reader, history)\n",
    ),
    Fault(
        "a gap is one short",
        "core/cursor.py",
        "return Step(history.oldest - 1, Missed(first, history.oldest - 1), values)",
        "return Step(history.oldest - 1, Missed(first, history.oldest - 2), values)",
    ),
    Fault(
        "the range that is missed begins one late",
        "core/cursor.py",
        "return Step(gone.last, Missed(first, gone.last), values or gone.values[-1:])",
        "return Step(gone.last, Missed(first + 1, gone.last), values or gone.values[-1:])",
    ),
    Fault(
        "nothing stands in for what is trimmed",
        "core/history.py",
        "        self.base.pop(update.key, None)\n        self.base[update.key] = update\n",
        "        self.base.setdefault(update.key, update)\n",
    ),
    Fault(
        "whoever waits for a page of an epoch that ends waits for ever",
        "core/deep.py",
        "return [waiter for place in waits for waiter in self._waits.pop(place)]",
        "return [waiter for place in waits for waiter in self._waits.pop(place) if not place.start]",
    ),
    Fault(
        "a page is dropped before who waited for it has read it",
        "core/deep.py",
        "self._let_go(next(iter(self._pages)))",
        "self._let_go(next(reversed(self._pages)))",
    ),
    Fault(
        "the id of an event is ahead of what was sent",
        "core/events.py",
        "Position(history.epoch, history.cut_before)",
        "Position(history.epoch, history.cut)",
        ("tests/core/test_events_cut.py::test_whatever_happens_nothing_is_lost_or_repeated",),
    ),
    # ------------------------------------------------------------------ positions that are not known here
    Fault(
        "a position that came elsewhere is answered as void",
        "core/methods.py",
        "reason in (Reason.EPOCH, Reason.AHEAD) and history.pages.follows:",
        "reason is Reason.EPOCH and history.pages.follows:",
        (VOID + "test_one_that_comes_here_is_resumed_from",),
    ),
    Fault(
        "whoever waits for a position is not woken when it comes",
        "core/hub.py",
        "history.head > place.start",
        "history.head > place.start + 1",
        (VOID + "test_however_many_wait_for_a_position_it_is_asked_for_once",),
    ),
    Fault(
        "a sidecar that lags behind an epoch says that the epoch is none",
        "ops/deep.py",
        "if history is None or newest.epoch != history.epoch:",
        "if history is None:",
        (CONFIRM + "test_an_epoch_that_has_begun_there_is_waited_for_until_it_begins_here",),
    ),
    # ------------------------------------------------------------------ the state service and its journal
    Fault(
        "an update is sent before it is written",
        "core/origin.py",
        "        if self._store is not None:\n            self._store.keep(update, publisher, publisher_seq)\n"
        "        if self._store is None or self._store.immediate:\n            self.hub.admit(update)\n",
        "        if self._store is None or self._store.immediate:\n            self.hub.admit(update)\n"
        "        if self._store is not None:\n            self._store.keep(update, publisher, publisher_seq)\n"
        "        if self._store is None or self._store.immediate:\n            pass\n",
        ("tests/system/test_journal.py::test_a_full_disk_stops_publishing_and_loses_nothing",),
    ),
    Fault(
        "a publication is acknowledged before it is on disk",
        "sources/ingest.py",
        "            await self._origin.durable()\n",
        "",
        ("tests/faults/test_acknowledged.py::test_with_always_nothing_is_acknowledged_or_sent_before_it_is_on_disk",),
    ),
    Fault(
        "what publishers have published is not remembered",
        "app/parts.py",
        "        publishers.restore(name, forgotten, ((seq, Position(journal.epoch, at)) for seq, _, at in newest))\n",
        "        publishers.restore(name, 0, ())\n",
        KILLED,
    ),
    Fault(
        "the mark is not moved before an update is sent",
        "store/journal/stream.py",
        "            place.mark.put_written(self.declared.name, self.written + len(data))\n",
        "            place.mark.put_written(self.declared.name, self.written)\n",
        (DAMAGE + "test_no_bit_that_changes_is_overlooked",),
    ),
    Fault(
        "a torn tail stays",
        "store/journal/recovery.py",
        "            _cut(last.path, last.end)\n",
        "",
        ("tests/faults/test_torn_tail.py::test_behind_a_torn_write_the_epoch_goes_on_after_every_end",),
    ),
    Fault(
        "a copy of a journal is taken for the journal",
        "store/journal/recovery.py",
        "    if not original:\n",
        "    if not original and not run.clean:\n",
        (DAMAGE + "test_a_copy_is_seen_to_be_one", DAMAGE + "test_a_copy_that_is_put_back_is_seen_to_be_one"),
    ),
    # ------------------------------------------------------------------ the way from there
    Fault(
        "after a failover streams begin anew",
        "sources/intake.py",
        "names = self._followed - self._given_up",
        "names = self._followed & self._given_up",
        ("tests/sources/test_failover.py::test_one_failure_after_the_other_loses_nothing_and_repeats_nothing",),
    ),
    Fault(
        "a repeat is passed on",
        "sources/intake.py",
        "        if view.seq <= history.head:\n            self.counts.repeats += 1\n            return\n",
        "        if view.seq <= history.head:\n            self.counts.repeats += 1\n"
        "            self._hub.begin(view.stream, view.epoch, view.seq - 1)\n",
        ("tests/sources/test_grpc.py::test_repeats_are_dropped_and_counted",),
    ),
    Fault(
        "a head that went back is taken for our own",
        "sources/intake.py",
        "if started.seq < history.head or started.reason == stream_pb2.REASON_AHEAD:",
        "if started.seq < 0:",
        ("tests/sources/test_grpc.py::test_a_service_whose_head_went_back_is_followed_from_what_it_has",),
    ),
    Fault(
        "history is conflated as live values are",
        "sources/intake.py",
        "if self._hub.histories[name].head >= self._newest.get(name, 0):",
        "if name:",
        ("tests/sources/test_grpc.py::test_superseded_updates_of_a_latest_stream_are_left_out",),
    ),
    # ------------------------------------------------------------------ connections
    Fault(
        "what a socket does not take of an update is lost",
        "edges/sockets.py",
        "if sent != size:",
        "if not sent:",
        ("tests/edges/test_slow_reader.py::TestHistoryHoldsAll",),
    ),
    Fault(
        "a connection that has dropped half a frame is written to again",
        "edges/wire.py",
        "if self._transport.is_closing():",
        "if not self._transport.is_closing():",
        ("tests/edges/test_sockets.py::test_nothing_follows_a_frame_that_was_torn",),
    ),
    Fault(
        "a client that never reads is never dropped",
        "edges/patience.py",
        "if left_bytes < self._left_bytes:",
        "if left_bytes <= self._left_bytes:",
        ("tests/edges/test_slow_reader.py::TestStalled::test_a_client_that_never_reads_is_dropped_and_leaves_no_memory",),
    ),
    Fault(
        "who is told that we go away is closed at once",
        "edges/drain.py",
        "timeout=max(0.0, self._begin + seconds - self._loop.time()))",
        "timeout=0.0)",
        ("tests/faults/test_going_away.py::test_whoever_is_told_a_time_has_next_to_none_of_it_left_when_it_is_closed",),
    ),
)  # fmt: skip
