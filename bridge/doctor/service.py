"""The checks of the state service: whether it answers gRPC, and what it says of its source."""

import asyncio
from typing import Final

import grpc

from bridge.doctor.ask import Answer, Reason, Unanswered, fetch, in_words
from bridge.doctor.findings import Check, Finding, Found, Status, moment
from bridge.doctor.targets import Targets
from bridge.edges.guard import SERVER
from bridge.ops.grpc_options import channel_options
from bridge.settings import Address
from generated.theblock.state.v1 import service_pb2, service_pb2_grpc, stream_pb2

KEEPALIVE_SECONDS: Final = 30.0
PROBE_SHARE: Final = 0.25
"""The part of the deadline after which what answers no gRPC is asked in HTTP what it is."""

SERVICE_SKIPPED = Finding(Status.SKIP, "not looked at, as was asked for")
SERVES = Finding(Status.OK, "the state service at {address} serves {count} streams")
SPARE_FAILS = Finding(
    Status.WARN,
    "the state service is reached, but not at every address of `upstream`: {why}",
    "mend that, or take the address out of the setting upstream: the sidecar cannot turn to it when another one fails",
)
UNREACHABLE = Finding(
    Status.FAIL,
    "no connection to a state service at {address}: {why}",
    "start it (theblock-bridge state --listen {address}), or say where it is: --upstream HOST:PORT (setting upstream)",
)
SILENT = Finding(
    Status.FAIL,
    "what listens at {address} takes connections but answers neither gRPC nor HTTP within {seconds} s",
    "if it is the state service, it hangs: look at its log and restart it; else correct the setting upstream",
)
IS_SIDECAR = Finding(
    Status.FAIL,
    "at {address} is no state service but the HTTP port of a sidecar",
    "give the gRPC address of the state service instead, whose default port is 50051: --upstream HOST:50051 "
    "(setting upstream)",
)
IS_HTTP = Finding(
    Status.FAIL,
    "at {address} is no state service but an HTTP server ({what})",
    "correct the setting upstream, or have a proxy there pass gRPC on, which is HTTP/2",
)
NOT_GRPC = Finding(
    Status.FAIL,
    "what listens at {address} does not speak gRPC",
    "say where the state service is: --upstream HOST:PORT (setting upstream)",
)
OTHER_GRPC = Finding(
    Status.FAIL,
    "at {address} is a gRPC server, but it has no state service",
    "say where the state service is: --upstream HOST:PORT (setting upstream)",
)
REFUSES = Finding(
    Status.FAIL,
    "the state service at {address} refuses to list its streams: {why}",
    "look at the log of the state service",
)

LIVE = Finding(Status.OK, "the state service follows its source: {detail}")
STALE = Finding(
    Status.FAIL,
    "the source of the state service is stale since {since}, so what it says is not new: {detail}",
    "look at the checks of the node, from the machine of the state service; clients see the last values meanwhile",
)
DOWN = Finding(
    Status.FAIL,
    "the source of the state service is down since {since}: {detail}",
    "look at the checks of the node, from the machine of the state service; it reconnects by itself",
)
LOST = Finding(
    Status.FAIL, "the state service stopped answering: {why}", "run the doctor again, and look at the service's log"
)

STATES: Final = {stream_pb2.SOURCE_STATE_LIVE: LIVE, stream_pb2.SOURCE_STATE_STALE: STALE}
"""Every other state is DOWN."""


async def connect(address: Address, seconds: float) -> None:
    """Connect and hang up.

    Raises:
        Unanswered: no connection can be made.
    """
    try:
        async with asyncio.timeout(seconds):
            if address.path:
                _, writer = await asyncio.open_unix_connection(address.path)
            else:
                _, writer = await asyncio.open_connection(address.host, address.port)
        writer.close()
    except TimeoutError:
        raise Unanswered(Reason.UNREACHABLE, f"no connection within {seconds:g} s") from None
    except OSError as error:
        raise Unanswered(Reason.UNREACHABLE, in_words(error)) from error


