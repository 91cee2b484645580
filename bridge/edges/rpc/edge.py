"""The edge at POST /rpc: a body of JSON-RPC 2.0 in, one out."""

import asyncio
from typing import Final

import msgspec
from aiohttp import hdrs, web

from bridge.core.errors import RequestError
from bridge.core.hub import Hub
from bridge.core.limits import Limits
from bridge.edges.guard import error_response
from bridge.edges.rpc.answers import FROM_MEMORY, FROM_NODE, Answers
from bridge.edges.rpc.envelope import Body, Call, Refused, Responses, read_body
from bridge.edges.rpc.node import GRACE_SECONDS, PATIENCE_SECONDS, Node
from bridge.edges.rpc.params import by_name
from bridge.ops.call_cache import CallCache

BODY_SECONDS: Final = 10.0
"""How long a client may take to send a body."""


class BadBody(Exception):
    """A body that cannot be read; `response` says why."""

    def __init__(self, response: web.Response) -> None:
        super().__init__(response.reason)
        self.response = response


class RpcEdge:
    """Answers JSON-RPC 2.0 over HTTP.

    What the streams know is answered from memory, and read last, so that a slow answer to another request of the same
    batch does not make it old. A notification has no effect, since every method only reads.

    Attributes:
        requests: how many there have been, those in batches counted one by one.
    """

    def __init__(
        self,
        hub: Hub,
        cache: CallCache | None,
        limits: Limits,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        """Make the edge.

        Args:
            hub: whose streams are told.
            cache: calls the node; None where there is none.
            limits: of body, batch and depth.
            patience_seconds: how long an answer of the node is waited for.
            grace_seconds: the same, where a recent one can be given instead.
        """
        self.requests = 0
        self._limits = limits
        self._node = Node(cache, patience_seconds=patience_seconds, grace_seconds=grace_seconds)
        self._answers = Answers(hub, self._node)

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [web.post("/rpc", self.handle)]

    async def handle(self, request: web.Request) -> web.Response:
        """Answer a request; its content type is not looked at, since every body must be JSON."""
        try:
            body = await self._read(request)
        except BadBody as error:
            return error.response
        responses = Responses()
        try:
            asked = read_body(body, self._limits)
        except RequestError as error:
            responses.add_error(None, error)
            return response(responses.body(batch=False))
        await self._answer(asked, responses)
        return response(responses.body(batch=asked.batch))

    async def _read(self, request: web.Request) -> bytes:
        """Read a body.

        Raises:
            BadBody: it is compressed, too large, too slow, or damaged.
        """
        if request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
            raise BadBody(error_response(415, "UNSUPPORTED_MEDIA_TYPE", "the body must not be compressed"))
        limit = self._limits.rpc_body_bytes
        too_large = error_response(413, "TOO_LARGE", f"the body has at most {limit} bytes (limit_rpc_body_bytes)")
        if (request.content_length or 0) > limit:
            raise BadBody(too_large)
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for chunk in request.content.iter_any():
                    body += chunk
                    if len(body) > limit:
                        raise BadBody(too_large)
        except TimeoutError:
            raise BadBody(error_response(408, "TIMEOUT", f"the body did not come in {BODY_SECONDS:g} s")) from None
        except web.RequestPayloadError as error:
            raise BadBody(error_response(400, "BAD_REQUEST", "the body cannot be read as its headers say")) from error
        return bytes(body)

    async def _answer(self, asked: Body, responses: Responses) -> None:
        """Answer the requests of a body, in order; those that the node is asked for are asked for together."""
        self.requests += len(asked.requests)
        wanted = [one for one in asked.requests if isinstance(one, Refused) or not one.notification]
        calls = [one for one in wanted if isinstance(one, Call) and one.method not in FROM_MEMORY]
        outcomes = iter(await asyncio.gather(*(self._ask(call) for call in calls)))
        for one in wanted:
            if isinstance(one, Refused):
                outcome: object = one.error
            elif one.method in FROM_MEMORY:
                outcome = self._tell(one.method)
            else:
                outcome = next(outcomes)
            if isinstance(outcome, RequestError):
                responses.add_error(one.id, outcome)
            else:
                responses.add_result(one.id, outcome)

    def _tell(self, method: str) -> object:
        """Return what memory says, or the error."""
        try:
            return FROM_MEMORY[method](self._answers)
        except RequestError as error:
            return error

    async def _ask(self, call: Call) -> object:
        """Return what the node is needed for, or the error."""
        try:
            if call.method in FROM_NODE:
                return await FROM_NODE[call.method](self._answers, call.params)
            return msgspec.Raw(await self._node.ask(call.method, by_name(call.params)))
        except RequestError as error:
            return error


def response(body: bytes) -> web.Response:
    """Return the answer: 200 whatever it says, 204 where nobody wants one."""
    if not body:
        return web.Response(status=204)
    return web.Response(body=body, content_type="application/json")
