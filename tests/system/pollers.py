"""Many dashboards that poll: `python -m tests.system.pollers PORT POLLERS ROUNDS`.

Each has a connection of its own, which it keeps. It probes what there is as the dashboard does at its start, asks for
something that it may not have, and then polls `POST /rpc` and `GET /state/{stream}` every two seconds. What came of all
of it is one JSON object on stdout.
"""

import asyncio
import json
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from bridge.settings.fields import NODE_METHODS
from tests.edges.rpc.rig import POLL, PROBES
from tests.standin.methods import ADMIN, ENERGY_CHANGES, MODELLED, RECORDED

EVERY_SECONDS = 2.0
PATIENCE_SECONDS = 30.0

NOT_ALLOWED = sorted(
    {"dex.place_order", "governance.vote", "treasury.approve", "start_mining", "stop_mining"}
    | (RECORDED | ADMIN | ENERGY_CHANGES | MODELLED.keys()) - set(NODE_METHODS)
)
"""Methods that change something, or need the admin token, or may kill a node, or are of no use to a dashboard."""

STREAMS = ("block_updates", "metrics", "network")


def call(method: str, params: object, number: int) -> dict[str, object]:
    return {"jsonrpc": "2.0", "method": method, "params": params, "id": number}


def post(value: object) -> bytes:
    body = json.dumps(value).encode()
    return b"POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def get(stream: str, etag: str) -> bytes:
    return f"GET /state/{stream} HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: {etag}\r\n\r\n".encode()


BATCH = post([call(method, params, number) for number, (method, params) in enumerate(POLL)])


@dataclass
class Tally:
    """What came of the polls of all.

    Attributes:
        statuses: how many answers there were of each HTTP status, by kind of request.
        codes: how many answers there were of each code of an error, by method; 0: of a result.
        went_back: how often a height was lower than the one before it.
        height: the highest that anybody was told.
    """

    statuses: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    codes: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    went_back: int = 0
    height: int = 0


class Poller:
    """One page."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tally: Tally) -> None:
        self.reader, self.writer, self.tally = reader, writer, tally
        self.etags = dict.fromkeys(STREAMS, '"none"')
        self.height = 0

    async def ask(self, kind: str, request: bytes) -> tuple[dict[str, str], bytes]:
        """Send a request; return headers and body of the answer."""
        self.writer.write(request)
        async with asyncio.timeout(PATIENCE_SECONDS):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        self.tally.statuses[kind][first.split()[1]] += 1
        return headers, body

    def note(self, method: str, answer: dict[str, dict]) -> None:
        self.tally.codes[method][answer["error"]["code"] if "error" in answer else 0] += 1

    async def probe(self, number: int) -> None:
        """Ask for this and that, one after the other."""
        for method in (*PROBES, NOT_ALLOWED[number % len(NOT_ALLOWED)]):
            self.note(method, json.loads((await self.ask("probe", post(call(method, [], 1))))[1]))

    async def poll(self, number: int) -> None:
        """Ask for everything that the page shows."""
        _, body = await self.ask("poll", BATCH)
        answers = json.loads(body)
        assert [answer["id"] for answer in answers] == list(range(len(POLL)))
        for (method, _), answer in zip(POLL, answers, strict=True):
            self.note(method, answer)
        height = answers[0]["result"]["height"]
        self.tally.went_back += height < self.height
        self.height = height
        self.tally.height = max(self.tally.height, height)
        stream = STREAMS[number % len(STREAMS)]
        headers, _ = await self.ask("state", get(stream, self.etags[stream]))
        self.etags[stream] = headers.get("etag", self.etags[stream])


async def page(number: int, port: int, pollers: int, rounds: int, tally: Tally) -> None:
    """Be one page: all of them are spread evenly over the time between two polls."""
    due = time.monotonic() + EVERY_SECONDS * number / pollers
    await asyncio.sleep(due - time.monotonic())
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        poller = Poller(reader, writer, tally)
        await poller.probe(number)
        for round_ in range(rounds):
            due = max(due + EVERY_SECONDS, time.monotonic())
            await asyncio.sleep(due - time.monotonic())
            await poller.poll(number + round_)
    finally:
        writer.close()


async def run(port: int, pollers: int, rounds: int) -> Tally:
    """Be all of them until each has polled so many times."""
    tally = Tally()
    async with asyncio.TaskGroup() as tasks:
        for number in range(pollers):
            tasks.create_task(page(number, port, pollers, rounds, tally))
    return tally


if __name__ == "__main__":
    print(json.dumps(vars(asyncio.run(run(*map(int, sys.argv[1:]))))))
