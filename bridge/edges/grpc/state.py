"""StateStreamService: the hub's streams in gRPC, and the node's methods that dashboards may call.

Handlers take and give bytes: an update is encoded once, however many clients there are, and a request that cannot be
read is refused with a sentence.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Collection
from typing import Any

import grpc

from bridge.core.errors import NodeCallError, RequestError, UpstreamError
from bridge.core.hub import Hub
from bridge.core.jsontext import JsonError, parse_object
from bridge.edges.grpc.messages import Refusal, invalid, read
from bridge.edges.grpc.pages import history_page, list_streams, snapshot_page
from bridge.edges.grpc.subscription import Subscription
from bridge.ops.call_cache import CallNode
from bridge.ops.deep import when_there
from bridge.ops.grpc_options import RESPONSE_BYTES
from generated.theblock.state.v1 import service_pb2

log = logging.getLogger(__name__)

CALL_SECONDS = 60.0
"""How long a call of the node may take at most; the client's deadline is usually shorter."""

DECIDE_SECONDS = 5.0
"""How long a relay that lags waits for a position that it does not know; then the client is to ask again."""

PARAMS_DEPTH = 32
"""How deep the parameters of a call may be nested."""

Context = grpc.aio.ServicerContext[bytes, bytes]
Handler = Callable[[bytes, Context], Awaitable[Any]]


class StateStreamService:
    """StateStreamService.

    Attributes:
        name: full name of the service.
    """

    name = service_pb2.DESCRIPTOR.services_by_name["StateStreamService"].full_name

    def __init__(
        self,
        hub: Hub,
        *,
        call_node: CallNode | None = None,
        node_methods: Collection[str] = (),
        subscriber_limit: int = 64,
        progress_seconds: float = 15.0,
        decide_seconds: float = DECIDE_SECONDS,
    ) -> None:
        """Serve a hub.

        Args:
            hub: whose streams are served.
            call_node: calls the node; None where there is none.
            node_methods: methods of the node that may be called.
            subscriber_limit: how many subscriptions there may be at one time.
            progress_seconds: how long after the last response a quiet subscription is sent progress.
            decide_seconds: how long a position that is not known here is waited for, where another process is followed.
        """
        self._hub = hub
        self._node = call_node
        self._node_methods = frozenset(node_methods)
        self._subscriber_limit = subscriber_limit
        self._progress_seconds = progress_seconds
        self._decide_seconds = decide_seconds
        self._news: set[asyncio.Event] = set()  # one for each subscription
        self._closing = False

    @property
    def subscribers(self) -> int:
        """How many subscriptions there are now."""
        return len(self._news)

    def handler(self) -> "grpc.GenericRpcHandler[bytes, bytes]":
        """Return the handler of the service's methods."""
        unary = grpc.unary_unary_rpc_method_handler
        methods = {
            "Subscribe": grpc.unary_stream_rpc_method_handler(answering(self._subscribe)),
            "GetSnapshot": unary(answering(self._get_snapshot)),
            "ListUpdates": unary(answering(self._list_updates)),
            "ListStreams": unary(answering(self._list_streams)),
            "CallNode": unary(answering(self._call_node)),
        }
        return grpc.method_handlers_generic_handler(self.name, methods)

    def close(self) -> None:
        """End every subscription with UNAVAILABLE, and refuse new ones: the server is about to stop."""
        self._closing = True
        for news in self._news:
            news.set()

    # ------------------------------------------------------------------ Subscribe

    async def _subscribe(self, raw: bytes, context: Context) -> None:
        """Send what is new until the client cancels, which frees everything."""
        request = read(service_pb2.SubscribeRequest(), raw)
        if len(self._news) >= self._subscriber_limit:
            raise Refusal(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"there are {len(self._news)} subscriptions already, and no more are allowed (subscriber_limit)",
            )
        news = asyncio.Event()
        subscription = Subscription(self._hub, request, news.set)
        self._news.add(news)
        self._hub.listen(news.set)
        try:
            await self._deliver(subscription, news, context)
        finally:
            self._hub.unlisten(news.set)
            self._hub.pages.forget(news.set)
            self._news.discard(news)

    async def _deliver(self, subscription: Subscription, news: asyncio.Event, context: Context) -> None:
        loop = asyncio.get_running_loop()
        progress_at, decide_at = loop.time() + self._progress_seconds, math.inf
        while not self._closing:
            news.clear()
            while response := subscription.next_response():
                await context.write(response)  # waits for the client: gRPC's flow control
                progress_at = loop.time() + self._progress_seconds
            decide_at = min(decide_at, loop.time() + self._decide_seconds) if subscription.undecided else math.inf
            if decide_at <= loop.time():
                sentence = "a position is not known here yet, and is not known to be worth nothing; keep it, ask again"
                raise Refusal(grpc.StatusCode.UNAVAILABLE, sentence)
            try:
                async with asyncio.timeout_at(min(progress_at, decide_at)):
                    await news.wait()
            except TimeoutError:
                if progress_at > loop.time():
                    continue
                await context.write(subscription.progress())
                progress_at = loop.time() + self._progress_seconds
        raise Refusal(grpc.StatusCode.UNAVAILABLE, "the state service is going away")

    # ------------------------------------------------------------------ answers

    async def _get_snapshot(self, raw: bytes, _context: Context) -> bytes:
        return snapshot_page(self._hub, read(service_pb2.GetSnapshotRequest(), raw))

    async def _list_updates(self, raw: bytes, _context: Context) -> bytes:
        request = read(service_pb2.ListUpdatesRequest(), raw)
        try:
            return await when_there(self._hub, lambda: history_page(self._hub, request))
        except RequestError as error:
            raise Refusal(grpc.StatusCode.UNAVAILABLE, str(error)) from error

    async def _list_streams(self, raw: bytes, _context: Context) -> bytes:
        read(service_pb2.ListStreamsRequest(), raw)
        return list_streams(self._hub)

    async def _call_node(self, raw: bytes, _context: Context) -> bytes:
        request = read(service_pb2.CallNodeRequest(), raw)
        if self._node is None:
            raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, "this state service has no node that it could call")
        if request.method not in self._node_methods:
            raise Refusal(
                grpc.StatusCode.PERMISSION_DENIED,
                f"method {request.method[:200]!r} of the node may not be called: it is not in the setting node_methods",
            )
        try:
            params = parse_object(request.params_json or b"{}", PARAMS_DEPTH)
        except JsonError as error:
            raise invalid(f"params_json must be a JSON object: {error}") from error
        response = await outcome(self._node(request.method, params), request.method)
        return response.SerializeToString()


