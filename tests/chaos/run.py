"""A run: faults, then peace, then the verdict."""

import asyncio
import random
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bridge.verify.binary import update_value
from bridge.verify.oracle import Verdict
from bridge.verify.subscription import Counts
from tests.chaos.faults import Planned, happen, plan
from tests.chaos.values import STREAMS
from tests.chaos.world import Options, World

TICK_SECONDS = 0.25
CUT_SECONDS = 8.0
"""How long a connection of a client lasts on average, where no fault ends it."""

DOZE_SECONDS = 2.5
"""How long a slow client reads nothing, and then reads."""

BOOKS_SECONDS = 3.0
PEACE_SECONDS = 1.5
"""How long publishers go on when all faults are over, so that every stream has something new."""

SETTLE_SECONDS = 60.0
"""How long everybody may take to get everything then."""

KEPT = 100_000
"""How many updates of a stream are remembered."""


@dataclass
class Result:
    """What came of a run.

    Attributes:
        options: of it.
        verdict: of the oracle.
        wrong: what is wrong beside that.
        seconds: how long it took.
        rows: by kind of client: how many, and what they got.
    """

    options: Options
    verdict: Verdict
    wrong: list[str]
    seconds: float
    done: dict[str, int]
    epochs: int
    acknowledged: int
    resent: int
    refused: int
    refusals: set[str]
    starts: dict[str, int]
    memory_mib: dict[str, float]
    codes: dict[int, int]
    rows: dict[str, tuple[int, int, int, Counts]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether everything is as it must be."""
        return self.verdict.ok and not self.wrong


async def run(options: Options, tell: Callable[[str], object]) -> Result:
    """Run chaos."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos") as folder:
        world = World(options, Path(folder))
        async with AsyncExitStack() as stack:
            await world.start(stack)
            tell(f"{len(world.parts)} processes, {len(world.proxies)} proxies, {options.clients} clients; "
                 f"{'a journal, ' + options.journal_sync if world.journal else 'no journal'}")  # fmt: skip
            await live(world, tell)
            memory = {part.name: part.memory_bytes / 2**20 for part in world.parts}
        for part in world.parts:
            world.wrong += part.complaints
        verdict = world.oracle.verdict()
    ledger = world.ledger
    result = Result(
        options,
        verdict,
        world.wrong,
        time.monotonic() - began,
        dict(world.done),
        len(world.epochs),
        ledger.acknowledged,
        ledger.resent,
        ledger.refused,
        ledger.refusals,
        {part.name: part.starts for part in world.parts},
        memory,
        {},
    )
    summarize(world, result)
    return result


