"""Both encodings say the same of every update of every stream, and binary ones carry the state service's own bytes."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any

import pytest

from bridge.core.history import HistoryLimits
from bridge.core.hub import State
from bridge.core.origin import Origin
from bridge.core.update import Update, varint
from bridge.settings.address import Address
from bridge.sources.grpc import UpstreamSource
from bridge.sources.simulated import updates
from generated.theblock.state.v1 import metrics_pb2
from tests.edges.rig import Options, Rig, serving, until
from tests.edges.v1_clients import V1Connection
from tests.state_service import serving as serving_state

DECLARED = ("block_updates", "metrics", "network", "trading", "energy", "account")
CUSTOM = ("weather", "sensors")
LATEST = ("metrics", "network", "energy")
STREAMS = (*DECLARED, *CUSTOM)

INT64 = {"height", "finalized_height", "timestamp", "fees", "blockHeight", "issuance", "nonce"}
"""JSON names of the 64-bit integers of the declared streams."""

PAYLOADS = 600
HOUR_LONG = HistoryLimits(count=20_000, bytes=1 << 30, age_ms=0)


class Log:
    """What was published: the bytes of each update, hashed, by place."""

    def __init__(self) -> None:
        self.digests: dict[tuple[str, str, int], str] = {}
        self.newest: dict[str, int] = dict.fromkeys(STREAMS, 0)

    def note(self, update: Update) -> None:
        self.digests[update.stream.name, update.epoch, update.seq] = digest(update.raw)
        self.newest[update.stream.name] = update.seq

    def publish(self, origin: Origin, seed: int, number: int = PAYLOADS) -> Iterator[None]:
        """Publish a simulated chain, and values of custom streams between; yields now and then."""
        for index, payload in enumerate(islice(updates(seed), number)):
            self.note(origin.publish(payload))
            if index % 5 == 0:
                data = {"n": index, "big": 2**60 + index, "text": "\u20ac \u0000 \U0001f600", "t": 0.1 * index}
                self.note(origin.publish_custom("weather", "weather_update", json.dumps(data).encode()))
                data = {"list": [1, [2, {"a": None}]], "yes": True}
                key = f"place:{index % 3}"
                self.note(origin.publish_custom("sensors", "sensor", json.dumps(data).encode(), key=key))
            if index % 7 == 0:
                yield
        nothing = metrics_pb2.MetricsUpdate(tps=float("nan"), latency_ms=float("inf"))
        self.note(origin.publish(nothing))
        yield


def digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def field(number: int, payload: bytes) -> bytes:
    return bytes([number << 3 | 2]) + varint(len(payload)) + payload


def inner(payload: bytes) -> bytes:
    """Return the bytes of the update in a binary frame: what stands behind the keys and the lengths."""
    number, rest = payload[0] >> 3, behind_length(payload)
    return rest if number == 1 else behind_length(rest)  # a snapshot has the update in its field 1


def behind_length(payload: bytes) -> bytes:
    """Return what stands behind the key and the length of a field that is all of a message."""
    at = 1
    while payload[at] & 0x80:
        at += 1
    return payload[at + 1 :]


def as_strings(value: Any, name: str = "") -> Any:
    """Return data of a declared stream as a client gets it that asked for 64-bit integers as strings."""
    if isinstance(value, dict):
        return {name: as_strings(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [as_strings(item, name) for item in value]
    return str(value) if name in INT64 and value is not None else value


class Reading:
    """A connection that reads all the while."""

    def __init__(self, connection: V1Connection) -> None:
        self.connection = connection
        self.task = asyncio.create_task(self.read())

    async def read(self) -> None:
        while True:
            await self.connection.read()

    @property
    def updates(self) -> list[dict[str, Any]]:
        return [got for got in self.connection.frames if "data" in got]

    def has(self, log: Log) -> bool:
        assert not self.task.done(), self.task
        found = dict.fromkeys(STREAMS, 0)
        for got in self.updates:
            found[got["stream"]] = got["seq"]
        return found == log.newest

    def check_bytes(self, log: Log) -> int:
        """See that every binary update is the state service's own bytes; return how many there were."""
        count = 0
        for got, raw in zip(self.connection.frames, self.connection.raw, strict=True):
            if "data" in got:
                assert digest(inner(raw)) == log.digests[got["stream"], got["epoch"], got["seq"]], got
                count += 1
        return count

    async def end(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task
        self.connection.hang_up()


@asynccontextmanager
async def reading(rig: Rig) -> AsyncIterator[tuple[Reading, Reading, Reading]]:
    """Have a client of each kind read every stream: JSON, JSON with integers as strings, binary."""
    kinds = (("json", "/ws"), ("json", "/ws?int64=string"), ("proto", "/ws"))
    connections = [await V1Connection.connect(rig.port, *kind) for kind in kinds]
    for connection in connections:
        await connection.subscribe(*STREAMS)
    readings = [Reading(connection) for connection in connections]
    try:
        yield readings[0], readings[1], readings[2]
    finally:
        for one in readings:
            await one.end()


def check_same(log: Log, plain: Reading, strings: Reading, binary: Reading) -> None:
    """See that all three got the same, field by field, each update that they must have."""
    assert plain.updates == binary.updates
    seen = {(got["stream"], got["seq"]): got for got in plain.updates}
    for got in strings.updates:
        wanted = seen[got["stream"], got["seq"]]
        if got["stream"] in DECLARED:
            assert got == wanted | {"data": as_strings(wanted["data"])}
        elif got["stream"] == "weather":
            assert got == wanted | {"data": wanted["data"] | {"big": str(wanted["data"]["big"])}}
        else:
            assert got == wanted
    for name in STREAMS:
        seqs = [got["seq"] for got in plain.updates if got["stream"] == name]
        assert seqs == sorted(set(seqs))
        assert len(seqs) > 5, name
        if name not in LATEST:
            assert seqs == list(range(1, log.newest[name] + 1))
    assert [got["seq"] for got in strings.updates] == [got["seq"] for got in plain.updates]
    assert binary.check_bytes(log) == len(plain.updates)


@pytest.mark.parametrize("seed", [1, 7])
async def test_both_encodings_say_the_same_of_every_stream(seed):
    log = Log()
    async with serving(Options(history=HOUR_LONG)) as rig, reading(rig) as readings:
        for _ in log.publish(rig.origin, seed):
            await asyncio.sleep(0)
        await until(lambda: all(one.has(log) for one in readings), "everybody has everything")
        check_same(log, *readings)
        assert readings[0].updates[-1]["data"]["tps"] is None


@asynccontextmanager
async def sidecar_of(address: Address) -> AsyncIterator[Rig]:
    """Serve what a state service sends."""
    async with serving(Options(history=HOUR_LONG, began=False)) as rig:
        source = asyncio.create_task(UpstreamSource([address], rig.hub, random=lambda: 0.0).run())
        try:
            yield rig
        finally:
            source.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await source


def live(rig: Rig) -> bool:
    return rig.hub.status.state is State.LIVE


async def test_the_bytes_of_the_state_service_come_through_a_real_sidecar():
    log = Log()
    async with serving_state(count=20_000) as service, sidecar_of(service.address) as rig:
        await until(lambda: live(rig), "the sidecar follows")
        async with reading(rig) as readings:
            for _ in log.publish(service.origin, 3):
                await asyncio.sleep(0)
            await until(lambda: all(one.has(log) for one in readings), "everybody has everything")
            check_same(log, *readings)


async def test_snapshots_replays_and_pages_are_the_same_too(open_one):
    """What was published before a client came, read in every way in which it can be."""
    log = Log()
    async with serving_state(count=20_000) as service:
        for _ in log.publish(service.origin, 5):
            pass
        async with sidecar_of(service.address) as rig:
            await until(lambda: live(rig), "the sidecar has everything")
            both = [await open_one(rig.port, encoding) for encoding in ("json", "proto")]
            for connection in both:
                await connection.read()
                for name in STREAMS:
                    number = len(connection.frames)
                    await connection.subscribe(name)
                    snapshots = len(rig.hub.histories[name].latest)
                    for _ in range(snapshots):
                        assert (await connection.read())["snapshot"] is True
                    await connection.subscribe({"stream": name, "last": 5})
                    for _ in range(5):
                        await connection.read()
                    await connection.call("state_stream.history", {"stream": name, "limit": 20, "reverse": True})
                    assert len(connection.frames) - number == snapshots + 5 + 3
                await connection.call("state_stream.list")
                await connection.call("session.stats")
            plain, binary = ([without_session(got) for got in one.frames] for one in both)
            assert plain == binary
            pages = 0
            for got, raw in zip(both[1].frames, both[1].raw, strict=True):
                if "data" in got:
                    assert digest(inner(raw)) == log.digests[got["stream"], got["epoch"], got["seq"]]
                elif "updates" in got.get("result", ()):
                    pages += 1
                    for update in got["result"]["updates"]:
                        mine = rig.hub.histories[update["stream"]].get(update["seq"])
                        assert digest(mine.raw) == log.digests[update["stream"], update["epoch"], update["seq"]]
                        assert field(1, mine.raw) in raw
            assert pages == len(STREAMS)


@pytest.fixture
def open_one() -> Iterator[Callable[..., Awaitable[V1Connection]]]:
    """Return a function that opens a connection, and close it at the end."""
    opened = []

    async def open_one(*args: Any) -> V1Connection:
        opened.append(await V1Connection.connect(*args))
        return opened[-1]

    yield open_one
    for connection in opened:
        connection.hang_up()


def without_session(got: dict[str, Any]) -> dict[str, Any]:
    """Return a frame without what differs from connection to connection."""
    if got.get("type") == "welcome":
        return {name: value for name, value in got.items() if name not in ("session", "format")}
    return got


# An outage


@pytest.mark.parametrize("encoding", ["json", "proto"])
async def test_positions_stay_valid_while_the_state_service_cannot_be_reached(encoding, open_one):
    async with serving_state() as service:
        service.blocks(range(1, 11))
        await service.stop()
        async with sidecar_of(service.address) as rig:
            client = await open_one(rig.port, encoding)
            entry = {"stream": "block_updates", "since": {"epoch": "e1", "seq": 4}}
            await undecided(client, entry)
            await service.start()
            await until(lambda: live(rig), "it is reached")
            (row,) = await client.subscribe(entry)
            assert (row["recovered"], row["replayed"]) == (True, 6)
            frames = await client.read_until(lambda got: got.get("seq") == 10)
            assert [got["seq"] for got in frames if "data" in got] == list(range(5, 11))
            await service.stop()
            await client.read_until(lambda got: got.get("state") == "down")
            other = await open_one(rig.port, encoding)
            ahead = {"stream": "block_updates", "since": {"epoch": "e1", "seq": 12}}
            await undecided(other, ahead)  # another sidecar may have sent it
            assert (await other.subscribe(entry))[0]["recovered"] is True  # what is known here is answered
            service.blocks(range(11, 15))
            await service.start()
            await until(lambda: live(rig), "it is reached again")
            (row,) = await other.subscribe(ahead)
            assert (row["recovered"], row["replayed"]) == (True, 2)
            gone = {"stream": "trading", "since": {"epoch": "e0", "seq": 1}}
            assert (await other.subscribe(gone))[0]["reason"] == "epoch"  # it can be told now that it is void
            frames = await client.read_until(lambda got: got.get("seq") == 14)
            assert [got["seq"] for got in frames if "data" in got] == list(range(11, 15))


async def undecided(client: V1Connection, entry: dict[str, Any]) -> None:
    error = (await client.call("state_stream.subscribe", entry))["error"]
    assert (error["code"], error["data"]) == (-32010, {"retry_after_ms": 1000})
