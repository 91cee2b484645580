"""The checks of the node, each against a node, or what stands in its place, that really is as it says."""

import json
import socket
from contextlib import ExitStack

import pytest
from aiohttp import web

from bridge.doctor import Status, node
from bridge.doctor.ask import fetch
from bridge.doctor.targets import ANSWER_SECONDS
from tests.doctor.proxy import chatty, curt, listening, silent, web_server
from tests.doctor.rig import SHORT_SECONDS, at, free_port, look, node_at, report_on, sidecar
from tests.standin.chain import Chain
from tests.standin.node import StandinNode
from tests.standin.telemetry import metrics_text

TOKEN = "provider-token"


def chain_of(blocks: int) -> Chain:
    chain = Chain()
    chain.mine(blocks)
    return chain


async def asked(port: int, name: str = "node", seconds: float = ANSWER_SECONDS, **settings):
    return await look(name, node=node_at(port, **settings), answer_seconds=seconds)


async def test_a_node_that_is_well_is_asked_little():
    async with StandinNode(chain_of(130)) as standin:
        found = await report_on(node=node_at(standin.port))
        assert standin.requests.total == 6
        assert not standin.requests.by_method["light.latest_header"]
    expected = {
        "node": node.ANSWERS,
        "chain": node.HAS_BLOCKS,
        "telemetry": node.TELEMETRY,
        "methods": node.ALL_METHODS,
    }
    assert {name: found[name].finding for name in expected} == expected
    assert f"127.0.0.1:{standin.port}" in found["node"].says
    assert all(result.finding.status in (Status.OK, Status.SKIP) for result in found.values())


async def test_nothing_listens():
    port = free_port()
    found = await asked(port)
    assert found.finding is node.UNREACHABLE
    assert found.says == f"no connection to the node at 127.0.0.1:{port}: nothing listens there"
    assert "--node-url" in found.do


async def test_a_name_with_several_addresses_at_which_nothing_listens():
    found = await look("node", node=node.NodeSettings(node_url=f"http://localhost:{free_port()}"))
    assert (found.finding, found.says.rpartition(": ")[2]) == (node.UNREACHABLE, "nothing listens there")


async def test_no_connection_is_made_at_all():
    with socket.socket() as server, ExitStack() as stack:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        address = server.getsockname()
        for _ in range(4):  # more than the backlog takes, so that the kernel drops what comes behind
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(address)
        found = await asked(address[1], seconds=SHORT_SECONDS)
    assert found.finding is node.UNREACHABLE
    assert "firewall" in found.says


async def test_a_node_that_is_frozen():
    async with StandinNode() as standin:
        standin.freeze()
        found = await asked(standin.port, seconds=SHORT_SECONDS)
    assert found.finding is node.FROZEN
    assert "restart the node" in found.do


async def test_a_node_whose_chain_is_locked():
    async with StandinNode() as standin:
        body = json.dumps({"id": 1, "method": "light.latest_header", "params": {}}).encode()
        with pytest.raises(Exception, match="closed"):
            await fetch(standin.url, post=body)
        found = await asked(standin.port)
    assert found.finding is node.HUNG_UP
    assert "restart the node" in found.do


async def test_a_node_that_does_not_answer_to_our_host():
    async with StandinNode(allowed_hosts=("node.internal",)) as standin:
        found = await asked(standin.port)
        assert found.finding is node.HOST_REFUSED
        assert "node_host_header" in found.do
        assert (await asked(standin.port, node_host_header="node.internal")).finding is node.ANSWERS


async def test_a_node_that_has_banned_us():
    async with StandinNode(tokens_per_second=1) as standin:
        while not standin.model.limiter.is_banned("127.0.0.1"):
            await fetch(standin.url, post=b"{}")
        found = await asked(standin.port)
    assert found.finding is node.BANNED
    assert "-32002" in found.says
    assert "61 s" in found.do


