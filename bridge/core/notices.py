"""Notices: what a client is told without having asked, updates aside, in every dialect that has frames for it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from bridge.core.cursor import Cursor
from bridge.core.hub import Status
from bridge.core.pages import Reason
from bridge.core.update import Missed


class Notices(ABC):
    """Makes notices; how a frame is written is the dialect's."""

    __slots__ = ()

    @abstractmethod
    def event(self, kind: str, members: Mapping[str, object]) -> bytes:
        """Return the frame of an event."""

    def upstream(self, status: Status) -> bytes:
        """Tell the state of what feeds the hub."""
        return self.event("upstream", {"state": status.state.value, "since": status.since_ms})

    def going_away(self, retry_after_ms: int, reason: str) -> bytes:
        """Tell that the connection will be closed, and when to come back."""
        return self.event("going_away", {"retry_after_ms": retry_after_ms, "reason": reason})

    # ------------------------------------------------------------------ what the hub tells of a reader

    def gap(self, cursor: Cursor, missed: Missed) -> list[bytes]:
        """Name updates that this client will not get; the values that stand in follow."""
        return [self._gap(cursor, missed.first, missed.last, Reason.TRIMMED)]

    def renewed(self, cursor: Cursor) -> list[bytes]:
        """Tell that a stream has begun anew, in another epoch; its current value follows."""
        return [self._gap(cursor, 0, 0, Reason.EPOCH)]

    def _gap(self, cursor: Cursor, first: int, last: int, reason: str) -> bytes:
        key = {} if cursor.spec.key is None else {"key": cursor.spec.key}
        place = {"stream": cursor.spec.stream, **key, "epoch": cursor.epoch}
        return self.event("gap", {**place, "from": first, "to": last, "reason": reason})

    def fell_behind(self, cursor: Cursor) -> list[bytes]:
        """Tell that the client reads too slowly to stay live."""
        stream = cursor.spec.stream
        return [self.event("fell_behind", {"stream": stream, "seq": cursor.at, "head": cursor.history.head})]

    def caught_up(self, cursor: Cursor) -> list[bytes]:
        """Tell that it is live again."""
        return [self.event("caught_up", {"stream": cursor.spec.stream, "seq": cursor.at})]
