"""A live bridge is judged, for as long as somebody likes, by clients that are cut off and resume."""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bridge.verify.oracle import Oracle, Verdict
from bridge.verify.plan import Habit, Plan, plan
from bridge.verify.reference import Head, Pages, Reference, ReferenceLostError
from bridge.verify.visitor import Visitor
from bridge.verify.websocket import Target

TICK_SECONDS: Final = 0.25
"""How often clients are looked after."""

CUT_SECONDS: Final = 4.0
"""How long a connection of a client that is cut off lasts, on average."""

NAP_SECONDS: Final = 3.0
"""How long a slow client reads nothing, and then reads."""

BOOKS_SECONDS: Final = 2.0
"""How often the books of each client are asked for."""

PROGRESS_SECONDS: Final = 10.0
"""How often a line says how things stand."""

SETTLE_SECONDS: Final = 30.0
"""How long clients may take, at the end, to get everything."""

KEPT: Final = 50_000
"""How many updates of a stream are remembered."""

SHOWN: Final = 100
"""How many violations are shown."""

PENDING: Final = 200_000
"""How much may wait to be judged; beyond that every client stops reading until the reference has come so far."""


class VerifyError(Exception):
    """The bridge cannot be judged; the text says why."""


@dataclass(frozen=True)
class Wanted:
    """What is asked for.

    Attributes:
        target: the sidecar.
        seconds: how long.
        clients: how many.
        streams: that they subscribe to; empty: all.
        seed: of what is left to chance.
    """

    target: Target
    seconds: float = 60.0
    clients: int = 9
    streams: tuple[str, ...] = ()
    seed: int = 0


@dataclass
class Report:
    """What was found.

    Attributes:
        verdict: of the oracle.
        seconds: how long it took.
        streams: that were subscribed to.
        connections: of all clients.
        cuts: connections that were cut.
        refused: what was refused, by client.
        unsettled: clients that have not got everything in time.
        reference: why the reference cannot be asked; empty where it can.
    """

    verdict: Verdict
    seconds: float
    streams: list[str]
    connections: int
    cuts: int
    refused: list[str] = field(default_factory=list)
    unsettled: list[str] = field(default_factory=list)
    reference: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return self.verdict.ok and not self.faults

    @property
    def faults(self) -> list[str]:
        """What is wrong beside violations: one sentence each."""
        faults = [f"refused: {sentence}" for sentence in self.refused]
        faults += [f"behind: {name} has not got everything after {SETTLE_SECONDS:g} s" for name in self.unsettled]
        return faults + ([f"reference: {self.reference}"] if self.reference else [])

    def to_object(self) -> dict[str, Any]:
        """Return it for programs."""
        counts = self.verdict.counts
        return {
            "ok": self.ok,
            "seconds": round(self.seconds, 1),
            "streams": self.streams,
            "clients": self.verdict.clients,
            "published": self.verdict.published,
            "delivered": counts.delivered,
            "snapshots": counts.snapshots,
            "connections": self.connections,
            "cuts": self.cuts,
            "resumed": counts.resumed,
            "renewed": counts.renewed,
            "gaps": counts.gaps,
            "missed": counts.missed,
            "wrong": len(self.verdict.violations),
            "violations": [violation._asdict() for violation in self.verdict.violations[:SHOWN]],
            "faults": self.faults,
        }


async def verify(wanted: Wanted, pages: Pages, tell: Callable[[str], object]) -> Report:
    """Judge a live bridge.

    When cancelled, it judges what there was until then.

    Args:
        wanted: what is asked for.
        pages: tell what is published; closed at the end.
        tell: takes a line on how things stand.

    Raises:
        VerifyError: it cannot be judged.
    """
    oracle = Oracle(latest=())
    reference = Reference(oracle, pages)
    try:
        try:
            heads = await reference.begin()
        except ReferenceLostError as error:
            raise VerifyError(str(error)) from error
        chosen = choose(heads, wanted.streams)
        plans = plan(wanted.clients, chosen, oracle.log, random.Random(wanted.seed))
        run = Run(wanted, oracle, reference, plans, tell)
        tell(f"{wanted.clients} clients read {', '.join(head.stream for head in chosen)} for {wanted.seconds:g} s")
        return await run.judge([head.stream for head in chosen])
    finally:
        await pages.close()


def choose(heads: Sequence[Head], names: Sequence[str]) -> list[Head]:
    """Return the streams to subscribe to.

    Raises:
        VerifyError: one that is named is not there, or there is none.
    """
    known = {head.stream: head for head in heads}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise VerifyError(f"nothing has declared stream {unknown[0]!r}; there are {', '.join(known)}")
    chosen = [known[name] for name in names] or list(heads)
    if not chosen:
        raise VerifyError("the sidecar has no stream")
    return chosen


