"""Clients that come back after 100,000 updates, most of which only the journal has: how long it takes, what it costs.

The event loop of the sidecar is watched: nobody else may have to wait while they catch up. A slice of more than 20 ms
of processor time is one too many; how late a callback came counts what else the machine did, too.
"""

import asyncio
import os
import time

from tests.bench.processes import Bridge, Probe, bridge, cpu_seconds, memory_mb, probed, verdict
from tests.bench.publisher import Published, finished, publishing
from tests.bench.reader import Reader

BACKLOG, HISTORY_COUNT, RATE = 100_000, 4096, 500
"""Updates to come back after, how many of them the sidecar remembers, and updates a second meanwhile."""

TOGETHER = 20
ROUNDS = int(os.environ.get("ROUNDS", "3"))
SLICE_MS = 20


def main() -> None:
    """Measure and print."""
    count = ("--history-count", str(HISTORY_COUNT))
    with (
        bridge("state", "--source", "none", "--ingest", "--grpc-listen", "127.0.0.1:0", *count) as state,
        probed("sidecar", "--upstream", state.addresses["grpc"], "--listen", "127.0.0.1:0", *count) as (sidecar, probe),
    ):
        asyncio.run(measure(state, sidecar, probe))


async def measure(state: Bridge, sidecar: Bridge, probe: Probe) -> None:
    """Publish the backlog, then come back, alone and together."""
    address = state.addresses["grpc"]
    with publishing(address, count=BACKLOG) as publisher:
        backlog = await asyncio.to_thread(finished, publisher)
    await asyncio.sleep(1)
    with publishing(address, first=BACKLOG + 1, rate=RATE) as publisher:
        quiet = probe.read()
        await asyncio.sleep(5)
        quiet = probe.read()
        print(f"{RATE} updates/s, nobody there: slices of at most {quiet.cpu_ms:.1f} ms, {quiet.late_ms:.1f} ms late")
        for number in (1,) * ROUNDS + (TOGETHER,) * ROUNDS:
            await come_back(number, backlog, sidecar, probe)
        await asyncio.to_thread(finished, publisher, stop=True)


async def come_back(number: int, backlog: Published, sidecar: Bridge, probe: Probe) -> None:
    """Have clients come back at once behind the first update; print what they got and what it cost."""
    readers = [Reader() for _ in range(number)]
    for reader in readers:
        await reader.connect(sidecar.port)
    probe.read()
    cpu, began = cpu_seconds(sidecar.pid), time.monotonic()
    rows = await asyncio.gather(*(reader.subscribe(backlog.epoch, 0) for reader in readers))
    live = max(row["replayed"] for row in rows)
    await asyncio.gather(*(reader.until(lambda reader=reader: reader.at >= live) for reader in readers))
    seconds, cpu = time.monotonic() - began, cpu_seconds(sidecar.pid) - cpu
    slices = probe.read()
    await asyncio.sleep(2)  # live updates follow
    stats = await asyncio.gather(*(reader.ask("session.stats") for reader in readers))
    faults = [fault for reader in readers for fault in reader.faults]
    gaps = sum(reader.kinds["gap"] for reader in readers)
    print(f"{number} clients come back: {seconds:.1f} s, {number * BACKLOG / seconds:,.0f} updates/s in all, "
          f"{cpu:.1f} s of the sidecar's processor, {memory_mb(sidecar.pid):.0f} MB")  # fmt: skip
    exact = all(
        books["delivered"] == books["head"] - books["start"] - books["pending"] and books["start"] == 0
        for stat in stats for books in stat["subscriptions"]
    )  # fmt: skip
    recovered = all(row["recovered"] for row in rows) and min(reader.at for reader in readers) > live
    verdict(recovered and exact and not faults and not gaps, f"each update once and in order, live ones behind them, "
            f"books exact {faults[:3] or ''}")  # fmt: skip
    verdict(slices.cpu_ms < SLICE_MS, f"longest slice of the loop: {slices}")
    for reader in readers:
        await reader.close()


if __name__ == "__main__":
    main()
