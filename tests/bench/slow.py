"""Clients that read too slowly, and clients that read nothing: what they get, and what they cost the others."""

import asyncio
import os
import statistics
import time

from tests.bench.processes import Bridge, bridge, cpu_seconds, memory_mb, metric, result, verdict, wsload
from tests.bench.publisher import finished, publishing
from tests.bench.reader import Reader
from tests.bench.servers import Server, ours

RATE, SHARE, SECONDS = 2000, 0.3, float(os.environ.get("SECONDS", "60"))
"""Updates a second, how much of them the slow reader reads, and for how long."""

HEALTHY, STALLED, PAIRS = 200, 1000, int(os.environ.get("PAIRS", "5"))
STALL_SECONDS = 5
STALLED_RATE, SIZE_BYTES = 100, 1000
SETTLE_SECONDS = STALL_SECONDS + 5
"""How long a run is: they are dropped in the middle of it."""


def main() -> None:
    """Measure and print."""
    read_slowly()
    read_nothing()


# ---------------------------------------------------------------------- one that reads too slowly


def read_slowly() -> None:
    """One client reads a share of what comes, then everything."""
    with (
        bridge("state", "--source", "none", "--ingest", "--grpc-listen", "127.0.0.1:0") as state,
        bridge("sidecar", "--upstream", state.addresses["grpc"], "--listen", "127.0.0.1:0") as sidecar,
    ):
        print(f"a v1 reader at {SHARE:.0%} of {RATE} updates/s of 200 bytes for {SECONDS:g} s, then at full speed")
        asyncio.run(follow(state, sidecar))


async def follow(state: Bridge, sidecar: Bridge) -> None:
    """Read slowly, then fast, then to the end."""
    with publishing(state.addresses["grpc"], count=1) as publisher:
        first = finished(publisher)
    reader = Reader()
    await reader.connect(sidecar.port)
    await reader.subscribe(first.epoch, first.seq)
    with publishing(state.addresses["grpc"], first=first.seq + 1, rate=RATE) as publisher:
        reader.slow_down(RATE * SHARE)
        before, cpu = memory_mb(sidecar.pid), cpu_seconds(sidecar.pid)
        await asyncio.sleep(SECONDS)
        print(f"  sidecar meanwhile: {(cpu_seconds(sidecar.pid) - cpu) / SECONDS:.0%} of a core, "
              f"{before:.0f} MB before, {memory_mb(sidecar.pid):.0f} MB after")  # fmt: skip
        read = reader.updates
        reader.slow_down(0)
        began = time.monotonic()
        await reader.until(lambda: reader.kinds["caught_up"] or not reader.kinds["fell_behind"])
        seconds = time.monotonic() - began
        caught = reader.updates - read
        print(f"  read {read} slowly; then {caught} in {seconds:.1f} s ({caught / seconds:.0f}/s) until live; "
              f"sidecar {memory_mb(sidecar.pid):.0f} MB")  # fmt: skip
        await asyncio.sleep(2)
        published = await asyncio.to_thread(finished, publisher, stop=True)
        await reader.until(lambda: reader.at >= published.seq)
        (books,) = (await reader.ask("session.stats"))["subscriptions"]
    told = {kind: reader.kinds[kind] for kind in ("fell_behind", "caught_up", "gap")}
    verdict(not reader.faults and reader.at == published.seq,
            f"{published.seq} updates, each once and in order {reader.faults[:3] or ''}")  # fmt: skip
    everything = published.seq - first.seq
    wanted = {"start": first.seq, "head": published.seq, "delivered": everything, "filtered": 0, "skipped": 0,
              "missed": 0, "pending": 0}  # fmt: skip
    verdict(all(books[name] == value for name, value in wanted.items()), f"books: {books}")
    verdict(told == {"fell_behind": 1, "caught_up": 1, "gap": 0}, f"told: {told}")


# ---------------------------------------------------------------------- many that read nothing


def read_nothing() -> None:
    """Clients that never read beside healthy ones, in pairs of runs with and without."""
    print(f"{STALLED} clients that never read beside {HEALTHY} healthy ones, {STALLED_RATE} updates/s of "
          f"{SIZE_BYTES} bytes, {PAIRS} pairs")  # fmt: skip
    with ours("--stall-timeout-seconds", str(STALL_SECONDS)) as server:
        run(server, rate=10 * STALLED_RATE)  # histories are full from here on
        ratios, grown, left = [], [], 0.0
        for _ in range(PAIRS):
            alone = run(server)
            before = memory_mb(server.pid)
            seconds = str(SETTLE_SECONDS + 8)
            stalled = wsload(*server.arguments[:4], "-n", str(STALLED), "-L", str(STALLED), "-B", "4096", "-c", "256",
                             "-w", "0", "-d", seconds)  # fmt: skip
            time.sleep(2)  # they are all there
            beside = run(server)
            left += metric(f"http://127.0.0.1:{server.arguments[1]}", "theblock_bridge_connections")
            time.sleep(1)
            after = memory_mb(server.pid)
            stalled.communicate()
            ratios.append(beside / alone)
            grown.append(after - before)
            print(f"  p99 {alone:.1f} ms alone, {beside:.1f} ms beside them; memory {before:.0f} MB before, "
                  f"{after:.0f} MB after their abort", flush=True)  # fmt: skip
    verdict(left == 0, f"{left:.0f} of them are still connected")
    verdict(statistics.median(ratios) <= 1.2, f"p99 of the healthy: {statistics.median(ratios):.2f} times (median)")
    verdict(max(grown) <= 10, f"memory after their abort: {', '.join(f'{mb:+.1f}' for mb in grown)} MB")


def run(server: Server, rate: int = STALLED_RATE) -> float:
    """Run the healthy clients; return the 99th percentile of their latency, milliseconds."""
    load = wsload(*server.arguments, "-n", str(HEALTHY), "-r", str(rate), "-S", str(SIZE_BYTES), "-w", "4",
                  "-d", str(SETTLE_SECONDS))  # fmt: skip
    report = result(load)
    if report["missing"] or report["disorder"]:
        print(f"  MISSED: {report['missing']} missing, {report['disorder']} out of order")
    return float(report["lat_us"]["p99"]) / 1000


if __name__ == "__main__":
    main()
