"""A short run of chaos, always the same faults; and proof that the run would notice what must not be."""

import asyncio
import random

import pytest

from bridge.verify.oracle import Oracle
from tests.chaos.faults import FAULTS, plan
from tests.chaos.proxy import Proxy
from tests.chaos.publisher import Ledger
from tests.chaos.run import run, table
from tests.chaos.values import IDENTITY, LATEST, STREAMS, value
from tests.chaos.world import Options, World
from tests.doctor.proxy import listening
from tests.edges.rig import until

SHORT = Options(faults=len(FAULTS), rate=250, clients=16, sidecars=2, seed=11, seconds=24)


async def test_every_client_gets_everything_whatever_goes_wrong():
    told: list[str] = []
    result = await run(SHORT, told.append)
    assert result.ok, "\n".join([*told, *table(result)])
    assert sum(result.done.values()) == SHORT.faults
    assert result.verdict.counts.resumed > 50
    assert result.verdict.delivered > result.acknowledged > 1000


async def test_the_same_seed_plans_the_same(tmp_path):
    first, again, other = (plan(World(Options(seed=seed), tmp_path), 100.0) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert {planned.fault for planned in first} == set(FAULTS)
    assert all(0 <= planned.after_seconds <= 100 for planned in first)


# ---------------------------------------------------------------------- publishers


def test_values_are_told_apart_by_one_field():
    values = [value(number) for number in range(1, 200)]
    assert {one.stream for one in values} == set(STREAMS)
    for stream in STREAMS:
        numbers = [one.data[IDENTITY[stream]] for one in values if one.stream == stream]
        assert len(set(numbers)) == len(numbers) > 5


class Sender:
    """A publisher with publications that were not acknowledged."""

    def __init__(self, *numbers: int) -> None:
        self.pending = {number: value(number) for number in numbers}


@pytest.fixture
def oracle() -> Oracle:
    return Oracle(latest=LATEST)


def frame(number: int, epoch: str, seq: int) -> dict:
    sent = value(number)
    key = {"key": sent.key, "prev": 0} if sent.key else {}
    return {"type": sent.type, "stream": sent.stream, "epoch": epoch, "seq": seq, "time": 5, **key, "data": sent.data}


def read(oracle: Oracle, name: str, *frames: dict) -> None:
    client = oracle.client(name)
    for stream in {one["stream"] for one in frames}:
        client.subscribed(stream, epoch="e1", seq=0)
    for one in frames:
        client.received_value(one)


def test_what_was_not_acknowledged_may_have_been_published_in_an_epoch_that_is_over(oracle):
    ledger = Ledger(oracle)
    ledger.publishers.append(Sender(17, 33))  # type: ignore[arg-type]
    ledger.published(1, value(1), "e1", 1)
    stream = value(1).stream
    assert {value(17).stream, value(33).stream} == {stream}
    read(oracle, "one", frame(1, "e1", 1), frame(17, "e1", 2))
    oracle.advance()
    assert oracle.verdict(settled=False).kinds == {"invented"}  # so far, it would be acknowledged
    ledger.began("e2")
    assert oracle.verdict(settled=False).ok
    read(oracle, "two", frame(1, "e1", 1), frame(33, "e1", 2))
    assert oracle.verdict(settled=False).kinds == {"altered"}
    read(oracle, "three", frame(1, "e1", 1), frame(17, "e1", 2), frame(17, "e1", 3))
    assert "repeated" in oracle.verdict(settled=False).kinds


def test_a_publication_that_was_published_twice_is_told(oracle):
    ledger = Ledger(oracle)
    ledger.published(1, value(1), "e1", 1)
    ledger.published(1, value(1), "e1", 1)
    assert oracle.verdict().ok
    ledger.published(1, value(1), "e1", 2)
    assert oracle.verdict().kinds == {"repeated"}


# ---------------------------------------------------------------------- proxies


class Echo:
    """A client of a server that sends back what it gets, through a proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def says(self, data: bytes) -> bytes:
        self.writer.write(data)
        async with asyncio.timeout(10):
            return await self.reader.readexactly(len(data))


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.write(b"!")
    await writer.drain()


async def test_a_proxy_spoils_what_it_is_told_to():
    async with listening(echo) as port:
        proxy = Proxy("echo", ("127.0.0.1", port))
        await proxy.start()
        client = Echo(*await asyncio.open_connection("127.0.0.1", proxy.port))
        assert await client.says(b"a" * 100_000) == b"a" * 100_000

        proxy.stall(True)
        asking = asyncio.create_task(client.says(b"bc"))
        await asyncio.wait((asking,), timeout=0.1)
        assert not asking.done()
        proxy.stall(False)
        assert await asking == b"bc"

        proxy.shape(bytes_per_second=20_000, delay_seconds=0.01)
        data = random.Random(0).randbytes(3000)
        assert await client.says(data) == data
        proxy.shape(bytes_per_second=1)
        asking = asyncio.create_task(client.says(b"d" * 1000))
        await asyncio.wait((asking,), timeout=0.1)
        assert not asking.done()
        proxy.shape()
        assert await asking == b"d" * 1000

        proxy.half_close(from_client=True)  # the server hears that the client is done, and ends
        async with asyncio.timeout(10):
            assert await client.reader.read() == b"!"
        client.writer.close()
        await until(lambda: not proxy.ends, "both sides are closed")

        client = Echo(*await asyncio.open_connection("127.0.0.1", proxy.port))
        assert await client.says(b"e") == b"e"
        proxy.cut(reset=True)
        with pytest.raises(ConnectionError):
            await client.says(b"f")
        client.writer.close()
        proxy.refusing = True
        client = Echo(*await asyncio.open_connection("127.0.0.1", proxy.port))
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await client.says(b"g")
        client.writer.close()
        await proxy.close()
