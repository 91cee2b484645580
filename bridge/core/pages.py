"""Pages of a history, and where reading begins: shared by every edge that answers about the past.

Everything here raises `Needed` where updates behind memory are needed that are not here, and does nothing then.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import NamedTuple

from bridge.core.cursor import fitting
from bridge.core.deep import PAGE_BYTES, PAGE_UPDATES, DeepPage, Needed, Place, unreadable
from bridge.core.history import History
from bridge.core.position import Position
from bridge.core.update import Missed, Update

LOOKED_AT = 32
"""How many pages behind memory are looked at for one answer; it says where to go on."""


class Since(NamedTuple):
    """Where reading begins: one of a position (after it), a height, or a time (the first at or after it)."""

    position: Position | None = None
    height: int | None = None
    time_ms: int | None = None

    def seq(self, history: History) -> int:
        """Return the seq behind which to read; 0 where the first ones that are wanted may be gone.

        Raises:
            Needed: pages are needed to tell.
            RequestError: one of them cannot be had now.
        """
        if self.position is not None:
            return self.position.seq
        if self.height is None and self.time_ms is None:
            return history.reach - 1
        seq = first_since(history, self._before)
        return seq if seq >= history.reach or self._begins_with_the_oldest(history) else 0

    def _before(self, update: Update) -> bool:
        """Whether an update is surely before that height or time."""
        if self.time_ms is not None:
            return update.time_ms < self.time_ms
        height = update.data().get("height")
        return isinstance(height, int) and self.height is not None and height < self.height

    def _begins_with_the_oldest(self, history: History) -> bool:
        """Whether what is gone last is surely before that height or time."""
        gone = history.gone()
        if isinstance(gone, Place):
            raise Needed(gone)
        if isinstance(gone, DeepPage):
            raise unreadable()
        return bool(gone.values) and gone.values[-1].seq == gone.last and self._before(gone.values[-1])


def first_since(history: History, before: Callable[[Update], bool]) -> int:
    """Return the seq before the first update that does not lie before what is looked for.

    In memory, else by halves among the first updates of pages: 11 pages for a million updates.

    Args:
        history: of the stream.
        before: whether an update does; once it is false it stays so.
    """
    oldest, reach = history.oldest, history.reach
    if reach == oldest or ((held := history.after(0, 1)) and before(held[0])):
        return history.first_since(before)
    low, high = (reach - 1) // PAGE_UPDATES, (oldest - 2) // PAGE_UPDATES
    while low < high:
        middle = (low + high + 1) // 2
        page = history.pages.require(history, middle * PAGE_UPDATES)
        if page.updates and before(page.updates[0]):
            low = middle
        else:
            high = middle - 1
    at, end = max(low * PAGE_UPDATES, reach - 1), min((low + 1) * PAGE_UPDATES, oldest - 1)
    while at < end:
        page = history.pages.require(history, at)
        index = bisect_left(page.updates, True, key=lambda update: not before(update))
        if index < len(page.updates):
            return min(page.updates[index].seq - 1, end)
        at = page.end
    return end


class Reason:
    """Why a position cannot be resumed from."""

    TRIMMED = "trimmed"  # history no longer holds the updates behind it
    EPOCH = "epoch"  # it is of another epoch
    AHEAD = "ahead"  # it is ahead of the stream


def obstacle(history: History, position: Position) -> str | None:
    """Return the reason why a position cannot be resumed from, None if every update behind it can be had."""
    if position.epoch != history.epoch:
        return Reason.EPOCH
    if position.seq > history.head:
        return Reason.AHEAD
    return Reason.TRIMMED if position.seq + 1 < history.reach else None


class Page(NamedTuple):
    """A page of history."""

    updates: list[Update]
    next: Position | None  # since (reversed: until) of the next page; None at the end
    missed: Missed | None  # asked for, but gone


class Part(NamedTuple):
    """Some of what is asked for: what was found, and where to look on; None where there is no more."""

    updates: list[Update]
    next: int | None


def read_page(
    history: History,
    key: str | None,
    since: int,
    until: int | None,
    limit: int,
    *,
    reverse: bool,
    size_bytes: int = PAGE_BYTES,
) -> Page:
    """Read a page.

    It may hold less than it could, even nothing, and have a next one all the same: a key's updates are looked for in a
    bounded number of pages behind memory.

    Args:
        history: of the stream.
        key: of the updates wanted; None: all.
        since: seq behind which the page begins.
        until: seq before which the page ends; None: behind the newest.
        limit: the most updates to return.
        reverse: the newest first.
        size_bytes: how large they may be together, serialized, unless a single one is larger.

    Raises:
        Needed: pages are needed that are not here.
        RequestError: one of them cannot be had now.
    """
    end = history.head + 1 if until is None else min(until, history.head + 1)
    gone = min(history.reach, end) - 1
    missed = Missed(since + 1, gone) if since < gone else None
    read = backwards if reverse else forwards
    updates, next_ = read(history, key, max(since, history.reach - 1), end, limit + 1)
    fit = fitting([len(update.raw) for update in updates], limit, size_bytes)
    if fit < len(updates):
        updates, next_ = updates[:fit], updates[fit - 1].seq
    return Page(updates, None if next_ is None else Position(history.epoch, next_), missed)


def forwards(history: History, key: str | None, since: int, end: int, limit: int) -> Part:
    """Find the first updates behind `since` and before `end`, at most `limit`."""
    found: list[Update] = []
    at, looked = since, 0
    while at + 1 < end and len(found) < limit:
        if at + 1 >= history.oldest:
            behind = history.of_key(key, at, len(history)) if key is not None else history.after(at, limit)
            at = end
        elif key is not None and history.trimmed(key) <= at:
            behind, at = [], history.oldest - 1
        elif looked == LOOKED_AT:
            return Part(found, at)
        else:
            looked += 1
            page = history.pages.require(history, at)
            behind, at = page.after(at), page.end
        found += [update for update in behind if update.seq < end and key in (None, update.key)][: limit - len(found)]
    return Part(found, None)


def backwards(history: History, key: str | None, since: int, end: int, limit: int) -> Part:
    """Find the last updates behind `since` and before `end`, the newest first, at most `limit`."""
    found: list[Update] = []
    at, looked = end - 1, 0
    while at > since and len(found) < limit:
        if at >= history.oldest:
            before = held_backwards(history, key, at)
            at = history.oldest - 1
        elif key is not None and history.trimmed(key) < at:
            before, at = (), history.trimmed(key)
        elif looked == LOOKED_AT:
            return Part(found, at + 1)
        else:
            looked += 1
            page = history.pages.require(history, at - 1)
            before = [update for update in reversed(page.updates) if update.seq <= at]
            at = page.place.start
        for update in before:
            if update.seq <= since or len(found) == limit:
                break
            if key in (None, update.key):
                found.append(update)
        if key is not None and found:
            at = min(at, found[-1].prev)
    return Part(found, None)


def held_backwards(history: History, key: str | None, at: int) -> Iterable[Update]:
    """Return the updates in memory up to `at`, the newest first."""
    if key is None:
        return history.backwards(at + 1)
    return [update for update in reversed(history.of_key(key, 0, len(history))) if update.seq <= at]


def cut_page(page: Page, encode: Callable[[Update], bytes], size_bytes: int = PAGE_BYTES) -> tuple[Page, list[bytes]]:
    """Encode the updates of a page, and leave out those for which there is no room: the next page begins with them.

    Returns:
        The page that is left, and its updates, encoded.
    """
    parts: list[bytes] = []
    for update in page.updates:
        part = encode(update)
        size_bytes -= len(part)
        if parts and size_bytes < 0:
            kept = page.updates[: len(parts)]
            return page._replace(updates=kept, next=kept[-1].position), parts
        parts.append(part)
    return page, parts
