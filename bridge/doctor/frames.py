"""The checks of frames on a WebSocket that is open: clocks, the way of an update, and what becomes of quiet."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import aiohttp
import msgspec

from bridge.doctor.ask import Reason, Unanswered, fetch, session
from bridge.doctor.findings import Check, Finding, Found, Status
from bridge.doctor.sidecar import url_of
from bridge.doctor.targets import Targets

OFFSET_MS: Final = 1000.0
"""Clocks that differ by less count as equal."""

LATE_MS: Final = 2000.0
"""Updates that arrive sooner after their publication count as on time."""

WATCH_SHARE: Final = 0.5
"""The part of the deadline for which updates are waited for."""

SYNCHRONIZE: Final = "have both machines set their clocks by NTP (chrony, systemd-timesyncd); until then "

SAME_TIME = Finding(Status.OK, "this machine's clock and the sidecar's differ by less than a second")
OTHER_TIME = Finding(
    Status.WARN,
    "this machine's clock is {seconds} s {direction} the sidecar's",
    SYNCHRONIZE + "ages and latencies that a dashboard here shows are wrong by that much",
)
NO_FRAMES = Finding(
    Status.FAIL,
    "the handshake succeeds, but a ping is not answered: {why}",
    "look for what holds frames back: a proxy must pass WebSockets on in both directions, without buffering",
)

ON_TIME = Finding(Status.OK, "updates arrive {ms} ms after their publication")
QUIET = Finding(Status.OK, "no update was published within {seconds} s, so none could be timed")
FROM_FUTURE = Finding(
    Status.WARN,
    "the newest update was published {seconds} s in the future, says the sidecar's clock: the state service's is ahead",
    SYNCHRONIZE + "times in updates are wrong by that much",
)
LATE = Finding(
    Status.WARN,
    "an update arrived {seconds} s after its publication: the state service's clock is behind, or the way is slow",
    SYNCHRONIZE + "times in updates may be wrong; if the clocks are right, look at the load of both processes",
)

NOT_WATCHED = Finding(Status.SKIP, "not looked at: --proxy-idle-seconds N watches a quiet connection for N seconds")
LIVED = Finding(
    Status.OK, "a quiet connection lives for {seconds} s and more; the sidecar pings it after {interval} s of quiet"
)
TOO_SHORT = Finding(
    Status.WARN,
    "a quiet connection lives for {seconds} s, but the sidecar pings it only after {interval} s of quiet",
    "give --proxy-idle-seconds more than {interval}: only then is it certain that pings keep the connection",
)
CUT = Finding(
    Status.FAIL,
    "a quiet connection is cut after {seconds} s, and the sidecar pings it only after {interval} s of quiet",
    "raise the idle time-out of the proxy in between above {interval} s (nginx: proxy_read_timeout; HAProxy: "
    "timeout tunnel), or lower the sidecar's setting ping_interval_seconds below {seconds}",
)
CLOSED = Finding(
    Status.WARN,
    "the sidecar itself closed the quiet connection after {seconds} s, with code {code}",
    "run the doctor again: the sidecar was about to end, or has lost sight of this client",
)


class _Frame(msgspec.Struct):
    type: str
    stream: str = ""
    time: int = 0
    snapshot: bool = False
    server_time: int = 0


class _Config(msgspec.Struct):
    ping_interval_ms: int


class Clock(NamedTuple):
    """The sidecar's clock as seen from here.

    Attributes:
        ahead_ms: by how much it is ahead of this machine's.
        error_ms: by how much that may be wrong.
    """

    ahead_ms: float
    error_ms: float

    def now_ms(self) -> float:
        """Return the sidecar's time, Unix milliseconds."""
        return time.time() * 1000 + self.ahead_ms


@asynccontextmanager
async def opened(targets: Targets, seconds: float) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """Open a classic connection, for at most `seconds`.

    Raises:
        Unanswered: it cannot be opened, or the time is over.
    """
    async with (
        session(seconds) as asking,
        asking.ws_connect(f"{url_of(targets)}/ws", timeout=aiohttp.ClientWSTimeout(ws_close=0.5)) as socket,
    ):
        yield socket


async def receive(socket: aiohttp.ClientWebSocketResponse) -> _Frame:
    """Return the next frame.

    Raises:
        Unanswered: the connection ends, or the frame is none of the sidecar's.
    """
    message = await socket.receive()
    if message.type is not aiohttp.WSMsgType.TEXT:
        raise Unanswered(Reason.CLOSED, f"the connection ends with {socket.close_code}")
    try:
        return msgspec.json.decode(message.data, type=_Frame)
    except msgspec.DecodeError:
        raise Unanswered(Reason.FOREIGN, "a frame comes that is none of the sidecar's") from None


