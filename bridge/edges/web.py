"""The edge that serves what browsers load: the live page at `/`, the browser client at `/client/`."""

import gzip
import re
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePath
from typing import Final, NamedTuple

from aiohttp import hdrs, web

from bridge.edges.documents.edge import VARY, digest
from bridge.edges.guard import error_response
from bridge.edges.negotiation import SMALLEST_BYTES, conditional, weight

INDEX: Final = "index.html"
"""The file in the folder of the live page that is served at `/`."""

FOLDERS: Final = {"/page/": ("page", "page/uplot"), "/client/": ("client",)}
"""Folders of bridge/web whose files are served, by the path that comes before the names of the files."""

TYPES: Final = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".ts": "text/plain",
    ".txt": "text/plain",
}
"""Media types by the ending of the name; files with another ending are not served."""

MINIFIED: Final = ".min."
"""In the names of files of others, which are scripts and no modules."""

HOST: Final = re.compile(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?")
"""Hosts that a policy can name: no IPv6 address."""


ON_DEMAND: Final = frozenset({"/client/proto.js"})
"""Modules that the live page loads only when it needs them."""


class File(NamedTuple):
    """A file as it is served."""

    body: bytes
    packed: bytes | None  # the body compressed with gzip, where that is worth it
    tag: str
    type: str


class WebEdge:
    """Serves files that are read once, at the start: what is not among them then is not to be had."""

    def __init__(self) -> None:
        """Read the files."""
        self._files = dict(read_files())
        modules = [path for path in self._files if path.endswith(".js") and path not in ON_DEMAND]
        self._preloads = ", ".join(f"<{path[1:]}>; rel=modulepreload" for path in modules if MINIFIED not in path)

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/", self.page),
            web.get("/page/{file}", self.file),
            web.get("/client/{file}", self.file),
        ]

    async def page(self, request: web.Request) -> web.Response:
        """Return the live page."""
        response = await self.file(request)
        response.headers["Content-Security-Policy"] = policy(request.host)
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers[hdrs.LINK] = self._preloads  # else a browser finds them one import after the other
        return response

    async def file(self, request: web.Request) -> web.Response:
        """Return the file of that path."""
        file = self._files.get(request.path)
        if file is None:
            return error_response(404, "NOT_FOUND", f"there is nothing at {request.path[:200]}")
        packed = file.packed if weight(request.headers.get(hdrs.ACCEPT_ENCODING, ""), "gzip") else None
        response = conditional(
            request, file.tag, lambda: packed or file.body, content_type=file.type, headers={hdrs.VARY: VARY}
        )
        if response.status == 200:
            response.charset = "utf-8"
            if packed:
                response.headers[hdrs.CONTENT_ENCODING] = "gzip"
        return response


def read_files() -> Iterator[tuple[str, File]]:
    """Read the files; yield each with its path."""
    for path, folders in FOLDERS.items():
        for folder in folders:
            for entry in files("bridge.web").joinpath(folder).iterdir():
                if PurePath(entry.name).suffix in TYPES:
                    yield "/" if entry.name == INDEX else path + entry.name, read_file(entry)


def read_file(entry: Traversable) -> File:
    """Read a file."""
    body = entry.read_bytes()
    packed = gzip.compress(body, mtime=0) if len(body) >= SMALLEST_BYTES else None
    return File(body, packed, f'W/"{digest(body)}"', TYPES[PurePath(entry.name).suffix])


def policy(host: str) -> str:
    """Return the Content-Security-Policy of the live page: it loads from and talks to its own sidecar only.

    Args:
        host: as the browser named it; `'self'` covers WebSockets too, but not in every browser that is in use.
    """
    sockets = f" ws://{host} wss://{host}" if HOST.fullmatch(host) else ""
    return (
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        f"connect-src 'self'{sockets}; img-src 'self' data:; script-src 'self'; style-src 'self'"
    )
