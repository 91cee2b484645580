"""The checks of the sidecar over HTTP: whether it answers, what it says of its upstream, and what a dashboard needs."""

from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from bridge.doctor.ask import Answer, Reason, Unanswered, fetch, refusal
from bridge.doctor.findings import Check, Finding, Found, Status, moment
from bridge.doctor.targets import Targets

DASHBOARD_SECONDS: Final = 1.0
"""How long a dashboard waits for /health at its start."""

HEADER_BYTES: Final = 6000
"""Length of a long header: a page's cookies and a token easily come to it; the sidecar takes 8,190."""

SIDECAR_SKIPPED = Finding(Status.SKIP, "not looked at: there is no address, or it is off; --url gives one")
ANSWERS = Finding(Status.OK, "theblock-bridge {version} answers at {url} in {ms} ms")
UNREACHABLE = Finding(
    Status.FAIL,
    "no connection to a sidecar at {url}: {why}",
    "start it (theblock-bridge sidecar, or up), or say where it is: --url http://HOST:PORT; "
    "it listens on this machine only, unless the setting listen says otherwise",
)
SILENT = Finding(
    Status.FAIL,
    "what listens at {url} takes connections but gives no answer within {seconds} s",
    "if it is the sidecar, it hangs or is overloaded: look at its log; else say where it is: --url http://HOST:PORT",
)
HOST_REFUSED = Finding(
    Status.FAIL,
    "the sidecar at {url} refuses: {why}",
    'add it to the sidecar\'s setting allowed_hosts: --allowed-hosts {host}, or allowed_hosts = ["{host}"] in the '
    "table [sidecar] of its TOML file; or have the proxy send localhost as Host",
)
AIRPLAY = Finding(
    Status.FAIL,
    "at {url} is no sidecar but the AirPlay receiver of macOS, which takes port 5000",
    "switch AirPlay Receiver off in the system settings, or give the sidecar another port: --listen 127.0.0.1:5001",
)
BEHIND_PROXY = Finding(
    Status.FAIL,
    "a proxy answers at {url}, but it does not reach the sidecar behind it ({what})",
    "start the sidecar, and see that the proxy sends to the address that the sidecar names on its ready line",
)
REDIRECTED = Finding(
    Status.FAIL,
    "what answers at {url} sends clients to {to} ({what})",
    "give that address to the dashboard and the doctor: a dashboard's WebSocket does not follow it",
)
NOT_A_SIDECAR = Finding(
    Status.FAIL,
    "something listens at {url}, but it is no sidecar: {why}",
    "say where the sidecar is: --url http://HOST:PORT; a proxy has to pass /health, /rpc and /ws on to it",
)

FOLLOWS = Finding(Status.OK, "the sidecar follows its upstream: {detail}")
UPSTREAM_STALE = Finding(
    Status.FAIL,
    "the sidecar is up, but its upstream is stale since {since}, so what it says is not new: {detail}",
    "mend what the sentence names: it comes from the state service, or from the node behind it",
)
UPSTREAM_DOWN = Finding(
    Status.FAIL,
    "the sidecar is up, but its upstream is down since {since}: {detail}",
    "start the state service, or correct the sidecar's setting upstream; it reconnects by itself",
)
LOST = Finding(Status.FAIL, "the sidecar stopped answering: {why}", "run the doctor again, and look at its log")

DASHBOARD = Finding(
    Status.OK,
    "a dashboard that starts now finds its backend; one that shows made-up values all the same has saved mock mode: "
    "remove mock_rpc from featureFlags in the browser's localStorage",
)
MOCK_MODE = Finding(
    Status.FAIL,
    "/health says bootstrap.rpc_connected false: a dashboard that starts now shows made-up values, and saves that",
    "mend what the check upstream names; then, in every browser that had the page open, remove mock_rpc from "
    "featureFlags in localStorage and load the page again",
)
SLOW = Finding(
    Status.FAIL,
    "/health is not answered within {seconds} s: a dashboard that starts now shows made-up values, and saves that",
    "look for what delays it (load, proxy, network); then, in every browser that had the page open, remove mock_rpc "
    "from featureFlags in localStorage",
)
NO_RPC = Finding(
    Status.FAIL,
    "POST /rpc is not answered with JSON-RPC ({why}): a dashboard asks it nine times before it opens its WebSocket",
    "have the proxy pass POST /rpc on to the sidecar",
)

LONG_HEADER = Finding(Status.OK, "a header of {bytes} bytes is taken")
HEADER_LIMIT = Finding(
    Status.FAIL,
    "a request with a header of {bytes} bytes is refused ({why}), one without is not: a proxy in between limits it",
    "raise that limit to 8 KiB or more (nginx: large_client_header_buffers 4 8k); cookies and tokens come to it easily",
)


class Upstream(msgspec.Struct):
    """What /health says of the upstream."""

    state: str
    since: int
    detail: str


class Bootstrap(msgspec.Struct):
    """What /health says to a dashboard that starts."""

    rpc_connected: bool


class Health(msgspec.Struct):
    """What /health says."""

    version: str
    bootstrap: Bootstrap
    upstream: Upstream


class _Reply(msgspec.Struct):
    jsonrpc: str
    result: Any = None
    error: Any = None


