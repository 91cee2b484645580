"""The current value of every stream over HTTP, and pages of its history."""

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from aiohttp import hdrs, web
from multidict import MultiMapping

from bridge.core.codes import ErrorCode
from bridge.core.deep import RETRY_AFTER_MS
from bridge.core.errors import RequestError
from bridge.core.history import History
from bridge.core.hub import Hub
from bridge.core.jsonform import page_members
from bridge.core.limits import Limits
from bridge.core.methods import page_of
from bridge.core.names import KEY, KEY_RULE, NAME, NAME_RULE
from bridge.core.pages import Page, Reason, cut_page
from bridge.core.position import Position
from bridge.core.requests import ListHistory, Members, bad, parse_history
from bridge.core.update import Form, Format, encode_json
from bridge.edges.guard import error_response
from bridge.edges.negotiation import JSON, compress, conditional, weight
from bridge.ops.deep import when_there

VALUES_LIMIT = 1000
"""The most values in one answer of /state/{stream} for a keyed stream."""

NDJSON: Final = "application/x-ndjson"
MISSED: Final = "Theblock-Missed"
"""Header of a page of history: the range that was asked for and is no longer held, as `from=1, to=9`."""

VARY: Final = "Origin, Accept, Accept-Encoding"
"""What an answer with history depends on beside its URL."""

WHOLE = re.compile(r"[0-9]{1,19}")
SWITCH: Final = {"1": True, "true": True, "0": False, "false": False}


def read_whole(name: str, text: str) -> object:
    """Read a whole number."""
    if not WHOLE.fullmatch(text):
        raise bad(f"{name} must be a whole number, not {text[:80]!r}")
    return int(text)


def read_position(name: str, text: str) -> object:
    """Read a position."""
    try:
        return Position.parse(text)._asdict()
    except ValueError:
        raise bad(f"{name} must be a position, written <epoch>-<seq>, not {text[:80]!r}") from None


def read_switch(name: str, text: str) -> object:
    """Read yes or no."""
    if text not in SWITCH:
        raise bad(f"{name} must be one of {', '.join(SWITCH)}, not {text[:80]!r}")
    return SWITCH[text]


class Parameter(NamedTuple):
    """How a parameter of the query becomes a member of the params of state_stream.history."""

    member: str
    read: Callable[[str, str], object]  # takes name and text


PARAMETERS: Final = {
    "key": Parameter("key", lambda _name, text: text),
    "since": Parameter("since", read_position),
    "since_height": Parameter("since", lambda name, text: {"height": read_whole(name, text)}),
    "since_time_ms": Parameter("since", lambda name, text: {"time": read_whole(name, text)}),
    "until": Parameter("until", read_position),
    "limit": Parameter("limit", read_whole),
    "reverse": Parameter("reverse", read_switch),
}
"""What the query of /state/{stream}/history may have beside int64."""


