"""From publish at the state service to receipt by WebSocket clients, through gRPC and the sidecar.

The publisher stamps each update with the monotonic clock, which all processes of a machine share; the load
generator subtracts. From the node's block to the client it is this plus the poll interval (300 ms by default).
"""

import asyncio
import time

import grpc.aio

from generated.theblock.state.v1 import ingest_pb2, ingest_pb2_grpc, update_pb2
from tests.bench.processes import bridge, result, wsload

SECONDS = 8
CASES = ((100, 10), (100, 100), (1000, 10))
"""Clients, and updates a second."""


def main() -> None:
    """Measure and print."""
    with (
        bridge("state", "--source", "none", "--ingest", "--listen", "127.0.0.1:0") as state,
        bridge("sidecar", "--upstream", state.addresses["grpc"], "--listen", "127.0.0.1:0") as sidecar,
    ):
        for clients, rate in CASES:
            load = wsload(
                "-p", sidecar.port, "-P", "/ws?subscribe=bench", "-n", str(clients), "-w", "2", "-d", str(SECONDS),
                "-W", str(sidecar.pid),
            )  # fmt: skip
            asyncio.run(publish(state.addresses["grpc"], rate, load))
            report = result(load)
            latency = report["lat_us"]
            print(
                f"{clients} clients, {rate} updates/s: p50 {latency['p50'] / 1000:.2f} ms, "
                f"p99 {latency['p99'] / 1000:.2f} ms, max {latency['max'] / 1000:.2f} ms; "
                f"missing {report['missing']}, out of order {report['disorder']}"
            )


async def publish(address: str, rate: int, load: object) -> None:
    """Publish until the load generator ends."""
    async with grpc.aio.insecure_channel(address) as channel:
        call = ingest_pb2_grpc.StateIngestServiceStub(channel).Publish()
        started, number = time.monotonic(), 0
        while load.poll() is None:  # type: ignore[attr-defined]
            number += 1
            await asyncio.sleep(max(0.0, started + number / rate - time.monotonic()))
            json = b'{"height":%d,"ts":%d,"hash":"%064x"}' % (number, time.monotonic_ns(), number)
            custom = update_pb2.CustomUpdate(type="bench_update", json=json)
            publication = ingest_pb2.Publication(update=update_pb2.Update(stream="bench", custom=custom))
            await call.write(ingest_pb2.PublishRequest(publications=[publication]))
            await call.read()
        await call.done_writing()
