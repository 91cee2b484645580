"""A v1 client that checks every update of one stream as it comes: each seq once, in order, none left out."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from tests.edges.rawclient import CLOSE, PING, PONG, TEXT, RawClient, frame, parse_frame

V1 = "theblock.v1.json"

RECEIVE_BUFFER_BYTES = 131_072
"""Else the kernel takes in megabytes for a client that reads slowly; with less than two packets it stalls by itself."""

SLOW_BYTES = 4096
"""What a client that reads slowly takes at one time."""

SECONDS = 120

decode = msgspec.json.Decoder().decode


class Reader:
    """One client.

    Attributes:
        at: seq up to which it has everything.
        faults: what must not be: holes, repeats, snapshots in between, values that are not what was published.
        kinds: how many frames of each type it has got.
        updates: how many updates.
        closed: how the connection ended; empty while it has not.
    """

    def __init__(self, stream: str = "bench") -> None:
        self.stream = stream
        self.at = 0
        self.faults: list[str] = []
        self.kinds: Counter[str] = Counter()
        self.updates = 0
        self.closed = ""
        self._answers: dict[object, dict[str, Any]] = {}
        self._rate = 0.0  # updates a second; 0: as they come
        self._began, self._counted = 0.0, 0
        self._client: RawClient
        self._reading: asyncio.Task[None]

    async def connect(self, port: str) -> None:
        """Open the connection, and read from it until it is closed."""
        self._client = await RawClient.dial(int(port), receive_buffer_bytes=RECEIVE_BUFFER_BYTES)
        answer = await self._client.shake(Sec_WebSocket_Protocol=V1)
        assert answer.status == 101, answer
        self._reading = asyncio.create_task(self._read())

    async def close(self) -> None:
        """Hang up."""
        self._reading.cancel()
        await asyncio.wait((self._reading,))
        self._client.hang_up()

    async def ask(self, method: str, *params: object) -> dict[str, Any]:
        """Ask, and return the result."""
        number = len(self._answers) + 1
        request = {"jsonrpc": "2.0", "method": method, "params": params, "id": number}
        await self._client.send(frame(TEXT, msgspec.json.encode(request)))
        await self.until(lambda: number in self._answers)
        result: dict[str, Any] = self._answers[number]["result"]
        return result

    async def subscribe(self, epoch: str, seq: int) -> dict[str, Any]:
        """Subscribe behind a position; return the row of the answer."""
        self.at = seq
        entry = {"stream": self.stream, "since": {"epoch": epoch, "seq": seq}}
        row: dict[str, Any] = (await self.ask("state_stream.subscribe", entry))["subscriptions"][0]
        return row

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for something that a frame brings about."""
        async with asyncio.timeout(SECONDS):
            while not condition():
                if self._reading.done():
                    raise SystemExit(f"the connection was closed {self.closed}") from self._reading.exception()
                await asyncio.sleep(0.005)

    def slow_down(self, rate: float) -> None:
        """Read at most so many updates a second; 0: all that come."""
        self._rate, self._began, self._counted = rate, time.monotonic(), self.updates

    async def _read(self) -> None:
        loop, buffer = asyncio.get_running_loop(), bytes(self._client.buffer)
        while True:
            at = 0
            while (read := parse_frame(buffer, at)) is not None:
                received, at = read
                if received.opcode == PING:
                    await self._client.send(frame(PONG, received.payload))
                elif received.opcode == CLOSE:
                    self.closed = received.payload[2:].decode()
                    return
                elif received.opcode == TEXT:
                    self._take(decode(received.payload))
            buffer = buffer[at:]
            if self._rate:
                pause = self._began + (self.updates - self._counted) / self._rate - time.monotonic()
                await asyncio.sleep(max(0.0, pause))
            data = await loop.sock_recv(self._client.sock, SLOW_BYTES if self._rate else 1 << 16)
            if not data:
                return
            buffer += data

    def _take(self, message: dict[str, Any]) -> None:
        kind = message.get("type", "answer")
        self.kinds[kind] += 1
        if kind == "answer":
            self._answers[message["id"]] = message
        elif "data" in message:
            self._take_update(message)

    def _take_update(self, update: dict[str, Any]) -> None:
        if update["seq"] != self.at + 1 or update.get("snapshot"):
            self.faults.append(f"{update['seq']} behind {self.at}, snapshot: {update.get('snapshot', False)}")
        elif update["data"]["n"] != update["seq"]:
            self.faults.append(f"{update['seq']} has the value of {update['data']['n']}")
        self.at = update["seq"]
        self.updates += 1
