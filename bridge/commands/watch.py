"""Show updates as they come."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import Final, Literal, TextIO

from bridge.client import (
    CaughtUp,
    Client,
    Connected,
    Disconnected,
    Event,
    FellBehind,
    Gap,
    Postponed,
    Started,
    Subscription,
    Updated,
    Upstream,
)
from bridge.commands.lines import Style, clean, update_line
from bridge.core.position import Position
from bridge.settings import SettingsError

PIPE_WIDTH: Final = 200
"""The longest line of the live view where there is no terminal."""

UPSTREAM: Final = {
    "live": "the streams follow the node again",
    "stale": "the node is reached, but brings nothing new",
    "down": "nothing is heard of the node",
}
"""What the states of the upstream mean."""


async def watch(
    *,
    url: str,
    streams: list[str],
    output: str,
    since: Position | None,
    last: int | None,
    count: int | None,
    key: str | None,
    format: Literal["json", "proto"],  # noqa: A002  the protocol's word
    int64: bool,
) -> int:
    """Show updates as they come, until interrupted. What happens to the connection goes to standard error.

    Args:
        url: of the sidecar.
        streams: what to watch; empty: every stream.
        output: live (a line for people), raw (frames as they come, binary ones in hexadecimal) or json (one update a
            line).
        since: begin after that position; for one stream.
        last: begin with that many of the newest updates of each stream.
        count: stop after that many updates; None: never.
        key: of the values wanted; None: all.
        format: of the frames.
        int64: have 64-bit integers as strings.

    Returns:
        0.

    Raises:
        SettingsError: `since` without the one stream that it is a position on, or `key` without a stream.
        RefusedError: the sidecar refuses what is asked.
    """
    if since is not None and len(streams) != 1:
        raise SettingsError([f"--since is a position on one stream: name that one, not {len(streams)}"])
    if key is not None and not streams:
        raise SettingsError(["--key is of a stream: name it"])
    subscriptions = [Subscription(stream, key=key, since=since, last=last) for stream in streams]
    show = SHOW[output]
    left = count
    again = False
    async with Client(url, subscriptions, last=last, format=format, int64_string=int64) as client:
        async for event in client:
            for line in show(event):
                print(line, flush=True)
            for notice in notices(event, again=again, live=output == "live"):
                print(style_of(sys.stderr).paint(clean(notice), "yellow"), file=sys.stderr, flush=True)
            again = again or isinstance(event, Connected)
            if left is not None and isinstance(event, Updated):
                left -= 1
                if left <= 0:
                    return 0
    return 0


# ---------------------------------------------------------------------- standard output


def style_of(file: TextIO) -> Style:
    """Return how to write to a file: colours are for terminals, and for those who have not set NO_COLOR."""
    terminal = file.isatty()
    colours = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return Style(colours=colours, width=shutil.get_terminal_size().columns if terminal else PIPE_WIDTH)


def show_live(event: Event) -> Iterator[str]:
    """Yield lines for people."""
    match event:
        case Connected():
            for row in event.subscriptions:
                if row.recovered is None:  # it begins here
                    yield f"watching {row.stream} from {row.epoch or '?'}-{row.seq}{undeclared(row)}"
        case Updated():
            yield update_line(event, style_of(sys.stdout))


def undeclared(row: Started) -> str:
    """Return a hint that a name is not known, empty if it is."""
    meant = f"; did you mean {row.did_you_mean}?" if row.did_you_mean else ""
    return "" if row.declared else f" (not declared yet{meant})"


def show_raw(event: Event) -> Iterator[str]:
    """Yield frames as they came; binary ones in hexadecimal."""
    if isinstance(event, Updated):
        yield event.raw.decode() if event.raw.startswith(b"{") else event.raw.hex()


def show_json(event: Event) -> Iterator[str]:
    """Yield updates as JSON, each on one line, the same whatever the format of the frames."""
    if isinstance(event, Updated):
        text = event.raw.decode() if event.raw.startswith(b"{") else event.to_json()
        yield text if "\n" not in text else json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":"))


SHOW: Final[dict[str, Callable[[Event], Iterator[str]]]] = {"live": show_live, "raw": show_raw, "json": show_json}


# ---------------------------------------------------------------------- standard error


def notices(event: Event, *, again: bool, live: bool) -> Iterator[str]:
    """Yield a sentence on whatever stands between the updates.

    Args:
        event: what happened.
        again: whether it has been connected before.
        live: whether the live view tells where subscriptions begin.
    """
    match event:
        case Connected():
            yield from connected_notices(event, again=again, live=live)
        case Disconnected() | Postponed():
            yield f"{event.reason}; next try in {event.retry_seconds:.1f} s"
        case Gap():
            yield gap_notice(event)
        case FellBehind():
            yield f"{event.stream}: read too slowly, {event.head - event.seq} updates behind"
        case CaughtUp():
            yield f"{event.stream}: caught up at #{event.seq}"
        case Upstream():
            yield UPSTREAM.get(event.state, f"the upstream is {event.state}")


def connected_notices(event: Connected, *, again: bool, live: bool) -> Iterator[str]:
    """Yield sentences on a new connection."""
    if again:
        yield "connected again"
    for row in event.subscriptions:
        if row.reason in ("epoch", "ahead"):
            yield f"{row.stream}: its positions began anew; goes on from its current value"
        elif not live and not row.declared:
            yield f"{row.stream}{undeclared(row)}"


def gap_notice(gap: Gap) -> str:
    """Return a sentence on updates that will not come."""
    name = gap.stream if gap.key is None else f"{gap.stream} {gap.key}"
    if gap.last == 0:
        return f"{name}: begins anew in epoch {gap.epoch}"
    why = "history no longer holds them" if gap.reason == "trimmed" else "the sidecar does not say why"
    return f"{name}: #{gap.first} to #{gap.last} will not come: {why}"
