"""What every client has to do, whatever language it is in."""

import base64
import json
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.clients.programs import Program, search_path
from tests.clients.proxy import Proxy
from tests.clients.world import BLOCK_COUNT, BLOCKS, HISTORY_COUNT, LOST, OLD, World, block_hash
from tests.system.processes import Running, environment, wait_for

ROUNDS = 12
"""How often the connection is cut while updates are published."""

ROUND_UPDATES = 60
"""Updates that are published in a round: far more bytes than a connection lives for."""

LIFE_BYTES = 2500
"""How many bytes of the server a connection lives for at most."""

RUN_SECONDS = 30.0


class Client:
    """A client that runs."""

    def __init__(self, running: Running) -> None:
        self._running = running

    @property
    def lines(self) -> list[dict]:
        """What it has printed."""
        return [json.loads(line) for line in self._running.lines]

    @property
    def seqs(self) -> list[int]:
        """The seqs of the updates that it has printed."""
        return [line["seq"] for line in self.lines if is_update(line)]

    def printed(self, count: int) -> None:
        """Wait until it has printed so many lines."""
        self._running.wait_for(lambda: len(self._running.lines) >= count, f"{count} lines")

    def reached(self, seq: int) -> None:
        """Wait until it has printed an update."""
        self._running.wait_for(lambda: self.seqs[-1:] == [seq], f"at update {seq}")

    def ended(self) -> int:
        """Wait until it has ended; return its exit code."""
        wait_for(lambda: self._running.process.poll() is not None, "the client to end", RUN_SECONDS)
        return self._running.process.returncode

    @property
    def complaint(self) -> str:
        """What it has written to stderr."""
        return self._running.stderr


class Bench:
    """Runs one program against a world."""

    def __init__(self, program: Program, folder: Path, world: World) -> None:
        self.program, self.folder, self.world = program, folder, world
        self.direct = world.addresses[program.kind]
        self.random = random.Random(program.name)

    def stream(self, name: str) -> str:
        """Return the name of a stream for this program alone."""
        return f"{name}_{self.program.name.replace('-', '_')}"

    @contextmanager
    def client(self, *arguments: str, address: str = "") -> Iterator[Client]:
        """Run the program until the block ends."""
        address = address or self.direct
        url = address if self.program.kind == "grpc" else f"ws://{address}/ws"
        command = [*self.program.command, url, *arguments]
        if not Path(command[0]).is_absolute() and "/" in command[0]:
            command[0] = str(self.folder / command[0])
        with tempfile.TemporaryDirectory() as folder:
            running = Running(Path(folder), command, self.folder, environment(PATH=search_path()))
            try:
                yield Client(running)
            except BaseException:
                print(f"-- {self.program.name} {' '.join(arguments)}:", file=sys.stderr)
                print(*running.lines[-5:], running.stderr[-3000:], sep="\n", file=sys.stderr)
                raise
            finally:
                running.close()

    def run(self, *arguments: str, address: str = "") -> list[dict]:
        """Run the program to its end, which must be a good one; return what it has printed."""
        with self.client("subscribe", *arguments, address=address) as client:
            assert client.ended() == 0
            return client.lines


def reasons(lines: list[dict]) -> list[tuple[str, int]]:
    """Return the reasons for which updates will not come, each with the seq of the last of them."""
    return [(line["reason"], line["seq"]) for line in lines if "reason" in line]


def is_update(line: dict) -> bool:
    """Whether a line is an update, rather than a snapshot or a reason."""
    return "snapshot" not in line and "reason" not in line


def judge(lines: list[dict], stream: str, epoch: str, first: int, last: int) -> None:
    """Check that every update from `first` to `last` was printed: once, in order, as it was published."""
    updates = [line for line in lines if is_update(line)]
    assert [line["seq"] for line in updates] == list(range(first, last + 1))
    for line in lines:
        assert (line["stream"], line["epoch"]) == (stream, epoch), line
        if "reason" in line:
            continue
        data, seq = line["data"], line["seq"]
        if stream == BLOCKS:
            height, hash_ = int(data.pop("height")), base64.b64decode(data.pop("hash"))
            assert (height, hash_) == (seq, block_hash(seq)), line
            assert list(data.values()) == [seq % 3], line  # tx_count, as each language writes it
        else:
            assert data == {"n": seq, "text": "\N{LATIN SMALL LETTER E WITH ACUTE}" * (seq % 40)}, line


