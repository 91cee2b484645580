"""Messages of `/state_stream`: the whole account set, read in slices that leave the loop free."""

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from bridge.sources.node.client import Unsigned

SLICE_BYTES = 128 << 10
"""Size of what is decoded at once: about 2 ms."""

BEGIN = b'"accounts":['
BETWEEN = b'},{"account_seq":'
END = b'],"compressed"'
"""Where the accounts begin, one ends and the next begins, and they end; a JSON string can hold none of these, since a
quote in it is escaped and one that ends it is followed by neither a letter nor a bracket. A node that writes its keys
in another order is read whole."""


class Account(msgspec.Struct, gc=False):
    """One account as the node says it: its proof is passed over."""

    address: str
    balance: int
    account_seq: Unsigned


class _Envelope(msgspec.Struct):
    accounts: list[Account]
    tip_height: Unsigned


class State(NamedTuple):
    """A message: the newest height, and the accounts in slices that are decoded when they are asked for."""

    height: int
    slices: Iterator[list[Account]]


_decode_message = msgspec.json.Decoder(_Envelope).decode
_decode_accounts = msgspec.json.Decoder(list[Account]).decode


def read(message: bytes, slice_bytes: int = SLICE_BYTES) -> State:
    """Read a message.

    Args:
        message: JSON.
        slice_bytes: size of what is decoded at once.

    Returns:
        Its height and accounts. Going on to the next slice raises msgspec.DecodeError if it is not as it must be.

    Raises:
        msgspec.DecodeError: it is not as the node writes it.
    """
    begin, end = message.find(BEGIN) + len(BEGIN), message.rfind(END)
    if len(message) <= slice_bytes or begin < len(BEGIN) or end < begin:
        whole = _decode_message(message)
        return State(whole.tip_height, iter([whole.accounts]))
    envelope = _decode_message(message[:begin] + message[end:])
    return State(envelope.tip_height, _slices(message, begin, end, slice_bytes))


def _slices(message: bytes, begin: int, end: int, slice_bytes: int) -> Iterator[list[Account]]:
    while begin < end:
        cut = message.find(BETWEEN, begin + slice_bytes, end)
        stop = end if cut < 0 else cut + 1
        yield _decode_accounts(b"[%b]" % message[begin:stop])
        begin = stop + 1
