"""The source of a sidecar: another process's state service, followed through gRPC.

One subscription feeds the hub, however many clients the hub has. When it is lost it is made anew from the positions
where it ended, so that nothing is lost or repeated.
"""

import asyncio
import json
import logging
import random
from collections.abc import Callable
from functools import cached_property

import grpc
from google.protobuf.message import DecodeError

from bridge.core.backoff import Backoff
from bridge.core.codes import ErrorCode
from bridge.core.errors import BridgeError, NodeCallError, RequestError, UpstreamError
from bridge.core.hub import Hub, State
from bridge.ops.grpc_options import channel_options
from bridge.settings.address import Address
from bridge.sources.intake import Fault, Intake, Renewed, Subscriptions
from generated.theblock.state.v1 import service_pb2, stream_pb2, view_pb2

log = logging.getLogger(__name__)

SERVICE = service_pb2.DESCRIPTOR.services_by_name["StateStreamService"].full_name

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0
SLOW_PAUSE_SECONDS = 30.0
"""Pause after a refusal that will hardly change by itself."""

STEADY_SECONDS = 5.0
"""A subscription that lasted as long was a good one: pauses begin anew."""

DETAILS_LENGTH = 300
"""How much of what the other side says goes into our sentence."""

STATES = {
    stream_pb2.SOURCE_STATE_LIVE: State.LIVE,
    stream_pb2.SOURCE_STATE_STALE: State.STALE,
}
"""Every other state is DOWN."""

REFUSALS = {
    grpc.StatusCode.UNIMPLEMENTED: "is no state service",
    grpc.StatusCode.INVALID_ARGUMENT: "does not understand the subscription",
    grpc.StatusCode.PERMISSION_DENIED: "does not allow the subscription",
    grpc.StatusCode.UNAUTHENTICATED: "does not know who we are",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "is at a limit",
}
"""Answers that need somebody to do something: told clearly, and tried again slowly."""

CALL_REFUSALS = {
    grpc.StatusCode.INVALID_ARGUMENT: ErrorCode.INVALID_PARAMS,
    grpc.StatusCode.PERMISSION_DENIED: ErrorCode.FORBIDDEN,
    grpc.StatusCode.FAILED_PRECONDITION: ErrorCode.METHOD_NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED: ErrorCode.METHOD_NOT_FOUND,
}
"""What the answer to a call means for whoever called; every other one: it cannot be answered now."""


