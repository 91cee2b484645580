"""The commands that talk to a running bridge: watch, publish, record, streams."""

import asyncio
import os
import select
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Final

import grpc

from bridge.client import Client, Connected, Disconnected, Event, Gap, Postponed, Started, Subscription, Updated
from bridge.core.errors import BridgeError, UpstreamError
from bridge.core.position import Position
from bridge.ops.grpc_options import REQUEST_BYTES, channel_options
from bridge.settings import Address, SettingsError
from bridge.store.recording_file import RecordingWriter
from generated.theblock.state.v1 import (
    ingest_pb2,
    ingest_pb2_grpc,
    options_pb2,
    service_pb2,
    service_pb2_grpc,
    update_pb2,
    view_pb2,
)

CALL_SECONDS: Final = 10.0
"""How long an answer of the state service is waited for."""

INPUT_SECONDS: Final = 0.2
"""How long standard input is waited for at a time; an interrupt takes as long."""

KEEPALIVE_SECONDS: Final = 30.0
"""How often a quiet connection to the state service is tried for life."""

WIDTH: Final = 200
"""The longest line of the live view."""


# ---------------------------------------------------------------------- watch


async def watch(
    *, url: str, streams: list[str], output: str, since: Position | None, last: int | None, count: int | None
) -> int:
    """Show updates as they come, until interrupted.

    Args:
        url: of the sidecar.
        streams: what to watch; empty: every stream.
        output: live (a line for people), raw (frames) or json (one update a line).
        since: begin after that position; for one stream.
        last: begin with that many of the newest updates of each stream.
        count: stop after that many updates; None: never.

    Raises:
        SettingsError: `since` without the one stream that it is a position on.
    """
    if since is not None and len(streams) != 1:
        raise SettingsError([f"--since is a position on one stream: name that one, not {len(streams)}"])
    subscriptions = [Subscription(stream, since=since, last=last) for stream in streams]
    left = count
    async with Client(url, subscriptions, last=last) as client:
        async for event in client:
            for line in SHOW[output](event):
                print(line, flush=True)
            if told := notice(event):
                print(told, file=sys.stderr, flush=True)
            if left is not None and isinstance(event, Updated):
                left -= 1
                if left <= 0:
                    return 0
    return 0


def notice(event: Event) -> str | None:
    """Return one sentence on what stands between the updates, None for anything else."""
    match event:
        case Disconnected() | Postponed():
            return f"{event.reason}; next try in {event.retry_seconds:.1f} s"
        case Gap() if event.reason == "epoch":
            return f"{event.stream} begins anew in epoch {event.epoch}"
        case Gap():
            return f"{event.stream} #{event.first} to #{event.last} will not come: {event.reason}"
        case _:
            return None


def show_live(event: Event) -> Iterator[str]:
    """Yield lines for people."""
    if isinstance(event, Connected):
        for row in event.subscriptions:
            hint = "" if row.declared else f" (not declared yet{did_you_mean(row)})"
            yield f"watching {row.stream} from {row.epoch or '?'}-{row.seq}{hint}"
    elif isinstance(event, Updated):
        mark = "*" if event.snapshot else " "
        values = "  ".join(f"{name}={show_value(value)}" for name, value in event.data.items())
        yield f"{mark}{event.stream} #{event.seq}  {values}"[:WIDTH]


def did_you_mean(row: Started) -> str:
    """Return a hint at the name that was meant."""
    return f"; did you mean {row.did_you_mean}?" if row.did_you_mean else ""


