"""The edge that serves Server-Sent Events."""

import json
from random import random
from typing import Final

from aiohttp import hdrs, web

from bridge.core.codes import ErrorCode
from bridge.core.deep import RETRY_AFTER_MS
from bridge.core.errors import RequestError
from bridge.core.events import event, with_retry
from bridge.core.hub import Hub
from bridge.core.limits import Limits
from bridge.edges.events.request import Wanted, read_wanted
from bridge.edges.events.wire import EventWire
from bridge.edges.guard import ANSWER_HEADERS, error_response
from bridge.edges.negotiation import accepts
from bridge.edges.patience import Patience
from bridge.edges.websocket import WebSocketEdge
from bridge.ops.deep import when_there

EVENT_STREAM: Final = "text/event-stream"

HEADERS: Final = {hdrs.CONTENT_TYPE: EVENT_STREAM, hdrs.CACHE_CONTROL: "no-store", "X-Accel-Buffering": "no"}
"""Headers of events: nothing on the way keeps them or holds them back."""

RETRY_MS: Final = (1000, 3000)
"""After how long clients come back whose connection is lost: each after a time of its own between these."""


class EventsEdge:
    """Serves Server-Sent Events.

    Its connections are among those of the WebSocket edge: there is one limit for both, one pace at which they are
    accepted, one check of life, and one drain.

    Attributes:
        accepted: how many there have been.
        refused: how many requests were refused.
    """

    def __init__(self, hub: Hub, websocket: WebSocketEdge, *, limits: Limits, patience: Patience) -> None:
        """Make the edge.

        Args:
            hub: whose streams are served.
            websocket: keeps the connections.
            limits: of what a client may ask for.
            patience: how long a client is waited for.
        """
        self._hub = hub
        self._websocket = websocket
        self._limits = limits
        self._patience = patience
        self.accepted = self.refused = 0

    @property
    def open(self) -> int:
        """How many connections are open."""
        return list(self._websocket.wires.values()).count(EVENT_STREAM)

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [web.get("/events", self.handle)]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Begin the answer, and take the connection over. Cancelling it while it waits leaves nothing behind."""
        try:
            wanted = read_wanted(request, self._limits)
        except RequestError as error:
            return self._refuse(error_response(400, "BAD_REQUEST", str(error)))
        if not accepts(request.headers.get(hdrs.ACCEPT, ""), EVENT_STREAM):
            return self._refuse(error_response(406, "NOT_ACCEPTABLE", f"events are {EVENT_STREAM}: accept that"))
        if request.method == hdrs.METH_HEAD:
            return web.Response(headers=HEADERS)
        if (refusal := await self._websocket.admit()) is not None:
            retry_after_ms = refusal.retry_after_ms or RETRY_AFTER_MS
            return self._refuse(come_later(request, refusal.response, retry_after_ms))
        wire = EventWire(self._hub, self._limits, self._patience, wanted.format)
        try:
            return await self._send(request, wanted, wire)
        except RequestError as error:
            return self._refuse(undecided(request, error))
        finally:
            wire.let_go()

    def _refuse(self, response: web.Response) -> web.Response:
        self.refused += 1
        return response

    async def _send(self, request: web.Request, wanted: Wanted, wire: EventWire) -> web.StreamResponse:
        """Begin to send events.

        Raises:
            RequestError: they cannot be had; nothing was sent.
        """
        least, most = RETRY_MS
        retry_after_ms = round(least + (most - least) * random())
        await when_there(self._hub, lambda: wire.open(wanted.subscriptions, wanted.reached, retry_after_ms))
        headers: dict[str, str] = request[ANSWER_HEADERS]
        response = web.StreamResponse(headers=headers | HEADERS)
        response.force_close()
        try:
            await response.prepare(request)
        except ConnectionError:  # the peer did not wait for the answer
            return response
        transport = request.transport
        if transport is None or transport.is_closing():
            return response
        self.accepted += 1
        self._websocket.keep(wire, EVENT_STREAM)
        wire.take_over(transport, chunked=hdrs.TRANSFER_ENCODING in response.headers)
        return response


def undecided(request: web.Request, error: RequestError) -> web.Response:
    """Return the answer to subscriptions that cannot be had, at all or now."""
    if error.code is not ErrorCode.UPSTREAM_UNAVAILABLE:
        return error_response(400, "BAD_REQUEST", str(error))
    response = error_response(503, "UPSTREAM_UNAVAILABLE", str(error), retry_after_ms=RETRY_AFTER_MS)
    response.headers[hdrs.RETRY_AFTER] = str(RETRY_AFTER_MS // 1000)
    return come_later(request, response, RETRY_AFTER_MS)


def come_later(request: web.Request, response: web.Response, retry_after_ms: int) -> web.Response:
    """Return the answer to a client that may come back later.

    An EventSource in a browser gives up for good at any status but 200, and cannot read the answer. So a browser gets
    an event that says the same, and events that end: it comes back after the time given, with the id that it has.
    """
    if hdrs.ORIGIN not in request.headers and "Sec-Fetch-Mode" not in request.headers:
        return response
    body = with_retry(retry_after_ms, event("refused", json.loads(response.text or "{}")))
    return web.Response(body=body, headers=HEADERS)
