"""The documents say what the code does: every row of its tables has a row in theirs, and the other way round."""

import ast
import dataclasses
import re

import pytest

from bridge.core.codes import CLOSES, ErrorCode, Retry
from bridge.core.limits import Limits
from bridge.core.methods import METHODS
from bridge.core.names import KEY_RULE, NAME_RULE
from bridge.core.requests import HISTORY, SUBSCRIBE
from bridge.core.streams import Catalogue
from bridge.core.where import TESTS
from bridge.edges.handshake import SUBPROTOCOLS
from bridge.edges.patience import Patience
from bridge.edges.wire import CLOSE_SECONDS
from bridge.ops.metrics import PREFIX
from generated.theblock.state.v1 import options_pb2, update_pb2
from tests.contract.pages import OPERATIONS, PROTOCOL, ROOT, plain, quoted, table

THEN = {Retry.NEVER: "stay away", Retry.AFTER_FIX: "mend the client", Retry.YES: "come back"}


def test_every_method_and_its_params():
    rows = table(PROTOCOL, "Requests", "method")
    assert [plain(row[0]) for row in rows] == list(METHODS)
    params = {plain(row[0]): quoted(row[1]) for row in rows}
    assert params["state_stream.subscribe"] == list(SUBSCRIBE)
    assert params["state_stream.history"] == list(HISTORY)


@pytest.mark.parametrize("test", sorted(TESTS.keys() - {"eq"}))
def test_every_test_of_where(test):
    assert re.search(rf'`{test}`|"{test}":', PROTOCOL)


def test_every_error_code():
    assert [int(row[0]) for row in table(PROTOCOL, "Errors", "code")] == [int(code) for code in ErrorCode]


def test_every_close_code():
    rows = table(PROTOCOL, "Close codes", "code")
    assert [(int(row[0]), plain(row[1])) for row in rows] == [(close.code, close.name) for close in CLOSES]
    assert [row[3].split(" after ")[0] for row in rows] == [THEN[close.retry] for close in CLOSES]
    rows = table(OPERATIONS, "Why connections end", "code")
    assert [(int(row[0]), plain(row[1])) for row in rows] == [(close.code, close.name) for close in CLOSES]


@pytest.mark.parametrize("stream", list(Catalogue()), ids=lambda stream: stream.name)
def test_every_stream(stream):
    (row,) = [row for row in table(PROTOCOL, "Updates", "stream") if plain(row[0]) == stream.name]
    data = update_pb2.Update.DESCRIPTOR.oneofs_by_name["data"].fields
    (message,) = [field.message_type for field in data if field.message_type.full_name == stream.message]
    null = message.GetOptions().Extensions[options_pb2.stream].unset == options_pb2.UNSET_NULL
    assert [plain(row[1]), row[2], row[3]] == [stream.type, stream.delivery.value, "null" if null else "left out"]
    assert quoted(row[4]) == [field.json_name for field in message.fields]
    assert not stream.keyed or f"`{stream.name}` is keyed by `{stream.key_field}`" in PROTOCOL


def test_no_stream_that_there_is_not_and_the_rules_of_names():
    assert len(table(PROTOCOL, "Updates", "stream")) == len(list(Catalogue()))
    assert NAME_RULE in PROTOCOL
    assert KEY_RULE in PROTOCOL


def test_every_limit():
    fields = {field.name: field.default for field in dataclasses.fields(Limits)}
    assert {plain(row[0]): int(row[1]) for row in table(PROTOCOL, "Limits", "limit")} == fields


def test_every_wait():
    patience = Patience()
    protocol, operations = (" ".join(text.split()) for text in (PROTOCOL, OPERATIONS))
    assert f"silent for {patience.ping_interval_seconds:.0f} s" in protocol
    assert f"no life for {patience.pong_timeout_seconds:.0f} s" in protocol
    assert f"nothing at all for {patience.stall_timeout_seconds:.0f} s" in protocol
    assert f"took nothing for {patience.stall_timeout_seconds:.0f} s" in operations
    assert CLOSE_SECONDS == 2
    assert "two seconds to hang up" in protocol


def test_every_path():
    sources = [path.read_text() for path in (ROOT / "bridge").rglob("*.py")]
    routes = [route for text in sources for route in re.findall(r'\bweb\.(get|post)\("(/[^"]*)"', text)]
    served = sorted(f"{method.upper()} {path}" for method, path in routes)
    assert sorted(plain(row[0]) for row in table(PROTOCOL, "HTTP", "path")) == served


def test_every_subprotocol():
    rows = table(PROTOCOL, "The connection", "subprotocol")
    assert [plain(row[0]) for row in rows] == ["none", *SUBPROTOCOLS]


def test_every_frame():
    sources = [ROOT / f"bridge/core/{name}.py" for name in ("session", "v1", "notices")]
    sent = [kind for path in sources for kind in re.findall(r'\bevent\("(\w+)"', path.read_text())]
    classic = {plain(row[0]) for row in table(PROTOCOL, "Frames from the sidecar", "type")}
    v1 = [plain(row[0]) for row in table(PROTOCOL, "v1", "type")]
    assert classic == {"that of the stream", "pong", "error"}
    assert sorted({"pong", "error", *v1}) == sorted(set(sent))


def test_every_http_error():
    edges = [path.read_text() for path in (ROOT / "bridge/edges").rglob("*.py")]
    made = {found for text in edges for found in re.findall(r'\b([45]\d\d), "([A-Z_]+)"', text)}
    rows = table(PROTOCOL, "The connection", "status") + table(PROTOCOL, "Errors over HTTP", "status")
    assert {(row[0], plain(row[1])) for row in rows} == made


def test_every_metric():
    """Walk the rows wherever they are made; those of every process are also held to what `/metrics` shows."""
    made = set()
    for path in (ROOT / "bridge").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(
                    func=ast.Name(id="gauge" | "counter" as kind),
                    args=[ast.Constant(value=str(name)), ast.Constant(value=str(doc)), *_],
                ):
                    made.add((PREFIX + name + "_total" * (kind == "counter"), kind, doc))
                case ast.Call(
                    func=ast.Name(id="Row"),
                    args=[
                        ast.Constant(value=str(name)),
                        ast.Name(id="GaugeMetricFamily"),
                        ast.Constant(value=str(doc)),
                        *_,
                    ],
                ):
                    made.add((PREFIX + name, "gauge", doc))
    titles = re.findall(r"^### (Of .*)$", OPERATIONS, re.MULTILINE)
    rows = {title: table(OPERATIONS, title, "metric") for title in titles}
    documented = {(plain(row[0]), row[1], row[3]) for title in titles for row in rows[title]}
    assert made
    assert made <= documented
    assert {(plain(row[0]), row[1], row[3]) for title in titles[1:] for row in rows[title]} <= made
