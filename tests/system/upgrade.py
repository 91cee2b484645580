"""A sidecar is replaced by its successor while clients are connected, and nobody notices.

    python -m tests.system.upgrade --v1 2000 --classic 200

prints what happened, and fails if a client lost anything, got anything twice, or had to try again. All clients are one
process of Python, which can come back some 300 times a second on a core of its own: hence the drain of 10 s.
"""

import argparse
import asyncio
import gc
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from random import random

import aiohttp

from bridge.client import Client, Connected, Disconnected, GoingAway, Patience, Subscription, Updated
from bridge.verify import oracle
from bridge.verify.oracle import Oracle, Verdict
from tests.edges.rig import until
from tests.ks import ks_uniform
from tests.system.dashboard import Dashboard
from tests.system.processes import ANY, Running, enter
from tests.system.publisher import Publisher, publishing

STREAM = "block_updates"

ATTEMPTS = 10
"""Reconnects that the existing dashboard has in its whole life."""

AT_ONCE = 100
"""Clients that connect at the same time in the beginning."""

PROMPT = Patience(first_retry_seconds=0.01)
"""So that when clients come back is the sidecar's doing, and not theirs."""

DELIVERIES_PER_SECOND = 1000
"""How much all clients together get: they are one process, which has other things to do."""

LIKELY = 0.01
"""Even spreads are taken for uneven ones once in a hundred runs."""

UNEVEN = 0.1
"""KS statistic of returns from which on they are a storm; how small it is depends on how busy the machine is, too."""


class V1:
    """A v1 client, as everybody who uses `bridge.client` is one.

    Attributes:
        told_ms: when it was told to come back.
        codes: with which its connections ended; None without a close frame.
        returns: when it came back, by the monotonic clock.
        recovered: what the sidecar said of its resumes.
        seq: of its newest update.
    """

    def __init__(self, url: str, format_: str, judged: oracle.Client) -> None:
        self._client = Client(url, [Subscription(STREAM)], format=format_, patience=PROMPT)
        self._judged = judged
        self._connected = False
        self.told_ms: list[int] = []
        self.codes: list[int | None] = []
        self.returns: list[float] = []
        self.recovered: list[bool | None] = []
        self.seq = 0

    async def run(self) -> None:
        """Read until cancelled."""
        async with self._client:
            async for event in self._client:
                self.take(event)

    def take(self, event: object) -> None:
        """Take notice of what happened."""
        match event:
            case Connected(subscriptions=[row]):
                again = row.recovered is True
                self._judged.subscribed(row.stream, epoch=row.epoch, seq=row.seq, restart=not again)
                if self._connected:
                    self.returns.append(time.monotonic())
                    self.recovered.append(row.recovered)
                self._connected = True
            case Updated():
                self._judged.received(event.to_json())
                self.seq = event.seq
            case GoingAway():
                self.told_ms.append(event.retry_after_ms)
            case Disconnected():
                self.codes.append(event.code)


class Page:
    """A page of the existing dashboard, which stays open and reconnects as that does.

    Attributes:
        connections: one for each time that it was connected.
        attempts: how many of its reconnects it has used up.
    """

    def __init__(self, http: str, judge: Oracle, name: str) -> None:
        self._http, self._judge, self._name = http, judge, name
        self.connections: list[Dashboard] = []
        self.attempts = 0

    async def run(self) -> None:
        """Read until cancelled, or until it polls for ever."""
        async with aiohttp.ClientSession(headers={"Origin": "http://localhost:4173"}) as session:
            async with session.get(f"{self._http}/health") as response:
                assert (await response.json())["bootstrap"]["rpc_connected"] is True
            pause = 1.0
            while self.attempts <= ATTEMPTS:
                with suppress(aiohttp.ClientError, OSError):
                    async with session.ws_connect(f"{self._http}/ws", compress=15) as socket:
                        pause = 1.0
                        await self._read(socket)
                if self.connections and self.connections[-1].code == 1000:
                    return
                self.attempts += 1
                await asyncio.sleep(pause * (1 + 0.1 * random()))
                pause = min(30.0, 2 * pause)

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        judged = self._judge.client(f"{self._name}, connection {len(self.connections) + 1}")
        page = Dashboard(socket, judged)
        self.connections.append(page)
        try:
            await page.subscribe([STREAM, "metrics", "network"])
            await page.read()
        finally:
            judged.closed()

    @property
    def seq(self) -> int:
        """Of its newest block."""
        blocks = self.connections[-1].blocks if self.connections else []
        return blocks[-1]["seq"] if blocks else 0


@dataclass
class Upgrade:
    """What happened.

    Attributes:
        drain_seconds: over how long the old process sent its clients away.
        began: when it was told to stop, by the monotonic clock.
        stop_seconds: how long it took until it was gone.
        v1: the v1 clients.
        pages: the classic ones.
        verdict: whether everybody got everything.
    """

    drain_seconds: float
    began: float = 0.0
    stop_seconds: float = 0.0
    v1: list[V1] = field(default_factory=list)
    pages: list[Page] = field(default_factory=list)
    verdict: Verdict | None = None

    @property
    def told_seconds(self) -> list[float]:
        """When v1 clients were told to come back."""
        return [ms / 1000 for client in self.v1 for ms in client.told_ms]

    @property
    def return_seconds(self) -> list[float]:
        """When they did, after the signal."""
        return [at - self.began for client in self.v1 for at in client.returns]

    def faults(self) -> Iterator[str]:
        """Yield a sentence for everything that must not be; none of it depends on how fast a machine is."""
        assert self.verdict is not None
        if not self.verdict.ok:
            yield str(self.verdict)
        for number, client in enumerate(self.v1):
            if (len(client.told_ms), client.codes, client.recovered) != (1, [1012], [True]):
                yield f"v1 client {number}: told {client.told_ms}, closed {client.codes}, resumed {client.recovered}"
            elif client.returns[0] - self.began < client.told_ms[0] / 1000 - 0.001:
                yield f"v1 client {number} came back before its time"
        for number, page in enumerate(self.pages):
            codes = [connection.code for connection in page.connections]
            if (page.attempts, codes[:-1]) != (1, [1012]):
                yield f"classic client {number} used {page.attempts} attempts after {codes}"
            if any(connection.warnings for connection in page.connections):
                yield f"classic client {number} was sent what it does not know"
        spread, chance = ks_uniform(self.told_seconds, 0, self.drain_seconds)
        if chance < LIKELY:
            yield f"the times that v1 clients were told are not spread evenly: {spread:.3f}, p = {chance:.4f}"