@pytest.mark.parametrize("status", [200, 403, 404])
async def test_an_http_server_that_is_no_node(status):
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, text="hello", headers={"Server": "nginx/1.27"})

    async with web_server(answer) as port:
        found = await asked(port)
    assert found.finding is node.NOT_A_NODE
    assert f"HTTP {status} from nginx/1.27" in found.says


async def test_a_sidecar_in_place_of_the_node():
    async with sidecar() as port:
        found = await asked(port)
    assert found.finding is node.NOT_A_NODE
    assert "from theblock-bridge" in found.says


@pytest.mark.parametrize(
    ("server", "finding", "seconds"),
    [
        (chatty, node.NOT_A_NODE, ANSWER_SECONDS),
        (silent, node.FROZEN, SHORT_SECONDS),
        (curt, node.HUNG_UP, ANSWER_SECONDS),
    ],
)
async def test_a_server_that_speaks_no_http(server, finding, seconds):
    async with listening(server) as port:
        assert (await asked(port, seconds=seconds)).finding is finding


async def test_a_node_without_the_method_for_blocks():
    async def answer(request: web.Request) -> web.Response:
        error = {"code": -32601, "message": "unknown\x1b[31m method"}
        return web.json_response({"jsonrpc": "2.0", "id": 1, "error": error})

    async with web_server(answer) as port:
        found = await asked(port)
    assert found.finding is node.NO_BLOCKS
    assert "unknown [31m method (-32601)" in found.says, "what others say must not steer a terminal"


async def test_an_empty_chain_is_worth_a_warning_only():
    async with StandinNode() as standin:
        found = await report_on(node=node_at(standin.port))
    assert found["chain"].finding is node.EMPTY
    assert Status.FAIL not in {result.finding.status for result in found.values()}


async def test_a_node_without_telemetry():
    async with StandinNode(chain_of(3), telemetry=False) as standin:
        found = await asked(standin.port, "telemetry")
    assert found.finding is node.NO_TELEMETRY
    assert "issuance in metrics stays null" in found.says


async def test_a_node_in_its_first_epoch():
    async with StandinNode(chain_of(3)) as standin:
        assert (await asked(standin.port, "telemetry")).finding is node.FIRST_EPOCH


async def test_metrics_from_an_address_of_their_own():
    async def metrics(request: web.Request) -> web.Response:
        return web.Response(text=metrics_text(chain_of(130)))

    async with StandinNode(telemetry=False) as standin, web_server(metrics) as port:
        found = await asked(standin.port, "telemetry", node_metrics_url=f"{at(port)}/metrics")
    assert found.finding is node.TELEMETRY


async def test_metrics_from_an_address_that_has_none():
    async def nothing(request: web.Request) -> web.Response:
        return web.Response(status=404)

    async with StandinNode() as standin, web_server(nothing) as port:
        for url in (at(port), at(free_port()), standin.url):
            found = await asked(standin.port, "telemetry", node_metrics_url=url)
            assert found.finding is node.NO_METRICS
            assert "node_metrics_url" in found.do


async def test_a_node_that_wants_a_token():
    async with StandinNode(energy_token=TOKEN) as standin:
        found = await asked(standin.port, "methods")
        assert found.finding is node.SOME_METHODS
        assert "energy.market_state" in found.says
        assert "node_token_file" in found.do
        found = await look("methods", node=node_at(standin.port), token=TOKEN)
        assert found.finding is node.ALL_METHODS


@pytest.mark.parametrize(("method", "check"), [("metrics", "telemetry"), ("mempool.stats", "methods")])
async def test_a_node_that_stops_answering_meanwhile(method, check):
    async with StandinNode(chain_of(3)) as standin:
        standin.faults.panics.add(method)
        found = await asked(standin.port, check)
    assert found.finding is node.STOPPED


async def test_a_node_is_not_looked_at_if_that_is_not_wanted():
    assert (await look("node", node=None)).finding is node.NODE_SKIPPED
