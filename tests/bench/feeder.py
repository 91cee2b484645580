"""Takes lines over TCP and publishes them on a state service: how the load generator publishes through the bridge.

Everything that has arrived goes into one request, as a publisher does that has several updates at hand.
"""

import argparse
import asyncio
from collections.abc import Iterator

import grpc.aio

from generated.theblock.state.v1 import account_pb2, ingest_pb2, ingest_pb2_grpc, update_pb2

TYPE = "bench_update"


class Feeder:
    """Makes updates of lines.

    Args:
        streams: what lines are published on in turn; without any, every line becomes what `mixed` measures.
    """

    def __init__(self, streams: list[str]) -> None:
        self._streams = streams
        self._number = 0

    def updates(self, line: bytes) -> Iterator[update_pb2.Update]:
        """Return what a line becomes."""
        self._number += 1
        if self._streams:
            yield custom(self._streams[self._number % len(self._streams)], line)
            return
        yield custom("whole", line)
        yield custom("filtered", line)
        yield custom("filtered", line.replace(b'"final":true', b'"final":false'))
        yield custom("trimmed", line)
        for name in ("followed", "other"):
            account = account_pb2.AccountUpdate(address=name, balance=str(self._number), nonce=self._number, height=1)
            yield update_pb2.Update(stream="account", account=account)


def custom(stream: str, json: bytes) -> update_pb2.Update:
    """Return an update of a custom stream."""
    return update_pb2.Update(stream=stream, custom=update_pb2.CustomUpdate(type=TYPE, json=json))


async def publish(port: int, address: str, feeder: Feeder) -> None:
    """Publish until killed."""
    channel = grpc.aio.insecure_channel(address)
    call = ingest_pb2_grpc.StateIngestServiceStub(channel).Publish()

    async def take(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        rest = b""
        while data := await reader.read(1 << 20):
            *lines, rest = (rest + data).split(b"\n")
            updates = [update for line in lines for update in feeder.updates(line)]
            if updates:
                publications = [ingest_pb2.Publication(update=update) for update in updates]
                await call.write(ingest_pb2.PublishRequest(publications=publications))
                for acknowledged in (await call.read()).acknowledgements:
                    assert not acknowledged.refusal, acknowledged.refusal

    await asyncio.start_server(take, "127.0.0.1", port, limit=1 << 20)
    print("ready", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Publish what comes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int, help="where lines are taken")
    parser.add_argument("address", help="of the state service")
    parser.add_argument("streams", nargs="*")
    options = parser.parse_args()
    asyncio.run(publish(options.port, options.address, Feeder(options.streams)))


if __name__ == "__main__":
    main()