def lists_streams(bench: Bench) -> None:
    """It lists every stream."""
    stream = bench.stream("listed")
    bench.world.publish(stream, 7)
    with bench.client("list") as client:
        assert client.ended() == 0
        listed = {line["stream"]: line for line in client.lines}
    assert {"block_updates", "metrics", "network", "trading", "energy", "account"} <= set(listed)
    row = {"type": "tick", "delivery": "every", "keyed": False, "epoch": bench.world.epoch, "oldest": 1, "newest": 7}
    assert listed[stream] == {"stream": stream, **row}
    assert listed["metrics"]["delivery"] == "latest"


def resumes(bench: Bench) -> None:
    """It misses nothing and prints nothing twice, however often its connection is cut, and while nobody is there."""
    world, stream = bench.world, bench.stream("ticks")
    world.publish(stream, 5)
    total = 5 + (ROUNDS + 2) * ROUND_UPDATES
    proxy = Proxy(bench.direct)
    try:
        options = ("--last", "3", "--count", str(total - 2))
        with bench.client("subscribe", stream, *options, address=proxy.address) as client:
            client.reached(5)
            for number in range(ROUNDS):
                proxy.cut_after(bench.random.randint(1, LIFE_BYTES))
                world.publish(stream, ROUND_UPDATES)
                if number % 2:
                    client.reached(world.counts[stream])
            assert proxy.cuts == ROUNDS
            with proxy.away():
                world.publish(stream, ROUND_UPDATES)
                wait_for(lambda: proxy.refused >= 2, "it to try again")
            client.reached(world.counts[stream])
            world.publish(stream, ROUND_UPDATES)
            assert client.ended() == 0
            lines = client.lines
    finally:
        proxy.close()
    judge(lines, stream, world.epoch, 3, total)
    assert reasons(lines) == []


def resumes_while_it_catches_up(bench: Bench) -> None:
    """The same, with blocks, when the connection is cut in the middle of what is replayed, and in the handshake."""
    proxy = Proxy(bench.direct)
    try:
        for size in (10, 200, 4000, 9000):
            proxy.cut_after(size)
        count = str(BLOCK_COUNT)
        lines = bench.run(BLOCKS, "--last", count, "--count", count, address=proxy.address)
        assert proxy.cuts == 4
    finally:
        proxy.close()
    judge(lines, BLOCKS, bench.world.epoch, 1, BLOCK_COUNT)


def begins_behind_a_position(bench: Bench) -> None:
    """It begins behind the position that it is given, and tells keys."""
    world, stream = bench.world, bench.stream("rooms")
    world.publish(stream, 30, keys="ab")
    lines = bench.run(stream, "--since", f"{world.epoch}-10", "--count", "20")
    judge(lines, stream, world.epoch, 11, 30)
    assert [line["key"] for line in lines] == ["ba"[n % 2 == 0] for n in range(11, 31)]


def tells_what_is_lost(bench: Bench) -> None:
    """It says so when history no longer has what it asks for, and goes on where history begins."""
    epoch = bench.world.epoch
    lines = bench.run(OLD, "--since", f"{epoch}-10", "--count", str(HISTORY_COUNT))
    assert reasons(lines) == [("trimmed", LOST)]
    judge(lines, OLD, epoch, LOST + 1, LOST + HISTORY_COUNT)


def begins_anew(bench: Bench) -> None:
    """It says so when its position is worth nothing, and goes on with what is live."""
    world, stream = bench.world, bench.stream("anew")
    world.publish(stream, 3)
    for reason, since in (("epoch", "gone-2"), ("ahead", f"{world.epoch}-1000000")):
        head = world.counts[stream]
        with bench.client("subscribe", stream, "--since", since, "--count", "2") as client:
            client.printed(2)
            assert reasons(client.lines) == [(reason, head)]
            assert [line["seq"] for line in client.lines if "snapshot" in line] == [head]
            world.publish(stream, 2)
            assert client.ended() == 0
            judge(client.lines, stream, world.epoch, head + 1, head + 2)


def gives_up_when_it_is_refused(bench: Bench) -> None:
    """It ends with a sentence when asking again would not help."""
    with bench.client("subscribe", "Bad Name") as client:
        assert client.ended() == 1
        assert "[a-z][a-z0-9_]" in client.complaint


CHECKS = (
    lists_streams,
    resumes,
    resumes_while_it_catches_up,
    begins_behind_a_position,
    tells_what_is_lost,
    begins_anew,
    gives_up_when_it_is_refused,
)
