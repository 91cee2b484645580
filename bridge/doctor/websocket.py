"""The checks of the WebSocket: the handshake, who may make it, and the dialects."""

import base64
import secrets
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from bridge.doctor.ask import Answer, Unanswered, fetch, refusal, session
from bridge.doctor.findings import Check, Finding, Found, Status
from bridge.doctor.sidecar import url_of
from bridge.doctor.targets import Targets
from bridge.edges.handshake import SUBPROTOCOLS, accept_key

FORWARD: Final = (
    "have the proxy pass the handshake on, for /ws and in HTTP/1.1 (nginx: proxy_http_version 1.1; "
    'proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade"), '
    "or give the dashboard the sidecar's own address"
)

UPGRADES = Finding(Status.OK, "the handshake on /ws succeeds")
HEADERS_STRIPPED = Finding(
    Status.FAIL,
    "the handshake on /ws reaches the sidecar without its header Upgrade or Connection: "
    "a proxy in between does not pass WebSockets on",
    FORWARD,
)
NOT_UPGRADED = Finding(
    Status.FAIL,
    "the handshake on /ws is answered with {what} instead of 101: a proxy in between does not pass WebSockets on",
    FORWARD,
)
NOT_OURS = Finding(
    Status.FAIL,
    "the handshake on /ws is answered with 101, but with the wrong Sec-WebSocket-Accept: "
    "something in between answers for the sidecar",
    "take what answers out of the way: a cache, or a proxy that makes up answers",
)
FULL = Finding(
    Status.FAIL,
    "the sidecar takes no more WebSocket connections now",
    "raise the setting connection_limit, or wait: it also refuses them while it goes away",
)
NO_ANSWER = Finding(
    Status.FAIL,
    "the handshake on /ws gets no answer ({why}), though /health does: something in between drops it",
    FORWARD,
)

ALLOWED = Finding(Status.OK, "pages of {origin} are let in")
ORIGIN_REFUSED = Finding(
    Status.FAIL,
    "pages of {origin} are refused: that origin is not allowed",
    "add it to the sidecar's setting allowed_origins: --allowed-origins {origin}, "
    'or allowed_origins = ["{origin}"] in the table [sidecar] of its TOML file',
)
ORIGIN_DROPPED = Finding(
    Status.FAIL,
    "pages of {origin} are refused, though not by the sidecar ({why})",
    "allow that origin in the proxy that is in between",
)

SPOKEN = Finding(Status.OK, "classic, {names} are spoken")
PROTOCOL_STRIPPED = Finding(
    Status.FAIL,
    "{name} is offered, but the answer names no subprotocol: something in between strips Sec-WebSocket-Protocol",
    "have the proxy pass that header on, in both directions; until then only classic clients can be served",
)
NOT_WELCOMED = Finding(
    Status.FAIL,
    "{name} is agreed on, but the sidecar's first frame does not come: {why}",
    "look whether something in between holds frames back; a proxy must not buffer WebSockets",
)
NAME_REFUSED = Finding(
    Status.FAIL,
    "a handshake that offers {name} fails, though one without an offer succeeds: {why}",
    "look at the rules of the proxy in between, and at the version of the sidecar",
)


def key() -> str:
    """Return a Sec-WebSocket-Key."""
    return base64.b64encode(secrets.token_bytes(16)).decode()


async def shake_hands(targets: Targets, nonce: str, **more: str) -> Answer:
    """Make a classic handshake, and hang up.

    Args:
        targets: where.
        nonce: the key.
        more: headers.

    Raises:
        Unanswered: there is no answer.
    """
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
    headers = {**upgrade, "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": nonce, **more}
    return await fetch(f"{url_of(targets)}/ws", headers=headers, seconds=targets.answer_seconds)


async def check_websocket(targets: Targets) -> Found:
    """Whether the handshake succeeds."""
    nonce = key()
    try:
        answer = await shake_hands(targets, nonce)
    except Unanswered as error:
        return NO_ANSWER(why=error)
    refused = refusal(answer)
    if answer.status == 101:
        return UPGRADES() if answer.headers.get("Sec-WebSocket-Accept") == accept_key(nonce) else NOT_OURS()
    if refused is not None and refused.code == "UPGRADE_REQUIRED":
        return HEADERS_STRIPPED()
    if refused is not None and refused.code == "OVERLOADED":
        return FULL()
    return NOT_UPGRADED(what=answer.what)


async def check_origin(targets: Targets) -> Found:
    """Whether pages of an origin are let in."""
    origin = targets.origin or own_origin(url_of(targets))
    try:
        answer = await shake_hands(targets, key(), Origin=origin)
    except Unanswered as error:
        return ORIGIN_DROPPED(origin=origin, why=error)
    if answer.status == 101:
        return ALLOWED(origin=origin)
    refused = refusal(answer)
    if answer.status == 403 and refused is not None and refused.code == "FORBIDDEN":
        return ORIGIN_REFUSED(origin=origin)
    return ORIGIN_DROPPED(origin=origin, why=answer.what)


def own_origin(url: str) -> str:
    """Return the origin of pages that stand at the same address as the sidecar."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()


async def check_dialects(targets: Targets) -> Found:
    """Whether every dialect is spoken."""
    seconds = targets.answer_seconds / len(SUBPROTOCOLS)
    for name in SUBPROTOCOLS:
        agreed: str | None = None
        try:
            async with (
                session(seconds) as asking,
                asking.ws_connect(f"{url_of(targets)}/ws", protocols=[name]) as socket,
            ):
                agreed = socket.protocol
                if agreed is None:
                    return PROTOCOL_STRIPPED(name=name)
                first = await socket.receive()
                if first.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                    return NOT_WELCOMED(name=name, why=f"the connection ends with {socket.close_code}")
        except Unanswered as error:
            return NAME_REFUSED(name=name, why=error) if agreed is None else NOT_WELCOMED(name=name, why=error)
    return SPOKEN(names=" and ".join(SUBPROTOCOLS))


WEBSOCKET_CHECKS: Final = (
    Check(
        "websocket",
        "whether a WebSocket handshake on `/ws` gets through",
        check_websocket,
        (UPGRADES, HEADERS_STRIPPED, NOT_UPGRADED, NOT_OURS, FULL, NO_ANSWER),
        needs="sidecar",
    ),
    Check(
        "origin",
        "whether pages of `--origin` may connect; without it, pages that stand where the sidecar does",
        check_origin,
        (ALLOWED, ORIGIN_REFUSED, ORIGIN_DROPPED),
        needs="websocket",
    ),
    Check(
        "dialects",
        "whether the subprotocols are agreed on and their first frame comes",
        check_dialects,
        (SPOKEN, PROTOCOL_STRIPPED, NOT_WELCOMED, NAME_REFUSED),
        needs="websocket",
    ),
)
