"""Everything of a run: the processes, the proxies between them, publishers, clients, and what is known of them."""

import asyncio
import random
import socket
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import grpc

from bridge.verify.oracle import Oracle
from bridge.verify.visitor import Kind, Visitor, Wish
from bridge.verify.websocket import Target
from generated.theblock.state.v1 import service_pb2, service_pb2_grpc, stream_pb2
from tests.chaos.clients import GrpcClient
from tests.chaos.parts import Part
from tests.chaos.proxy import Proxy
from tests.chaos.publisher import CHANNEL, Ledger, Publisher
from tests.chaos.values import IDENTITY, KEYED, LATEST, STREAMS
from tests.system.processes import ROOT, environment

PUBLISHERS = 3

HISTORY_COUNTS = (2000, 300, 1000)
"""Updates of a stream that the sidecars remember, in turn: with few of them there are gaps."""


@dataclass(frozen=True)
class Options:
    """What is asked for.

    Attributes:
        faults: how many.
        rate: publications a second.
        clients: how many.
        sidecars: how many.
        seed: of all chance.
        seconds: how long faults go on; 0: a second a fault.
        journal_sync: batch, always or off; empty: no journal, though there could be one.
    """

    faults: int = 100
    rate: float = 1000.0
    clients: int = 50
    sidecars: int = 3
    seed: int = 0
    seconds: float = 0.0
    journal_sync: str = "batch"


