"""Requests, results and events in protobuf: what theblock.v1.proto sends and takes."""

from collections.abc import Iterable, Mapping
from typing import Any, assert_never

import msgspec
from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError

from bridge.core.codes import ErrorCode
from bridge.core.errors import RequestError
from bridge.core.frames import Opcode, frame
from bridge.core.history import History
from bridge.core.jsonform import started_row, stats_row
from bridge.core.methods import Result, Stats, Streams, Subscribed, Unsubscribed
from bridge.core.pages import Page, cut_page
from bridge.core.position import Position
from bridge.core.streams import DELIVERY_NUMBERS
from bridge.core.update import field, missed_range
from generated.theblock.state.v1 import frames_pb2, stream_pb2

METHOD_NAMES = {
    "subscribe": "state_stream.subscribe",
    "unsubscribe": "state_stream.unsubscribe",
    "list": "state_stream.list",
    "history": "state_stream.history",
    "stats": "session.stats",
    "authenticate": "session.authenticate",
    "ping": "ping",
}
"""The method that each request of ClientFrame calls."""

RESPONSE = frames_pb2.ServerFrame.RESPONSE_FIELD_NUMBER
HISTORY = frames_pb2.ResponseFrame.HISTORY_FIELD_NUMBER
UPDATES = frames_pb2.HistoryPageFrame.UPDATES_FIELD_NUMBER

Since = frames_pb2.SubscriptionSpec | frames_pb2.HistoryFrame


def read_request(payload: bytes) -> dict[str, object]:
    """Return the request in a ClientFrame as JSON-RPC would write it: method, params, and id where there is one.

    The method is None where there is no request that is known.

    Raises:
        RequestError: it is no ClientFrame.
    """
    try:
        message = frames_pb2.ClientFrame.FromString(payload)
    except DecodeError:
        raise RequestError(ErrorCode.PARSE_ERROR, "the message is not a ClientFrame") from None
    kind = message.WhichOneof("request")
    request: dict[str, object] = {"method": kind and METHOD_NAMES[kind], "params": params_of(message, kind)}
    return request | {"id": message.id} if message.HasField("id") else request


def params_of(message: frames_pb2.ClientFrame, kind: str | None) -> object:
    """Return the params of a request as JSON would write them."""
    match kind:
        case "subscribe":
            return [subscription_params(spec) for spec in message.subscribe.subscriptions]
        case "unsubscribe":
            return [name_params(name.stream, name.key) for name in message.unsubscribe.subscriptions]
        case "history":
            return [history_params(message.history)]
        case "authenticate":
            return {"token": message.authenticate.token}
        case "ping":
            return message.ping.timestamp
        case _:
            return []


def name_params(stream: str, key: str) -> dict[str, object]:
    """Return the name of a subscription."""
    return {"stream": stream, "key": key} if key else {"stream": stream}


def since_params(message: Since) -> dict[str, object]:
    """Return where reading begins."""
    match message.WhichOneof("start"):
        case "since":
            return {"since": {"epoch": message.since.epoch, "seq": message.since.seq}}
        case "since_height":
            return {"since": {"height": message.since_height}}
        case "since_time_ms":
            return {"since": {"time": message.since_time_ms}}
        case _:
            return {}


def subscription_params(spec: frames_pb2.SubscriptionSpec) -> dict[str, object]:
    """Return a subscription that is asked for."""
    params = name_params(spec.stream, spec.key) | since_params(spec)
    if spec.WhichOneof("start") == "last":
        params["last"] = spec.last
    if spec.where:
        params["where"] = where_params(spec.where)
    if spec.HasField("max_rate_hz"):
        params["max_rate"] = spec.max_rate_hz
    return params


def where_params(terms: Iterable[frames_pb2.WhereTerm]) -> dict[str, object]:
    """Return a filter; what JSON could not say, as a test that stands twice, becomes a list, which is refused."""
    where: dict[str, object] = {}
    for term in terms:
        values = [where_value(value) for value in term.values]
        wanted: object = values[0] if len(values) == 1 and term.test != "in" else values
        if term.test not in ("", "eq"):
            wanted = {term.test: wanted}
        where[term.field] = joined(where[term.field], wanted) if term.field in where else wanted
    return where


def joined(term: object, other: object) -> object:
    """Return two terms on one field as one: an object of both tests, or a list where there can be none."""
    if isinstance(term, dict) and isinstance(other, dict) and term.keys().isdisjoint(other):
        return {**term, **other}
    return [term, other]


