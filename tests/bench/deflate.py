"""Deflated updates against plain ones: processor time a delivery in pairs, bytes on the wire, memory a connection.

Two sidecars that differ in nothing, 1,000 clients each; those of one offer permessage-deflate. Every round measures
both, in an order of its own. Updates are hexadecimal digits for the most part, which compress as badly as JSON ever
does.
"""

import os
import random
import socket
import zlib
from contextlib import ExitStack
from typing import Any, Final

from tests.bench.load import loaded
from tests.bench.processes import memory_mb, raise_file_limit
from tests.bench.report import Report, Spread
from tests.bench.servers import ours

CLIENTS: Final = 1000
SIZES: Final = (300, 1000, 4000)
OFFERS: Final[dict[str, tuple[str, ...]]] = {"plain": (), "deflated": ("--deflate-ctx",)}
PING: Final = b'{"type":"ping","timestamp":1707770400123}'


def main() -> None:
    """Measure and print."""
    raise_file_limit()
    with Report("deflate", rounds=7, seconds=1) as report:
        for size in SIZES:
            compare(report, size)
        report.target("memory a connection that has sent deflated messages", memory_kb(), 20, "KB")


def compare(report: Report, size: int) -> None:
    """Measure updates of so many bytes of JSON."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in OFFERS}
    with ExitStack() as stack:
        loads = {
            name: stack.enter_context(loaded(stack.enter_context(ours()), CLIENTS, "--size", str(size), *offer))
            for name, offer in OFFERS.items()
        }
        for _ in range(report.rounds):
            for name in random.sample(list(loads), len(loads)):
                runs[name].append(loads[name].run(report.seconds))
    costs = {name: [run["server_cpu_s_per_M"] for run in runs[name]] for name in runs}
    sizes = {name: Spread.of(run["payload_bytes"] / run["updates"] for run in runs[name]).median for name in runs}
    ratio = Spread.of_ratios(costs["deflated"], costs["plain"])
    report.row(
        update_bytes=size, plain_us=Spread.of(costs["plain"]), deflated_us=Spread.of(costs["deflated"]), ratio=ratio,
        plain_bytes=sizes["plain"], deflated_bytes=sizes["deflated"],
    )  # fmt: skip
    report.target(f"a delivery deflated, of one plain, updates of {size} bytes", ratio.median, 1.1)


def memory_kb() -> float:
    """Return what a connection takes that has sent deflated messages, KB."""
    with ExitStack() as stack:
        server = stack.enter_context(ours())
        port = int(server.arguments[server.arguments.index("-p") + 1])
        before_mb = memory_mb(server.pid)
        for _ in range(CLIENTS):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            talk(client, port)
        return (memory_mb(server.pid) - before_mb) * 1000 / CLIENTS


def talk(client: socket.socket, port: int) -> None:
    """Shake hands, and have some deflated pings answered."""
    client.sendall(
        f"GET /ws?subscribe=bench HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n".encode()
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += client.recv(65536)
    assert b"permessage-deflate" in answer, answer
    for _ in range(3):
        client.sendall(deflated(PING))
        while b'"pong"' not in client.recv(65536):
            pass


def deflated(message: bytes) -> bytes:
    """Return a client's text frame with a deflated message."""
    compressor = zlib.compressobj(wbits=-15)
    payload = (compressor.compress(message) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    key = os.urandom(4)
    return bytes((0xC1, 0x80 | len(payload))) + key + bytes(byte ^ key[at % 4] for at, byte in enumerate(payload))


if __name__ == "__main__":
    main()