def url_of(targets: Targets) -> str:
    """Return the address of the sidecar; checks that need the check `sidecar` are made only if it is looked at."""
    assert targets.url is not None
    return targets.url


def read_health(answer: Answer) -> Health | None:
    """Return what /health says, None if it is no answer of a sidecar."""
    try:
        return msgspec.json.decode(answer.body, type=Health) if answer.status == 200 else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


async def check_sidecar(targets: Targets) -> Found:
    """Whether a sidecar answers."""
    url = targets.url
    if url is None:
        return SIDECAR_SKIPPED()
    try:
        answer = await fetch(f"{url}/health", seconds=targets.answer_seconds)
    except Unanswered as error:
        match error.reason:
            case Reason.UNREACHABLE:
                return UNREACHABLE(url=url, why=error)
            case Reason.SILENT:
                return SILENT(url=url, seconds=f"{targets.answer_seconds:g}")
            case _:
                return NOT_A_SIDECAR(url=url, why=error)
    if (health := read_health(answer)) is not None:
        return ANSWERS(version=health.version, url=url, ms=round(answer.ms))
    return what_else(url, answer)


def what_else(url: str, answer: Answer) -> Found:
    """Return what an answer that is not a sidecar's health means."""
    refused = refusal(answer)
    if answer.status == 403 and refused is not None and refused.code == "FORBIDDEN":
        return HOST_REFUSED(url=url, why=refused.message, host=urlsplit(url).hostname)
    if answer.headers.get("Server", "").startswith("AirTunes"):
        return AIRPLAY(url=url)
    if answer.status in (502, 503, 504):
        return BEHIND_PROXY(url=url, what=answer.what)
    if answer.status in (301, 302, 303, 307, 308):
        return REDIRECTED(url=url, what=answer.what, to=answer.headers.get("Location", "nowhere"))
    return NOT_A_SIDECAR(url=url, why=f"it answers /health with {answer.what}, and not with a sidecar's health")


async def check_upstream(targets: Targets) -> Found:
    """What the sidecar says of its upstream."""
    try:
        health = read_health(await fetch(f"{url_of(targets)}/health", seconds=targets.answer_seconds))
    except Unanswered as error:
        return LOST(why=error)
    if health is None:
        return LOST(why="/health is answered by something else now")
    upstream = health.upstream
    finding = {"live": FOLLOWS, "stale": UPSTREAM_STALE}.get(upstream.state, UPSTREAM_DOWN)
    return finding(since=moment(upstream.since), detail=upstream.detail or "it does not say why")


async def check_dashboard(targets: Targets) -> Found:
    """Whether a dashboard that starts now finds what it needs."""
    url = url_of(targets)
    try:
        health = read_health(await fetch(f"{url}/health", seconds=DASHBOARD_SECONDS))
    except Unanswered as error:
        if error.reason is Reason.SILENT:
            return SLOW(seconds=f"{DASHBOARD_SECONDS:g}")
        return LOST(why=error)
    if health is None:
        return LOST(why="/health is answered by something else now")
    if not health.bootstrap.rpc_connected:
        return MOCK_MODE()
    call = b'{"jsonrpc":"2.0","id":1,"method":"consensus.block_height","params":[]}'
    headers = {"Content-Type": "application/json"}
    try:
        answer = await fetch(f"{url}/rpc", post=call, headers=headers, seconds=targets.answer_seconds)
        if answer.status != 200:
            return NO_RPC(why=answer.what)
        msgspec.json.decode(answer.body, type=_Reply)
    except Unanswered as error:
        return NO_RPC(why=error)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return NO_RPC(why=f"{answer.what}, but something else in it")
    return DASHBOARD()


async def check_headers(targets: Targets) -> Found:
    """Whether a long header gets through."""
    headers = {"X-Theblock-Doctor": "x" * HEADER_BYTES}
    try:
        answer = await fetch(f"{url_of(targets)}/health", headers=headers, seconds=targets.answer_seconds)
    except Unanswered as error:
        return HEADER_LIMIT(bytes=HEADER_BYTES, why=error)
    return (
        LONG_HEADER(bytes=HEADER_BYTES) if answer.status == 200 else HEADER_LIMIT(bytes=HEADER_BYTES, why=answer.what)
    )


SIDECAR_CHECKS: Final = (
    Check(
        "sidecar",
        "whether a sidecar answers `/health` at `--url`",
        check_sidecar,
        (
            ANSWERS,
            UNREACHABLE,
            SILENT,
            HOST_REFUSED,
            AIRPLAY,
            BEHIND_PROXY,
            REDIRECTED,
            NOT_A_SIDECAR,
            SIDECAR_SKIPPED,
        ),
    ),
    Check(
        "upstream",
        "what the sidecar says of the state service that feeds it",
        check_upstream,
        (FOLLOWS, UPSTREAM_STALE, UPSTREAM_DOWN, LOST),
        needs="sidecar",
    ),
    Check(
        "dashboard",
        "what a dashboard asks for at its start: `/health` within a second, then `POST /rpc`",
        check_dashboard,
        (DASHBOARD, MOCK_MODE, SLOW, NO_RPC, LOST),
        needs="sidecar",
    ),
    Check(
        "headers",
        "whether a request with a long header reaches the sidecar",
        check_headers,
        (LONG_HEADER, HEADER_LIMIT),
        needs="sidecar",
    ),
)
