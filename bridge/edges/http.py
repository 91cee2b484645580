"""HTTP beside the WebSocket: health, metrics, and the current state of every stream."""

import time
from collections.abc import Callable, Mapping

from aiohttp import hdrs, web

from bridge import __version__
from bridge.core.history import History
from bridge.core.hub import Hub, State
from bridge.core.position import Position
from bridge.core.streams import KEY, KEY_RULE, NAME, NAME_RULE
from bridge.core.update import Form, Format
from bridge.edges.guard import error_response
from bridge.ops.metrics import Metrics

JSON = "application/json"
PROMETHEUS = "text/plain; version=1.0.0; charset=utf-8"
NO_CACHE = {hdrs.CACHE_CONTROL: "no-cache"}
VALUES_LIMIT = 1000
"""The most values in one answer of /state/{stream} for a keyed stream."""


class HttpEdge:
    """Answers HTTP requests.

    Attributes:
        ready: whether new clients should be sent here; off while the process is going away.
    """

    def __init__(self, hub: Hub, metrics: Metrics, describe: Callable[[], Mapping[str, object]]) -> None:
        """Make the edge.

        Args:
            hub: whose state is told.
            metrics: shown at /metrics.
            describe: returns more members for /health.
        """
        self._hub = hub
        self._metrics = metrics
        self._describe = describe
        self._started = time.monotonic()
        self.ready = True

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/health", self.health),
            web.get("/livez", self.livez),
            web.get("/readyz", self.readyz),
            web.get("/metrics", self.metrics),
            web.get("/state/{stream}", self.state),
            web.get("/state/{stream}/{key}", self.state),
        ]

    async def health(self, _request: web.Request) -> web.Response:
        """Tell how things stand; 200 as long as the process answers, since what it remembers can be had."""
        status = self._hub.status
        return web.json_response(
            {
                "status": "ok" if status.state is State.LIVE else "degraded",
                "version": __version__,
                "uptime": round(time.monotonic() - self._started),
                "bootstrap": {"rpc_connected": self._connected},
                "upstream": {"state": status.state.value, "since": status.since_ms, "detail": status.detail},
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

    async def state(self, request: web.Request) -> web.Response:
        """Return the current value of a stream, of one key, or the values that changed last of a keyed one."""
        name, key = request.match_info["stream"], request.match_info.get("key", "")
        if not NAME.fullmatch(name):
            return error_response(400, "BAD_REQUEST", f"a stream name matches {NAME_RULE}")
        if key and not KEY.fullmatch(key):
            return error_response(400, "BAD_REQUEST", f"a key matches {KEY_RULE}")
        history = self._hub.histories.get(name)
        if history is None or history.stream is None:
            return error_response(404, "NOT_FOUND", f"stream {name!r} is not declared", streams=self._names())
        if key and not history.stream.keyed:
            return error_response(404, "NOT_FOUND", f"stream {name!r} has no keys")
        integers = request.query.get("int64", "number")
        if integers not in ("string", "number"):
            return error_response(400, "BAD_REQUEST", "int64 must be string or number")
        form = Form(Format.JSON_INT64_STRING if integers == "string" else Format.JSON)
        if history.stream.keyed and not key:
            return conditional(request, Position(history.epoch, history.head), self._values(history, form))
        value = history.latest.get(key)
        if value is None:
            return error_response(404, "NOT_FOUND", f"stream {name!r} has no value{f' for {key!r}' if key else ''} yet")
        return conditional(request, value.position, lambda: value.json(form))

    def _names(self) -> list[str]:
        return [history.name for history in self._hub.histories.values() if history.stream is not None]

    @staticmethod
    def _values(history: History, form: Form) -> Callable[[], bytes]:
        def body() -> bytes:
            values = b",".join(update.json(form) for update in history.current(VALUES_LIMIT))
            return b'{"stream":"%s","keys":%d,"updates":[%s]}' % (history.name.encode(), len(history.latest), values)

        return body


def conditional(request: web.Request, position: Position, body: Callable[[], bytes]) -> web.Response:
    """Return a JSON body whose entity tag is a position; 304 without it if the client has that one."""
    etag = f'"{position}"'
    asked = {tag.strip().removeprefix("W/") for tag in request.headers.get(hdrs.IF_NONE_MATCH, "").split(",")}
    headers = {hdrs.ETAG: etag, **NO_CACHE}
    if etag in asked or "*" in asked:
        return web.Response(status=304, headers=headers)
    return web.Response(body=body(), content_type=JSON, headers=headers)