def where_value(value: frames_pb2.WhereValue) -> object:
    """Return a scalar of a filter."""
    kind = value.WhichOneof("kind")
    return None if kind is None else getattr(value, kind)


def history_params(message: frames_pb2.HistoryFrame) -> dict[str, object]:
    """Return the page of history that is asked for."""
    params = name_params(message.stream, message.key) | since_params(message) | {"reverse": message.reverse}
    if message.HasField("until"):
        params["until"] = {"epoch": message.until.epoch, "seq": message.until.seq}
    return params | {"limit": message.limit} if message.limit else params


# ---------------------------------------------------------------------- what we send


def binary_frame(message: frames_pb2.ServerFrame) -> bytes:
    """Return a binary WebSocket frame."""
    return frame(Opcode.BINARY, message.SerializeToString())


def event_frame(kind: str, members: Mapping[str, object]) -> bytes:
    """Return the frame of an event, whose members are as in JSON."""
    body: dict[str, Any] = {kind: members}
    return binary_frame(frames_pb2.ServerFrame(**body))


def error_frame(error: RequestError, id_: object) -> bytes:
    """Return the response that refuses a request."""
    data = b"" if error.data is None else msgspec.json.encode(error.data)
    body = frames_pb2.ErrorFrame(code=int(error.code), message=str(error), data_json=data)
    return response_frame(frames_pb2.ResponseFrame(error=body), id_)


def result_frame(result: Result, id_: object) -> bytes:
    """Return the response with the result of a method."""
    if isinstance(result, Page):
        return response_frame(frames_pb2.ResponseFrame(), id_, field(HISTORY, page_body(result)))
    return response_frame(result_message(result), id_)


def response_frame(response: frames_pb2.ResponseFrame, id_: object, more: bytes = b"") -> bytes:
    """Return a response; `more` are fields of it that are serialized already."""
    if isinstance(id_, int):
        response.id = id_
    return frame(Opcode.BINARY, field(RESPONSE, response.SerializeToString() + more))


def result_message(result: Subscribed | Unsubscribed | Streams | Stats) -> frames_pb2.ResponseFrame:
    """Return the result of a method."""
    match result:
        case Subscribed(rows):
            started = {"subscriptions": [started_row(row) for row in rows]}
            return frames_pb2.ResponseFrame(subscribed=ParseDict(started, frames_pb2.SubscribedFrame()))
        case Unsubscribed(names):
            ended = [frames_pb2.SubscriptionName(stream=stream, key=key or "") for stream, key in names]
            return frames_pb2.ResponseFrame(unsubscribed=frames_pb2.UnsubscribeFrame(subscriptions=ended))
        case Streams(histories):
            infos = [stream_info(history) for history in histories]
            return frames_pb2.ResponseFrame(streams=frames_pb2.StreamsFrame(streams=infos))
        case Stats(rows):
            books = {"subscriptions": [stats_row(cursor, books) for cursor, books in rows]}
            return frames_pb2.ResponseFrame(stats=ParseDict(books, frames_pb2.StatsPageFrame()))
        case _ as never:
            assert_never(never)


def page_body(page: Page) -> bytes:
    """Return a serialized HistoryPageFrame: written by hand around the bytes of the updates, which stay as they are.

    It has as much of the page as there is room for.
    """
    page, updates = cut_page(page, lambda update: field(UPDATES, update.raw))
    rest = frames_pb2.HistoryPageFrame()
    if page.next is not None:
        rest.next.CopyFrom(position_message(page.next))
    if page.missed is not None:
        rest.missed.CopyFrom(missed_range(page.missed))
    return b"".join((*updates, rest.SerializeToString()))


def position_message(position: Position) -> stream_pb2.Position:
    """Return a position."""
    return stream_pb2.Position(epoch=position.epoch, seq=position.seq)


def stream_info(history: History) -> stream_pb2.StreamInfo:
    """Describe a stream that is declared."""
    stream = history.stream
    assert stream is not None
    return stream_pb2.StreamInfo(
        stream=stream.name,
        type=stream.type,
        delivery=DELIVERY_NUMBERS[stream.delivery],
        keyed=stream.keyed,
        message=stream.message,
        epoch=history.epoch,
        oldest=history.reach if history.reach <= history.head else 0,
        newest=history.head,
    )
