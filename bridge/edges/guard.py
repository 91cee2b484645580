"""Who may talk to us: Host and Origin checks for every request, and answers that other origins may read.

A browser sends requests to us for any page that it shows. The Host check stops pages that point their own name at
our address (DNS rebinding), the Origin check all others. A request without Origin is not a browser's.
"""

from collections.abc import Awaitable, Callable, Iterable
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

LOOPBACK = {"localhost", "127.0.0.1", "::1"}

FOREIGN_ORIGIN = web.RequestKey("FOREIGN_ORIGIN", str)
"""Key of a request to a path that explains itself why the origin is not allowed: the sentence."""

ANSWER_HEADERS: web.RequestKey[dict[str, str]] = web.RequestKey("ANSWER_HEADERS", dict)
"""Key of a request: the headers of its answer, for a handler that sends the head of the answer itself."""

SERVER = "theblock-bridge"
"""The Server header: no versions, which would tell an attacker what to try."""

HEADERS = {
    hdrs.SERVER: SERVER,
    hdrs.CACHE_CONTROL: "no-store",
    hdrs.VARY: hdrs.ORIGIN,
    "X-Content-Type-Options": "nosniff",
}
"""Headers of every response, but for those that it sets itself."""


EXPOSED = "ETag, Link, Retry-After, Theblock-Missed"
"""Headers that pages of other origins may read."""


class Guard:
    """The check of Host and Origin."""

    def __init__(
        self, hosts: Iterable[str] = (), origins: Iterable[str] = (), explaining: Iterable[str] = ("/ws",)
    ) -> None:
        """Allow loopback names at any port, and more.

        Args:
            hosts: host names without ports, in lower case; `*` allows any.
            origins: origins like https://example.org, in lower case; `*` allows any.
            explaining: paths whose handlers refuse a foreign origin themselves, in a way that a browser can read.
        """
        self._explaining = frozenset(explaining)
        self._hosts = {host.lower() for host in hosts}
        self._origins = {origin.lower().rstrip("/") for origin in origins}

    def foreign_host(self, request: web.BaseRequest) -> str | None:
        """Return one sentence on why the Host of a request is refused, None if it is not."""
        host = host_name(request.headers.get(hdrs.HOST, ""))
        if host in LOOPBACK | self._hosts or "*" in self._hosts:
            return None
        return f"the host {host!r} is not allowed: use a loopback name, or add it to the setting allowed_hosts"

    def foreign_origin(self, request: web.BaseRequest) -> str | None:
        """Return one sentence on why the Origin of a request is refused, None if it is not."""
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None or self.allows_origin(origin):
            return None
        return f"the origin {origin[:200]!r} is not allowed: add it to the setting allowed_origins"

    def allows_origin(self, origin: str) -> bool:
        """Whether pages of an origin may talk to us."""
        wanted = origin.lower()
        return wanted in self._origins or "*" in self._origins or origin_host(wanted) in LOOPBACK

    @property
    def middleware(self) -> Middleware:
        """The aiohttp middleware that applies the check."""

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            refusal = self.foreign_host(request)
            foreign = self.foreign_origin(request)
            explained = request.method == hdrs.METH_GET and request.path in self._explaining
            if refusal is None and foreign is not None and explained:
                request[FOREIGN_ORIGIN] = foreign
            else:
                refusal = refusal or foreign
            headers = request[ANSWER_HEADERS] = dict(HEADERS)
            if (origin := request.headers.get(hdrs.ORIGIN)) is not None and refusal is None and foreign is None:
                headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
                headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = EXPOSED
            if refusal is not None:
                response: web.StreamResponse = error_response(403, "FORBIDDEN", refusal)
            elif request.method == hdrs.METH_OPTIONS and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers:
                response = web.Response(status=204, headers=PREFLIGHT)
            else:
                response = await answer(request, handler)
            if not response.prepared:
                for name, value in headers.items():
                    response.headers.setdefault(name, value)
            return response

        return guard


PREFLIGHT = {
    hdrs.ACCESS_CONTROL_ALLOW_METHODS: "GET, POST",
    hdrs.ACCESS_CONTROL_ALLOW_HEADERS: "Authorization, Content-Type, If-None-Match, Last-Event-ID",
    hdrs.ACCESS_CONTROL_MAX_AGE: "600",
}


async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Return the handler's response; aiohttp's own refusals become JSON errors."""
    try:
        return await handler(request)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        response = error_response(405, "METHOD_NOT_ALLOWED", f"{request.path} takes {allowed}, not {request.method}")
        response.headers[hdrs.ALLOW] = allowed
        return response
    except web.HTTPNotFound:
        return error_response(404, "NOT_FOUND", f"there is nothing at {request.path[:200]}")
    except web.HTTPRequestEntityTooLarge:
        return error_response(413, "TOO_LARGE", "the body is too large")


def error_response(status: int, code: str, message: str, **details: object) -> web.Response:
    """Return a JSON error: `{"error":{"code","message","details"?}}`."""
    error: dict[str, object] = {"code": code, "message": message}
    if details:
        error["details"] = details
    return web.json_response({"error": error}, status=status)


def host_name(host: str) -> str:
    """Return the name in a Host header, in lower case, without port and brackets."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def origin_host(origin: str) -> str:
    """Return the host name of an http or https origin, else nothing."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return ""
    return parts.hostname or "" if parts.scheme in ("http", "https") else ""