def show_value(value: object) -> str:
    """Return a value as the live view shows it: short."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value if len(value) <= 18 else f"{value[:10]}…{value[-4:]}"
    if isinstance(value, list):
        return f"[{len(value)}]"
    if isinstance(value, dict):
        return "{" + " ".join(f"{name}={show_value(item)}" for name, item in value.items()) + "}"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def show_text(event: Event) -> Iterator[str]:
    """Yield frames as they came: one update a line."""
    if isinstance(event, Updated):
        yield event.raw.decode()


SHOW: Final[dict[str, Callable[[Event], Iterator[str]]]] = {"live": show_live, "raw": show_text, "json": show_text}


# ---------------------------------------------------------------------- publish, record, streams


@asynccontextmanager
async def connect(upstream: Address) -> AsyncIterator[grpc.aio.Channel]:
    """Open a channel to a state service; a failed call within becomes one clear sentence.

    Raises:
        UpstreamError: the state service did not do what was asked.
    """
    async with grpc.aio.insecure_channel(str(upstream), options=channel_options(KEEPALIVE_SECONDS)) as channel:
        try:
            yield channel
        except grpc.aio.AioRpcError as error:
            code = error.code()
            if code is grpc.StatusCode.UNAVAILABLE:
                raise UpstreamError(f"no state service answers at {upstream}") from None
            if code is grpc.StatusCode.UNIMPLEMENTED:
                raise UpstreamError(f"the state service at {upstream} does not do that: is ingest on?") from None
            raise UpstreamError(f"the state service at {upstream} says {code.name}: {error.details()}") from None
        except TimeoutError:
            raise UpstreamError(f"the state service at {upstream} does not answer") from None


async def publish(*, upstream: Address, stream: str, type: str, data: str, key: str | None) -> int:  # noqa: A002
    """Publish on a custom stream; print the position of each update.

    Args:
        upstream: the state service.
        stream: name of the stream.
        type: of the updates.
        data: a JSON object; `-`: one a line from standard input.
        key: of the value.

    Returns:
        0, or 1 if anything was refused.
    """
    refused = 0
    async with connect(upstream) as channel:
        call = ingest_pb2_grpc.StateIngestServiceStub(channel).Publish(None)
        async for line in lines(data):
            custom = update_pb2.CustomUpdate(type=type, json=line)
            update = update_pb2.Update(stream=stream, key=key or "", custom=custom)
            answer: object = None
            with suppress(asyncio.InvalidStateError):  # the call ended while there was nothing to publish
                async with asyncio.timeout(CALL_SECONDS):
                    await call.write(ingest_pb2.PublishRequest(publications=[ingest_pb2.Publication(update=update)]))
                    answer = await call.read()
            if not isinstance(answer, ingest_pb2.PublishResponse):
                await call.code()
                raise UpstreamError(f"the state service at {upstream} ended the call: {await call.details()}")
            for acknowledged in answer.acknowledgements:
                if acknowledged.HasField("position"):
                    print(Position(acknowledged.position.epoch, acknowledged.position.seq), flush=True)
                else:
                    refused += 1
                    print(f"refused: {acknowledged.refusal}", file=sys.stderr, flush=True)
        await call.done_writing()
    return 1 if refused else 0


async def lines(data: str) -> AsyncIterator[bytes]:
    """Yield the values to publish.

    Raises:
        BridgeError: a line of standard input is longer than any value may be.
    """
    if data != "-":
        yield data.encode()
        return
    descriptor, rest, more = sys.stdin.fileno(), b"", True
    while more:
        if not (await asyncio.to_thread(select.select, [descriptor], [], [], INPUT_SECONDS))[0]:
            continue
        part = os.read(descriptor, 1 << 16)
        more = bool(part)
        *whole, rest = (rest + (part or b"\n")).split(b"\n")
        for line in whole:
            if line.strip():
                yield line.strip()
        if len(rest) > REQUEST_BYTES:
            raise BridgeError(f"a line of standard input is longer than {REQUEST_BYTES} bytes")


async def record(*, upstream: Address, output: Path, duration_seconds: float | None) -> int:
    """Write the current values of a state service, and what it sends from now on, to a file, until interrupted."""
    count = 0
    async with connect(upstream) as channel:
        stub = service_pb2_grpc.StateStreamServiceStub(channel)
        await stub.ListStreams(service_pb2.ListStreamsRequest(), timeout=CALL_SECONDS)  # or no file is made
        with RecordingWriter(output) as writer:
            print(f"recording {upstream} to {output}; stop with Ctrl-C", flush=True)
            try:
                async with asyncio.timeout(duration_seconds):
                    call = channel.unary_stream(
                        "/theblock.state.v1.StateStreamService/Subscribe",
                        request_serializer=service_pb2.SubscribeRequest.SerializeToString,
                        response_deserializer=view_pb2.SubscribeResponseView.FromString,
                    )(service_pb2.SubscribeRequest(all=True))
                    async for response in call:
                        for raw in chain(response.snapshots, response.updates):
                            writer.write(raw)
                            count += 1
            except (TimeoutError, asyncio.CancelledError):
                pass
            finally:
                print(f"{count} updates recorded", flush=True)
    return 0


async def streams(*, upstream: Address) -> int:
    """Print a table of the streams of a state service."""
    async with connect(upstream) as channel:
        stub = service_pb2_grpc.StateStreamServiceStub(channel)
        answer = await stub.ListStreams(service_pb2.ListStreamsRequest(), timeout=CALL_SECONDS)
    rows = [("STREAM", "TYPE", "DELIVERY", "KEYED", "OLDEST", "NEWEST", "MESSAGE")]
    for info in answer.streams:
        delivery = options_pb2.Delivery.Name(info.delivery).removeprefix("DELIVERY_").lower()
        newest = f"{info.epoch}-{info.newest}"
        oldest = str(info.oldest) if info.oldest else "-"
        rows.append((info.stream, info.type, delivery, "yes" if info.keyed else "no", oldest, newest, info.message))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0