class UpstreamSource:
    """Follows a state service.

    Attributes:
        address: of the state service.
        subscriptions: what has become of the subscriptions.
    """

    def __init__(
        self,
        address: Address,
        hub: Hub,
        *,
        history_count: int | None = None,
        keepalive_seconds: float = 30.0,
        silence_seconds: float = 45.0,
        slow_pause_seconds: float = SLOW_PAUSE_SECONDS,
        call_seconds: float = 10.0,
        random: Callable[[], float] = random.random,
    ) -> None:
        """Describe a source; `run` follows.

        Args:
            address: of the state service.
            hub: that it feeds; nothing else may.
            history_count: with how many updates a stream begins; default: as many as the hub remembers.
            keepalive_seconds: how often a quiet connection is tried for life.
            silence_seconds: after how long without a response the subscription is made anew.
            slow_pause_seconds: pause after a refusal that will hardly change by itself.
            call_seconds: how long the answer to a call of the node is waited for.
            random: returns a number in [0, 1), for the pauses.
        """
        self.address = address
        self.subscriptions = Subscriptions()
        self._hub = hub
        count = hub.limits.count if history_count is None else history_count
        self._intake = Intake(hub, self.subscriptions, history_count=count)
        self._keepalive_seconds = keepalive_seconds
        self._silence_seconds = silence_seconds
        self._slow_pause_seconds = slow_pause_seconds
        self._call_seconds = call_seconds
        self._random = random
        self._backoff = Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, random)
        self._told = False  # ever what state the source is in
        self._lost = False  # a subscription, and none has answered since
        hub.upstream_reached = False  # until everything is here that the service has
        self._source: stream_pb2.SourceStatus | None = None  # as it was passed on

    @cached_property
    def _channel(self) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(str(self.address), options=channel_options(self._keepalive_seconds))

    async def run(self) -> None:
        """Follow until cancelled; never raises for anything that the service does. Not to be run again."""
        try:
            while True:
                pause = await self._follow_once()
                await asyncio.sleep(pause)
        finally:
            await self._channel.close(None)

    async def _follow_once(self) -> float:
        """Follow one subscription to its end; return how long to wait before the next one, seconds."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        slow = False
        try:
            await self._follow()
            problem = "ended the subscription"
        except Renewed as renewed:
            log.warning("%s: %s", self.address, renewed)
            return 0.0
        except Fault as fault:
            self.subscriptions.faults += 1
            log.error("the state service at %s broke the protocol: %s", self.address, fault)
            problem = f"broke the protocol: {fault}"
        except DecodeError:
            self.subscriptions.faults += 1
            problem = "broke the protocol: it sent a message that is none of its own"
        except TimeoutError:
            problem = f"has said nothing for {self._silence_seconds:g} s"
        except grpc.aio.AioRpcError as error:
            problem = explain(error)
            slow = error.code() in REFUSALS
        if loop.time() - began >= STEADY_SECONDS:
            self._backoff.reset()
        self._lost = self._told
        self._tell_down(f"the state service at {self.address} {problem}")
        pause = self._backoff.next()
        return (0.5 + self._random() / 2) * self._slow_pause_seconds if slow else pause

    async def _follow(self) -> None:
        """Subscribe and take responses in until the service ends the subscription."""
        subscribe = self._channel.unary_stream(
            f"/{SERVICE}/Subscribe", service_pb2.SubscribeRequest.SerializeToString, None
        )
        request = self._intake.request()
        self._source = None
        self.subscriptions.calls += 1
        call = subscribe(request)
        heard = False
        try:
            while True:
                async with asyncio.timeout(self._silence_seconds):
                    raw = await call.read()
                if not isinstance(raw, bytes):  # grpc.aio.EOF
                    return
                if not heard:
                    heard = True
                    self.subscriptions.reconnects += self._lost
                    self._lost = False
                for _ in self._intake.take(view_pb2.SubscribeResponseView.FromString(raw)):
                    await asyncio.sleep(0)
                self._tell()
        finally:
            call.cancel()

    def _tell(self) -> None:
        """Pass on the state of the service's source, once everything has come that the service had."""
        source = self._intake.source
        if source is None or source is self._source or not self._intake.caught_up:
            return
        # After an outage of our own the state began when the outage ended, whatever the source says.
        since_ms = source.since_ms if not self._told or self._source is not None else None
        self._hub.upstream_reached = True
        self._hub.set_status(STATES.get(source.state, State.DOWN), source.detail, since_ms)
        self._told = True
        self._source = source

    def _tell_down(self, detail: str) -> None:
        if self._hub.status.state is not State.DOWN or self._hub.status.detail != detail:
            log.warning("%s", detail)
        self._hub.upstream_reached = False
        self._hub.set_status(State.DOWN, detail)

    async def call_node(self, method: str, params: dict[str, object]) -> bytes:
        """Have the state service call the node.

        Works while `run` does. Cancelling it cancels the call.

        Args:
            method: of the node's JSON-RPC.
            params: by name.

        Returns:
            The result, JSON in UTF-8.

        Raises:
            NodeCallError: the node answered with an error.
            RequestError: the state service refused the call.
            UpstreamError: no answer can be had now.
        """
        call = self._channel.unary_unary(
            f"/{SERVICE}/CallNode",
            service_pb2.CallNodeRequest.SerializeToString,
            service_pb2.CallNodeResponse.FromString,
        )
        request = service_pb2.CallNodeRequest(method=method, params_json=json.dumps(params).encode())
        try:
            response: service_pb2.CallNodeResponse = await call(request, timeout=self._call_seconds)
        except grpc.aio.AioRpcError as error:
            raise self._call_error(error) from error
        except grpc.aio.UsageError as error:  # the channel is closed
            raise UpstreamError("the sidecar is going away") from error
        if response.HasField("error"):
            raise NodeCallError(response.error.code, response.error.message)
        return response.result_json

    def _call_error(self, error: grpc.aio.AioRpcError) -> BridgeError:
        code = CALL_REFUSALS.get(error.code())
        if code is not None:
            return RequestError(code, error.details() or "the state service refused the call")
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return UpstreamError(f"the state service did not answer within {self._call_seconds:g} s")
        return UpstreamError(error.details() or f"the state service answered {error.code().name}")


def explain(error: grpc.aio.AioRpcError) -> str:
    """Return what a failed subscription means, as the end of a sentence on the state service."""
    details = (error.details() or "")[:DETAILS_LENGTH]
    told = f"{error.code().name}: {details}" if details else error.code().name
    return f"{REFUSALS.get(error.code(), 'cannot be reached')} ({told})"
