"""Readers that are slow or never read: the first lose nothing that history holds, the others leave no memory."""

import asyncio
import json
from dataclasses import replace

import pytest

from bridge.core.history import HistoryLimits
from bridge.edges.patience import Patience
from tests.edges.rawclient import PING, PONG, TEXT, Hung, RawClient, frame
from tests.edges.rig import Options, Rig, until

UPDATES = 20_000
BUFFER_BYTES = 8192
"""What the kernel holds for a slow reader: little, so that its socket is full soon."""

SMALL = Patience(send_buffer_bytes=8192, write_buffer_bytes=8192, stall_timeout_seconds=0.4)


async def read_updates(client: RawClient, head: int) -> list[dict]:
    """Read updates up to the one numbered `head`."""
    updates = [await client.read_json()]
    while updates[-1]["seq"] != head:
        updates.append(await client.read_json())
    return updates


def buffered_bytes(rig: Rig) -> int:
    """What waits in this process for clients."""
    return rig.hub.readers and sum(reader.write.__self__.get_write_buffer_size() for reader in rig.hub.readers)


class TestHistoryHoldsAll:
    @pytest.fixture
    def options(self) -> Options:
        return Options(history=HistoryLimits(count=50_000, bytes=1 << 30))

    async def test_a_reader_that_stops_for_20000_updates_gets_each_of_them(self, rig, connect, witness):
        client = await connect("/ws?subscribe=block_updates", receive_buffer_bytes=BUFFER_BYTES)
        await client.pong()
        await rig.blocks(UPDATES)
        assert rig.hub.catching_up == 1
        updates = await read_updates(client, UPDATES)
        assert [update["seq"] for update in updates] == list(range(1, UPDATES + 1))
        assert [update["data"]["height"] for update in updates] == list(range(1, UPDATES + 1))
        assert not any("snapshot" in update or "missed" in update for update in updates)
        await client.pong()
        rig.block(UPDATES + 1)
        assert (await client.read_json())["seq"] == UPDATES + 1
        assert rig.hub.catching_up == 0


