"""The edge that serves the documents."""

import hashlib
from collections.abc import Callable
from typing import Final

from aiohttp import hdrs, web

from bridge import __version__
from bridge.core.descriptors import descriptor_set
from bridge.core.jsonschema import Schema
from bridge.core.streams import Catalogue
from bridge.core.update import encode_json
from bridge.edges.documents.asyncapi import asyncapi
from bridge.edges.documents.openapi import openapi
from bridge.edges.documents.paths import PROTOBUF
from bridge.edges.documents.rollout import Rollout
from bridge.edges.negotiation import compress, conditional

VARY: Final = "Origin, Accept-Encoding"


class DocumentsEdge:
    """Serves what machines read of the sidecar; each document is made when it is first asked for."""

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        poll_interval_ms: int,
        ping_interval_seconds: float,
        rollout: Rollout | None = None,
    ) -> None:
        """Make the edge.

        Args:
            catalogue: the declared streams.
            poll_interval_ms: how often dashboards poll while they have no WebSocket.
            ping_interval_seconds: how long a WebSocket client may be silent before it is pinged.
            rollout: which visitors are told to use the WebSocket; None: all.
        """
        self._catalogue = catalogue
        self._poll_interval_ms = poll_interval_ms
        self._ping_interval_ms = round(ping_interval_seconds * 1000)
        self._rollout = rollout or Rollout()
        self._made: dict[str, bytes] = {}

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/config.json", self.config),
            web.get("/schema.binpb", self.schema),
            web.get("/asyncapi.json", self.asyncapi),
            web.get("/openapi.json", self.openapi),
        ]

    async def config(self, request: web.Request) -> web.Response:
        """Tell a dashboard where the WebSocket is and how to do without."""
        scheme = "wss" if request.scheme == "https" else "ws"
        return web.json_response(
            {
                "ws_url": f"{scheme}://{request.host}/ws",
                "websockets": self._rollout.admits(request.query.get("visitor")),
                "poll_interval_ms": self._poll_interval_ms,
                "ping_interval_ms": self._ping_interval_ms,
                "version": __version__,
            }
        )

    async def schema(self, request: web.Request) -> web.Response:
        """Return the proto files as a FileDescriptorSet."""
        body = descriptor_set()
        return conditional(request, f'"{digest(body)}"', lambda: body, content_type=PROTOBUF)

    async def asyncapi(self, request: web.Request) -> web.Response:
        """Return the AsyncAPI document."""
        return self._document(request, asyncapi)

    async def openapi(self, request: web.Request) -> web.Response:
        """Return the OpenAPI document."""
        return self._document(request, openapi)

    def _document(self, request: web.Request, make: Callable[[Catalogue], Schema]) -> web.Response:
        if request.path not in self._made:
            self._made[request.path] = encode_json(make(self._catalogue))
        body = self._made[request.path]
        response = conditional(request, f'W/"{digest(body)}"', lambda: body, headers={hdrs.VARY: VARY})
        compress(request, response)
        return response


def digest(body: bytes) -> str:
    """Return a name of a body that changes with it: 64 bits of its SHA-256 in hexadecimal."""
    return hashlib.sha256(body).hexdigest()[:16]
