"""Encoding a block update: our compiled mapping against protobuf's own MessageToJson.

Both in one process, interleaved; medians of 15 rounds and the ratio within each round.
"""

import timeit
from statistics import median

from google.protobuf.json_format import MessageToJson

from bridge.core.streams import Catalogue
from bridge.core.update import Form, Update, encode_json
from generated.theblock.state.v1 import block_pb2, update_pb2

ROUNDS = 15
CALLS = 20_000

BLOCK = block_pb2.BlockUpdate(
    height=12_345,
    finalized_height=12_340,
    hash=bytes(range(32)),
    parent_hash=bytes(range(32, 64)),
    timestamp=1_707_770_400_000,
    tx_count=42,
)


def main() -> None:
    """Measure and print."""
    stream = Catalogue().of_message(BLOCK)
    raw = update_pb2.Update(stream="block_updates", epoch="lq3x8f2a", seq=42, time_ms=1_707_770_400_123, block=BLOCK)
    update = Update(stream, "lq3x8f2a", 42, 1_707_770_400_123, raw.SerializeToString())
    ours, theirs, whole = [], [], []
    for _ in range(ROUNDS):
        ours.append(microseconds(lambda: encode_json(stream.numbers(BLOCK)), CALLS))
        theirs.append(microseconds(lambda: MessageToJson(BLOCK), CALLS // 10))
        whole.append(microseconds(lambda: update.json(Form()), CALLS))
    ratio = median(mine / other for mine, other in zip(ours, theirs, strict=True))
    print(f"block update, message to JSON: {median(ours):.2f} us; MessageToJson: {median(theirs):.2f} us")
    print(f"ratio: {ratio:.3f} (2 us where MessageToJson takes 15 is 0.133)")
    print(f"whole frame from the bytes that arrived, decoding included, once an update: {median(whole):.2f} us")


def microseconds(function: object, calls: int) -> float:
    """Return the time of one call."""
    return timeit.timeit(function, number=calls) / calls * 1e6  # type: ignore[arg-type]