class TestHistoryLetsGo:
    async def test_missed_names_exactly_what_history_let_go_of(self, rig, connect, witness):
        client = await connect("/ws?subscribe=block_updates,metrics", receive_buffer_bytes=BUFFER_BYTES)
        await client.pong()
        for _ in range(20):
            await rig.blocks(UPDATES // 20)
            rig.values(rig.hub.histories["block_updates"].head)
        history = rig.hub.histories["block_updates"]
        oldest = history.oldest
        assert oldest > 1
        received = [await client.read_json()]
        while (received[-1]["stream"], received[-1]["seq"]) != ("block_updates", UPDATES):
            received.append(await client.read_json())
        updates = [update for update in received if update["stream"] == "block_updates"]
        places = [index for index, update in enumerate(updates) if "snapshot" in update]
        assert len(places) == 1
        before, stand_in, after = updates[: places[0]], updates[places[0]], updates[places[0] + 1 :]
        assert [update["seq"] for update in before] == list(range(1, len(before) + 1))
        assert stand_in["missed"] == {"from": len(before) + 1, "to": oldest - 1}
        assert (stand_in["seq"], stand_in["data"]["height"]) == (oldest - 1, oldest - 1)
        assert [update["seq"] for update in after] == list(range(oldest, UPDATES + 1))
        assert not any("missed" in update for update in before + after)
        values = [update["seq"] for update in received if update["stream"] == "metrics"]
        assert values == sorted(set(values))
        if values[-1:] != [20]:
            assert (await client.read_json())["seq"] == 20
        await client.pong()
        await client.ask({"jsonrpc": "2.0", "method": "session.stats", "id": 1})
        for row in (await client.read_json())["result"]["subscriptions"]:
            accounted = sum(row[name] for name in ("delivered", "filtered", "skipped", "missed", "pending"))
            assert row["head"] - row["start"] == accounted
            assert row["pending"] == 0

    async def test_a_slow_reader_reads_on_while_more_is_published(self, rig, connect, witness):
        """It reads a little of what comes all the while: in order, once, every gap named."""
        client = await connect(name="slow", receive_buffer_bytes=BUFFER_BYTES)
        await client.subscribe("block_updates", "metrics", "ticks")
        await client.pong()
        gaps = 0
        for turn in range(1, 31):
            for _ in range(8):
                rig.values(turn)
                rig.tick(turn, "x" * turn)
                await rig.blocks(50)
            rig.tick(-turn)
            while True:
                update = await client.read_json()
                gaps += "missed" in update
                if update["stream"] == "ticks" and turn < 30:
                    break
                if update["stream"] == "ticks" and update["data"]["number"] == -30:
                    break
        await client.ask({"jsonrpc": "2.0", "method": "session.stats", "id": 1})
        await client.read_json()
        assert gaps
        assert (verdict := rig.oracle.verdict()), verdict


class TestStalled:
    @pytest.fixture
    def options(self) -> Options:
        return Options(patience=SMALL)

    async def test_a_client_that_never_reads_is_dropped_and_leaves_no_memory(self, rig, connect, witness):
        never = [await connect("/ws?subscribe=block_updates", receive_buffer_bytes=BUFFER_BYTES) for _ in range(5)]
        await until(lambda: len(rig.edge.wires) == 6, "all are connected")
        await rig.blocks(2000)
        assert buffered_bytes(rig) < 6 * 64 * 1024
        await until(lambda: len(rig.edge.wires) == 1, "only the witness is left")
        assert len(rig.hub.readers) == 1
        assert rig.hub.histories["block_updates"].cursors == 1
        for client in never:
            with pytest.raises((Hung, AssertionError)):  # cut off in the middle of a frame, maybe
                while True:
                    await client.read()

    async def test_who_asks_a_lot_and_reads_nothing_makes_no_memory_grow(self, rig, connect, witness):
        await rig.blocks(1000)
        client = await connect(receive_buffer_bytes=BUFFER_BYTES)
        await until(lambda: len(rig.edge.wires) == 2, "it is connected")
        asked = {"jsonrpc": "2.0", "method": "state_stream.history", "params": [{"stream": "block_updates"}], "id": 1}
        request = frame(TEXT, json.dumps(asked).encode())
        most = 0

        def see() -> bool:
            nonlocal most
            most = max(most, buffered_bytes(rig))
            return len(rig.edge.wires) == 1

        loop = asyncio.get_running_loop()
        sending = asyncio.create_task(loop.sock_sendall(client.sock, request * 20_000))
        await until(see, "it is dropped")
        assert most < 1 << 20  # one page of history is a quarter of that, all of them are 5 GB
        client.hang_up()
        await asyncio.gather(sending, return_exceptions=True)


class TestSlowNotStalled:
    @pytest.fixture
    def options(self) -> Options:
        return Options(patience=replace(SMALL, stall_timeout_seconds=1.0))

    async def test_a_client_that_makes_headway_is_not_dropped_however_long_it_takes(self, rig, connect, witness):
        """The answer is far more than the socket takes; a little of it is read in every third of the timeout."""
        await rig.blocks(1000)
        client = await connect(receive_buffer_bytes=BUFFER_BYTES)
        asked = {"method": "state_stream.history", "params": [{"stream": "block_updates"}], "jsonrpc": "2.0", "id": 1}
        await client.ask(asked)
        for turn in range(1, 7):
            await asyncio.sleep(0.3)
            while len(client.buffer) < turn * 20_000:
                await client.fill()
        assert buffered_bytes(rig) > SMALL.write_buffer_bytes, "its socket was full all the while"
        assert len((await client.read_json())["result"]["updates"]) == 1000
        await client.pong()


class TestPatient:
    @pytest.fixture
    def options(self) -> Options:
        return Options(patience=Patience(send_buffer_bytes=8192, write_buffer_bytes=8192))

    async def test_who_asks_a_lot_and_then_reads_gets_every_answer_in_order(self, rig, connect, witness):
        client = await connect("/ws?subscribe=block_updates", receive_buffer_bytes=BUFFER_BYTES)
        number = 3000
        pings = [
            frame(TEXT, b'{"type":"ping","timestamp":%d}' % index) + frame(PING, b"%d" % index)
            for index in range(number)
        ]
        sending = asyncio.create_task(client.send(b"".join(pings)))
        await rig.blocks(300)
        await until(lambda: buffered_bytes(rig) > 8192, "answers wait")
        texts, pongs, blocks = [], [], []
        while len(pongs) < number or len(blocks) < 300:
            received = await client.read()
            if received.opcode == PONG:
                pongs.append(int(received.payload))
            elif "timestamp" in (message := json.loads(received.payload)):
                texts.append(message["timestamp"])
            else:
                blocks.append(message["seq"])
        await sending
        assert texts == pongs == list(range(number))
        assert blocks == list(range(1, 301))

    async def test_who_asks_a_lot_and_reads_nothing_is_not_read_from(self, rig, connect, witness):
        client = await connect(receive_buffer_bytes=BUFFER_BYTES)
        requests = frame(TEXT, b'{"jsonrpc":"2.0","method":"state_stream.list","id":1}') * 1000
        sent, turns_without = 0, 0
        while sent < 32 << 20 and turns_without < 1000:
            try:
                sent += client.sock.send(requests[sent % len(requests) :])
                turns_without = 0
            except BlockingIOError:
                turns_without += 1
            await asyncio.sleep(0)
        assert sent < 32 << 20  # what the kernel holds is less
        assert len(rig.edge.wires) == 2

    async def test_who_was_slow_is_not_held_to_a_ping_from_before(self, rig, connect):
        """While its socket is full it may not be read from, so that its pong cannot be seen: reading is life too."""
        client = await connect("/ws?subscribe=block_updates", receive_buffer_bytes=BUFFER_BYTES)
        await client.pong()
        loop = asyncio.get_running_loop()
        (wire,) = rig.edge.wires
        wire.check(loop.time() + 30)
        assert await client.read() == (PING, b"")
        await rig.blocks(2000)
        assert rig.hub.catching_up == 1
        await read_updates(client, 2000)
        wire.check(loop.time() + 40)
        assert await client.read() == (PING, b"")
