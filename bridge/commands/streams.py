"""List the streams of a state service."""

from bridge.commands.upstream import CALL_SECONDS, connect
from bridge.settings import Address
from generated.theblock.state.v1 import options_pb2, service_pb2, service_pb2_grpc


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
