"""Pages: the answers to GetSnapshot, ListUpdates and ListStreams."""

from heapq import nsmallest
from operator import attrgetter

import grpc

from bridge.core.binary import stream_info
from bridge.core.cursor import fitting
from bridge.core.deep import STAND_IN_BYTES, STAND_INS, DeepPage, Needed, Place, unreadable
from bridge.core.history import History
from bridge.core.hub import Hub
from bridge.core.names import KEY, KEY_RULE
from bridge.core.pages import cut_page, read_page
from bridge.core.position import Position
from bridge.core.update import Update, field
from bridge.edges.grpc.messages import (
    RESPONSE_BYTES,
    Refusal,
    check_name,
    invalid,
    message_field,
    source_status,
)
from generated.theblock.state.v1 import service_pb2, stream_pb2

DEFAULT_PAGE = 1000
"""Updates in a page when the request does not say."""

LARGEST_PAGE = 10_000
"""Updates in a page at most; a request for more gets as many."""

INFO, UPDATES, NEXT, BASE = 1, 2, 3, 4
"""Numbers of the fields of ListUpdatesResponse; the first three are those of GetSnapshotResponse too."""


def list_streams(hub: Hub) -> bytes:
    """Return the ListStreamsResponse: every stream, the declared ones first."""
    known = [history for history in hub.histories.values() if history.stream is not None]
    known.sort(key=lambda history: history.stream is not None and history.stream.custom)
    infos = [stream_info(history) for history in known]
    response = service_pb2.ListStreamsResponse(streams=infos, source=source_status(hub.status))
    return response.SerializeToString()


def snapshot_page(hub: Hub, request: service_pb2.GetSnapshotRequest) -> bytes:
    """Return the GetSnapshotResponse: current values, the least recently changed first.

    A key that changes while somebody pages comes again on a later page, so that no change is missed.

    Raises:
        Refusal: the stream, the key or the token is not as it must be.
    """
    history = known_history(hub, request.stream, request.key)
    behind = snapshot_token(hub, history, request.page_token) if request.page_token else 0
    limit = page_limit(request.page_size)
    if request.key:
        value = history.latest.get(request.key)
        values = [value] if value is not None and value.seq > behind else []
    else:
        later = (update for update in history.latest.values() if update.seq > behind)
        values = nsmallest(limit + 1, later, key=attrgetter("seq"))
    page, more = cut(values, limit)
    parts = [message_field(INFO, stream_info(history)), *(field(UPDATES, update.raw) for update in page)]
    if more:
        parts.append(field(NEXT, str(page[-1].position).encode()))
    return b"".join(parts)


def history_page(hub: Hub, request: service_pb2.ListUpdatesRequest) -> bytes:
    """Return the ListUpdatesResponse: updates behind `since` and before `until`.

    Where the first ones are gone, the page begins with the oldest that can be had, and says what stands in for them.

    Raises:
        Refusal: the stream, the key or a position is not as it must be.
        RequestError: updates behind memory cannot be had now.
        Needed: they are not here yet.
    """
    history = known_history(hub, request.stream, request.key)
    since = seq_of(hub, history, request.since) if request.HasField("since") else 0
    until = seq_of(hub, history, request.until) if request.HasField("until") else None
    page = read_page(history, request.key or None, since, until, page_limit(request.limit), reverse=request.reverse)
    base = stand_ins(history, request.key, since) if since + 1 < history.reach else []
    room = RESPONSE_BYTES - 1024 - sum(map(len, base))  # for what else is in the response
    page, updates = cut_page(page, lambda update: field(UPDATES, update.raw), room)
    parts = [message_field(INFO, stream_info(history)), *updates]
    if page.next is not None:
        parts.append(message_field(NEXT, stream_pb2.Position(epoch=page.next.epoch, seq=page.next.seq)))
    return b"".join((*parts, *base))


def stand_ins(history: History, key: str, since: int) -> list[bytes]:
    """Return the fields that stand in for updates behind `since` that are gone: the newest of each key, in order.

    Raises:
        RequestError: they cannot be had now.
        Needed: a page is needed to tell.
    """
    gone = history.gone()
    if isinstance(gone, Place):
        raise Needed(gone)
    if isinstance(gone, DeepPage):
        raise unreadable()
    newest = [update for update in reversed(gone.values) if update.seq > since and key in ("", update.key)]
    base = [field(BASE, update.raw) for update in newest[:STAND_INS]]
    base = base[: fitting(list(map(len, base)), STAND_INS, STAND_IN_BYTES)]
    base.reverse()
    return base


def cut(updates: list[Update], limit: int) -> tuple[list[Update], bool]:
    """Return as many updates as fit into a page, at least one if there is any, and whether there are more."""
    room = RESPONSE_BYTES - 1024  # for what else is in the response
    for count, update in enumerate(updates):
        room -= len(update.raw) + 8
        if count == limit or (count and room < 0):
            return updates[:count], True
    return updates, False


def page_limit(asked: int) -> int:
    """Return how many updates a page has at most."""
    return min(asked or DEFAULT_PAGE, LARGEST_PAGE)


def known_history(hub: Hub, name: str, key: str) -> History:
    """Return the history of a stream that something has declared.

    Raises:
        Refusal: there is no such stream, or it cannot have such a key.
    """
    check_name(name)
    history = hub.histories.get(name)
    if history is None or history.stream is None:
        raise Refusal(grpc.StatusCode.NOT_FOUND, f"nothing has declared stream {name!r}; ListStreams names all")
    if key and not history.stream.keyed:
        raise invalid(f"stream {name!r} has no keys: give none")
    if key and not KEY.fullmatch(key):
        raise invalid(f"the key {key[:200]!r} is ill-formed: it must match {KEY_RULE}")
    return history


def seq_of(hub: Hub, history: History, position: stream_pb2.Position) -> int:
    """Return the seq of a position in the epoch of a history.

    Raises:
        Refusal: it is of another epoch, or that cannot be told now.
    """
    if position.epoch != history.epoch:
        if not hub.upstream_reached:
            raise Refusal(grpc.StatusCode.UNAVAILABLE, "the position cannot be decided on: upstream is not reached")
        asked = f"{position.epoch[:40]}-{position.seq}"
        raise Refusal(
            grpc.StatusCode.FAILED_PRECONDITION,
            f"position {asked!r} is of another epoch than stream {history.name!r}, which is in {history.epoch!r}",
        )
    return position.seq


def snapshot_token(hub: Hub, history: History, token: str) -> int:
    """Return the seq behind which a page of current values begins.

    Raises:
        Refusal: the token was not given by this service in this epoch.
    """
    try:
        position = Position.parse(token)
    except ValueError:
        raise invalid(f"page_token {token[:200]!r} was not given by this service; begin without one") from None
    return seq_of(hub, history, stream_pb2.Position(epoch=position.epoch, seq=min(position.seq, (1 << 64) - 1)))
