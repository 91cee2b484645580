"""Encoding a block update: our compiled mapping against protobuf's own MessageToJson.

Both in one process, interleaved; `whole_frame_us` is a frame from the bytes that arrived, decoding included, once an
update whatever the number of clients.
"""

import time
import timeit
from statistics import median

from google.protobuf.json_format import MessageToJson

from bridge.core.streams import Catalogue
from bridge.core.update import Form, Update, encode_json
from generated.theblock.state.v1 import block_pb2, update_pb2
from tests.bench.report import Report, Spread

CALLS = 20_000
MOST_US = 2

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
    with Report("encode", rounds=15) as report:
        for _ in range(report.rounds):
            ours.append(microseconds(lambda: encode_json(stream.numbers(BLOCK)), CALLS))
            theirs.append(microseconds(lambda: MessageToJson(BLOCK), CALLS // 10))
            whole.append(microseconds(lambda: update.json(Form()), CALLS))
        report.row(
            message_to_json_us=Spread.of(ours), MessageToJson_us=Spread.of(theirs),
            ratio=Spread.of_ratios(ours, theirs), whole_frame_us=Spread.of(whole),
        )  # fmt: skip
        report.target("a block update, from message to JSON", median(ours), MOST_US, "us")


def microseconds(function: object, calls: int) -> float:
    """Return the processor time of one call."""
    return timeit.timeit(function, timer=time.process_time, number=calls) / calls * 1e6  # type: ignore[arg-type]
