"""A recording of everything that can be published, replayed: all clients get the same of it, field by field."""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from itertools import count, zip_longest
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from bridge.commands.record import record
from bridge.core.hub import Hub, State
from bridge.core.update import varint
from bridge.sources.recording import RecordingSource
from bridge.store.recording_file import HEADER, RecordingReader
from generated.theblock.state.v1 import options_pb2, update_pb2
from tests.core.v1_clients import told_update
from tests.edges.rig import until
from tests.edges.test_parity import DECLARED, STREAMS, Reading, as_strings, digest, live, reading, sidecar_of
from tests.state_service import Service
from tests.state_service import serving as serving_state

F = FieldDescriptor

VALUES: dict[int, tuple[Any, ...]] = {
    F.TYPE_UINT32: (0, 1, 2**32 - 1),
    F.TYPE_UINT64: (0, 1, 2**53 - 1, 2**53, 2**53 + 1, 2**64 - 1),
    F.TYPE_INT64: (0, -1, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)),
    F.TYPE_DOUBLE: (0.0, -0.0, 5.0, -1.5, 0.1, 1e308, 5e-324, float(2**60), *map(float, ("nan", "inf", "-inf"))),
    F.TYPE_STRING: ("", "plain", '\u20ac \u0000 \u2028 \U0001f600 "\\/'),
    F.TYPE_BYTES: (b"", bytes(32), b"\xff" * 64),
}
"""What a field is set to, by its type."""

DECIMALS = ("0", "-1", "9" * 60)
KEYS = ("alice", "bob:1")

CUSTOM = (
    b"{}",
    b'{"n":0,"negative":-1,"no":null,"yes":true,"text":"\xe2\x82\xac \\u0000 \\" \\\\ \\/"}',
    b'{"safe":[9007199254740991,-9007199254740991],"unsafe":[9007199254740992,-9007199254740992]}',
    b'{"large":123456789012345678901234567890,"deep":{"list":[[-18446744073709551616]]}}',
    b'{"digits":1.50,"tiny":1e-300,"huge":-1.7e308,"zero":-0.0,"whole":5.0}',
)
"""Values of custom streams: as they are written, they come."""

SAFE = 2**53 - 1


def values_of(field: FieldDescriptor) -> list[Any]:
    """Return what a field is set to, one after the other."""
    if field.message_type is not None:
        nested = list(payloads(GetMessageClass(field.message_type)))
        return [nested] if field.is_repeated else nested
    if field.GetOptions().Extensions[options_pb2.json].decimal:
        return list(DECIMALS)
    return list(VALUES[field.type])


def payloads(kind: type[Message]) -> Iterator[Message]:
    """Yield payloads: without any field, with each field alone and each of its values, and with all fields at once."""
    fields = {field.name: values_of(field) for field in kind.DESCRIPTOR.fields}
    yield kind()
    for name, values in fields.items():
        for value in values:
            yield kind(**{name: value})
    for number in range(max(map(len, fields.values()))):
        yield kind(**{name: values[number % len(values)] for name, values in fields.items()})


def payloads_of(field: FieldDescriptor) -> Iterator[Message]:
    """Yield the payloads of a declared stream; those of a keyed one have keys that are allowed."""
    key = field.message_type.GetOptions().Extensions[options_pb2.stream].key_field
    for number, payload in enumerate(payloads(GetMessageClass(field.message_type))):
        if key:
            setattr(payload, key, KEYS[number % 2])
        yield payload


async def publish_everything(service: Service, path: Path) -> None:
    """Publish it, a second between one round and the next, each when what came before it is in the recording."""
    now_ms, size = count(1_700_000_000_000, 1000), len(HEADER)
    fields = [field for field in update_pb2.Update.DESCRIPTOR.oneofs_by_name["data"].fields if field.name != "custom"]
    for number, payloads_ in enumerate(zip_longest(*map(payloads_of, fields))):
        moment = next(now_ms)
        service.hub.clock_ms = lambda: moment  # noqa: B023
        updates = [service.origin.publish(payload) for payload in payloads_ if payload is not None]
        if number < 2 * len(CUSTOM):
            data = CUSTOM[number % len(CUSTOM)]
            updates.append(service.origin.publish_custom("weather", "weather_update", data))
            updates.append(service.origin.publish_custom("sensors", "sensor", data, key=KEYS[number % 2]))
        size += sum(len(varint(len(update.raw))) + len(update.raw) for update in updates)
        await until(lambda: path.stat().st_size == size, "it is recorded")  # noqa: B023