class StateEdge:
    """Answers what streams hold."""

    def __init__(self, hub: Hub, limits: Limits) -> None:
        self._hub = hub
        self._limits = limits

    def routes(self) -> list[web.RouteDef]:
        """Return the routes; the first that fits is taken, so that no key hides the history."""
        return [
            web.get("/state/{stream}", self.state),
            web.get("/state/{stream}/history", self.history),
            web.get("/state/{stream}/{key}", self.state),
        ]

    async def state(self, request: web.Request) -> web.Response:
        """Return the current value of a stream, of one key, or the values that changed last of a keyed one."""
        history = self._find(request)
        if isinstance(history, web.Response):
            return history
        of_path = request.match_info.get("key")
        keys = request.query.getall("key", []) if of_path is None else [of_path, *request.query.getall("key", [])]
        if len(keys) > 1 or not all(KEY.fullmatch(key) for key in keys):
            return error_response(400, "BAD_REQUEST", f"there is at most one key, and it matches {KEY_RULE}")
        if keys and not is_keyed(history):
            return error_response(404, "NOT_FOUND", f"stream {history.name!r} has no keys")
        try:
            form = Form(wanted_format(request.query))
        except RequestError as error:
            return error_response(400, "BAD_REQUEST", str(error))
        if is_keyed(history) and not keys:
            return conditional(request, f'"{Position(history.epoch, history.head)}"', values(history, form))
        value = history.latest.get(keys[0] if keys else "")
        if value is None:
            of_key = f" for {keys[0]!r}" if keys else ""
            return error_response(404, "NOT_FOUND", f"stream {history.name!r} has no value{of_key} yet")
        return conditional(request, f'"{value.position}"', lambda: value.json(form))

    async def history(self, request: web.Request) -> web.Response:
        """Return a page of a stream's history."""
        history = self._find(request)
        if isinstance(history, web.Response):
            return history
        try:
            asked = parse_history(history_params(history.name, request.query), self._limits)
            format_ = wanted_format(request.query)
            page = await when_there(self._hub, lambda: page_of(history, asked))
        except RequestError as error:
            return self._refusal(error)
        page, updates = cut_page(page, lambda update: update.json(Form(format_)))
        if asked.key is not None and not is_keyed(history):
            return error_response(404, "NOT_FOUND", f"stream {history.name!r} has no keys")
        accepted = request.headers.get(hdrs.ACCEPT, "")
        lines = weight(accepted, NDJSON) > weight(accepted, JSON)
        response = conditional(
            request,
            page_tag(history.epoch, page),
            lambda: page_lines(updates) if lines else encode_json(page_members(page, updates)),
            content_type=NDJSON if lines else JSON,
            headers={hdrs.VARY: VARY, **page_headers(request, asked, page)},
        )
        compress(request, response)
        return response

    def _find(self, request: web.Request) -> History | web.Response:
        """Return the history of the stream that the path names, or the answer that there is none."""
        name = request.match_info["stream"]
        if not NAME.fullmatch(name):
            return error_response(400, "BAD_REQUEST", f"a stream name matches {NAME_RULE}")
        history = self._hub.histories.get(name)
        if history is None or history.stream is None:
            names = [history.name for history in self._hub.histories.values() if history.stream is not None]
            return error_response(404, "NOT_FOUND", f"stream {name!r} is not declared", streams=names)
        return history

    def _refusal(self, error: RequestError) -> web.Response:
        """Return why there is no page; a position of another epoch is void only if the epoch is known for sure."""
        details = error.data or {}
        unavailable = error.code is ErrorCode.UPSTREAM_UNAVAILABLE
        if not unavailable and details.get("reason") != Reason.EPOCH:
            return error_response(400, "BAD_REQUEST", str(error), **details)
        if not unavailable and self._hub.epoch and self._hub.upstream_reached:
            return error_response(410, "GONE", str(error), **details)
        undecided = "the state service cannot be reached, so the position cannot be decided on; keep it and ask again"
        sentence = str(error) if unavailable else undecided
        response = error_response(503, "UPSTREAM_UNAVAILABLE", sentence, retry_after_ms=RETRY_AFTER_MS)
        response.headers[hdrs.RETRY_AFTER] = str(RETRY_AFTER_MS // 1000)
        return response


def is_keyed(history: History) -> bool:
    """Whether a stream's updates carry keys."""
    return history.stream is not None and history.stream.keyed


def wanted_format(query: MultiMapping[str]) -> Format:
    """Return the format that a query asks for.

    Raises:
        RequestError: int64 is neither of its values.
    """
    integers = query.get("int64", "number")
    if integers not in ("string", "number"):
        raise bad("int64 must be string or number")
    return Format.JSON_INT64_STRING if integers == "string" else Format.JSON


def values(history: History, form: Form) -> Callable[[], bytes]:
    """Return what makes the body with the current values of a keyed stream."""

    def body() -> bytes:
        updates = b",".join(update.json(form) for update in history.current(VALUES_LIMIT))
        return b'{"stream":"%s","keys":%d,"updates":[%s]}' % (history.name.encode(), len(history.latest), updates)

    return body


def history_params(stream: str, query: MultiMapping[str]) -> Members:
    """Return a query as params of state_stream.history.

    Raises:
        RequestError: a parameter is not known, stands twice, cannot be read, or excludes another.
    """
    params: dict[str, object] = {"stream": stream}
    for name, text in query.items():
        if name == "int64":
            continue
        if name not in PARAMETERS:
            raise bad(f"{name[:80]!r} is not known; allowed are {', '.join(PARAMETERS)}, int64")
        parameter = PARAMETERS[name]
        if parameter.member in params:
            several = [other for other, row in PARAMETERS.items() if row.member == parameter.member]
            raise bad(f"{' or '.join(several)} may stand once")
        params[parameter.member] = parameter.read(name, text)
    return params


def page_tag(epoch: str, page: Page) -> str:
    """Return the entity tag of a page: updates never change, so its ends say what is on it.

    It is weak, since the page has several forms.
    """
    ends = [page.updates[0].seq, page.updates[-1].seq] if page.updates else []
    missed = ["missed", *page.missed] if page.missed is not None else []
    more = ["next"] if page.next is not None else []
    return f'W/"{"-".join(map(str, [epoch, *ends, len(page.updates), *missed, *more]))}"'


def page_lines(updates: list[bytes]) -> bytes:
    """Return a page with one update a line."""
    return b"".join(update + b"\n" for update in updates)


def page_headers(request: web.Request, asked: ListHistory, page: Page) -> dict[str, str]:
    """Return the headers that say what is missed and where the next page is."""
    headers: dict[str, str] = {}
    if page.missed is not None:
        headers[MISSED] = f"from={page.missed.first}, to={page.missed.last}"
    if page.next is not None:
        end = "until" if asked.reverse else "since"
        kept = {name: text for name, text in request.query.items() if name not in same_member(end)}
        headers[hdrs.LINK] = f'<{request.rel_url.with_query(kept | {end: str(page.next)})}>; rel="next"'
    return headers


def same_member(name: str) -> set[str]:
    """Return the parameters that say the same as one, that one among them."""
    return {other for other, row in PARAMETERS.items() if row.member == PARAMETERS[name].member}