async def read_clock(socket: aiohttp.ClientWebSocketResponse) -> Clock:
    """Ask the sidecar for its time.

    Raises:
        Unanswered: it does not tell.
    """
    began = time.monotonic()
    asked_ms = time.time() * 1000
    await socket.send_json({"type": "ping", "timestamp": round(asked_ms)})
    while (frame := await receive(socket)).type != "pong":
        pass
    half_ms = (time.monotonic() - began) * 500
    return Clock(frame.server_time - (asked_ms + half_ms), half_ms)


async def check_clock(targets: Targets) -> Found:
    """Whether this machine's clock and the sidecar's agree."""
    try:
        async with opened(targets, targets.answer_seconds) as socket:
            clock = await read_clock(socket)
    except Unanswered as error:
        return NO_FRAMES(why=error)
    if abs(clock.ahead_ms) - clock.error_ms < OFFSET_MS:
        return SAME_TIME()
    direction = "behind" if clock.ahead_ms > 0 else "ahead of"
    return OTHER_TIME(seconds=f"{abs(clock.ahead_ms) / 1000:.1f}", direction=direction)


async def check_lag(targets: Targets) -> Found:
    """How long updates take from their publication to here."""
    seconds = targets.answer_seconds * WATCH_SHARE
    try:
        async with opened(targets, targets.answer_seconds) as socket:
            clock = await read_clock(socket)
            await socket.send_json({"method": "state_stream.subscribe", "params": ["block_updates", "metrics"]})
            try:
                async with asyncio.timeout(seconds):
                    while (found := timed(await receive(socket), clock)) is None:
                        pass
            except TimeoutError:
                found = QUIET(seconds=f"{seconds:g}")
            return found
    except Unanswered as error:
        return NO_FRAMES(why=error)


def timed(frame: _Frame, clock: Clock) -> Found | None:
    """Return what the time of an update tells, None if nothing."""
    if not frame.stream:
        return None
    lag_ms = clock.now_ms() - frame.time
    if lag_ms + clock.error_ms < -OFFSET_MS:
        return FROM_FUTURE(seconds=f"{-lag_ms / 1000:.1f}")
    if frame.snapshot:
        return None
    if lag_ms - clock.error_ms > LATE_MS:
        return LATE(seconds=f"{lag_ms / 1000:.1f}")
    return ON_TIME(ms=max(0, round(lag_ms)))


async def check_idle(targets: Targets) -> Found:
    """Whether a quiet connection stays open."""
    seconds = targets.idle_seconds
    if seconds is None:
        return NOT_WATCHED()
    began = time.monotonic()
    try:
        answer = await fetch(f"{url_of(targets)}/config.json", seconds=targets.answer_seconds)
        interval = msgspec.json.decode(answer.body, type=_Config).ping_interval_ms / 1000
        async with opened(targets, seconds + targets.answer_seconds) as socket:
            began = time.monotonic()
            try:
                async with asyncio.timeout(seconds):
                    message = await socket.receive()
            except TimeoutError:
                lived = LIVED if seconds > interval else TOO_SHORT
                return lived(seconds=f"{seconds:g}", interval=f"{interval:g}")
            after = f"{time.monotonic() - began:.1f}"
            if message.type is aiohttp.WSMsgType.CLOSE:
                return CLOSED(seconds=after, code=socket.close_code)
            return CUT(seconds=after, interval=f"{interval:g}")
    except Unanswered as error:
        return NO_FRAMES(why=error)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return NO_FRAMES(why="/config.json does not tell how often the sidecar pings")


FRAME_CHECKS: Final = (
    Check(
        "clock",
        "whether this machine's clock and the sidecar's agree, by the answer to a ping",
        check_clock,
        (SAME_TIME, OTHER_TIME, NO_FRAMES),
        needs="websocket",
    ),
    Check(
        "lag",
        "how long an update takes from its publication to here, by the sidecar's clock",
        check_lag,
        (ON_TIME, QUIET, FROM_FUTURE, LATE, NO_FRAMES),
        needs="websocket",
    ),
    Check(
        "idle",
        "whether a WebSocket on which nothing is said stays open, for `--proxy-idle-seconds`",
        check_idle,
        (LIVED, TOO_SHORT, CUT, CLOSED, NO_FRAMES, NOT_WATCHED),
        needs="websocket",
    ),
)
