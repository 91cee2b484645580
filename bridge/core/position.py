"""Positions: where an update stands in its stream."""

import re
from typing import NamedTuple

TEXT = re.compile(r"([a-z0-9]{1,32})-(0|[1-9][0-9]{0,19})")


class Position(NamedTuple):
    """A place in a stream: after the update numbered `seq` of `epoch`; `seq` 0 is before the first."""

    epoch: str
    seq: int

    def __str__(self) -> str:
        """Return the text form `<epoch>-<seq>`, as used in ETag, SSE and URLs."""
        return f"{self.epoch}-{self.seq}"

    @classmethod
    def parse(cls, text: str) -> "Position":
        """Read the text form.

        Raises:
            ValueError: `text` is not `<epoch>-<seq>`.
        """
        if not (match := TEXT.fullmatch(text)):
            raise ValueError(f"{text!r} is not a position: it is written <epoch>-<seq>")
        return cls(match[1], int(match[2]))
