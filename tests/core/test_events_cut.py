"""Server-Sent Events on connections that are cut anywhere: nothing is lost or repeated, across all of them."""

import random

import pytest

from bridge.core.history import HistoryLimits
from bridge.core.hub import State
from tests.core.disk import Disk
from tests.core.event_clients import EventClient
from tests.core.world import World, good
from tests.eventsource import EventSource

BLOCKS = "block_updates"


def story(world: World, client: EventClient) -> bytes:
    """Have a lot happen to a client; return every byte that it was written."""
    written = [client.written]

    def happen(drain: bool = True) -> None:
        world.run()
        written.append(client.written)
        if drain:
            client.written = b""
            if client.reader.blocked:
                world.hub.unblock(client.reader)

    client.written = b""
    happen()
    for height in range(1, 4):
        world.block(height)
        world.metrics(height)
        world.account("ab"[height % 2], height)
    happen()
    world.block(4)
    happen()
    client.capacity = 1
    world.block(5)
    happen(drain=False)
    client.written = b""
    for height in range(6, 30):
        world.block(height)
        if height % 5 == 0:
            world.metrics(height)
            world.account("ab"[height % 2], height)
    world.run()
    client.capacity = None
    world.hub.unblock(client.reader)
    happen()
    world.begin_epoch()
    happen()
    for height in range(1, 4):
        world.block(height)
        world.account("a", height)
    happen()
    return b"".join(written)


@pytest.mark.parametrize("held", [6, 1000])
@pytest.mark.parametrize("streams", [(BLOCKS, "metrics", "account"), ("account/a", BLOCKS, "account/b")], ids=str)
def test_a_connection_that_is_cut_at_any_byte_is_resumed_without_loss_or_repeat(streams, held):
    world = World(limits=HistoryLimits(count=held))
    world.hub.set_status(State.LIVE, "well")
    world.account("a", 1000)
    world.block(0)
    first = EventClient(world, streams, "first")
    data = story(world, first)
    places: dict[tuple[int, str], int] = {}  # what a client knows that was cut there: all that matters
    source, count = EventSource(), 0
    for size, byte in enumerate(data, 1):
        count += len(source.feed(bytes([byte])))
        places.setdefault((count, source.last_event_id), size)
    assert len(places) > 30
    world.oracle.clients.clear()
    for (events, id_), size in places.items():
        client = EventClient(world, streams, f"cut at byte {size}, behind event {events} with {id_}")
        client.cut()
        client.written = data
        client.take(size)
        client.cut()
        client.connect()
        world.run()
        client.take()
        client.leave()
        client.log.open = True
    good(world)


@pytest.mark.parametrize("seed", range(60))
def test_whatever_happens_nothing_is_lost_or_repeated(seed):
    """Publishing, slow reading, cuts within events, epochs, short histories, and what lies on disk, in any order."""
    draw = random.Random(seed)
    world = World(limits=HistoryLimits(count=draw.choice([3, 20, 1000])), slice_writes=draw.choice([1, 500]))
    world.hub.set_status(State.LIVE, "well")
    disk = world.disk = Disk(world.hub) if seed % 2 else None
    wishes = [[BLOCKS], [BLOCKS, "metrics"], ["account/a", BLOCKS, "ticks"], ["account", "metrics", "ticks", BLOCKS]]
    clients = [
        EventClient(world, draw.choice(wishes), f"client {number}", capacity=draw.choice([None, 1, 1000]))
        for number in range(4)
    ]
    gone: set[EventClient] = set()

    def publish() -> None:
        for _ in range(draw.randint(1, 6)):
            number = draw.randint(1, 99)
            draw.choice([
                lambda: world.block(number),  # noqa: B023
                lambda: world.metrics(number),  # noqa: B023
                lambda: world.account(draw.choice("ab"), number),  # noqa: B023
                lambda: world.custom("ticks", {"n": number}),  # noqa: B023
            ])()  # fmt: skip

    def cut() -> None:
        client = draw.choice(clients)
        if client in gone:
            client.connect()
            gone.remove(client)
        else:
            client.cut(draw.randint(0, len(client.written)))
            gone.add(client)

    def take() -> None:
        client = draw.choice(clients)
        if client not in gone:
            client.take(draw.randint(0, len(client.written)))

    def read_disk() -> None:
        if disk is not None:
            disk.answer_one(refuse=draw.random() < 0.1, which=draw.randrange(9))

    steps = [publish, read_disk, world.slice, take] * 6 + [cut] * 3 + [world.begin_epoch] * draw.randint(0, 1)
    for _ in range(150):
        draw.choice(steps)()
    for client in gone:
        client.connect()
    world.block(100)  # so that something is known of every stream in the last epoch
    world.metrics(100)
    world.account("a", 100)
    world.custom("ticks", {"n": 100})
    for client in clients:
        client.capacity = None
        while client.written or world.scheduled or (disk is not None and disk.answer_all()):
            client.take()
            world.run()
    good(world)
