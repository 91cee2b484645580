"""The table of faults: what goes wrong, how often, and what must hold afterwards."""

import asyncio
import random
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from tests.chaos import damage
from tests.chaos.parts import Part
from tests.chaos.proxy import Proxy
from tests.chaos.world import World

Act = Callable[[World, random.Random], Awaitable[None]]
Harm = Callable[[Path, random.Random], bool]


class Fault(NamedTuple):
    """A kind of fault."""

    name: str
    weight: int  # how often it is drawn, beside the others
    act: Act
    journal: bool = False  # whether it takes a journal


class Planned(NamedTuple):
    """A fault of a run."""

    after_seconds: float
    fault: Fault
    seed: str


def plan(world: World, seconds: float) -> list[Planned]:
    """Return the faults of a run: the same for the same options."""
    chance = random.Random(f"{world.options.seed} faults")
    known = [fault for fault in FAULTS if world.journal or not fault.journal]
    count = world.options.faults
    turns = chance.choices(known, [fault.weight for fault in known], k=max(0, count - len(known)))
    chosen = [*known, *turns][:count] if count >= len(known) else chance.sample(known, count)
    chance.shuffle(chosen)
    step = seconds / max(1, count)
    return [
        Planned((number + chance.random()) * step, fault, f"{world.options.seed} fault {number}")
        for number, fault in enumerate(chosen)
    ]


async def happen(world: World, planned: Planned) -> None:
    """Have a fault happen, and its end."""
    await planned.fault.act(world, random.Random(planned.seed))
    world.done[planned.fault.name] += 1


# ---------------------------------------------------------------------- processes


async def kill_state(world: World, chance: random.Random) -> None:
    async with world.state.busy:
        await world.restart_state(world.state.kill)


async def restart_state(world: World, chance: random.Random) -> None:
    async with world.state.busy:
        await world.restart_state(world.state.terminate)


async def restart_part(part: Part, end: Callable[[], Awaitable[None]], pause_seconds: float) -> None:
    async with part.busy:
        await end()
        await asyncio.sleep(pause_seconds)
        await part.start()


async def kill_sidecar(world: World, chance: random.Random) -> None:
    part = chance.choice(world.sidecars)
    await restart_part(part, part.kill, chance.uniform(0, 1))


async def restart_sidecar(world: World, chance: random.Random) -> None:
    part = chance.choice(world.sidecars)
    await restart_part(part, part.terminate, chance.uniform(0, 1))


async def halt(part: Part, seconds: float) -> None:
    async with part.busy:
        await part.halt(seconds)


async def halt_state(world: World, chance: random.Random) -> None:
    await halt(world.state, chance.uniform(0.3, 3))


async def halt_sidecar(world: World, chance: random.Random) -> None:
    await halt(chance.choice(world.sidecars), chance.uniform(0.3, 6))


async def set_clock(world: World, chance: random.Random) -> None:
    """Set the time of one machine, by some minutes forward or back, and later right again."""
    part = chance.choice([world.state, *world.sidecars])
    part.set_clock(chance.uniform(-300, 300))
    await asyncio.sleep(chance.uniform(1, 6))
    part.set_clock(0)


# ---------------------------------------------------------------------- the network


def any_proxy(world: World, chance: random.Random) -> Proxy:
    return chance.choice(world.proxies)


async def cut(world: World, chance: random.Random) -> None:
    any_proxy(world, chance).cut(reset=chance.random() < 0.5)


async def refuse(world: World, chance: random.Random) -> None:
    proxy = any_proxy(world, chance)
    proxy.refusing = True
    proxy.cut(reset=True)
    await asyncio.sleep(chance.uniform(0.2, 4))
    proxy.refusing = False


async def stall(world: World, chance: random.Random) -> None:
    proxy = any_proxy(world, chance)
    proxy.stall(True)
    await asyncio.sleep(chance.uniform(0.2, 6))
    proxy.stall(False)


async def lose_acknowledgements(world: World, chance: random.Random) -> None:
    """Have publications come to the state service, and their acknowledgements get lost."""
    world.ingest.mute(True)
    await asyncio.sleep(chance.uniform(0.1, 1.5))
    world.ingest.cut(reset=True)
    world.ingest.mute(False)


async def stall_upstream(world: World, chance: random.Random) -> None:
    """Let one sidecar fall behind the others, while clients go from one to the other."""
    ways = chance.choice(world.ways)
    for way in ways:
        way.stall(True)
    for _ in range(chance.randint(2, 5)):
        await asyncio.sleep(0.4)
        chance.choice(world.doors).cut(reset=True)
    for way in ways:
        way.stall(False)


