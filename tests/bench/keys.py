"""100,000 accounts, clients that follow ten each, and a journal that has the value of each across a restart.

What a client gets is proven by `prev`: every update names the one before it of its key, so a chain that begins with the
snapshot and ends with the value that the state service has now misses none.
"""

import asyncio
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc.aio
import msgspec

from bridge.verify.websocket import TEXT, Target, WebSocket, connect
from generated.theblock.state.v1 import service_pb2, service_pb2_grpc
from tests.bench.processes import Bridge, Probe, bridge, cpu_seconds, memory_mb, probed, verdict
from tests.bench.publisher import address_of, finished, publishing
from tests.bench.reader import V1

KEYS, CLIENTS, EACH, RATE, SECONDS = 100_000, 1000, 10, 5000, 20
FOLLOWED = CLIENTS * EACH
"""How many accounts clients follow; every other update is of one of these."""

JOURNAL_COUNT = 60_000
"""Updates that the journal keeps: fewer than there are accounts, so that most values outlive their update."""

RESPONSE_BYTES = 64 << 20
PATIENCE_SECONDS = 120

decode = msgspec.json.Decoder().decode


class Follower:
    """A client that follows some accounts.

    Attributes:
        newest: seq of the newest update of each of its keys.
        snapshots: how many keys it was given a value of at the start.
        updates: how many updates it got.
        faults: what must not be.
        waits_ms: from publication to receipt.
    """

    def __init__(self, keys: list[str]) -> None:
        self.newest: dict[str, int] = dict.fromkeys(keys, 0)
        self.snapshots = self.updates = 0
        self.faults: list[str] = []
        self.waits_ms: list[float] = []
        self.answered = False
        self.socket: WebSocket

    async def connect(self, port: str) -> None:
        """Connect and subscribe."""
        self.socket = await connect(Target.of(f"ws://127.0.0.1:{port}/ws"), self._take, V1)
        params = [{"stream": "account", "key": key} for key in self.newest]
        request = {"jsonrpc": "2.0", "method": "state_stream.subscribe", "params": params, "id": 1}
        self.socket.send(TEXT, msgspec.json.encode(request))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not self.answered or self.snapshots < len(self.newest):
                await asyncio.sleep(0.01)

    def _take(self, _opcode: int, payload: bytes) -> None:
        message = decode(payload)
        self.answered = self.answered or "result" in message
        if "data" not in message:
            if message.get("type") not in ("welcome", "progress", "upstream", None):
                self.faults.append(message["type"])
            return
        key, seq = message["key"], message["seq"]
        if key not in self.newest:
            self.faults.append(f"{key} was not asked for")
        elif message.get("snapshot"):
            self.snapshots += 1
        else:
            if message["prev"] != self.newest[key]:
                self.faults.append(f"{key}: {seq} names {message['prev']} before it, not {self.newest[key]}")
            self.updates += 1
            self.waits_ms.append((time.monotonic_ns() - message["data"]["nonce"]) / 1e6)
        self.newest[key] = seq


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        with (
            state_service(folder) as state,
            probed("sidecar", "--upstream", state.addresses["grpc"], "--listen", "127.0.0.1:0") as (sidecar, probe),
        ):
            values = asyncio.run(measure(state, sidecar, probe))
        began = time.monotonic()
        with state_service(folder) as state:
            seconds = time.monotonic() - began
            again = asyncio.run(current(state))
        verdict(again == values, f"after a restart ({seconds:.1f} s) the journal, which keeps {JOURNAL_COUNT:,} "
                f"updates, has the newest value of each of {len(again):,} accounts")  # fmt: skip


@contextmanager
def state_service(folder: str) -> Iterator[Bridge]:
    """Run a state service with its journal in a folder."""
    limits = ("--data-dir", folder, "--journal-count", str(JOURNAL_COUNT))
    with bridge("state", "--source", "none", "--ingest", "--grpc-listen", "127.0.0.1:0", *limits) as state:
        yield state


async def measure(state: Bridge, sidecar: Bridge, probe: Probe) -> dict[str, int]:
    """Publish, have clients follow; return the seq of the newest update of every account."""
    address = state.addresses["grpc"]
    empty = memory_mb(sidecar.pid), memory_mb(state.pid)
    with publishing(address, count=KEYS, keys=KEYS) as publisher:
        await asyncio.to_thread(finished, publisher)
    await asyncio.sleep(1)
    print(f"{KEYS:,} accounts: sidecar {empty[0]:.0f} to {memory_mb(sidecar.pid):.0f} MB, "
          f"state service {empty[1]:.0f} to {memory_mb(state.pid):.0f} MB")  # fmt: skip
    keys = [address_of(key) for key in range(FOLLOWED)]
    random.Random(1).shuffle(keys)
    followers = [Follower(keys[number::CLIENTS]) for number in range(CLIENTS)]
    for at in range(0, CLIENTS, 50):
        await asyncio.gather(*(follower.connect(sidecar.port) for follower in followers[at : at + 50]))
    before = memory_mb(sidecar.pid)
    probe.read()
    cpu, began = cpu_seconds(sidecar.pid), time.monotonic()
    with publishing(address, first=KEYS + 1, count=RATE * SECONDS, rate=RATE, keys=KEYS, hot=FOLLOWED) as publisher:
        published = await asyncio.to_thread(finished, publisher)
    seconds, cpu = time.monotonic() - began, cpu_seconds(sidecar.pid) - cpu
    slices = probe.read()
    await asyncio.sleep(2)
    values = await current(state)
    report(followers, values)
    waits = sorted(wait for follower in followers for wait in follower.waits_ms)
    got = sum(follower.updates for follower in followers)
    rate = (published.seq - KEYS) / seconds
    verdict(rate > 0.9 * RATE, f"{rate:,.0f} updates/s for {seconds:.0f} s, {got / seconds:,.0f} deliveries/s: sidecar "
            f"{cpu / seconds:.0%} of a core; p50 {waits[len(waits) // 2]:.1f} ms, "
            f"p99 {waits[int(len(waits) * 0.99)]:.1f} ms")  # fmt: skip
    after = memory_mb(sidecar.pid)
    verdict(after - before < 30, f"memory of the sidecar {before:.0f} MB with all clients, {after:.0f} MB at the end")
    verdict(slices.cpu_ms < 20, f"longest slice of the loop: {slices}")
    for follower in followers:
        follower.socket.abort()
    return values


def report(followers: list[Follower], values: dict[str, int]) -> None:
    """Say whether every client got exactly its keys."""
    faults = [fault for follower in followers for fault in follower.faults]
    behind = [key for follower in followers for key, seq in follower.newest.items() if values[key] != seq]
    verdict(not faults and not behind, f"{len(followers):,} clients: the chain of each of their {EACH} keys is whole "
            f"and ends with the newest value {faults[:3] or ''}{behind[:3] or ''}")  # fmt: skip


async def current(state: Bridge) -> dict[str, int]:
    """Return the seq of the newest update of every account, as a state service begins a subscription with."""
    options = (("grpc.max_receive_message_length", RESPONSE_BYTES),)
    values: dict[str, int] = {}
    async with grpc.aio.insecure_channel(state.addresses["grpc"], options=options) as channel:
        request = service_pb2.SubscribeRequest(streams=[service_pb2.StreamStart(stream="account")])
        async for response in service_pb2_grpc.StateStreamServiceStub(channel).Subscribe(request):
            for update in response.snapshots:
                assert update.key not in values, f"{update.key} came twice"
                values[update.key] = update.seq
            if response.progress:
                return values
    raise SystemExit("the state service ended the subscription")


if __name__ == "__main__":
    main()