async def list_streams(address: Address, seconds: float) -> service_pb2.ListStreamsResponse:
    """Ask a state service for its streams.

    Raises:
        grpc.aio.AioRpcError: it does not answer as it must.
    """
    async with grpc.aio.insecure_channel(str(address), options=channel_options(KEEPALIVE_SECONDS)) as channel:
        stub = service_pb2_grpc.StateStreamServiceStub(channel)
        return await stub.ListStreams(service_pb2.ListStreamsRequest(), timeout=seconds)


async def check_service(targets: Targets) -> Found:
    """Whether a state service answers, at each of its addresses."""
    if not targets.upstream:
        return SERVICE_SKIPPED()
    found = await asyncio.gather(*(find_service(address, targets.answer_seconds) for address in targets.upstream))
    failed = [one for one in found if one.finding is not SERVES]
    return SPARE_FAILS(why=failed[0].says) if 0 < len(failed) < len(found) else found[0]


async def find_service(address: Address, seconds: float) -> Found:
    """Return whether a state service answers at an address."""
    try:
        await connect(address, seconds)
    except Unanswered as error:
        return UNREACHABLE(address=address, why=error)
    try:
        answer = await list_streams(address, seconds)
    except grpc.aio.AioRpcError as error:
        match error.code():
            case grpc.StatusCode.UNIMPLEMENTED:
                return OTHER_GRPC(address=address)
            case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.DEADLINE_EXCEEDED:
                return await find_what(address, seconds)
            case code:
                return REFUSES(address=address, why=f"{code.name} {error.details() or ''}")
    return SERVES(address=address, count=len(answer.streams))


async def find_what(address: Address, seconds: float) -> Found:
    """Return what listens at an address and gives no answer in gRPC, by asking it in HTTP."""
    host = "localhost" if address.path else str(address)
    try:
        answer = await fetch(f"http://{host}/health", seconds=seconds * PROBE_SHARE, socket_path=address.path)
    except Unanswered as error:
        if error.reason is Reason.SILENT:
            return SILENT(address=address, seconds=f"{seconds:g}")
        return NOT_GRPC(address=address)
    return IS_SIDECAR(address=address) if is_sidecar(answer) else IS_HTTP(address=address, what=answer.what)


def is_sidecar(answer: Answer) -> bool:
    """Whether a sidecar gave an answer."""
    return answer.headers.get("Server") == SERVER


async def check_source(targets: Targets) -> Found:
    """Whether the state service's source follows what it reads, at the first address where it does, if there is one."""
    assert targets.upstream, "this check needs the check `service`"
    asked = (list_streams(address, targets.answer_seconds) for address in targets.upstream)
    answers = await asyncio.gather(*asked, return_exceptions=True)
    sources = [answer.source for answer in answers if isinstance(answer, service_pb2.ListStreamsResponse)]
    if not sources:
        (error, *_) = answers
        return LOST(why=error.code().name if isinstance(error, grpc.aio.AioRpcError) else error)
    source = next((one for one in sources if one.state == stream_pb2.SOURCE_STATE_LIVE), sources[0])
    finding = STATES.get(source.state, DOWN)
    return finding(since=moment(source.since_ms), detail=source.detail or "it does not say why")


SERVICE_CHECKS: Final = (
    Check(
        "service",
        "whether a state service answers gRPC at `upstream`",
        check_service,
        (SERVES, SPARE_FAILS, UNREACHABLE, SILENT, IS_SIDECAR, IS_HTTP, NOT_GRPC, OTHER_GRPC, REFUSES, SERVICE_SKIPPED),
    ),
    Check(
        "source",
        "what the state service says of the source that feeds it",
        check_source,
        (LIVE, STALE, DOWN, LOST),
        needs="service",
    ),
)
