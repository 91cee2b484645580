"""Publishes on a state service, as a process of its own: `python -m tests.bench.publisher ADDRESS --rate R …`.

It publishes on a custom stream `{"n":1,"ts":…,"pad":…}`, or accounts, each with its time in `nonce` and its number in
`height`; `ts` is the monotonic clock in nanoseconds, which all processes of a machine share. On SIGTERM, or after
`--count` updates, it waits for the last acknowledgement and prints where the stream is.
"""

import argparse
import asyncio
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import grpc.aio

from generated.theblock.state.v1 import account_pb2, ingest_pb2, ingest_pb2_grpc, update_pb2

BATCH = 1000
"""Updates in one request at most."""

STREAM = "bench"


class Published(NamedTuple):
    """Where a stream is when all was published."""

    epoch: str
    seq: int


def note(number: int, size_bytes: int) -> update_pb2.Update:
    """Return an update of the custom stream."""
    head = b'{"n":%d,"ts":%d,"pad":"' % (number, time.monotonic_ns())
    custom = update_pb2.CustomUpdate(type="bench_update", json=head.ljust(size_bytes - 2, b"x") + b'"}')
    return update_pb2.Update(stream=STREAM, custom=custom)


def address_of(key: int) -> str:
    """Return an account's address."""
    return f"tb{key:038d}"


def account(number: int, key: int) -> update_pb2.Update:
    """Return an update of an account."""
    values = account_pb2.AccountUpdate(
        address=address_of(key), balance=str(number), nonce=time.monotonic_ns(), height=number
    )
    return update_pb2.Update(stream="account", account=values)


async def publish(options: argparse.Namespace) -> Published:
    """Publish until told to stop."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    chance, number, position = random.Random(options.seed), options.first - 1, None
    last = number + options.count if options.count else sys.maxsize
    async with grpc.aio.insecure_channel(options.address) as channel:
        call = ingest_pb2_grpc.StateIngestServiceStub(channel).Publish()
        began = time.monotonic()
        while not stop.is_set() and number < last:
            due = last
            if options.rate:
                await asyncio.sleep(max(0.002, began + (number + 2 - options.first) / options.rate - time.monotonic()))
                due = options.first - 1 + int((time.monotonic() - began) * options.rate)
            request = ingest_pb2.PublishRequest()
            for number in range(number + 1, min(due, last, number + BATCH) + 1):  # noqa: B020
                if not options.keys:
                    update = note(number, options.size)
                else:
                    hot = options.hot and chance.random() < 0.5
                    key = chance.randrange(options.hot) if hot else (number * 7919) % options.keys
                    update = account(number, key)
                request.publications.add(update=update)
            if not request.publications:
                continue
            await call.write(request)
            left = len(request.publications)
            while left:
                acknowledgements = (await call.read()).acknowledgements
                left -= len(acknowledgements)
                for acknowledged in acknowledgements:
                    if acknowledged.refusal:
                        raise SystemExit(acknowledged.refusal)
                position = acknowledgements[-1].position
        await call.done_writing()
    assert position is not None
    return Published(position.epoch, position.seq)


@contextmanager
def publishing(address: str, **options: int) -> Iterator[subprocess.Popen[str]]:
    """Publish in a process of its own until the block ends."""
    flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "tests.bench.publisher", address, *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def finished(process: subprocess.Popen[str], *, stop: bool = False) -> Published:
    """Wait until a publisher has published everything, or stop it; return where the stream is."""
    if stop:
        process.terminate()
    output, _ = process.communicate()
    if process.returncode:
        raise SystemExit("the publisher failed")
    return Published(**json.loads(output))


def main() -> None:
    """Publish, and print where the stream is."""
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("--rate", type=int, default=0, help="updates a second; 0: as many as there is time for")
    parser.add_argument("--count", type=int, default=0, help="how many; 0: until told to stop")
    parser.add_argument("--first", type=int, default=1, help="number of the first one")
    parser.add_argument("--size", type=int, default=200, help="bytes of one value")
    parser.add_argument("--keys", type=int, default=0, help="publish so many accounts, in turn")
    parser.add_argument("--hot", type=int, default=0, help="every other update is of one of the first so many")
    parser.add_argument("--seed", type=int, default=1)
    print(json.dumps(asyncio.run(publish(parser.parse_args()))._asdict()), flush=True)


if __name__ == "__main__":
    main()
