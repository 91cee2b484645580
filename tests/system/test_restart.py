"""Processes that end while others go on."""

import asyncio
import json
import signal
import urllib.request
from contextlib import ExitStack

from bridge.verify import oracle
from bridge.verify.oracle import Oracle
from tests.edges.rawclient import TEXT
from tests.edges.rig import until
from tests.system.conftest import Clients
from tests.system.processes import ANY, Running, enter, started
from tests.system.publisher import Publisher, publishing

CLIENTS = 200


def get(sidecar: Running, path: str) -> tuple[bytes, str]:
    """Return the body and the entity tag of an HTTP answer."""
    with urllib.request.urlopen(sidecar.http + path, timeout=5) as response:
        return response.read(), response.headers["ETag"]


def health(sidecar: Running) -> dict:
    return json.loads(get(sidecar, "/health")[0])


async def healthy(sidecar: Running, wanted: bool) -> dict:
    """Wait until the sidecar is connected, or not; return its health."""
    async with asyncio.timeout(20):
        while (found := await asyncio.to_thread(health, sidecar))["bootstrap"]["rpc_connected"] is not wanted:
            await asyncio.sleep(0.02)
    return found


class Resuming:
    """A classic client that subscribes by JSON-RPC, and says where it was when it comes back."""

    def __init__(self, clients: Clients, judged: oracle.Client) -> None:
        self._clients = clients
        self._judged = judged
        self.blocks: list[dict] = []
        self.row: dict = {}

    async def connect(self, port: int) -> None:
        """Connect and subscribe, behind the last update if there is one."""
        self._client = await self._clients.connect(port)
        self._client.judged = self._judged
        entry: dict = {"stream": "block_updates"}
        if self.blocks:
            entry["since"] = {name: self.blocks[-1][name] for name in ("epoch", "seq")}
        request = {"jsonrpc": "2.0", "method": "state_stream.subscribe", "params": [entry], "id": "s"}
        while True:
            await self._client.ask(request)
            answer = await self._client.read_json()
            if "result" in answer:
                break
            assert answer["error"]["code"] == -32010
            await asyncio.sleep(min(0.1, answer["error"]["data"]["retry_after_ms"] / 1000))
        (self.row,) = answer["result"]["subscriptions"]
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> int:
        """Read to the close frame; return its code."""
        while (received := await self._client.read()).opcode == TEXT:
            frame = json.loads(received.payload)
            self.blocks.append(frame)
        return int.from_bytes(received.payload[:2], "big")

    async def sent_away(self) -> int:
        """Wait for the close frame; return its code."""
        code = await self._task
        self._client.hang_up()
        return code

    async def reaches(self, epoch: str, seq: int) -> None:
        """Wait for a position."""
        await until(
            lambda: (
                self._task.done()
                or (self.blocks and (self.blocks[-1]["epoch"], self.blocks[-1]["seq"]) == (epoch, seq))
            ),
            f"update {seq}",
        )

    def stop(self) -> None:
        """Read no more."""
        self._task.cancel()


async def publish_on(publisher: Publisher) -> None:
    """Publish until cancelled, no faster than history holds for as long as a restart takes."""
    while True:
        await publisher.publish()
        await asyncio.sleep(0.005)


