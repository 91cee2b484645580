"""Who is told when to come back is closed then, and not before."""

import asyncio

from tests.edges.rig import serving, until, within
from tests.edges.v1_clients import V1Connection


async def test_whoever_is_told_a_time_has_next_to_none_of_it_left_when_it_is_closed():
    async with serving() as rig:
        clients = [await V1Connection.connect(rig.port, "json") for _ in range(10)]
        for client in clients:
            assert (await client.read())["type"] == "welcome"
        await until(lambda: len(rig.edge.wires) == len(clients), "all are connected")
        draining = asyncio.create_task(rig.edge.drain(2.0))
        told_ms = [(await client.read())["retry_after_ms"] for client in clients]
        left_ms = []
        for client in clients:
            code, reason = await client.client.read_close()
            client.client.hang_up()
            assert code == 1012
            left_ms.append(reason["retry_after_ms"])
        await within(draining)
        assert sum(left_ms) < sum(told_ms) / 2, "they are closed before their time"
