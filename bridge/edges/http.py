"""HTTP beside the WebSocket: health and metrics."""

import time
from collections.abc import Callable, Mapping

from aiohttp import hdrs, web

from bridge import __version__
from bridge.core.hub import Hub, State
from bridge.edges.guard import error_response
from bridge.ops.metrics import Metrics

PROMETHEUS = "text/plain; version=1.0.0; charset=utf-8"


class HttpEdge:
    """Answers HTTP requests.

    Attributes:
        ready: whether new clients should be sent here; off while the process is going away.
    """

    def __init__(
        self,
        hub: Hub,
        metrics: Metrics,
        describe: Callable[[], Mapping[str, object]],
        *,
        upstream_address: Callable[[], str] | None = None,
    ) -> None:
        """Make the edge.

        Args:
            hub: whose state is told.
            metrics: shown at /metrics.
            describe: returns more members for /health.
            upstream_address: returns where the state service is followed; None: there is none.
        """
        self._hub = hub
        self._metrics = metrics
        self._describe = describe
        self._upstream_address = upstream_address
        self._started = time.monotonic()
        self.ready = True

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/health", self.health),
            web.get("/livez", self.livez),
            web.get("/readyz", self.readyz),
            web.get("/metrics", self.metrics),
        ]

    async def health(self, _request: web.Request) -> web.Response:
        """Tell how things stand; 200 as long as the process answers, since what it remembers can be had."""
        status = self._hub.status
        address = {} if self._upstream_address is None else {"address": self._upstream_address()}
        return web.json_response(
            {
                "status": "ok" if status.state is State.LIVE else "degraded",
                "version": __version__,
                "uptime": round(time.monotonic() - self._started),
                "bootstrap": {"rpc_connected": self._connected},
                "upstream": {
                    "state": status.state.value,
                    "since": status.since_ms,
                    "detail": status.detail,
                    **address,
                },
                **self._describe(),
            }
        )

    @property
    def _connected(self) -> bool:
        return self._hub.upstream_reached and self._hub.status.state is not State.DOWN

    async def livez(self, _request: web.Request) -> web.Response:
        """Tell that the process answers."""
        return web.json_response({"status": "ok"})

    async def readyz(self, _request: web.Request) -> web.Response:
        """Tell whether new clients should be sent here: 503 before the first epoch is known, and while draining."""
        if not self.ready:
            return error_response(503, "NOT_READY", "the sidecar is going away")
        if not self._hub.epoch:
            return error_response(503, "NOT_READY", f"the state service is not reached: {self._hub.status.detail}")
        return web.json_response({"status": "ok"})

    async def metrics(self, _request: web.Request) -> web.Response:
        """Return the metrics for Prometheus."""
        return web.Response(body=self._metrics.text(), headers={hdrs.CONTENT_TYPE: PROMETHEUS})
