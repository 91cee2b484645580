"""The simulated source: the streams of a node that is not there, for demos, tests and benchmarks."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from itertools import count
from math import floor

from google.protobuf.message import Message

from bridge.core.errors import PublishError
from bridge.core.hub import State
from bridge.core.origin import Origin
from bridge.sources.pace import Pace, Sleep
from bridge.sources.simulation.model import REORG_DEPTHS, Simulation
from generated.theblock.state.v1 import block_pb2

log = logging.getLogger(__name__)

STREAMS = frozenset({"block_updates", "metrics", "network", "trading", "energy", "account"})

PAST_BLOCKS = 30
"""How many blocks are published at once at the beginning, so that a dashboard has something to paint."""

RESUME_BLOCKS = 50_000
"""How long a chain is made again at most to go on with it, about five seconds of work; a longer one begins anew."""

RESUME_STEPS = 16
"""How many of those steps in a row may hold the loop, about 0.1 milliseconds each."""

SLICE_STEPS = 4
"""How many steps in a row may hold the loop, half a millisecond each with what is published."""

START_MS = 1_700_000_000_000
"""When the chain of `updates` begins unless told otherwise, Unix milliseconds."""


def updates(seed: int, *, blocks_per_second: float = 1.0, start_ms: int = START_MS) -> Iterator[Message]:
    """Iterate, without end, over the payloads of a simulated chain in the order in which they are published.

    The same arguments give the same payloads, byte for byte.

    Args:
        seed: of the chain.
        blocks_per_second: rate of the chain, in its own time.
        start_ms: time of its first block, Unix milliseconds.
    """
    simulation = Simulation(seed)
    for number in count():
        yield from simulation.step(start_ms + floor(number * 1000 / blocks_per_second))


class SimulatedSource:
    """Feeds every declared stream from a simulated chain.

    Attributes:
        streams: names of the streams that it feeds.
    """

    streams = STREAMS

    def __init__(
        self,
        seed: int,
        blocks_per_second: float = 1.0,
        *,
        start_ms: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """Make a source.

        Args:
            seed: of the chain.
            blocks_per_second: rate of the chain, 0.01 to 1000; what the machine cannot do comes later.
            start_ms: time of the first block, Unix milliseconds: later ones then follow the rate alone, and the
                payloads are those of `updates`, byte for byte. None: blocks bear the hub's time.
            clock: returns seconds that never go back; the rate follows it.
            sleep: waits for that many seconds.
        """
        self._seed = seed
        self._interval = 1 / blocks_per_second
        self._rate = blocks_per_second
        self._start_ms = start_ms
        self._clock = clock
        self._sleep = sleep
        self._refused = False

    async def run(self, origin: Origin) -> None:
        """Publish until cancelled; nothing is left half done by that.

        A chain that was published before, by a process that kept its journal, goes on where it was, if it is the
        chain of this seed; if it is another one, a new epoch begins.
        """
        simulation = await self._resumed(origin) or self._begun_anew(origin)
        origin.hub.set_status(State.LIVE, f"a simulated chain, seed {self._seed}, {self._rate:g} blocks a second")
        pace = Pace(SLICE_STEPS, clock=self._clock, sleep=self._sleep)
        for number in count(1):
            await pace.reach(number * self._interval)
            self._publish(origin, simulation.step(self._time_ms(origin, simulation, 0)))

    def _begun_anew(self, origin: Origin) -> Simulation:
        """Publish the beginning of the chain, as if it had happened before now."""
        if any(origin.hub.histories[name].head for name in self.streams):
            origin.begin_epoch()
        simulation = Simulation(self._seed)
        for ago in range(PAST_BLOCKS - 1, -1, -1):
            self._publish(origin, simulation.step(self._time_ms(origin, simulation, ago)))
        return simulation

    async def _resumed(self, origin: Origin) -> Simulation | None:
        """Make the chain again up to the block published last; None if it is not part of it, or there is none."""
        last = origin.hub.histories["block_updates"].latest.get("")
        if last is None:
            return None
        block = last.message().block
        if block.height >= RESUME_BLOCKS:
            return None
        simulation = Simulation(self._seed)
        # The step that published it left the chain at its height or, in a reorganisation, a little above.
        for ago in range(block.height, -max(REORG_DEPTHS) - 1, -1):
            payloads = simulation.step(self._time_ms(origin, simulation, max(0, ago)))
            for index, payload in enumerate(payloads if ago <= 0 else ()):
                if isinstance(payload, block_pb2.BlockUpdate) and payload.hash == block.hash:
                    self._publish(origin, payloads[index + 1 :])
                    return simulation
            if ago % RESUME_STEPS == 0:
                await self._sleep(0)
        return None

    def _time_ms(self, origin: Origin, simulation: Simulation, ago: int) -> int:
        """Return the time of the next step, which is `ago` steps before the newest."""
        if self._start_ms is not None:
            return self._start_ms + floor(simulation.steps * 1000 / self._rate)
        return origin.hub.clock_ms() - floor(ago * 1000 / self._rate)

    def _publish(self, origin: Origin, payloads: list[Message]) -> None:
        for payload in payloads:
            try:
                origin.publish(payload)
            except PublishError as error:  # the history of accounts may be set to hold fewer keys than there are
                if not self._refused:
                    log.warning("the simulated chain is not published as a whole: %s", error)
                self._refused = True