class Run:
    """The clients, and what happens to them."""

    def __init__(
        self, wanted: Wanted, oracle: Oracle, reference: Reference, plans: list[Plan], tell: Callable[[str], object]
    ) -> None:
        self._wanted = wanted
        self._oracle = oracle
        self._reference = reference
        self._tell = tell
        self._chance = random.Random(wanted.seed + 1)
        self._plans = plans
        self._visitors = [self._visitor(one) for one in plans]
        self._cuts = 0
        self._began = time.monotonic()
        self._held = False

    def _visitor(self, one: Plan) -> Visitor:
        return Visitor(
            one.name,
            one.kind,
            one.wishes,
            self._oracle,
            lambda: self._wanted.target,
            chance=random.Random(self._chance.random()),
            int64_string=one.int64_string,
            receive_buffer_bytes=one.receive_buffer_bytes,
        )

    async def judge(self, streams: list[str]) -> Report:
        """Have everybody live for as long as is wanted, then let them get everything, and judge."""
        tasks = [asyncio.create_task(visitor.run()) for visitor in self._visitors]
        tasks.append(asyncio.create_task(self._reference.follow()))
        unsettled: list[str] = []
        lost = ""
        try:
            with contextlib.suppress(TimeoutError, asyncio.CancelledError):
                async with asyncio.timeout(self._wanted.seconds):
                    await self._live()
            self._tell("everybody gets what is left")
            unsettled = await self._settle()
            for visitor in self._visitors:
                visitor.sleep()
            lost = await self._reference.finish()
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result
        return Report(
            self._oracle.verdict(settled=False),  # it goes on; that nothing was left is what the books have said
            time.monotonic() - self._began,
            streams,
            sum(visitor.connections for visitor in self._visitors),
            self._cuts,
            [f"{visitor.name}: {sentence}" for visitor in self._visitors for sentence in visitor.refused],
            unsettled,
            lost,
        )

    async def _live(self) -> None:
        ticks = 0
        while True:
            await asyncio.sleep(TICK_SECONDS)
            ticks += 1
            for one, visitor in zip(self._plans, self._visitors, strict=True):
                self._look_after(one.habit, visitor, ticks * TICK_SECONDS)
            if ticks % round(1 / TICK_SECONDS) == 0:
                self._judge_on_the_way()
            if ticks % round(PROGRESS_SECONDS / TICK_SECONDS) == 0:
                self._tell(self._progress())

    def _look_after(self, habit: Habit, visitor: Visitor, seconds: float) -> None:
        if habit is Habit.CUT and self._chance.random() < TICK_SECONDS / CUT_SECONDS and visitor.connected:
            self._cuts += 1
            visitor.cut()
        if habit is Habit.SLOW and not self._held:
            asleep = seconds % (2 * NAP_SECONDS) < NAP_SECONDS
            if asleep is not visitor.asleep:
                visitor.sleep() if asleep else visitor.wake()
        if seconds % BOOKS_SECONDS == 0:
            visitor.ask_books()

    def _judge_on_the_way(self) -> None:
        pending = self._oracle.advance()
        self._oracle.log.trim(KEPT)
        hold = pending > PENDING
        if hold is not self._held:
            self._held = hold
            for visitor in self._visitors:
                visitor.sleep() if hold else visitor.wake()

    def _progress(self) -> str:
        counts = [visitor.client.counts for visitor in self._visitors]
        wrong = sum(len(visitor.client.violations) + len(visitor.refused) for visitor in self._visitors)
        line = (
            f"{time.monotonic() - self._began:.0f} s: {self._oracle.log.count:,} published, "
            f"{sum(one.delivered for one in counts):,} delivered to {len(counts)} clients, {self._cuts} cuts, "
            f"{sum(one.resumed for one in counts)} resumed, {sum(one.gaps for one in counts)} gaps, {wrong} wrong"
        )
        return f"{line}; {self._reference.lost}" if self._reference.lost else line

    async def _settle(self) -> list[str]:
        """Wait until everybody has everything; return who has not."""
        waiting = list(self._visitors)
        for visitor in waiting:
            visitor.wake()
        deadline = time.monotonic() + SETTLE_SECONDS
        while waiting and time.monotonic() < deadline:
            for visitor in waiting:
                visitor.ask_books()
            await asyncio.sleep(TICK_SECONDS)
            self._oracle.advance()
            waiting = [visitor for visitor in waiting if not self._has_everything(visitor)]
        return [visitor.name for visitor in waiting]

    def _has_everything(self, visitor: Visitor) -> bool:
        """Whether a client has had, when it was asked last, everything published until then."""
        rows = {(row["stream"], row.get("key")): row for row in visitor.books or ()}
        return visitor.connected and all(
            (row := rows.get(wish.name)) is not None and not row["pending"] for wish in visitor.wishes
        )