@cache
def takes(command: str, flag: str) -> bool:
    """Whether a command of the bridge has a flag, or anything else by that name in its help."""
    done = subprocess.run(
        [sys.executable, "-m", "bridge", command, "--help"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        check=True,
    )
    return flag in done.stdout.decode().split()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@dataclass
class World:
    """A run.

    Attributes:
        wrong: what is wrong beside what the oracle says, one sentence each.
        done: what faults there were, by kind.
        epochs: that the state service has had.
    """

    options: Options
    folder: Path
    oracle: Oracle = field(default_factory=lambda: Oracle(latest=LATEST))
    wrong: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    epochs: list[str] = field(default_factory=list)
    visitors: list[Visitor] = field(default_factory=list)
    readers: list[GrpcClient] = field(default_factory=list)
    never: list[Visitor] = field(default_factory=list)
    slow: list[Visitor] = field(default_factory=list)
    kinds: dict[str, str] = field(default_factory=dict)  # of clients, by name

    def __post_init__(self) -> None:
        self.chance = random.Random(self.options.seed)
        self.ledger = Ledger(self.oracle)
        self.journal = bool(self.options.journal_sync) and takes("state", "--data-dir")
        self.data = self.folder / "data"
        self.backup = self.folder / "backup"
        port = free_port()
        self.direct = f"127.0.0.1:{port}"
        self.state = Part("state", self.folder, self._state_arguments)
        self.ingest = Proxy("publishers to state", ("127.0.0.1", port))
        self.relayed = free_port() if takes("sidecar", "--grpc-listen") else 0
        self.ways = [self._ways(number, port) for number in range(self.options.sidecars)]
        self.grpc = Proxy("gRPC clients to state", ("127.0.0.1", port))
        self.ports = [free_port() for _ in range(self.options.sidecars)]
        self.sidecars = [Part(f"sidecar{n}", self.folder, self._sidecar_arguments(n)) for n in range(len(self.ports))]
        self.doors = [Proxy(f"clients to sidecar {n}", ("127.0.0.1", port)) for n, port in enumerate(self.ports)]
        self.publishers: list[Publisher] = []

    def _ways(self, number: int, port: int) -> list[Proxy]:
        """Return the ways of a sidecar to the state service: the first has one, others two, some through a relay."""
        ways = [Proxy(f"sidecar {number} to state", ("127.0.0.1", port))]
        if number and takes("sidecar", "ADDRESS,..."):
            relayed = self.relayed and number % 2 == 0
            ways.append(Proxy(f"sidecar {number} to {'relay' if relayed else 'state'}, second way",
                              ("127.0.0.1", self.relayed if relayed else port)))  # fmt: skip
        return ways

    @property
    def upstreams(self) -> list[Proxy]:
        return [way for ways in self.ways for way in ways]

    @property
    def proxies(self) -> list[Proxy]:
        return [self.ingest, *self.upstreams, self.grpc, *self.doors]

    @property
    def parts(self) -> list[Part]:
        return [self.state, *self.sidecars]

    def _state_arguments(self) -> list[str]:
        limits = ["--journal-count", "1200"] if takes("state", "--journal-count") else []  # or there would be no gap
        sync = ["--journal-sync", self.options.journal_sync]
        journal = ["--data-dir", str(self.data), *sync, *limits] if self.journal else []
        none = ["--data-dir", "off"] if not self.journal and takes("state", "--data-dir") else []
        return ["state", "--source", "none", "--ingest", "--listen", self.direct, "--log-level", "warning",
                "--keepalive-seconds", "2", "--history-count", "1200", *journal, *none]  # fmt: skip

    def _sidecar_arguments(self, number: int) -> Callable[[], list[str]]:
        def arguments() -> list[str]:
            relay = ["--grpc-listen", f"127.0.0.1:{self.relayed}"] if self.relayed and not number else []
            return ["sidecar", "--listen", f"127.0.0.1:{self.ports[number]}", *relay, "--upstream",
                    ",".join(way.address for way in self.ways[number]), "--log-level", "error",
                    "--keepalive-seconds", "2", "--stall-timeout-seconds", "4", "--ping-interval-seconds", "2",
                    "--pong-timeout-seconds", "3", "--drain-seconds", "0.5",
                    "--history-count", str(HISTORY_COUNTS[number % 3])]  # fmt: skip

        return arguments

    # ------------------------------------------------------------------ life

    async def start(self, stack: AsyncExitStack) -> None:
        """Start everything; the stack ends it."""
        for proxy in self.proxies:
            await proxy.start()
            stack.push_async_callback(proxy.close)
        for part in self.parts:
            stack.push_async_callback(part.close)
        await asyncio.gather(*(part.start() for part in self.parts))
        self.epochs.append(await self.read_epoch())
        self.ledger.began(self.epochs[0])
        rate = self.options.rate / PUBLISHERS
        self.publishers = [
            Publisher(f"publisher{n}", self.ingest.address, self.ledger, n + 1, PUBLISHERS, rate)
            for n in range(PUBLISHERS)
        ]
        self._make_clients()

    def _make_clients(self) -> None:
        for number in range(self.options.clients):
            role, make = ROLES[number % len(ROLES)]
            chance = random.Random(f"{self.options.seed} client {number}")
            make(self, f"{number} {role}", chance)
            self.kinds[f"{number} {role}"] = role

    def visitor(self, name: str, kind: Kind, wishes: list[Wish], chance: random.Random, **more: bool) -> Visitor:
        """Make a client of the sidecars."""

        def target() -> Target:
            return Target("127.0.0.1", chance.choice(self.doors).port, False, "/ws")

        visitor = Visitor(name, kind, wishes, self.oracle, target, chance=chance, **more)
        self.visitors.append(visitor)
        return visitor

    async def read_epoch(self) -> str:
        """Return the epoch of the state service, asked directly."""
        async with grpc.aio.insecure_channel(self.direct, options=CHANNEL) as channel:
            stub = service_pb2_grpc.StateStreamServiceStub(channel)
            answer = await stub.ListStreams(service_pb2.ListStreamsRequest(), timeout=20, wait_for_ready=True)
        return answer.streams[0].epoch

    async def restart_state(self, end: Callable[[], Awaitable[bool | None]]) -> None:
        """Start the state service again after it was ended; its epoch must then be as it must be.

        Args:
            end: ends it, and does whatever is done while it is away; returns whether a new epoch must begin, None: if
                there is no journal.
        """
        before = self.epochs[-1]
        new_epoch = await end()
        await self.state.start()
        after = await self.read_epoch()
        expected = not self.journal if new_epoch is None else new_epoch
        if (after != before) is not expected:
            due = "another" if expected else "the same"
            self.wrong.append(f"epoch {before} was followed by {after}, though {due} was due")
        if after in self.epochs[:-1]:
            self.wrong.append(f"epoch {after} came back")
        if after != before:
            self.epochs.append(after)
            self.ledger.began(after)

    def head(self, stream: str) -> tuple[str | None, int]:
        """Return the epoch and the seq of a stream's newest update, as publishers know it."""
        run = self.oracle.log.run(stream, self.ledger.epoch)
        return self.ledger.epoch, run.head

    def metrics(self, number: int) -> dict[str, float]:
        """Return the metrics of a sidecar."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[number]}/metrics", timeout=5) as response:
            lines = response.read().decode().splitlines()
        return {name: float(text) for name, _, text in (line.rpartition(" ") for line in lines if line[:1] != "#")}

    async def history(self, stream: str) -> list[service_pb2.ListUpdatesResponse]:
        """Return all that the state service holds of a stream, in pages."""
        pages: list[service_pb2.ListUpdatesResponse] = []
        request = service_pb2.ListUpdatesRequest(stream=stream, since=stream_pb2.Position(epoch=self.epochs[-1]))
        async with grpc.aio.insecure_channel(self.direct, options=CHANNEL) as channel:
            stub = service_pb2_grpc.StateStreamServiceStub(channel)
            while True:
                pages.append(await stub.ListUpdates(request, timeout=20, wait_for_ready=True))
                if not pages[-1].HasField("next"):
                    return pages
                request.since.CopyFrom(pages[-1].next)


# ---------------------------------------------------------------------- what clients are


def some(chance: random.Random, least: int = 2) -> list[str]:
    """Return some of the streams."""
    return chance.sample(STREAMS, chance.randint(least, 4))


def whole(kind: Kind) -> Callable[[World, str, random.Random], object]:
    return lambda world, name, chance: world.visitor(name, kind, [Wish(s) for s in some(chance)], chance)


def everything(kind: Kind) -> Callable[[World, str, random.Random], object]:
    return lambda world, name, chance: world.visitor(name, kind, [Wish(s) for s in STREAMS], chance)


def filtered(kind: Kind) -> Callable[[World, str, random.Random], object]:
    """Return what makes clients that want some values of each stream."""

    def make(world: World, name: str, chance: random.Random) -> None:
        filters = {
            "block_updates": {"tx_count": {"lt": chance.randint(20, 200)}},
            "account": {"balance": {"prefix": str(chance.randint(1, 9))}},
            "ticks": {"n": {"gt": chance.randint(0, 5000)}},
            "metrics": {"tps": {"gte": chance.randint(5, 30)}},
        }
        wishes = [Wish(s, where=filters[s]) for s in chance.sample(list(filters), 3)]
        world.visitor(name, kind, wishes, chance)

    return make


def keys(kind: Kind) -> Callable[[World, str, random.Random], object]:
    """Return what makes clients that want some keys."""

    def make(world: World, name: str, chance: random.Random) -> None:
        wishes = [Wish(s, key=key) for s, known in KEYED.items() for key in chance.sample(known, 2)]
        world.visitor(name, kind, wishes, chance)

    return make


def trimmed(world: World, name: str, chance: random.Random) -> None:
    """Make a client that wants some fields of each value: that with its number among them."""
    world.visitor(name, Kind.JSON, [Wish(s, fields=(IDENTITY[s],)) for s in some(chance)], chance)


def strings(world: World, name: str, chance: random.Random) -> None:
    """Make a client that has integers as strings."""
    world.visitor(name, Kind.CLASSIC, [Wish(s) for s in some(chance)], chance, int64_string=True)


def dozing(kind: Kind) -> Callable[[World, str, random.Random], object]:
    """Return what makes clients that read now and then."""
    return lambda world, name, chance: world.slow.append(
        world.visitor(name, kind, [Wish(s) for s in some(chance)], chance)
    )


def sleeping(world: World, name: str, chance: random.Random) -> None:
    """Make a client that reads nothing until everything is over."""
    visitor = world.visitor(name, Kind.JSON, [Wish(s) for s in some(chance, 3)], chance)
    visitor.sleep()
    world.never.append(visitor)


def through_grpc(world: World, name: str, chance: random.Random) -> None:
    """Make a client of the state service."""
    world.readers.append(GrpcClient(name, list(STREAMS), world.oracle, lambda: world.grpc.address, chance))


ROLES: tuple[tuple[str, Callable[[World, str, random.Random], object]], ...] = (
    ("classic", whole(Kind.CLASSIC)),
    ("v1 json", everything(Kind.JSON)),
    ("v1 proto", everything(Kind.PROTO)),
    ("v1 json, filter", filtered(Kind.JSON)),
    ("v1 proto, keys", keys(Kind.PROTO)),
    ("gRPC", through_grpc),
    ("v1 json, fields", trimmed),
    ("v1 proto", whole(Kind.PROTO)),
    ("classic, slow", dozing(Kind.CLASSIC)),
    ("v1 json, slow", dozing(Kind.JSON)),
    ("classic, integers as strings", strings),
    ("v1 proto, filter", filtered(Kind.PROTO)),
    ("v1 json, never reads", sleeping),
    ("classic", everything(Kind.CLASSIC)),
    ("v1 json, keys", keys(Kind.JSON)),
    ("v1 proto, slow", dozing(Kind.PROTO)),
)
"""What clients are, in turn."""
