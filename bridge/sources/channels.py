"""Channels: one to each address of the state service, and the calls that are made through them."""

import json
from collections.abc import Callable, Mapping

import grpc
from google.protobuf.message import DecodeError, Message

from bridge.core.codes import ErrorCode
from bridge.core.errors import NodeCallError, UpstreamError
from bridge.ops.grpc_options import channel_options
from bridge.sources.statuses import NODE_REFUSALS, PAGE_REFUSALS, call_error
from bridge.sources.upstreams import Upstream, Upstreams
from generated.theblock.state.v1 import service_pb2

SERVICE = service_pb2.DESCRIPTOR.services_by_name["StateStreamService"].full_name

Subscribe = Callable[[service_pb2.SubscribeRequest], "grpc.aio.UnaryStreamCall[service_pb2.SubscribeRequest, bytes]"]


class Channels:
    """Calls the state service. Each channel is opened when it is needed, and none after `close`."""

    def __init__(self, upstreams: Upstreams, keepalive_seconds: float, call_seconds: float) -> None:
        """Open nothing yet.

        Args:
            upstreams: the addresses.
            keepalive_seconds: how often a quiet connection is tried for life.
            call_seconds: how long the answer to a call is waited for.
        """
        self._upstreams = upstreams
        self._keepalive_seconds = keepalive_seconds
        self._seconds = call_seconds
        self._channels: dict[Upstream, grpc.aio.Channel] = {}
        self._closed = False

    def _channel(self, upstream: Upstream) -> grpc.aio.Channel:
        if self._closed:
            raise UpstreamError("the sidecar is going away")
        channel = self._channels.get(upstream)
        if channel is None:
            options = channel_options(self._keepalive_seconds)
            channel = self._channels[upstream] = grpc.aio.insecure_channel(str(upstream.address), options=options)
        return channel

    async def close(self) -> None:
        """Cancel every call, and make no more."""
        self._closed = True
        for channel in self._channels.values():
            await channel.close(None)

    def subscribe(self, upstream: Upstream) -> Subscribe:
        """Return what subscribes at an address."""
        call: Subscribe = self._channel(upstream).unary_stream(
            f"/{SERVICE}/Subscribe", service_pb2.SubscribeRequest.SerializeToString, None
        )
        return call

    async def list_streams(self, upstream: Upstream, seconds: float) -> service_pb2.ListStreamsResponse | None:
        """Return every stream and the state of the source at an address, None if it does not say within `seconds`."""
        try:
            raw = await self._ask(upstream, "ListStreams", service_pb2.ListStreamsRequest(), seconds)
            return service_pb2.ListStreamsResponse.FromString(raw)
        except (grpc.aio.AioRpcError, DecodeError):
            return None

    async def list_updates(self, request: service_pb2.ListUpdatesRequest) -> bytes:
        """Return a page of history from the address in use.

        Cancelling it cancels the call.

        Args:
            request: which page.

        Returns:
            The ListUpdatesResponse, serialized.

        Raises:
            RequestError: the state service will never answer this very request.
            UpstreamError: the page cannot be had now.
        """
        return await self._call("ListUpdates", request, PAGE_REFUSALS)

    async def call_node(self, method: str, params: dict[str, object]) -> bytes:
        """Have the state service call the node, through the address in use.

        Cancelling it cancels the call.

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
        request = service_pb2.CallNodeRequest(method=method, params_json=json.dumps(params).encode())
        raw = await self._call("CallNode", request, NODE_REFUSALS)
        try:
            response = service_pb2.CallNodeResponse.FromString(raw)
        except DecodeError as error:
            raise UpstreamError("the state service answered with a message that is none of its own") from error
        if response.HasField("error"):
            raise NodeCallError(response.error.code, response.error.message)
        return response.result_json

    async def _call(self, method: str, request: Message, refusals: Mapping[grpc.StatusCode, ErrorCode]) -> bytes:
        try:
            return await self._ask(self._upstreams.in_use, method, request, self._seconds)
        except grpc.aio.AioRpcError as error:
            raise call_error(error, refusals, self._seconds) from error
        except grpc.aio.UsageError as error:  # the channel was closed in between
            raise UpstreamError("the sidecar is going away") from error

    async def _ask(self, upstream: Upstream, method: str, request: Message, seconds: float) -> bytes:
        """Make a call and return the response as it came.

        Raises:
            grpc.aio.AioRpcError: there is none.
        """
        call = self._channel(upstream).unary_unary(f"/{SERVICE}/{method}", None, None)
        response: bytes = await call(request.SerializeToString(), timeout=seconds)
        return response
