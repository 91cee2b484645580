"""Results and events as JSON: what the classic dialect and theblock.v1.json send."""

from typing import assert_never

import msgspec

from bridge.core.cursor import Books, Cursor
from bridge.core.history import History
from bridge.core.methods import Result, Started, Stats, Streams, Subscribed, Unsubscribed
from bridge.core.pages import Page, cut_page
from bridge.core.position import Position
from bridge.core.update import Form, Format


def result_object(result: Result, format_: Format) -> dict[str, object]:
    """Return the result of a method as a JSON object.

    Args:
        result: of the method.
        format_: of updates in it.
    """
    match result:
        case Subscribed(rows):
            return {"subscriptions": [started_row(row) for row in rows]}
        case Unsubscribed(names):
            return {"unsubscribed": [s if key is None else {"stream": s, "key": key} for s, key in names]}
        case Streams(histories):
            return {"streams": [stream_row(history) for history in histories]}
        case Stats(rows):
            return {"subscriptions": [stats_row(cursor, books) for cursor, books in rows]}
        case Page():
            return page_object(result, format_)
        case _ as never:
            assert_never(never)


def started_row(row: Started) -> dict[str, object]:
    """Return what state_stream.subscribe says of a subscription."""
    members = {
        "stream": row.stream,
        "key": row.key,
        "declared": row.declared,
        "did_you_mean": row.did_you_mean,
        **row.position._asdict(),
        "recovered": row.recovered,
        "replayed": row.replayed,
        "reason": row.reason,
    }
    return {name: value for name, value in members.items() if value is not None}


def stream_row(history: History) -> dict[str, object]:
    """Return what state_stream.list says of a stream that is declared."""
    stream = history.stream
    assert stream is not None
    return {
        "stream": stream.name,
        "type": stream.type,
        "delivery": stream.delivery.value,
        "keyed": stream.keyed,
        "message": stream.message,
        "oldest": Position(history.epoch, history.reach)._asdict() if history.reach <= history.head else None,
        "newest": Position(history.epoch, history.head)._asdict(),
    }


def stats_row(cursor: Cursor, books: Books) -> dict[str, object]:
    """Return what session.stats says of a subscription."""
    key = {} if cursor.spec.key is None else {"key": cursor.spec.key}
    return {"stream": cursor.spec.stream, **key, "epoch": cursor.epoch, **books._asdict()}


def page_object(page: Page, format_: Format) -> dict[str, object]:
    """Return a page of history, or as much of it as there is room for; its updates are as on the stream."""
    return page_members(*cut_page(page, lambda update: update.json(Form(format_))))


def page_members(page: Page, updates: list[bytes]) -> dict[str, object]:
    """Return a page of history whose updates are encoded already."""
    members: dict[str, object] = {"updates": list(map(msgspec.Raw, updates))}
    if page.missed is not None:
        members["missed"] = {"from": page.missed.first, "to": page.missed.last}
    if page.next is not None:
        members["next"] = page.next._asdict()
    return members