async def delay(world: World, chance: random.Random) -> None:
    proxy = any_proxy(world, chance)
    proxy.shape(delay_seconds=chance.uniform(0.05, 0.8))
    await asyncio.sleep(chance.uniform(1, 4))
    proxy.shape()


async def trickle(world: World, chance: random.Random) -> None:
    proxy = any_proxy(world, chance)
    proxy.shape(bytes_per_second=chance.choice([2000, 20_000, 100_000]))
    await asyncio.sleep(chance.uniform(1, 4))
    proxy.shape()


async def half_close(world: World, chance: random.Random) -> None:
    proxy = any_proxy(world, chance)
    proxy.half_close(from_client=chance.random() < 0.5)
    await asyncio.sleep(chance.uniform(0.2, 2))
    proxy.cut(reset=False)


# ---------------------------------------------------------------------- clients


async def hop(world: World, chance: random.Random) -> None:
    """Have half of the clients come back somewhere else, all at once."""
    for client in [*world.visitors, *world.readers]:
        if chance.random() < 0.5:
            client.cut()


async def sleep_on(world: World, chance: random.Random) -> None:
    """Have some clients read nothing for longer than the sidecar waits for them."""
    sleepers = [visitor for visitor in world.visitors if chance.random() < 0.2]
    for visitor in sleepers:
        visitor.sleep()
    await asyncio.sleep(chance.uniform(3, 7))
    for visitor in sleepers:
        if visitor not in world.never:
            visitor.wake()


# ---------------------------------------------------------------------- the journal


async def fill_disk(world: World, chance: random.Random) -> None:
    """Let the state service write no more, as on a full disk, then let it."""
    async with world.state.busy:
        world.state.limit_files(damage.largest(world.data) + chance.choice([0, 4000]))
        await asyncio.sleep(chance.uniform(0.5, 3))
        world.state.limit_files(None)


def damaged(harm: Harm, *, killed: bool | None = None) -> Act:
    """Return a fault that damages the journal while the state service is down.

    Args:
        harm: does it, and returns whether an epoch must begin.
        killed: whether the service is killed first, or ends in order; None: either.
    """

    async def act(world: World, chance: random.Random) -> None:
        async with world.state.busy:

            async def end() -> bool:
                kill = chance.random() < 0.5 if killed is None else killed
                await (world.state.kill() if kill else world.state.terminate())
                return await asyncio.to_thread(harm, world.data, chance)

            await world.restart_state(end)

    return act


async def back_up(world: World, chance: random.Random) -> None:
    """Copy the journal while it is written, to be restored later."""
    async with world.state.busy:
        await asyncio.to_thread(shutil.rmtree, world.backup, True)
        await asyncio.to_thread(shutil.copytree, world.data, world.backup)


async def restore(world: World, chance: random.Random) -> None:
    """Put back what was copied."""
    await damaged(lambda data, _chance: damage.restore(data, world.backup))(world, chance)


FAULTS: tuple[Fault, ...] = (
    Fault("kill -9 of the state service", 6, kill_state),
    Fault("SIGTERM of the state service", 3, restart_state),
    Fault("SIGSTOP of the state service", 4, halt_state),
    Fault("kill -9 of a sidecar", 6, kill_sidecar),
    Fault("SIGTERM of a sidecar", 4, restart_sidecar),
    Fault("SIGSTOP of a sidecar", 5, halt_sidecar),
    Fault("a clock set", 5, set_clock),
    Fault("connections cut", 10, cut),
    Fault("connections refused", 5, refuse),
    Fault("a hop stalled", 7, stall),
    Fault("acknowledgements lost", 6, lose_acknowledgements),
    Fault("a sidecar left behind", 6, stall_upstream),
    Fault("a hop delayed", 5, delay),
    Fault("a hop slowed to a trickle", 5, trickle),
    Fault("half-closed connections", 5, half_close),
    Fault("clients go elsewhere", 8, hop),
    Fault("clients stop reading", 5, sleep_on),
    Fault("full disk", 5, fill_disk, journal=True),
    Fault("journal: a bit flipped", 2, damaged(damage.flip_bit), journal=True),
    Fault("journal: a bit of its mark flipped", 1, damaged(damage.flip_mark), journal=True),
    Fault("journal: cut short", 2, damaged(damage.truncate), journal=True),
    Fault("journal: a write torn", 4, damaged(damage.tear, killed=True), journal=True),
    Fault("journal: a segment lost", 1, damaged(damage.lose_segment), journal=True),
    Fault("journal: lost", 1, damaged(damage.lose), journal=True),
    Fault("journal: copied while in use", 3, back_up, journal=True),
    Fault("journal: restored from a copy", 2, restore, journal=True),
)
