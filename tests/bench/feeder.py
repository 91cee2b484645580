"""Takes lines over TCP and publishes them on a state service: how the load generator publishes through the bridge.

Arguments: port of the lines, address of the state service, names of the streams that lines go to in turn. Everything
that has arrived goes into one request, as a publisher does that has several updates at hand.
"""

import asyncio
import sys

import grpc.aio

from generated.theblock.state.v1 import ingest_pb2, ingest_pb2_grpc, update_pb2


async def main() -> None:
    """Publish until killed."""
    port, address, *streams = sys.argv[1:]
    channel = grpc.aio.insecure_channel(address)
    call = ingest_pb2_grpc.StateIngestServiceStub(channel).Publish()
    number = 0

    async def publish(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        nonlocal number
        rest = b""
        while data := await reader.read(1 << 20):
            *lines, rest = (rest + data).split(b"\n")
            publications = []
            for line in lines:
                custom = update_pb2.CustomUpdate(type="bench_update", json=line)
                update = update_pb2.Update(stream=streams[number % len(streams)], custom=custom)
                publications.append(ingest_pb2.Publication(update=update))
                number += 1
            if publications:
                await call.write(ingest_pb2.PublishRequest(publications=publications))
                await call.read()

    await asyncio.start_server(publish, "127.0.0.1", int(port), limit=1 << 20)
    print("ready", flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
