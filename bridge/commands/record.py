"""Write what a state service sends to a file."""

import asyncio
from itertools import chain
from pathlib import Path

from bridge.commands.upstream import CALL_SECONDS, connect
from bridge.settings import Address
from bridge.store.recording_file import RecordingWriter
from generated.theblock.state.v1 import service_pb2, service_pb2_grpc, view_pb2


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
