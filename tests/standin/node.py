"""The stand-in node: the model behind a socket. Run by hand with ``python -m tests.standin.node --help``."""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from .chain import Chain
from .connection import Connection
from .energy import EnergyMarket
from .faults import Faults
from .http1 import MAX_LINE_BYTES
from .model import Model
from .options import Options
from .peers import Peers
from .request_log import RequestLog
from .state_stream import StateSnapshot

ACCEPT_BACKLOG = 1024


class StandinNode:
    """A node that behaves as measured, for the length of an ``async with``.

    Args:
        chain: what it serves, a new empty one if None. Its clock is the node's clock.
        port: to listen on; 0 lets the system choose, and the choice is kept over restarts.
        **options: fields of ``Options``.

    Attributes:
        model: all that it knows; ``chain``, ``energy``, ``peers``, ``prices`` and ``faults`` are parts of it.
        requests: what it was asked.
        permits: for handlers; taken also by every open stream.
        in_flight: requests read and not yet answered, open streams included.
        streams: open streams.
        shuffle: decides the order of response headers.

    Raises:
        TypeError: an option of that name does not exist.
    """

    def __init__(self, chain: Chain | None = None, port: int = 0, **options: Any) -> None:
        self.options = Options(**options)
        self.model = Model(chain or Chain(), self.options)
        self.requests = RequestLog()
        self.snapshot = StateSnapshot(self.chain, self.options.max_proof_accounts)
        self.permits = asyncio.Semaphore(self.options.max_handlers)
        self.shuffle = random.Random(0)
        self.in_flight = 0
        self.streams = 0
        self._port = port
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], Connection] = {}
        self._failures: list[Exception] = []
        self._growth: asyncio.Task[None] | None = None
        self._growth_rate = (self.options.blocks_per_second, self.options.txs_per_block)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def chain(self) -> Chain:
        """The chain that it serves."""
        return self.model.chain

    @property
    def energy(self) -> EnergyMarket:
        """Its energy market."""
        return self.model.energy

    @property
    def peers(self) -> Peers:
        """The peers that it knows."""
        return self.model.peers

    @property
    def prices(self) -> dict[str, tuple[int, int, int]]:
        """Its compute prices by lane, ``(p25, median, p75)``."""
        return self.model.prices

    @property
    def faults(self) -> Faults:
        """What it does wrong beyond its ordinary manners."""
        return self.model.faults

    @property
    def port(self) -> int:
        """The port it listens on; 0 before the first ``start`` if the system is to choose."""
        return self._port

    @property
    def url(self) -> str:
        """Where to send JSON-RPC."""
        return f"http://{self.options.host}:{self.port}"

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    @property
    def failed(self) -> bool:
        """Whether something went wrong in the stand-in itself; ``stop`` tells what."""
        return bool(self._failures)

    async def start(self) -> None:
        """Listen, and grow the chain if so told.

        Raises:
            OSError: the port is taken.
        """
        self._server = await asyncio.start_server(
            self._accept, self.options.host, self._port, limit=MAX_LINE_BYTES, backlog=ACCEPT_BACKLOG
        )
        self._port = self._server.sockets[0].getsockname()[1]
        self.grow(*self._growth_rate)

    async def stop(self) -> None:
        """Stop listening and drop every connection, as when the process is killed. What is in memory stays.

        Raises:
            ExceptionGroup: the stand-in itself failed somewhere since it was started.
        """
        if self._server is None:
            return
        self._server.close()
        for task, connection in self._connections.items():
            connection.drop()
            task.cancel()
        tasks = list(self._connections)
        if self._growth is not None:
            self._growth.cancel()
            tasks.append(self._growth)
            self._growth = None
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None
        if self._failures:
            failures, self._failures = self._failures, []
            raise ExceptionGroup("the stand-in node failed", failures)

    async def restart(self) -> None:
        """Stop and start on the same port, with the chain kept and lost what the node loses in a restart."""
        await self.stop()
        self.model.restart()
        self.thaw()
        await self.start()

    def freeze(self) -> None:
        """Answer nothing from now on, on any connection, new ones included; the chain stops growing by itself."""
        self.faults.running.clear()

    def thaw(self) -> None:
        """Go on, first with what was asked meanwhile."""
        self.faults.running.set()

    def grow(self, blocks_per_second: float, txs_per_block: int = 0) -> None:
        """Grow the chain by the clock from now on; 0 stops it. Holds over restarts."""
        self._growth_rate = (blocks_per_second, txs_per_block)
        if self._growth is not None:
            self._growth.cancel()
            self._growth = None
        if blocks_per_second > 0 and self._server is not None:
            first_due = self.chain.clock.now() + 1 / blocks_per_second
            self._growth = asyncio.create_task(self._grow(first_due, 1 / blocks_per_second, txs_per_block))
            self._growth.add_done_callback(self._note_failure)

    async def _grow(self, due: float, interval: float, txs_per_block: int) -> None:
        clock, chain = self.chain.clock, self.chain
        while True:
            await clock.sleep_until(due)
            if not self.faults.running.is_set():
                await self.faults.running.wait()
                due = clock.now()
            if not chain.poisoned:
                waiting = len(chain.mempool.consumer) + len(chain.mempool.industrial)
                chain.mine(txs=waiting + txs_per_block)
            due += interval

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")
        if peer is None:  # gone before it was accepted
            writer.close()
            return
        connection = Connection(self, reader, writer, peer[0])
        task = asyncio.create_task(connection.run())
        self._connections[task] = connection
        task.add_done_callback(self._connections.pop)
        task.add_done_callback(self._note_failure)

    def _note_failure(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self._failures.append(error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.standin.node", description="A stand-in for a The Block node, on loopback."
    )
    defaults = Options()
    parser.add_argument("--port", type=int, default=3030, help="0: the system chooses (default: %(default)s)")
    parser.add_argument("--host", default=defaults.host, help="address to listen on (default: %(default)s)")
    parser.add_argument("--genesis", default="standin", help="name of the chain: another gives other hashes")
    parser.add_argument("--blocks", type=int, default=0, help="blocks to begin with (default: none)")
    parser.add_argument("--blocks-per-second", type=float, default=0.0, help="automatic growth (default: none)")
    parser.add_argument("--txs-per-block", type=int, default=0, help="transactions in every block (default: none)")
    parser.add_argument("--accounts", type=int, default=3, help="accounts to begin with (default: %(default)s)")
    parser.add_argument("--peers", type=int, default=0, help="peers with growing counters (default: none)")
    parser.add_argument("--providers", type=int, default=0, help="energy providers (default: none)")
    parser.add_argument(
        "--tokens-per-second",
        type=float,
        default=defaults.tokens_per_second,
        help="requests that an address may send in a second (default: %(default)s)",
    )
    parser.add_argument(
        "--ban-seconds", type=float, default=defaults.ban_seconds, help="length of a ban (default: %(default)s)"
    )
    parser.add_argument("--energy-token", help="provider token that energy reads then need")
    parser.add_argument("--no-telemetry", action="store_true", help="as built without telemetry")
    parser.add_argument("--no-governor", action="store_true", help="the launch governor is off")
    return parser


async def _run(arguments: argparse.Namespace) -> None:
    chain = Chain(arguments.genesis, wallets=arguments.accounts)
    chain.mine(arguments.blocks, txs=arguments.txs_per_block)
    node = StandinNode(
        chain,
        arguments.port,
        host=arguments.host,
        blocks_per_second=arguments.blocks_per_second,
        txs_per_block=arguments.txs_per_block,
        tokens_per_second=arguments.tokens_per_second,
        ban_seconds=arguments.ban_seconds,
        energy_token=arguments.energy_token,
        telemetry=not arguments.no_telemetry,
        governor=not arguments.no_governor,
    )
    for index in range(arguments.peers):
        node.peers.add(f"peer-{index}", requests_per_second=1.2, bytes_per_second=400)
    for _ in range(arguments.providers):
        node.energy.add_provider()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with node:
        print(f"listening on {node.url}", flush=True)
        await stopped.wait()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a stand-in until SIGINT or SIGTERM; its first line on stdout says where it listens."""
    parser = _parser()
    parsed = parser.parse_args(arguments)
    if parsed.txs_per_block and not parsed.accounts:
        parser.error("--txs-per-block needs an account that sends them: --accounts 1 or more")
    try:
        asyncio.run(_run(parsed))
    except OSError as error:
        parser.error(f"cannot listen on {parsed.host}:{parsed.port}: {error.strerror}")


if __name__ == "__main__":
    main()
