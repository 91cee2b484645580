"""What comes in binary is read as the values that JSON has: by another way than the bridge's own."""

import json

import pytest

from bridge.core.streams import Catalogue, custom_stream
from bridge.core.update import Form, Missed, Update
from bridge.verify.binary import read_server_frame, update_value
from bridge.verify.requests import HISTORY, LIST, STATS, SUBSCRIBE, UNSUBSCRIBE, request, to_binary
from bridge.verify.service_frames import read_subscribe_response
from generated.theblock.state.v1 import (
    account_pb2,
    block_pb2,
    energy_pb2,
    frames_pb2,
    metrics_pb2,
    network_pb2,
    service_pb2,
    stream_pb2,
    trading_pb2,
    update_pb2,
)

PAYLOADS = {
    "block": block_pb2.BlockUpdate(
        height=2**60, hash=b"\x00\xff", tx_count=0, replaces=block_pb2.ReplacedBlock(height=3, hash=b"\1", depth=2)
    ),
    "metrics": metrics_pb2.MetricsUpdate(tps=float("nan"), fees=2**53 + 1, peers=0),
    "network": network_pb2.NetworkUpdate(peers=3, bandwidth=network_pb2.Bandwidth(inbound=0.1)),
    "trading": trading_pb2.TradingUpdate(
        orders=[trading_pb2.Order(id="a", qty=0.1, price=1e22)], executions=[trading_pb2.Execution(id="b")]
    ),
    "energy": energy_pb2.EnergyUpdate(total_supply=1.5, price=float("inf")),
    "account": account_pb2.AccountUpdate(address="0xab", balance="9" * 30, nonce=0),
}


def message_of(field: str) -> update_pb2.Update:
    payload = PAYLOADS[field]
    stream = Catalogue().of_message(payload)
    message = update_pb2.Update(stream=stream.name, epoch="e1", seq=7, time_ms=1_700_000_000_000)
    getattr(message, field).CopyFrom(payload)
    if stream.keyed:
        message.key, message.prev = "0xab", 3
    return message


def update_of(message: update_pb2.Update) -> Update:
    stream = Catalogue().get(message.stream) or custom_stream(message.stream, message.custom.type, keyed=False)
    raw = message.SerializeToString()
    return Update(stream, message.epoch, message.seq, message.time_ms, raw, message.key, message.prev)


@pytest.mark.parametrize("field", PAYLOADS)
def test_an_update_is_what_its_json_says(field):
    message = message_of(field)
    assert update_value(message) == json.loads(update_of(message).json(Form()))


def test_a_custom_update_is_what_its_json_says():
    custom = update_pb2.CustomUpdate(type="tick", json='{"n":1,"text":"Größe","list":[null,true,1e3]}'.encode())
    message = update_pb2.Update(stream="ticks", epoch="e1", seq=7, time_ms=5, custom=custom)
    assert update_value(message) == json.loads(update_of(message).json(Form()))


def test_snapshots_and_what_they_stand_in_for():
    message = message_of("block")
    snapshot = frames_pb2.SnapshotFrame(update=message, missed=frames_pb2.MissedRange(to=7))
    setattr(snapshot.missed, "from", 4)
    found = read_server_frame(frames_pb2.ServerFrame(snapshot=snapshot).SerializeToString())
    text = update_of(message).json(Form(snapshot=True))
    assert found == json.loads(text) | {"missed": {"from": 4, "to": 7}}
    assert Missed(4, 7)._asdict() == {"first": 4, "last": 7}


def test_answers_are_json_rpc():
    row = frames_pb2.SubscriptionStarted(stream="account", key="0xab", declared=True, epoch="e1", seq=7, recovered=True)
    response = frames_pb2.ResponseFrame(id=3, subscribed=frames_pb2.SubscribedFrame(subscriptions=[row]))
    found = read_server_frame(frames_pb2.ServerFrame(response=response).SerializeToString())
    members = {"stream": "account", "key": "0xab", "declared": True, "epoch": "e1", "seq": 7, "recovered": True}
    assert found == {"jsonrpc": "2.0", "id": 3, "result": {"subscriptions": [members]}}
    error = frames_pb2.ErrorFrame(code=-32010, message="later", data_json=b'{"retry_after_ms":5}')
    found = read_server_frame(
        frames_pb2.ServerFrame(response=frames_pb2.ResponseFrame(error=error)).SerializeToString()
    )
    assert found["error"] == {"code": -32010, "message": "later", "data": {"retry_after_ms": 5}}


@pytest.mark.parametrize("raw", [b"", b"\xff", frames_pb2.ServerFrame(update=update_pb2.Update()).SerializeToString()])
def test_what_is_no_frame(raw):
    with pytest.raises(ValueError, match=r".+"):
        read_server_frame(raw)


def test_requests_are_those_that_json_would_make():
    where = {"height": {"gte": 3, "lt": 9}, "hash": {"in": ["a", "b"]}, "n": None, "x": 1.5}
    entry = {"stream": "account", "key": "0xab", "since": {"epoch": "e1", "seq": 7}, "where": where, "max_rate": 2.0}
    frame = frames_pb2.ClientFrame.FromString(to_binary(request(SUBSCRIBE, [entry], 5)))
    (spec,) = frame.subscribe.subscriptions
    assert (frame.id, spec.stream, spec.key, spec.since.seq, spec.max_rate_hz) == (5, "account", "0xab", 7, 2.0)
    terms = [(term.field, term.test, len(term.values)) for term in spec.where]
    assert terms == [("height", "gte", 1), ("height", "lt", 1), ("hash", "in", 2), ("n", "eq", 1), ("x", "eq", 1)]
    for method, field in ((UNSUBSCRIBE, "unsubscribe"), (HISTORY, "history"), (LIST, "list"), (STATS, "stats")):
        params = [{"stream": "account"}] if method in (UNSUBSCRIBE, HISTORY) else None
        assert frames_pb2.ClientFrame.FromString(to_binary(request(method, params))).WhichOneof("request") == field


def test_a_gap_in_a_grpc_response_is_on_the_last_value_that_stands_in():
    info = stream_pb2.StreamInfo(stream="block_updates", epoch="e1")
    started = service_pb2.StreamStarted(info=info, seq=9, reason=stream_pb2.REASON_TRIMMED)
    gap = service_pb2.Gap(stream="block_updates", epoch="e1", to=9, reason=stream_pb2.REASON_TRIMMED)
    setattr(gap, "from", 4)
    values = [message_of("block"), message_of("block")]
    position = service_pb2.StreamPosition(stream="block_updates", epoch="e1", seq=9)
    response = service_pb2.SubscribeResponse(started=[started], gaps=[gap], snapshots=values, progress=[position])
    first, one, two, last = read_subscribe_response(response.SerializeToString())
    (row,) = first["result"]["subscriptions"]
    assert (first["id"], row["seq"], row["recovered"], row["reason"]) == ("block_updates", 3, False, "trimmed")
    assert ("missed" in one, two["missed"], two["snapshot"]) == (False, {"from": 4, "to": 9}, True)
    assert last == {"type": "progress", "positions": [{"stream": "block_updates", "epoch": "e1", "seq": 9}]}
