"""The checks of the state service, each against a real gRPC server, or what stands in its place."""

import grpc
import pytest
from aiohttp import web

from bridge.core.hub import State
from bridge.doctor import service
from bridge.doctor.targets import ANSWER_SECONDS
from bridge.settings import Address
from generated.theblock.state.v1 import service_pb2, service_pb2_grpc
from tests import state_service
from tests.doctor.proxy import chatty, curt, listening, silent, web_server
from tests.doctor.rig import SHORT_SECONDS, free_port, look, sidecar


async def asked(port: int, name: str = "service", seconds: float = ANSWER_SECONDS):
    return await look(name, upstream=(Address("127.0.0.1", port),), answer_seconds=seconds)


async def test_a_state_service_that_is_well():
    async with state_service.serving() as running:
        assert (await asked(running.address.port)).finding is service.SERVES
        found = await asked(running.address.port, "source")
    assert (found.finding, found.says.endswith("as it should be")) == (service.LIVE, True)


async def test_a_state_service_on_a_unix_socket(tmp_path):
    address = Address(path=str(tmp_path / "state"))
    assert (await look("service", upstream=(address,))).finding is service.UNREACHABLE
    async with state_service.serving(address):
        assert (await look("service", upstream=(address,))).finding is service.SERVES


@pytest.mark.parametrize(("state", "finding"), [(State.STALE, service.STALE), (State.DOWN, service.DOWN)])
async def test_a_source_that_gives_nothing(state, finding):
    async with state_service.serving() as running:
        running.hub.set_status(state, "the node is banned", 1_700_000_000_000)
        found = await asked(running.address.port, "source")
    assert found.finding is finding
    assert "since 2023-11-14 22:13:20 UTC" in found.says
    assert found.says.endswith(": the node is banned")


async def test_nothing_listens():
    found = await asked(free_port())
    assert found.finding is service.UNREACHABLE
    assert "nothing listens there" in found.says
    assert "--upstream" in found.do


async def test_the_http_port_of_a_sidecar():
    async with sidecar() as port:
        found = await asked(port)
    assert found.finding is service.IS_SIDECAR
    assert "50051" in found.do


async def test_another_http_server():
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=404, headers={"Server": "nginx"})

    async with web_server(answer) as port:
        found = await asked(port)
    assert found.finding is service.IS_HTTP
    assert "HTTP 404 from nginx" in found.says


@pytest.mark.parametrize(
    ("server", "finding", "seconds"),
    [
        (chatty, service.NOT_GRPC, ANSWER_SECONDS),
        (curt, service.NOT_GRPC, ANSWER_SECONDS),
        (silent, service.SILENT, SHORT_SECONDS),
    ],
)
async def test_what_speaks_no_grpc(server, finding, seconds):
    async with listening(server) as port:
        assert (await asked(port, seconds=seconds)).finding is finding


class Strange(service_pb2_grpc.StateStreamServiceServicer):
    """A state service that answers so often and refuses then."""

    def __init__(self, answers: int) -> None:
        self.answers = answers

    async def ListStreams(self, request, context):  # noqa: N802 - as gRPC calls it
        if not self.answers:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not for you")
        self.answers -= 1
        return service_pb2.ListStreamsResponse()


@pytest.mark.parametrize(
    ("strange", "check", "finding"),
    [
        (None, "service", service.OTHER_GRPC),
        (Strange(0), "service", service.REFUSES),
        (Strange(1), "source", service.LOST),
        (Strange(2), "source", service.DOWN),
    ],
)
async def test_a_strange_grpc_server(strange, check, finding):
    server = grpc.aio.server()
    if strange is not None:
        service_pb2_grpc.add_StateStreamServiceServicer_to_server(strange, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        assert (await asked(port, check)).finding is finding
    finally:
        await server.stop(0)


async def test_several_addresses_of_which_one_is_of_no_use():
    spare = Address("127.0.0.1", free_port())
    async with state_service.serving() as running, state_service.serving() as other:
        running.hub.set_status(State.DOWN, "the node is gone")
        both = (running.address, other.address)
        assert (await look("service", upstream=both)).finding is service.SERVES
        assert (await look("source", upstream=both)).finding is service.LIVE
        found = await look("service", upstream=(spare, running.address))
    assert found.finding is service.SPARE_FAILS
    assert f"no connection to a state service at {spare}" in found.says


async def test_several_addresses_none_of_which_is_of_use():
    spares = (Address("127.0.0.1", free_port()), Address("127.0.0.1", free_port()))
    found = await look("service", upstream=spares)
    assert found.finding is service.UNREACHABLE
    assert str(spares[0]) in found.says


async def test_a_service_is_not_looked_at_if_that_is_not_wanted():
    assert (await look("service", upstream=())).finding is service.SERVICE_SKIPPED