async def upgrade(v1: int, classic: int, drain_seconds: float = 3.0) -> Upgrade:
    """Connect clients to a sidecar, replace it, and see what becomes of them."""
    judge, done = Oracle(), Upgrade(drain_seconds)
    with ExitStack() as stack:
        state = await enter(stack, "state", "--source", "none", "--ingest", "--listen", ANY)
        arguments = ("sidecar", "--upstream", state.grpc, "--reuse-port", "--drain-seconds", str(drain_seconds))
        async with publishing(state.grpc, judge) as publisher:
            await publisher.publish(3)
            old = await enter(stack, *arguments, "--listen", ANY)
            for number in range(v1):
                judged = judge.client(f"v1 client {number}")
                done.v1.append(V1(old.http, ("json", "proto")[number % 2], judged))
            done.pages = [Page(old.http, judge, f"page {number}") for number in range(classic)]
            everybody = [*done.v1, *done.pages]
            reading: list[asyncio.Task[None]] = []
            for first in range(0, len(everybody), AT_ONCE):
                some = everybody[first : first + AT_ONCE]
                reading += [asyncio.create_task(one.run()) for one in some]
                await until(lambda some=some: all(one.seq for one in some), "they are connected")
            publishing_on = asyncio.create_task(publish_on(publisher, DELIVERIES_PER_SECOND / len(everybody)))
            await reached(everybody, publisher.seq + 1)

            await enter(stack, *arguments, "--listen", f"127.0.0.1:{old.port}")
            done.began = time.monotonic()
            done.stop_seconds = await asyncio.to_thread(stop, old, drain_seconds)

            await until(lambda: all(client.returns for client in done.v1), "every v1 client is back")
            await until(lambda: all(len(page.connections) > 1 for page in done.pages), "every classic client is back")
            await reached(everybody, publisher.seq + 1)
            publishing_on.cancel()
            await asyncio.wait([publishing_on])
            await publisher.publish()
            await reached(everybody, publisher.seq)
            done.verdict = judge.verdict()
            for task in reading:
                task.cancel()
            await asyncio.wait(reading)
    return done


def stop(running: Running, drain_seconds: float) -> float:
    """Send SIGTERM, wait until the process is gone, and return how long it took, seconds."""
    began = time.monotonic()
    assert running.end(signal.SIGTERM, drain_seconds + 10) == 0
    return time.monotonic() - began


async def publish_on(publisher: Publisher, rate: float) -> None:
    """Publish until cancelled.

    Args:
        publisher: who publishes.
        rate: updates a second.
    """
    while True:
        await publisher.publish()
        await asyncio.sleep(1 / rate)


async def reached(clients: list[V1 | Page], seq: int) -> None:
    """Wait until everybody has an update."""
    await until(lambda: all(client.seq >= seq for client in clients), f"everybody has update {seq}")


def main() -> int:
    """Run it as large as the command line says, and print what happened."""
    parser = argparse.ArgumentParser(prog="python -m tests.system.upgrade", description="Replace a sidecar under load.")
    parser.add_argument("--v1", type=int, default=2000, help="v1 clients (default 2000)")
    parser.add_argument("--classic", type=int, default=200, help="classic clients (default 200)")
    parser.add_argument("--drain-seconds", type=float, default=10.0, help="of the sidecars (default 10)")
    given = parser.parse_args()
    gc.disable()  # with so many clients in one process it holds them up for half a second at a time
    done = asyncio.run(upgrade(given.v1, given.classic, given.drain_seconds))
    faults = list(done.faults())
    resumed = sum(client.recovered == [True] for client in done.v1)
    print(f"{len(done.v1)} v1 clients, {len(done.pages)} classic clients, drain_seconds {done.drain_seconds:g}")
    print(f"the old sidecar was gone {done.stop_seconds:.2f} s after SIGTERM")
    for what, times in (("told to come back", done.told_seconds), ("were back", done.return_seconds)):
        largest, chance = ks_uniform(times, 0, done.drain_seconds)
        first, last = min(times), max(times)
        print(f"v1 clients {what} {first:.3f} to {last:.3f} s after it: KS statistic {largest:.4f}, p = {chance:.3f}")
        if largest > UNEVEN:
            faults.append(f"that is not spread evenly: {what}")
    print(f"resumed with nothing lost or repeated: {resumed} of {len(done.v1)}")
    attempts = [page.attempts for page in done.pages]
    print(f"attempts of classic clients: {', '.join(f'{attempts.count(n)} x {n}' for n in sorted(set(attempts)))}")
    print(done.verdict)
    print(*faults[:20], sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