@asynccontextmanager
async def background(work: Coroutine[Any, Any, Any]) -> AsyncIterator[asyncio.Task]:
    """Have something done until the block ends."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def recording(service: Service, path: Path) -> AsyncIterator[None]:
    """Record what a state service sends, as the command does."""
    async with background(record(upstream=service.address, output=path, duration_seconds=None)) as task:
        await until(lambda: service.state.subscribers or task.done(), "the recorder listens")
        yield
    assert task.result() == 0


class Published:
    """What a state service has published, as its hub holds it."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    @property
    def newest(self) -> dict[str, int]:
        return {name: self._hub.history(name).head for name in STREAMS}

    @property
    def digests(self) -> dict[tuple[str, str, int], str]:
        updates = [update for name in STREAMS for update in self._hub.history(name).after(0, 1_000_000)]
        return {(update.stream.name, update.epoch, update.seq): digest(update.raw) for update in updates}


class PatientTime:
    """Time in which a moment passes when every client has what was published before it."""

    def __init__(self, published: Published, readings: tuple[Reading, ...]) -> None:
        self._published, self._readings = published, readings
        self._now = 0.0

    def clock(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        await until(lambda: all(one.has(self._published) for one in self._readings), "everybody has everything")
        self._now += seconds


async def test_all_clients_get_the_same_of_a_recording(tmp_path, monkeypatch):
    path = tmp_path / "everything.recording"
    monkeypatch.setattr("bridge.store.recording_file.FLUSH_SECONDS", 0)
    async with serving_state(count=20_000) as service, recording(service, path):
        await publish_everything(service, path)
    recorded = list(RecordingReader(path))
    assert {update.stream for update in recorded} == set(STREAMS)
    async with serving_state(count=20_000, epoch="replay") as service, sidecar_of(service.address) as rig:
        await until(lambda: live(rig), "the sidecar follows")
        published = Published(service.hub)
        async with reading(rig) as readings:
            time = PatientTime(published, readings)
            source = RecordingSource(path, 100, clock=time.clock, sleep=time.sleep)
            async with background(source.run(service.origin)) as playing:
                await until(lambda: playing.done() or service.hub.status.state is State.STALE, "it has ended")
                await until(lambda: all(one.has(published) for one in readings), "everybody has everything")
            check(recorded, published, *readings)


def check(
    recorded: list[update_pb2.Update], published: Published, plain: Reading, strings: Reading, binary: Reading
) -> None:
    """See that all three got every update, the same in every field, and what was recorded."""
    for one in (plain, strings, binary):
        for name, newest in published.newest.items():
            assert [got["seq"] for got in one.updates if got["stream"] == name] == list(range(1, newest + 1))
    assert exactly(plain.updates) == exactly(binary.updates)
    assert exactly(strings.updates) == exactly([got | {"data": in_strings(got)} for got in plain.updates])
    assert binary.check_bytes(published) == len(plain.updates) == len(recorded)
    for name in STREAMS:
        wanted = [told_update(update) for update in recorded if update.stream == name]
        found = [got for got in plain.updates if got["stream"] == name]
        for member in ("data", "type", "key", "prev"):
            assert exactly([got.get(member) for got in found]) == exactly([told.get(member) for told in wanted])
    read = zip(plain.connection.raw, plain.connection.frames, strict=True)
    texts = [raw for raw, got in read if "data" in got and got["stream"] == "weather"]
    for data, text in zip(2 * CUSTOM, texts, strict=True):
        assert text.endswith(b',"data":' + data + b"}")


def exactly(values: list[Any]) -> list[str]:
    """Return values as texts, which differ where equal numbers do: 5 and 5.0, 0.0 and -0.0."""
    return [json.dumps(value, sort_keys=True) for value in values]


def in_strings(got: dict[str, Any]) -> Any:
    """Return the data of an update as a client gets it that asked for 64-bit integers as strings."""
    return as_strings(got["data"]) if got["stream"] in DECLARED else unsafe_in_strings(got["data"])


def unsafe_in_strings(value: Any) -> Any:
    """Return a custom value with integers as strings that a double cannot hold."""
    if isinstance(value, dict):
        return {name: unsafe_in_strings(item) for name, item in value.items()}
    if isinstance(value, list):
        return [unsafe_in_strings(item) for item in value]
    return str(value) if type(value) is int and abs(value) > SAFE else value
