"""Publish on a custom stream, through ingest."""

import asyncio
import os
import select
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

from bridge.commands.upstream import CALL_SECONDS, connect
from bridge.core.errors import BridgeError, UpstreamError
from bridge.core.position import Position
from bridge.ops.grpc_options import REQUEST_BYTES
from bridge.settings import Address
from generated.theblock.state.v1 import ingest_pb2, ingest_pb2_grpc, update_pb2

INPUT_SECONDS: Final = 0.2
"""How long standard input is waited for at a time; an interrupt takes as long."""


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
