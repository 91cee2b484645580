"""One connection to the node: its requests in turn, its time-outs, and the stream that it may become."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from . import websocket
from .clock import Timer
from .faults import Panic
from .http1 import JSON_TYPE, BodyTooLarge, HttpRequest, HttpResponse, Unreadable, read_request, response_bytes
from .jsonrpc import Call, RpcError, error_body, parse_call, result_body, to_json
from .limiter import BANNED, RATE_LIMITED
from .methods import answer
from .model import Caller
from .recorded import recording
from .request_log import LoggedRequest

if TYPE_CHECKING:
    from .node import StandinNode

NOT_FOUND = HttpResponse(404)
FORBIDDEN = HttpResponse(403, close=True)
UNPARSED = "?"
LOGS_TAIL_SECONDS = 1.0
SOCKETS = frozenset({"/logs/tail", "/state_stream", "/vm/trace"})
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def _pages() -> dict[str, HttpResponse]:
    dashboard = recording("http.dashboard")["response"]["_raw"].encode()
    badge = to_json(recording("http.badge_status")["response"])
    return {
        "/badge/status": HttpResponse(200, badge, {"content-type": JSON_TYPE}),
        "/dashboard": HttpResponse(200, dashboard, {"content-type": "text/html; charset=utf-8"}),
        "/logs/search": HttpResponse(200, b"[]", {"content-type": JSON_TYPE}),
    }


PAGES = _pages()


class Connection:
    """A connection, served by ``run`` until either side ends it.

    Args:
        node: whose connection it is.
        reader: what the client sends.
        writer: what it gets.
        ip: where it comes from.
    """

    def __init__(self, node: StandinNode, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ip: str) -> None:
        self.node = node
        self.reader = reader
        self.writer = writer
        self.ip = ip
        self.clock = node.chain.clock

    async def run(self) -> None:
        """Serve the connection to its end. Cancellation ends it at once."""
        self.writer.transport.set_write_buffer_limits(high=0)  # drain() waits until the kernel has it all
        try:
            await self._serve()
        except (Unreadable, Panic, ConnectionError):
            pass
        except BodyTooLarge:
            linger = (socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            self.writer.get_extra_info("socket").setsockopt(*linger)
            self.writer.transport.abort()
        finally:
            self.writer.close()

    def drop(self) -> None:
        """End the connection at once, as when the process dies."""
        self.writer.transport.abort()

    async def _serve(self) -> None:
        is_first = True
        while (request := await self._next_request(is_first)) is not None:
            self.node.in_flight += 1
            try:
                call = self._log(request)
                await self.node.faults.running.wait()
                if request.verb == "GET" and request.path in SOCKETS:
                    return await self._upgrade(request)
                response = await self._respond(request, call)
            finally:
                self.node.in_flight -= 1
            response = await self._send(request, response)
            if response.close:
                return None
            is_first = False
        return None

    async def _next_request(self, is_first: bool) -> HttpRequest | None:
        """Read a request, None at the end of the connection.

        The first one must be complete within the time-out of connecting, a later one begin within the keep-alive time
        and be complete within the time-out of its first byte; else the connection is closed without a word.
        """
        options, connected_at = self.node.options, self.clock.now()
        patience = options.request_timeout_seconds if is_first else options.keep_alive_seconds
        timer = self._close_at(connected_at + patience)
        try:
            first = await self.reader.read(1)
            if not first:
                return None
            if not is_first:
                timer.cancel()
                timer = self._close_at(self.clock.now() + options.request_timeout_seconds)
            return await read_request(self.reader, first, options.max_body_bytes)
        finally:
            timer.cancel()

    def _close_at(self, when: float) -> Timer:
        return self.clock.call_at(when, self.writer.transport.close)

    def _log(self, request: HttpRequest) -> Call | RpcError | None:
        name, params = f"{request.verb} {request.path}", None
        call: Call | RpcError | None = None
        if (request.verb, request.path) == ("POST", "/"):
            try:
                call = parse_call(request.body)
                name, params = call.method, call.params
            except RpcError as error:
                call, name = error, UNPARSED
        self.node.requests.add(LoggedRequest(self.clock.now(), name, params, self.ip))
        return call

    async def _send(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        if not request.keep_alive and response.status != 101:
            response = HttpResponse(response.status, response.body, response.headers, close=True)
        options = self.node.options
        self.writer.write(response_bytes(response, options.keep_alive_seconds, self.node.shuffle))
        await self.writer.drain()
        return response

    async def _respond(self, request: HttpRequest, call: Call | RpcError | None) -> HttpResponse:
        route = request.verb, request.path
        if route not in (("POST", "/"), ("OPTIONS", "/")) and not (request.verb == "GET" and request.path in PAGES):
            return NOT_FOUND  # neither limited nor filtered by host
        async with self.node.permits:
            await self._delay(call.method if isinstance(call, Call) else "")
            if refused := self._refuse(request):
                return refused
            if call is None:
                return PAGES.get(request.path, FORBIDDEN)  # no origin is let in by default
            return self._answer(request, call)

    async def _delay(self, method: str) -> None:
        latency = self.node.faults.latency_of(method)
        if latency > 0:
            await self.clock.sleep_until(self.clock.now() + latency)

    def _refuse(self, request: HttpRequest) -> HttpResponse | None:
        if refusal := self.node.model.limiter.check(self.ip):
            self.node.requests.refused += 1
            return HttpResponse(429, error_body(*refusal), {"content-type": JSON_TYPE}, close=True)
        host = request.headers["host"].partition(":")[0].strip().lower()
        if request.verb != "OPTIONS" and host not in self.node.options.allowed_hosts:
            return FORBIDDEN
        return None

    def _answer(self, request: HttpRequest, call: Call | RpcError) -> HttpResponse:
        try:
            if isinstance(call, RpcError):
                raise call
            body = result_body(answer(self.node.model, call, Caller(self.ip, request.bearer)), call.id)
        except RpcError as error:
            if (error.code, error.message) in (RATE_LIMITED, BANNED):
                self.node.requests.energy_refused += 1
            body = error_body(error.code, error.message, call.id if isinstance(call, Call) else None)
        return HttpResponse(200, body, {"content-type": JSON_TYPE})

    async def _upgrade(self, request: HttpRequest) -> None:
        if reason := websocket.refusal(request):
            await self._send(request, HttpResponse(400, f"websocket upgrade failed: {reason}".encode(), close=True))
            return
        async with self.node.permits:
            refused = self._refuse(request) or (FORBIDDEN if request.path == "/vm/trace" else None)
            await self._send(request, refused or websocket.acceptance(request))
            if refused:
                return
            if request.path == "/state_stream":
                await self._stream(self._state, self.node.options.state_stream_seconds)
            else:
                await self._stream(lambda _: b"[]", LOGS_TAIL_SECONDS)

    def _state(self, seq: int) -> bytes:
        if self.node.chain.poisoned:
            raise Panic
        return self.node.snapshot.message(seq)

    async def _stream(self, message: Callable[[int], bytes], interval: float) -> None:
        """Send a message every ``interval`` seconds until a send fails; never read, so never see a close."""
        cast(asyncio.Transport, self.writer.transport).pause_reading()
        self.node.streams += 1
        due, seq = self.clock.now(), 0
        try:
            while True:
                await self.node.faults.running.wait()
                self.writer.write(websocket.text_frame(message(seq)))
                await self.writer.drain()
                due, seq = max(due + interval, self.clock.now()), seq + 1
                await self.clock.sleep_until(due)
        finally:
            self.node.streams -= 1
