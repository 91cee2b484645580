"""A sidecar with two ways to its state service, as processes: each way is lost, and the service is killed."""

from contextlib import ExitStack
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from bridge.verify.oracle import Oracle
from tests.clients.proxy import Proxy
from tests.edges.rig import until
from tests.system.conftest import Clients
from tests.system.processes import ANY, Running, enter
from tests.system.publisher import publishing
from tests.system.test_restart import Resuming, get, health, healthy

IN_USE = "theblock_bridge_upstream_in_use"


def samples(sidecar: Running, name: str) -> list[tuple[dict[str, str], float]]:
    """Return the samples of a metric, each with its labels."""
    text = get(sidecar, "/metrics")[0].decode()
    families = text_string_to_metric_families(text)
    return [(one.labels, one.value) for family in families for one in family.samples if one.name == name]


async def test_a_sidecar_follows_whichever_address_works_and_its_clients_notice_nothing(
    clients: Clients, tmp_path: Path
):
    judge = Oracle()
    client = Resuming(clients, judge.client("client"))
    with ExitStack() as stack:
        arguments = ("state", "--source", "none", "--ingest", "--data-dir", str(tmp_path), "--listen")
        state = await enter(stack, *arguments, ANY)
        ways = [Proxy(state.grpc), Proxy(state.grpc)]
        for way in ways:
            stack.callback(way.close)
        first, second = (way.address for way in ways)
        sidecar = await enter(stack, "sidecar", "--upstream", first, "--upstream", second, "--listen", ANY)
        async with publishing(state.grpc, judge) as publisher:
            await publisher.publish(5)
            await healthy(sidecar, True)
            await client.connect(sidecar.port)
            for way, number in ((ways[0], "2"), (ways[1], "1"), (ways[0], "2")):
                with way.away():
                    await publisher.publish(20)
                    await client.reaches(publisher.epoch, publisher.seq)
                    assert samples(sidecar, IN_USE) == [
                        ({"number": "1", "address": first}, float(number == "1")),
                        ({"number": "2", "address": second}, float(number == "2")),
                    ]
                    assert health(sidecar)["upstream"]["address"] == (first, second)[int(number) - 1]
            assert samples(sidecar, "theblock_bridge_upstream_failovers_total") == [({}, 3.0)]
            epoch = publisher.epoch

        state.process.kill()
        state.process.wait()
        await until(lambda: health(sidecar)["upstream"]["state"] == "down", "the sidecar knows that nothing works")
        state = await enter(stack, *arguments, state.grpc)
        async with publishing(state.grpc, judge) as publisher:
            await publisher.publish(20)
            await client.reaches(epoch, 85)
        await until(lambda: health(sidecar)["status"] == "ok", "the sidecar follows again")
        start = client.blocks[0]["seq"]  # of the snapshot: the sidecar may not have had all five yet
        assert [block["seq"] for block in client.blocks] == list(range(start, 86))
        assert [block["data"]["height"] for block in client.blocks] == [*range(start, 66), *range(1, 21)]
        verdict = judge.verdict()
        assert verdict.ok, verdict
        client.stop()
        clients.hang_up()
