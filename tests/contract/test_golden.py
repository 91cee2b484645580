"""Frames byte for byte, as a client of the classic dialect reads them from its socket.

Each file in golden/ holds the payload of one frame and a line feed. A difference is a change of what every client sees.
If it is meant: pytest tests/contract --update-golden, and say so in the changelog.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from bridge.core.history import HistoryLimits
from bridge.core.streams import Catalogue
from generated.theblock.state.v1 import (
    account_pb2,
    block_pb2,
    energy_pb2,
    metrics_pb2,
    network_pb2,
    trading_pb2,
)
from tests.edges.rawclient import BINARY, TEXT, RawClient, frame
from tests.edges.rig import Options, Rig, serving

GOLDEN = Path(__file__).parent / "golden"
TIME_MS = 1707770400123
HASH = bytes(range(32))

BLOCK = block_pb2.BlockUpdate(
    height=9007199254740993,
    finalized_height=9007199254740990,
    hash=HASH,
    parent_hash=HASH[::-1],
    timestamp=TIME_MS - 100,
    tx_count=42,
    replaces=block_pb2.ReplacedBlock(height=9007199254740993, hash=b"\xff" * 32, depth=1),
)
FULL = {
    "block_updates": BLOCK,
    "metrics": metrics_pb2.MetricsUpdate(
        tps=12.5, fees=2, latency_ms=0.1, peers=3, block_height=12345, issuance=50_000_000
    ),
    "network": network_pb2.NetworkUpdate(
        peers=3, active_connections=2, bandwidth=network_pb2.Bandwidth(inbound=1e6, outbound=float("nan"))
    ),
    "trading": trading_pb2.TradingUpdate(
        orders=[
            trading_pb2.Order(
                id="o1", token="BLOCK", side="buy", qty=1.5, price=2, filled=0.5, status="partial", timestamp=TIME_MS
            )
        ],
        executions=[
            trading_pb2.Execution(id="x1", buy_order_id="o1", sell_order_id="o0", qty=0.5, price=2, timestamp=TIME_MS)
        ],
        volume_24h=1e21,
        last_price=2,
    ),
    "energy": energy_pb2.EnergyUpdate(total_supply=1000, total_demand=999.5, price=0.1, providers=7),
    "account": account_pb2.AccountUpdate(address="alice", balance="18446744073709551616", nonce=5, height=12345),
}
SPARSE = {
    "block_updates": block_pb2.BlockUpdate(height=0, hash=HASH),
    "metrics": metrics_pb2.MetricsUpdate(),
    "network": network_pb2.NetworkUpdate(),
    "trading": trading_pb2.TradingUpdate(),
    "energy": energy_pb2.EnergyUpdate(),
    "account": account_pb2.AccountUpdate(address="alice"),
}

Case = Callable[[Rig, RawClient], Awaitable[None]]


def live(stream: str, message: object) -> Case:
    """Return a case: an update as it is published."""

    async def case(rig: Rig, client: RawClient) -> None:
        await client.subscribe(stream)
        await client.pong()
        rig.origin.publish(message)

    return case


def said(*data: bytes) -> Case:
    """Return a case: what is answered to bytes."""

    async def case(_rig: Rig, client: RawClient) -> None:
        await client.send(b"".join(data))

    return case


async def custom(rig: Rig, client: RawClient) -> None:
    """Publish what only a publisher knows, with spaces, escapes and digits of its own."""
    await client.subscribe("weather")
    await client.pong()
    rig.origin.publish_custom("weather", "weather_update", '{"rain": 1.50, "place":"Ü\\u00fc", "n":1e3}'.encode())


async def custom_keyed(rig: Rig, client: RawClient) -> None:
    rig.origin.publish_custom("weather", "weather_update", b"{}", key="here")
    await client.subscribe({"stream": "weather", "key": "here", "last": 0})
    assert (await client.read_json())["snapshot"] is True
    rig.origin.publish_custom("weather", "weather_update", b'{"rain":true}', key="here")


async def snapshot(rig: Rig, client: RawClient) -> None:
    rig.origin.publish(BLOCK)
    await client.subscribe("block_updates")


async def missed(rig: Rig, client: RawClient) -> None:
    for height in range(1, 8):
        rig.block(height)
    await client.subscribe({"stream": "block_updates", "since": {"epoch": "epoch1", "seq": 2}})


async def fields(rig: Rig, client: RawClient) -> None:
    rig.origin.publish(BLOCK)
    await client.subscribe({"stream": "block_updates", "fields": ["tx_count", "height"]})


CASES: dict[str, Case] = {
    **{f"update.{stream}": live(stream, message) for stream, message in FULL.items()},
    **{f"update.{stream}.sparse": live(stream, message) for stream, message in SPARSE.items()},
    "update.custom": custom,
    "update.custom.keyed": custom_keyed,
    "update.int64-string": live("block_updates", BLOCK),
    "update.fields": fields,
    "snapshot": snapshot,
    "missed": missed,
    "pong": said(frame(TEXT, b'{"type":"ping","timestamp":1707770400000}')),
    "pong.fraction": said(frame(TEXT, b'{"type":"ping","timestamp":0.1}')),
    "pong.no-timestamp": said(frame(TEXT, b'{"type":"ping"}')),
    "error.not-json": said(frame(TEXT, b"nonsense")),
    "error.no-method": said(frame(TEXT, b'{"id":7}')),
    "error.unknown-method": said(frame(TEXT, b'{"method":"state_stream.subscrib","id":7}')),
    "error.bad-params": said(frame(TEXT, b'{"method":"state_stream.subscribe","params":["Blocks"],"id":"a"}')),
    "close.1002": said(frame(TEXT, b"{}", masked=False)),
    "close.1003": said(frame(BINARY, b"")),
    "close.1007": said(frame(TEXT, b"\xff")),
    "close.1009": said(frame(TEXT, size=1 << 20)),
}


async def read(name: str) -> bytes:
    """Return the payload of the frame that a case brings; of a close frame the code and the reason."""
    options = Options(clock_ms=lambda: TIME_MS, history=HistoryLimits(count=2))
    async with serving(options) as rig:
        path = "/ws?int64=string" if name.endswith("int64-string") else "/ws"
        client = await RawClient.connect(rig.port, path)
        await CASES[name](rig, client)
        payload = (await client.read()).payload
        client.hang_up()
    if name.startswith("close."):
        return f"{int.from_bytes(payload[:2], 'big')} ".encode() + payload[2:]
    return payload


@pytest.mark.parametrize("name", CASES)
async def test_frames_are_what_they_were(name, update_golden):
    path = GOLDEN / f"{name}.txt"
    payload = await read(name)
    if update_golden:
        path.write_bytes(payload + b"\n")
    assert payload + b"\n" == path.read_bytes()


def test_there_is_a_frame_for_every_stream_and_no_file_without_one():
    assert {stream.name for stream in Catalogue()} == FULL.keys() == SPARSE.keys()
    assert {path.name for path in GOLDEN.iterdir()} == {f"{name}.txt" for name in CASES}