async def test_a_sidecar_restarts_and_its_client_resumes(clients: Clients):
    judge = Oracle()
    client = Resuming(clients, judge.client("resuming"))
    with ExitStack() as stack:
        state = await enter(stack, "state", "--source", "none", "--ingest", "--listen", ANY)
        arguments = ("sidecar", "--upstream", state.grpc, "--listen")
        async with publishing(state.grpc, judge) as publisher:
            await publisher.publish()
            sidecar = await enter(stack, *arguments, ANY)
            await healthy(sidecar, True)
            await client.connect(sidecar.port)
            watch = stack.enter_context(started("watch", sidecar.http, "block_updates", "--json", "--last", "1"))
            await until(lambda: watch.lines, "watch shows the first block")
            going_on = asyncio.create_task(publish_on(publisher))
            for _ in range(2):
                await until(lambda at=publisher.seq: client.blocks and client.blocks[-1]["seq"] > at + 50, "updates")
                port = sidecar.port
                sidecar.process.send_signal(signal.SIGTERM)
                assert await client.sent_away() == 1012
                assert await sidecar.ended() == 0
                last = client.blocks[-1]["seq"]
                sidecar = await enter(stack, *arguments, f"127.0.0.1:{port}")
                await client.connect(sidecar.port)
                assert client.row["recovered"] is True, client.row
                assert client.row["seq"] == last
            await until(lambda at=publisher.seq: publisher.seq > at + 50, "more updates")
            going_on.cancel()
            await asyncio.wait([going_on])
            await client.reaches(publisher.epoch, publisher.seq)
            assert [block["seq"] for block in client.blocks] == list(range(1, publisher.seq + 1))
            assert {block["epoch"] for block in client.blocks} == {publisher.epoch}
            assert [block["data"]["height"] for block in client.blocks] == list(range(1, publisher.seq + 1))
            await until(lambda: json.loads(watch.lines[-1])["seq"] == publisher.seq, "watch shows the newest block")
            assert [json.loads(line)["seq"] for line in watch.lines] == list(range(1, publisher.seq + 1))
        verdict = judge.verdict()
        assert verdict.ok, verdict
        client.stop()


async def test_a_state_service_is_killed_and_comes_back(clients: Clients):
    judge = Oracle()
    everybody = [Resuming(clients, judge.client(f"client {number}")) for number in range(CLIENTS)]
    with ExitStack() as stack:
        arguments = ("state", "--source", "none", "--ingest", "--listen")
        state = await enter(stack, *arguments, ANY)
        sidecar = await enter(stack, "sidecar", "--upstream", state.grpc, "--listen", ANY)
        async with publishing(state.grpc, judge) as publisher:
            await publisher.publish(5)
            await healthy(sidecar, True)
            await asyncio.gather(*(client.connect(sidecar.port) for client in everybody))
            await publisher.publish(5)
            await asyncio.gather(*(client.reaches(publisher.epoch, 10) for client in everybody))
            assert subscribes(sidecar) == 1
            before = publisher.epoch
            state.process.kill()
            state.process.wait()

        assert (await healthy(sidecar, False))["status"] == "degraded"
        value, etag = get(sidecar, "/state/block_updates")
        assert (json.loads(value)["data"]["height"], etag) == (10, f'"{before}-10"')
        late = Resuming(clients, judge.client("late"))
        await late.connect(sidecar.port)  # who comes now gets what is known
        await late.reaches(before, 10)
        everybody.append(late)

        state = await enter(stack, *arguments, state.grpc)
        async with publishing(state.grpc, judge) as publisher:
            await publisher.publish(3)
            assert publisher.epoch != before
            await asyncio.gather(*(client.reaches(publisher.epoch, 3) for client in everybody))
            await publisher.publish(2)
            await asyncio.gather(*(client.reaches(publisher.epoch, 5) for client in everybody))
            assert (await healthy(sidecar, True))["status"] == "ok"
            assert get(sidecar, "/state/block_updates")[1] == f'"{publisher.epoch}-5"'
            assert 2 <= subscribes(sidecar) < 30
        verdict = judge.verdict()
        assert verdict.ok, verdict
        for client in everybody:
            client.stop()
        clients.hang_up()


def subscribes(sidecar: Running) -> int:
    """Return how often the sidecar has subscribed to its state service."""
    name = "theblock_bridge_upstream_subscribes_total "
    (line,) = (line for line in get(sidecar, "/metrics")[0].decode().splitlines() if line.startswith(name))
    return int(float(line.removeprefix(name)))
