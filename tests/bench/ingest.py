"""Taking in updates of `latest` streams from a state service, nobody there to see them: processor time of the sidecar.

A stand-in for the state service has responses ready and sends them as fast as they are taken. Each round is paired with
a client that only reads the responses, so that what gRPC costs is told apart from what we do with them.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import grpc
import grpc.aio

from bridge.core.update import field, varint
from bridge.ops.grpc_options import channel_options, server_options
from bridge.sources.channels import SERVICE
from generated.theblock.state.v1 import metrics_pb2, network_pb2, service_pb2, stream_pb2, update_pb2
from tests.bench.processes import Bridge, bridge, cpu_seconds, verdict

UPDATES: Final = int(os.environ.get("UPDATES", "400000"))
ROUNDS: Final = int(os.environ.get("ROUNDS", "3"))
SIZES: Final = (100, 256, 500)
"""Updates in a response; the state service puts in 256 at most."""

WANTED_PER_SECOND: Final = 300_000
EPOCH: Final = "ingest00"
SECONDS: Final = 60
COUNTERS: Final = ("theblock_bridge_upstream_conflated_total", "theblock_bridge_updates_total")

PAYLOADS: Final = {
    "metrics": update_pb2.Update(
        metrics=metrics_pb2.MetricsUpdate(tps=1234.5, latency_ms=3.25, peers=17, block_height=123_456, fees=1000)
    ),
    "network": update_pb2.Update(network=network_pb2.NetworkUpdate(peers=17, active_connections=12)),
}
"""What is published in turn: two streams that are delivered `latest`."""


def main() -> None:
    """Measure and print."""
    costs: dict[int, list[tuple[float, float]]] = {size: [] for size in SIZES}
    for _ in range(ROUNDS):
        for size, measured in costs.items():
            measured.append((of_sidecar(size), of_floor(size)))
    for size, measured in costs.items():
        own = statistics.median(mine for mine, _ in measured)
        ratio = statistics.median(mine / floor for mine, floor in measured)
        verdict(own * WANTED_PER_SECOND < 1e6,
                f"responses of {size} updates: {own:.2f} us of processor time an update, {ratio:.2f} of only reading "
                f"them; {WANTED_PER_SECOND:,} a second take {own * WANTED_PER_SECOND / 1e6:.0%} of a core")  # fmt: skip


def of_sidecar(size: int) -> float:
    """Return what an update costs the sidecar, microseconds."""
    with serving(size) as server, bridge("sidecar", "--upstream", server.address, "--listen", "127.0.0.1:0") as sidecar:
        before = cpu_seconds(sidecar.pid)
        server.release()
        deadline = time.monotonic() + SECONDS
        while (taken := taken_in(sidecar)) < UPDATES:
            if time.monotonic() > deadline:
                raise SystemExit(f"the sidecar has taken in {taken} updates of {UPDATES}")
            time.sleep(0.1)
        return (cpu_seconds(sidecar.pid) - before) / UPDATES * 1e6


def taken_in(sidecar: Bridge) -> int:
    """Return how many updates a sidecar has taken in, those included that a newer one has replaced at once."""
    with urllib.request.urlopen(f"{sidecar.addresses['http']}/metrics") as response:
        lines = response.read().decode().splitlines()
    return round(sum(float(line.split()[1]) for line in lines if line.startswith(COUNTERS)))


def of_floor(size: int) -> float:
    """Return what an update costs a client that only reads the responses, microseconds."""
    with serving(size) as server:
        command = [sys.executable, "-m", "tests.bench.ingest", "read", server.address]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            process.stdout.readline()
            before = cpu_seconds(process.pid)
            server.release()
            return (cpu_seconds(process.pid) - before) / UPDATES * 1e6
        finally:
            process.kill()
            process.wait()


class Server:
    """The stand-in for a state service, in a process of its own.

    Attributes:
        address: where it listens.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.address = self._line()

    def release(self) -> None:
        """Wait for a subscription, have the updates sent, and return when all are on their way."""
        assert self._process.stdin is not None
        self._line()  # subscribed
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        self._line()  # sent

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@contextmanager
def serving(size: int) -> Iterator[Server]:
    """Run the stand-in until the block ends."""
    command = [sys.executable, "-m", "tests.bench.ingest", "serve", str(size)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Server(process)
    finally:
        process.kill()
        process.wait()


def responses(size: int) -> list[bytes]:
    """Return the responses, serialized."""
    heads = [update_pb2.Update(stream=name, epoch=EPOCH).SerializeToString() for name in PAYLOADS]
    tails = [b"\x20" + varint(1_764_000_000_000) + payload.SerializeToString() for payload in PAYLOADS.values()]
    parts: list[bytes] = []
    for number in range(UPDATES):
        which = number % len(heads)
        seq = number // len(heads) + 1
        parts.append(field(4, b"".join((heads[which], b"\x18", varint(seq), tails[which]))))
    return [b"".join(parts[start : start + size]) for start in range(0, UPDATES, size)]


async def serve(size: int) -> None:
    """Serve one subscription."""
    ready = responses(size)

    async def subscribe(_raw: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> None:
        started = [
            service_pb2.StreamStarted(
                info=stream_pb2.StreamInfo(stream=name, epoch=EPOCH, message=message_of(payload), oldest=1), seq=0
            )
            for name, payload in PAYLOADS.items()
        ]
        positions = [service_pb2.StreamPosition(stream=name, epoch=EPOCH) for name in PAYLOADS]
        source = stream_pb2.SourceStatus(state=stream_pb2.SOURCE_STATE_LIVE, since_ms=1)
        first = service_pb2.SubscribeResponse(started=started, progress=positions, source=source)
        await context.write(first.SerializeToString())
        await asyncio.sleep(1)
        print("subscribed", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        for response in ready:
            await context.write(response)
        print("sent", flush=True)
        await asyncio.Event().wait()

    server = grpc.aio.server(options=server_options(30))
    methods = {"Subscribe": grpc.unary_stream_rpc_method_handler(subscribe)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, methods)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await asyncio.Event().wait()


def message_of(payload: update_pb2.Update) -> str:
    """Return the full name of the message of a payload."""
    return str(getattr(payload, str(payload.WhichOneof("data"))).DESCRIPTOR.full_name)


async def read(address: str) -> None:
    """Read responses and do nothing with them."""
    async with grpc.aio.insecure_channel(address, options=channel_options(30)) as channel:
        call = channel.unary_stream(f"/{SERVICE}/Subscribe", None, None)(b"")
        await call.read()
        print(json.dumps("reading"), flush=True)
        while isinstance(await call.read(), bytes):
            pass


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("serve", "read"))
    parser.add_argument("argument")
    options = parser.parse_args()
    asyncio.run(serve(int(options.argument)) if options.what == "serve" else read(options.argument))
