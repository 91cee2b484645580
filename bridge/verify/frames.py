"""Frames as the oracle reads them: each distinct one once, however many clients got it."""

from collections.abc import Iterator
from typing import Any, Final

from bridge.verify.binary import read_server_frame
from bridge.verify.jsonvalues import Data, read_json

CACHED: Final = 20_000
"""How many distinct frames are remembered, at least; at most twice as many."""

SHOWN: Final = 200
"""How much of a frame that cannot be read is shown."""

Position = tuple[str, str, int]
"""Stream, epoch, seq."""

UPDATE: Final = {"type": str, "stream": str, "epoch": str, "seq": int, "data": dict}
"""Members that every update has, and their types."""


class Frame:
    """A message that a client got.

    Attributes:
        kind: update, answer, error, gap, progress, batch, malformed or other.
        message: its value; what is wrong with a malformed one.
        needs: positions that the log must know of before the frame can be judged.
        proven: forms in which its data has been found to be what was published.
    """

    __slots__ = ("kind", "message", "needs", "proven")

    def __init__(self, kind: str, message: Any, needs: tuple[Position, ...] = ()) -> None:
        self.kind = kind
        self.message = message
        self.needs = needs
        self.proven: set[object] = set()


class Frames:
    """Reads frames, and remembers the ones read last."""

    def __init__(self) -> None:
        self._known: dict[str | bytes, Frame] = {}
        self._older: dict[str | bytes, Frame] = {}

    def read(self, raw: str | bytes) -> Frame:
        """Return what a message of JSON text is."""
        return self._known.get(raw) or self._remember(raw, binary=False)

    def read_binary(self, raw: bytes) -> Frame:
        """Return what a binary message is: a ServerFrame."""
        return self._known.get(raw) or self._remember(raw, binary=True)

    def _remember(self, raw: str | bytes, *, binary: bool) -> Frame:
        frame = self._older.get(raw)
        if frame is None:
            try:
                frame = frame_of(read_server_frame(raw) if binary and isinstance(raw, bytes) else read_json(raw))
            except (ValueError, LookupError, TypeError) as error:
                frame = Frame("malformed", f"{raw[:SHOWN]!r} cannot be read: {error}")
        if frame.kind in ("update", "progress"):  # the others are of one client
            if len(self._known) >= CACHED:
                self._known, self._older = {}, self._known
            self._known[raw] = frame
        return frame


def frame_of(value: Any) -> Frame:
    """Return what a message with that value is."""
    if isinstance(value, list):
        parts = [frame_of(one) for one in value]
        return Frame("batch", parts, tuple(need for part in parts for need in part.needs))
    if not isinstance(value, dict):
        return Frame("malformed", f"{str(value)[:SHOWN]} is no frame")
    if "jsonrpc" in value:
        return Frame("answer", value, tuple(answer_needs(value)))
    if "seq" in value and "data" in value:
        return update_of(value)
    match value.get("type"):
        case "error":
            return Frame("error", value)
        case "gap":
            return Frame("gap", value)
        case "progress":
            needs = tuple((row["stream"], row["epoch"], row["seq"]) for row in value["positions"])
            return Frame("progress", value, needs)
        case _:
            return Frame("other", value)


def update_of(value: Data) -> Frame:
    """Return what an update is."""
    for name, kind in UPDATE.items():
        if not isinstance(value.get(name), kind):
            return Frame("malformed", f"{str(value)[:SHOWN]}: {name} is not as it must be")
    seq = value["seq"]
    if "missed" in value:
        seq = max(seq, value["missed"]["to"])
    return Frame("update", value, ((value["stream"], value["epoch"], seq),))


def answer_needs(answer: Data) -> Iterator[Position]:
    """Yield the positions that an answer names."""
    result = answer.get("result")
    if isinstance(result, dict):
        for row in result.get("subscriptions", ()):
            yield row["stream"], row["epoch"], row.get("head", row.get("seq", 0))
