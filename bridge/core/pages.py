"""Pages of a history, and where reading begins: shared by every edge that answers about the past."""

from typing import NamedTuple

from bridge.core.history import History
from bridge.core.position import Position
from bridge.core.update import Missed, Update


class Since(NamedTuple):
    """Where reading begins: one of a position (after it), a height, or a time (the first at or after it)."""

    position: Position | None = None
    height: int | None = None
    time_ms: int | None = None

    def seq(self, history: History) -> int:
        """Return the seq behind which to read; 0 where history may have let go of the first ones that are wanted."""
        if self.position is not None:
            return self.position.seq
        if self.height is not None:
            seq = history.first_since_height(self.height)
        elif self.time_ms is not None:
            seq = history.first_since_time(self.time_ms)
        else:
            return history.oldest - 1
        return seq if seq >= history.oldest or self._begins_with_the_oldest(history) else 0

    def _begins_with_the_oldest(self, history: History) -> bool:
        """Whether what history let go of last is surely before that height or time."""
        before = next(reversed(history.base.values()), None)
        if before is None or before.seq != history.oldest - 1:
            return False
        height = before.data().get("height")
        if self.height is not None:
            return isinstance(height, int) and height < self.height
        return self.time_ms is not None and before.time_ms < self.time_ms


class Reason:
    """Why a position cannot be resumed from."""

    TRIMMED = "trimmed"  # history no longer holds the updates behind it
    EPOCH = "epoch"  # it is of another epoch
    AHEAD = "ahead"  # it is ahead of the stream


def obstacle(history: History, position: Position) -> str | None:
    """Return the reason why a position cannot be resumed from, None if every update behind it is held."""
    if position.epoch != history.epoch:
        return Reason.EPOCH
    if position.seq > history.head:
        return Reason.AHEAD
    return Reason.TRIMMED if position.seq + 1 < history.oldest else None


class Page(NamedTuple):
    """A page of history."""

    updates: list[Update]
    next: Position | None  # since (reversed: until) of the next page; None at the end
    missed: Missed | None  # asked for, but no longer held


def read_page(history: History, key: str | None, since: int, until: int | None, limit: int, *, reverse: bool) -> Page:
    """Read a page.

    Args:
        history: of the stream.
        key: of the updates wanted; None: all.
        since: seq behind which the page begins.
        until: seq before which the page ends; None: behind the newest.
        limit: the most updates to return.
        reverse: the newest first.
    """
    end = history.head + 1 if until is None else min(until, history.head + 1)
    first = max(since + 1, history.oldest)
    missed = Missed(since + 1, min(history.oldest, end) - 1) if since + 1 < min(history.oldest, end) else None
    if key is not None:
        updates = [update for update in history.of_key(key, first - 1, len(history)) if update.seq < end]
        updates = updates[::-1][: limit + 1] if reverse else updates[: limit + 1]
    elif reverse:
        updates = []
        for update in history.backwards(end):
            if update.seq < first or len(updates) > limit:
                break
            updates.append(update)
    else:
        updates = [update for update in history.after(first - 1, limit + 1) if update.seq < end]
    more = len(updates) > limit
    updates = updates[:limit]
    return Page(updates, updates[-1].position if more else None, missed)
