"""What publishers publish: each value once, told apart by its number in whatever field set a client asks for."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from bridge.verify.binary import data_value, stream_options
from generated.theblock.state.v1 import (
    account_pb2,
    block_pb2,
    metrics_pb2,
    options_pb2,
    trading_pb2,
    update_pb2,
)

ACCOUNTS = 20
"""How many accounts there are."""

THINGS = 8
"""How many keys the keyed custom stream has."""

STREAMS = ("block_updates", "account", "ticks", "metrics", "things", "trading")
"""The streams that are published on."""

TURNS = ("block_updates", "account", "ticks", "block_updates", "metrics", "account", "ticks", "things", "account",
         "block_updates", "metrics", "things", "ticks", "trading", "metrics", "account")  # fmt: skip
"""On which stream a publication is, in turn."""

LATEST = frozenset({"metrics"})
KEYED = {"account": [f"0x{number:040x}" for number in range(ACCOUNTS)], "things": [f"k{n}" for n in range(THINGS)]}
"""The keyed streams and their keys."""

IDENTITY = {"block_updates": "height", "account": "nonce", "ticks": "n", "metrics": "blockHeight", "things": "n",
            "trading": "lastPrice"}  # fmt: skip
"""The field that has the number."""


@dataclass(slots=True)
class Value:
    """A value to publish.

    Attributes:
        stream: that it is for.
        type: of its update.
        key: of it, empty where there is none.
        data: as JSON clients get it.
        update: as publishers send it.
    """

    stream: str
    type: str
    key: str
    data: dict[str, Any]
    update: update_pb2.Update


def value(number: int) -> Value:
    """Return the value with a number."""
    stream = TURNS[number % len(TURNS)]
    mixed = hashlib.blake2b(number.to_bytes(8, "big"), digest_size=32).digest()
    match stream:
        case "block_updates":
            return declared(stream, block_pb2.BlockUpdate(height=number, hash=mixed, tx_count=mixed[0]))
        case "account":
            address = KEYED["account"][mixed[0] % ACCOUNTS]
            balance = str(int.from_bytes(mixed[:12], "big"))
            return declared(stream, account_pb2.AccountUpdate(address=address, balance=balance, nonce=number), address)
        case "metrics":
            return declared(stream, metrics_pb2.MetricsUpdate(tps=mixed[0] / 7, block_height=number))
        case "trading":
            execution = trading_pb2.Execution(id=str(number), qty=mixed[0] / 3, price=mixed[1] / 3, timestamp=number)
            return declared(stream, trading_pb2.TradingUpdate(executions=[execution], last_price=number))
        case "things":
            return custom(
                stream, "thing", {"n": number, "m": {"list": [mixed[0], None, True]}}, f"k{mixed[0] % THINGS}"
            )
        case _:
            return custom(stream, "tick", {"n": number, "text": f"Größe {mixed[:8].hex()}"})


def declared(stream: str, payload: Any, key: str = "") -> Value:
    """Return a value of a stream that the proto files declare."""
    options = stream_options(payload.DESCRIPTOR)
    data = data_value(payload, nulls=options.unset == options_pb2.UNSET_NULL)
    update = update_pb2.Update(stream=stream)
    field = next(f.name for f in update.DESCRIPTOR.oneofs[0].fields if f.message_type == payload.DESCRIPTOR)
    getattr(update, field).CopyFrom(payload)
    return Value(stream, options.type, key, data, update)


def custom(stream: str, type_: str, data: dict[str, Any], key: str = "") -> Value:
    """Return a value of a custom stream."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()
    update = update_pb2.Update(stream=stream, key=key, custom=update_pb2.CustomUpdate(type=type_, json=text))
    return Value(stream, type_, key, data, update)
