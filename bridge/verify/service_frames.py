"""What a gRPC client of the state service gets, as the frames that would say the same to a WebSocket client."""

from collections.abc import Iterator
from typing import Final

from bridge.verify.binary import update_value
from bridge.verify.jsonvalues import Data
from generated.theblock.state.v1 import service_pb2, stream_pb2

REASONS: Final = {
    stream_pb2.REASON_TRIMMED: "trimmed",
    stream_pb2.REASON_EPOCH: "epoch",
    stream_pb2.REASON_AHEAD: "ahead",
}


def read_subscribe_response(raw: bytes) -> Iterator[Data]:
    """Yield what a SubscribeResponse says, in the order in which its parts apply.

    A stream that begins is an answer to the request whose id is its name. A gap is on the last of the snapshots that
    stand in for it.
    """
    response = service_pb2.SubscribeResponse.FromString(raw)
    gaps = {gap.stream: gap for gap in response.gaps}
    for started in response.started:
        yield started_value(started, gaps.get(started.info.stream))
    last = {update.stream: number for number, update in enumerate(response.snapshots)}
    for number, update in enumerate(response.snapshots):
        value = update_value(update) | {"snapshot": True}
        gap = gaps.get(update.stream)
        if gap is not None and last[update.stream] == number:
            value["missed"] = {"from": getattr(gap, "from"), "to": gap.to}
        yield value
    for update in response.updates:
        yield update_value(update)
    if response.progress:
        rows = [{"stream": at.stream, "epoch": at.epoch, "seq": at.seq} for at in response.progress]
        yield {"type": "progress", "positions": rows}


def started_value(started: service_pb2.StreamStarted, gap: service_pb2.Gap | None) -> Data:
    """Return where a stream begins: where history let go of what follows the position asked for, before that gap."""
    info, seq = started.info, started.seq
    if started.reason == stream_pb2.REASON_TRIMMED and gap is not None:
        seq = getattr(gap, "from") - 1
    row: Data = {"stream": info.stream, "declared": True, "epoch": info.epoch, "seq": seq}
    row |= {"recovered": started.recovered, "replayed": started.replayed}
    if started.reason in REASONS:
        row["reason"] = REASONS[started.reason]
    return {"jsonrpc": "2.0", "id": info.stream, "result": {"subscriptions": [row]}}
