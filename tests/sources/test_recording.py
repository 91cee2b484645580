"""The recording source: what was recorded is played, at its pace."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path

import pytest

from bridge.core.errors import BridgeError
from bridge.core.hub import Hub, State
from bridge.core.origin import Origin
from bridge.core.streams import Catalogue
from bridge.core.update import Update
from bridge.sources.recording import GAP_MS, SLICE_UPDATES, RecordingSource
from bridge.sources.simulated import updates
from bridge.store.recording_file import HEADER, RecordingWriter
from generated.theblock.state.v1 import update_pb2

START_MS = 1_700_000_000_000


class FakeTime:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 50.0

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


class Service:
    """A hub with an origin, whose time is the fake one; keeps everything that is published, in order."""

    def __init__(self, fake: FakeTime) -> None:
        numbers = iter(range(1, 1000))
        self.hub = Hub(Catalogue(), clock_ms=lambda: round(fake.now * 1000), schedule=lambda: None)
        self.origin = Origin(self.hub, new_epoch=lambda: f"e{next(numbers)}")

    def updates(self) -> list[Update]:
        found = [update for history in self.hub.histories.values() for update in history.after(0, 1_000_000)]
        return sorted(found, key=lambda update: update.ordinal)

    def ended(self) -> bool:
        return self.hub.status.state is State.STALE


def recorded(count: int) -> list[update_pb2.Update]:
    """What a service with a simulated chain and two custom streams sends, a block a second."""
    fake = FakeTime()
    service = Service(fake)
    for payload in islice(updates(1), count):
        if payload.DESCRIPTOR.name == "MetricsUpdate":
            fake.now += 1
            height = getattr(payload, "block_height", 0)
            service.origin.publish_custom("weather", "weather_report", b'{"h": %d, "x":[1.50]}' % height, key="north")
            service.origin.publish_custom("note", "note", b'{"big":123456789012345678901234567890}')
        service.origin.publish(payload)
    return [update.message() for update in service.updates()]


def save(path: Path, recording: list[update_pb2.Update]) -> Path:
    with RecordingWriter(path) as writer:
        for update in recording:
            writer.write(update.SerializeToString(deterministic=True))
    return path


def payload_bytes(update: update_pb2.Update) -> tuple[str, str, bytes]:
    field = update.WhichOneof("data")
    assert field is not None
    return update.stream, update.key, getattr(update, field).SerializeToString(deterministic=True)


def note(seq: int, time_ms: int, key: str = "") -> update_pb2.Update:
    custom = update_pb2.CustomUpdate(type="note", json=b'{"n":%d}' % seq)
    return update_pb2.Update(stream="notes", epoch="old", seq=seq, time_ms=time_ms, key=key, custom=custom)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0)


@asynccontextmanager
async def playing(source: RecordingSource, service: Service) -> AsyncIterator["asyncio.Task[None]"]:
    task = asyncio.create_task(source.run(service.origin))
    try:
        yield task
        assert not task.done(), "it keeps running"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def played(path: Path, speed: float = 1.0) -> tuple[Service, list[float]]:
    """Play a recording to its end; return the service and when each update came, in seconds from the beginning."""
    fake = FakeTime()
    service = Service(fake)
    begun = fake.now
    async with playing(RecordingSource(path, speed, clock=fake.clock, sleep=fake.sleep), service):
        await until(service.ended)
    return service, [update.time_ms / 1000 - begun for update in service.updates()]


@pytest.mark.parametrize("name", ["a.recording", "a.recording.gz"])
async def test_payloads_are_played_in_order_byte_for_byte_with_new_positions(tmp_path: Path, name: str) -> None:
    recording = recorded(2000)
    path = save(tmp_path / name, recording[300:])  # as from a service that had run for a while
    source = RecordingSource(path)
    assert source.streams == {"block_updates", "metrics", "network", "trading", "energy", "account"}
    service, _ = await played(path, 100)
    got = [update.message() for update in service.updates()]
    assert [payload_bytes(update) for update in got] == [payload_bytes(update) for update in recording[300:]]
    for name_, history in service.hub.histories.items():
        assert [update.seq for update in history.after(0, 10_000)] == list(range(1, history.head + 1)), name_
    assert service.hub.status.detail == "the recording has ended"


@pytest.mark.parametrize("speed", [1, 2.5, 100])
async def test_the_spacing_is_the_recorded_one_divided_by_the_speed(tmp_path: Path, speed: float) -> None:
    recording = recorded(3000)
    _, came = await played(save(tmp_path / "a", recording), speed)
    last = recording[-1].time_ms - recording[0].time_ms
    assert came[-1] == pytest.approx(last / 1000 / speed, abs=0.002)
    seen = set()
    for update, at in zip(recording, came, strict=True):
        if (update.stream, update.key) in seen:
            due = (update.time_ms - recording[0].time_ms) / 1000 / speed
            assert at == pytest.approx(due, abs=0.002)
        seen.add((update.stream, update.key))


async def test_long_pauses_are_cut_and_time_that_goes_back_is_no_pause(tmp_path: Path) -> None:
    times = [0, 1000, 3_600_000, 3_601_000, 100, 600]
    path = save(tmp_path / "a", [note(seq, START_MS + time) for seq, time in enumerate(times, 1)])
    _, came = await played(path, 2)
    pauses = [0, 1, GAP_MS / 1000, 1, 0, 0.5]
    assert came == pytest.approx([sum(pauses[: n + 1]) / 2 for n in range(len(times))], abs=0.002)


async def test_current_values_at_the_beginning_do_not_wait_for_one_another(tmp_path: Path) -> None:
    snapshots = [note(seq, START_MS + seq * 60_000, key=f"k{seq}") for seq in range(1, 40)]
    live = [note(40, START_MS + 39 * 60_000 + 2000, key="k1"), note(41, START_MS + 39 * 60_000 + 3000, key="k2")]
    _, came = await played(save(tmp_path / "a", snapshots + live))
    assert came == pytest.approx([0.0] * 39 + [2.0, 3.0])


async def test_it_is_live_while_it_plays(tmp_path: Path) -> None:
    fake, waiting = FakeTime(), asyncio.Event()
    service = Service(fake)

    async def sleep(seconds: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    path = save(tmp_path / "a", [note(1, START_MS), note(2, START_MS + 1000)])
    async with playing(RecordingSource(path, clock=fake.clock, sleep=sleep), service):
        await waiting.wait()
        assert service.hub.status.state is State.LIVE
        assert len(service.updates()) == 1


async def test_a_loop_begins_again_in_a_new_epoch(tmp_path: Path) -> None:
    fake = FakeTime()
    service = Service(fake)
    recording = recorded(300)
    path = save(tmp_path / "a", recording)
    async with playing(RecordingSource(path, loop=True, clock=fake.clock, sleep=fake.sleep), service):
        await until(lambda: service.origin.epoch == "e3" and len(service.updates()) == len(recording))
        assert service.hub.status.state is State.LIVE
    assert [payload_bytes(u.message()) for u in service.updates()] == [payload_bytes(u) for u in recording]


@pytest.mark.parametrize("loop", [False, True])
async def test_a_recording_without_updates_holds_nothing_up(tmp_path: Path, loop: bool) -> None:
    fake = FakeTime()
    service = Service(fake)
    async with playing(
        RecordingSource(save(tmp_path / "a", []), loop=loop, clock=fake.clock, sleep=fake.sleep), service
    ):
        for _ in range(100):
            await asyncio.sleep(0)
        assert service.ended() is not loop
    assert fake.now - 50 == pytest.approx(99 if loop else 0, abs=2), "each round of a loop takes a second"


async def test_what_was_published_before_is_left_behind_in_its_epoch(tmp_path: Path) -> None:
    fake = FakeTime()
    service = Service(fake)
    for payload in islice(updates(5), 100):
        service.origin.publish(payload)
    path = save(tmp_path / "a", recorded(300))
    async with playing(RecordingSource(path, clock=fake.clock, sleep=fake.sleep), service):
        await until(service.ended)
    assert service.origin.epoch == "e2"
    assert service.hub.histories["block_updates"].after(0, 1)[0].message().block.height == 0


async def test_a_truncated_tail_is_played_as_far_as_it_is_whole_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recording = recorded(300)
    path = save(tmp_path / "a", recording)
    path.write_bytes(path.read_bytes()[:-1])
    with caplog.at_level(logging.WARNING):
        service, _ = await played(path)
    assert len(service.updates()) == len(recording) - 1
    assert [record.getMessage() for record in caplog.records] == [
        f"recording {path} ends inside an update: the {len(recording) - 1} before it are played"
    ]


@pytest.mark.parametrize("content", [b"", b"{}", HEADER + b"\x05hello"])
def test_what_is_no_recording_is_refused_at_once(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(BridgeError):
        RecordingSource(tmp_path / "a")


async def test_a_file_that_goes_away_is_told_of_and_ends_nothing(tmp_path: Path) -> None:
    fake = FakeTime()
    service = Service(fake)
    source = RecordingSource(save(tmp_path / "a", recorded(100)), clock=fake.clock, sleep=fake.sleep)
    (tmp_path / "a").unlink()
    async with playing(source, service):
        await until(service.ended)
    assert service.hub.status.detail.endswith("cannot be read: No such file or directory")


async def test_an_update_that_cannot_be_published_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = note(2, START_MS)
    bad.custom.json = b"[1]"
    unknown = update_pb2.Update(stream="of_the_future", seq=1, time_ms=START_MS)
    with caplog.at_level(logging.WARNING):
        service, _ = await played(save(tmp_path / "a", [note(1, START_MS), bad, bad, unknown, note(3, START_MS)]))
    assert [update.data() for update in service.updates()] == [{"n": 1}, {"n": 3}]
    assert len(caplog.records) == 2, "one warning a stream"


async def test_many_updates_that_are_due_at_once_leave_the_loop_free(tmp_path: Path) -> None:
    fake = FakeTime()
    service = Service(fake)
    path = save(tmp_path / "a", [note(seq, START_MS) for seq in range(1, 2000)])
    leaps = []
    async with playing(RecordingSource(path, clock=fake.clock, sleep=fake.sleep), service):
        async with asyncio.timeout(30):
            while not service.ended():
                before = len(service.updates())
                await asyncio.sleep(0)
                leaps.append(len(service.updates()) - before)
    assert max(leaps) <= SLICE_UPDATES
    assert sum(leaps) == 1999
