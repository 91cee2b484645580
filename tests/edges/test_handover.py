"""What aiohttp keeps of a connection that was taken over from it: nothing."""

import asyncio
import gc

from aiohttp import web

from tests.edges.rig import until


def kept() -> int:
    """Return how much aiohttp keeps for connections."""
    return sum(isinstance(one, web.RequestHandler | web.Request) for one in gc.get_objects())


async def test_nothing_of_aiohttp_is_left_and_the_connection_lives(rig, connect, listener):
    await rig.blocks(1)
    gc.collect()
    tasks, before = len(asyncio.all_tasks()), kept()
    socket = await connect(name="socket")
    await socket.subscribe("block_updates")
    await socket.read_json()
    events = listener("block_updates", name="events")
    await events.listen()
    await until(lambda: len(asyncio.all_tasks()) == tasks, "no handler waits")
    gc.collect()
    assert kept() == before
    assert len(rig.edge.wires) == 2
    await rig.blocks(3)
    while (await socket.read_json())["seq"] < 4:
        pass
    await events.read_until("block_updates", 4)
    await rig.edge.drain(0)
    assert (await socket.read_close())[0] == 1012
    assert [event.type for event in await events.read_to_end()] == ["going_away"]
    await until(rig.holds_nothing, "both are gone")
    verdict = rig.oracle.verdict()
    assert verdict.ok, verdict
