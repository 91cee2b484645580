"""What a client takes and has already: entity tags, media types and codings (RFC 9110, sections 8.8.3 and 12)."""

import re
from collections.abc import Callable, Mapping
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import LooseHeaders

JSON: Final = "application/json"
WEIGHT = re.compile(r"q=(0(\.[0-9]{0,3})?|1(\.0{0,3})?)")
SMALLEST_BYTES: Final = 1024
"""Smaller bodies are not compressed."""

THREAD_BYTES: Final = 65_536
"""Larger ones are compressed in a thread, so that they do not hold up the loop."""


def conditional(
    request: web.Request,
    tag: str,
    body: Callable[[], bytes],
    *,
    content_type: str = JSON,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """Return a body with its entity tag, or 304 without it if the client has that one.

    Args:
        request: whose answer it is.
        tag: with its quotes, and W/ where it is weak.
        body: makes the body, if it is wanted.
        content_type: of the body.
        headers: more of them, on either answer.
    """
    more: LooseHeaders = {hdrs.ETAG: tag, hdrs.CACHE_CONTROL: "no-cache", **(headers or {})}
    asked = {found.strip().removeprefix("W/") for found in request.headers.get(hdrs.IF_NONE_MATCH, "").split(",")}
    if tag.removeprefix("W/") in asked or "*" in asked:
        return web.Response(status=304, headers=more)
    return web.Response(body=body(), content_type=content_type, headers=more, zlib_executor_size=THREAD_BYTES)


def compress(request: web.Request, response: web.Response) -> None:
    """Have a body compressed with gzip if the client takes that and it is worth it."""
    body, taken = response.body, weight(request.headers.get(hdrs.ACCEPT_ENCODING, ""), "gzip")
    if taken and isinstance(body, bytes) and len(body) >= SMALLEST_BYTES:
        response.enable_compression(web.ContentCoding.gzip)


def weight(header: str, name: str) -> float:
    """Return the weight that a header like Accept gives a value: 1 where it says none, 0 where it does not name it."""
    for part in header.lower().split(","):
        value, *params = (piece.strip() for piece in part.split(";"))
        if value == name:
            return next((float(found[1]) for param in params if (found := WEIGHT.fullmatch(param))), 1.0)
    return 0.0


def accepts(header: str, media_type: str) -> bool:
    """Whether an Accept header allows a media type: the nearest range counts (RFC 9110, section 12.5.1)."""
    ranges = [part.partition(";")[0].strip() for part in header.lower().split(",")]
    for wanted in (media_type, f"{media_type.partition('/')[0]}/*", "*/*"):
        if wanted in ranges:
            return weight(header, wanted) > 0
    return not header.strip()