async def live(world: World, tell: Callable[[str], object]) -> None:
    """Have everybody live through all faults, and after them."""
    clients = [*world.visitors, *world.readers]
    everybody = [asyncio.create_task(one.run()) for one in [*world.publishers, *clients]]
    around = [asyncio.create_task(look_after(world)), asyncio.create_task(judge_on_the_way(world, tell))]
    seconds = world.options.seconds or float(world.options.faults)
    try:
        await asyncio.sleep(1)
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(seconds))
            group.create_task(meet_faults(world, plan(world, seconds), everybody + around))
        around[0].cancel()
        await make_peace(world)
        tell("the faults are over")
        await asyncio.sleep(PEACE_SECONDS)
        for publisher in world.publishers:
            publisher.stopped = True
        await settle(world)
        if world.ledger.unplaced:
            world.wrong.append(f"{world.ledger.unplaced} publications were acknowledged without a position")
        await check_history(world)
        await asyncio.to_thread(check_metrics, world)
    finally:
        for task in everybody + around:
            task.cancel()
        results = await asyncio.gather(*everybody, *around, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


async def meet_faults(world: World, planned: list[Planned], watched: list[asyncio.Task[None]]) -> None:
    """Have each fault happen at its time, whatever the one before does."""
    began = asyncio.get_running_loop().time()
    tasks: list[asyncio.Task[None]] = []
    for one in planned:
        await asyncio.sleep(max(0.0, began + one.after_seconds - asyncio.get_running_loop().time()))
        tasks.append(asyncio.create_task(happen(world, one)))
        for task in [*watched, *tasks]:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error
        for part in world.parts:
            if part.died:
                raise AssertionError(f"{part.name} ended by itself: {part.running and part.running.stderr}")
    await asyncio.gather(*tasks)


async def look_after(world: World) -> None:
    """Cut clients off now and then, have slow ones doze, and ask for the books."""
    chance = random.Random(f"{world.options.seed} habits")
    ticks = 0
    while True:
        await asyncio.sleep(TICK_SECONDS)
        ticks += 1
        for client in [*world.visitors, *world.readers]:
            if chance.random() < TICK_SECONDS / CUT_SECONDS:
                client.cut()
        for number, visitor in enumerate(world.slow):
            asleep = (ticks * TICK_SECONDS + number) % (2 * DOZE_SECONDS) < DOZE_SECONDS
            if asleep is not visitor.asleep:
                visitor.sleep() if asleep else visitor.wake()
        if ticks % round(BOOKS_SECONDS / TICK_SECONDS) == 0:
            for visitor in world.visitors:
                visitor.ask_books()


async def judge_on_the_way(world: World, tell: Callable[[str], object]) -> None:
    """Judge what the log covers, and say how things stand."""
    began = time.monotonic()
    for ticks in range(1 << 62):
        await asyncio.sleep(0.5)
        pending = world.oracle.advance()
        world.oracle.log.trim(KEPT)
        if ticks % 20 == 19:
            clients = [client.client for client in [*world.visitors, *world.readers]]
            wrong = [violation for client in clients for violation in client.violations]
            tell(f"{time.monotonic() - began:4.0f} s: {sum(world.done.values())} faults, {world.oracle.log.count:,} "
                 f"published, {sum(client.counts.delivered for client in clients):,} delivered, {len(world.epochs)} "
                 f"epochs, {pending:,} waiting, {len(wrong)} violations")  # fmt: skip
            for violation in wrong[:3]:
                tell(f"  {violation}"[:600])


async def make_peace(world: World) -> None:
    """End every fault."""
    for proxy in world.proxies:
        proxy.refusing = False
        proxy.stall(False)
        proxy.mute(False)
        proxy.shape()
    for visitor in [*world.never, *world.slow, *world.visitors]:
        visitor.wake()


async def settle(world: World) -> None:
    """Wait until every publication is acknowledged and every client has everything."""
    deadline = time.monotonic() + SETTLE_SECONDS
    unacknowledged = lambda: sum(len(publisher.pending) for publisher in world.publishers)  # noqa: E731
    while unacknowledged() and time.monotonic() < deadline:
        await asyncio.sleep(TICK_SECONDS)
    if unacknowledged():
        world.wrong.append(f"{unacknowledged()} publications were not acknowledged in {SETTLE_SECONDS:g} s of peace: "
                           f"{sorted(world.ledger.refusals)}")  # fmt: skip
        return
    waiting = list(world.visitors)
    reading = list(world.readers)
    while (waiting or reading) and time.monotonic() < deadline:
        for visitor in waiting:
            visitor.ask_books()
        await asyncio.sleep(TICK_SECONDS)
        waiting = [visitor for visitor in waiting if not visitor.settled(world.head)]
        reading = [reader for reader in reading if not reader.settled(world.head)]
    for client in [*waiting, *reading]:
        world.wrong.append(f"{client.name} has not got everything after {SETTLE_SECONDS:g} s of peace")
        client.client.closed()  # what it lacks is not lost besides
    for visitor in world.visitors:
        visitor.ask_books()
    await asyncio.sleep(0.5)


async def check_history(world: World) -> None:
    """Check that the state service still holds what it has acknowledged in this epoch, as it was published."""
    for stream in STREAMS:
        run, seen, unknown = world.oracle.log.run(stream, world.ledger.epoch), 0, 0
        for page in await world.history(stream):
            for update in page.updates:
                value = update_value(update)
                known = run.updates.get(update.seq)
                if known is None and update.seq > run.forgotten:
                    unknown += 1
                elif known is not None and (known.data, known.key) != (value["data"], value.get("key", "")):
                    world.wrong.append(f"history holds {stream} {update.epoch}-{update.seq} otherwise than published")
                if seen and update.seq != seen + 1:
                    world.wrong.append(f"history of {stream} has {update.seq} behind {seen}")
                seen = update.seq
        if unknown:
            world.wrong.append(f"history of {stream} holds {unknown} updates of which no acknowledgement told")
        if seen != run.head:
            world.wrong.append(f"history of {stream} ends with {seen}, though {run.head} was acknowledged")


def check_metrics(world: World) -> None:
    """Check what sidecars say of themselves against what is known."""
    connected = dict.fromkeys(world.ports, 0)
    for visitor in world.visitors:
        if visitor.door is not None:
            door = next(door for door in world.doors if door.port == visitor.door)
            connected[door.target[1]] += 1
    for number, port in enumerate(world.ports):
        name = f"sidecar{number}"
        found = world.metrics(number)
        if found["theblock_bridge_connections"] != connected[port]:
            world.wrong.append(
                f"{name} counts {found['theblock_bridge_connections']:g} connections, not {connected[port]}"
            )
        if found["theblock_bridge_upstream_faults_total"]:
            world.wrong.append(f"{name} says that its state service broke the protocol")
        if found['theblock_bridge_upstream_state{state="live"}'] != 1:
            world.wrong.append(f"{name} does not say that it is live")
        if found["theblock_bridge_readers_catching_up"]:
            world.wrong.append(f"{name} says that {found['theblock_bridge_readers_catching_up']:g} clients catch up")


def summarize(world: World, result: Result) -> None:
    """Count what each kind of client got."""
    violations = {violation.client for violation in result.verdict.violations}
    for client in [*world.visitors, *world.readers]:
        role = world.kinds[client.name]
        number, connections, wrong, counts = result.rows.get(role, (0, 0, 0, Counts()))
        counts.add(client.client.counts)
        result.rows[role] = number + 1, connections + client.connections, wrong + (client.name in violations), counts
    for visitor in world.visitors:
        for code, times in visitor.codes.items():
            result.codes[code] = result.codes.get(code, 0) + times
        result.wrong += [f"{visitor.name}: {sentence}" for sentence in visitor.refused[:5]]


def table(result: Result) -> list[str]:
    """Return what came of a run, for people."""
    lines = [f"seed {result.options.seed}, {result.seconds:.0f} s", "", "| fault | times |", "|---|---|"]
    lines += [f"| {name} | {times} |" for name, times in sorted(result.done.items())]
    columns = ("clients", "how many", "connections", "delivered", "snapshots", "resumed", "of another epoch", "gaps",
               "missed", "verdict")  # fmt: skip
    lines += ["", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for role, (number, connections, wrong, counts) in sorted(result.rows.items()):
        lines.append(
            f"| {role} | {number} | {connections} | {counts.delivered} | {counts.snapshots} | {counts.resumed} | "
            f"{counts.renewed} | {counts.gaps} | {counts.missed} | {f'{wrong} wrong' if wrong else 'right'} |"
        )
    starts = ", ".join(f"{name} {times}" for name, times in result.starts.items())
    memory = ", ".join(f"{name} {size:.0f} MiB" for name, size in result.memory_mib.items())
    codes = ", ".join(f"{code}: {times}" for code, times in sorted(result.codes.items()))
    sent = f"{result.acknowledged} publications acknowledged, {result.resent} sent again, {result.refused} refused"
    lines += ["", f"{sent}; {result.epochs} epochs", f"starts: {starts}", f"memory: {memory}", f"close codes: {codes}"]
    lines += [f"refused: {sentence}" for sentence in sorted(result.refusals)[:10]]
    lines += [f"wrong: {sentence}" for sentence in result.wrong[:30]]
    return [*lines, *samples(result.verdict), str(result.verdict).partition("\n")[0]]


def samples(verdict: Verdict) -> list[str]:
    """Return some violations: the first ones of each kind for each client."""
    found: dict[tuple[str, str], list[str]] = {}
    for violation in verdict.violations:
        found.setdefault((violation.client, violation.kind), []).append(violation.sentence)
    lines: list[str] = []
    for (client, kind), sentences in list(found.items())[:40]:
        lines += [f"{kind}: {client}: {sentence}"[:500] for sentence in sentences[:3]]
        if len(sentences) > 3:
            lines.append(f"{kind}: {client}: and {len(sentences) - 3} more")
    return lines