async def outcome(call: Awaitable[bytes], method: str) -> service_pb2.CallNodeResponse:
    """Wait for a call of the node and return what came of it.

    Raises:
        Refusal: it did not answer, or with too much.
    """
    try:
        async with asyncio.timeout(CALL_SECONDS):
            result = await call
    except NodeCallError as error:
        node_error = service_pb2.NodeError(code=error.code, message=str(error))
        return service_pb2.CallNodeResponse(error=node_error)
    except UpstreamError as error:
        raise Refusal(grpc.StatusCode.UNAVAILABLE, str(error)) from error
    except (TimeoutError, OSError) as error:
        sentence = f"the node did not answer {method!r}: {type(error).__name__}"
        raise Refusal(grpc.StatusCode.UNAVAILABLE, sentence) from error
    if len(result) >= RESPONSE_BYTES - 1024:
        sentence = f"the node's answer to {method!r} has {len(result)} bytes; less than {RESPONSE_BYTES} are allowed"
        raise Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, sentence)
    return service_pb2.CallNodeResponse(result_json=result)


def answering(handler: Handler) -> Handler:
    """Make a handler answer a refusal with its status and its sentence."""

    async def answer(raw: bytes, context: Context) -> Any:
        try:
            try:
                return await handler(raw, context)
            except Refusal as refusal:
                await context.abort(refusal.code, str(refusal))
        except grpc.aio.InternalError as error:  # the connection is gone
            log.debug("a call ended: %s", error)
            return b""

    return answer
