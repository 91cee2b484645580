"""The documents say what the code does: every row of its tables has a row in theirs, and the other way round."""

import ast
import dataclasses
import re
from pathlib import Path

import pytest

from bridge.core.codes import CLOSES, ErrorCode, Retry
from bridge.core.limits import Limits
from bridge.core.methods import METHODS
from bridge.core.requests import HISTORY, SUBSCRIBE
from bridge.core.streams import KEY_RULE, NAME_RULE, Catalogue
from bridge.core.where import TESTS
from bridge.edges.handshake import SUBPROTOCOLS
from bridge.edges.wire import CLOSE_SECONDS, Patience
from bridge.ops.metrics import PREFIX
from generated.theblock.state.v1 import options_pb2, update_pb2
from tests.edges.rig import serving

ROOT = Path(__file__).resolve().parents[2]
PROTOCOL = (ROOT / "docs/protocol.md").read_text()
OPERATIONS = (ROOT / "docs/operations.md").read_text()
OF_OTHER_EDGES = {"sse_streams", "rpc_body_bytes"}
"""Limits that the WebSocket does not have."""


def table(text: str, title: str, of: str = "") -> list[list[str]]:
    """Return the cells of the rows below a title, of the table whose head has `of` in it."""
    section = re.split(rf"^#+ {re.escape(title)}$", text, flags=re.MULTILINE)[1]
    section = re.split(r"^#+ ", section, flags=re.MULTILINE)[0]
    for block in section.split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("| ") or line.startswith("|--")]
        if lines and of in lines[0]:
            return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines[2:]]
    raise AssertionError(f"there is no table of {of!r} below {title!r}")


def test_every_method():
    rows = table(PROTOCOL, "Requests", "method")
    assert [row[0] for row in rows] == list(METHODS)
    for method, params in (("state_stream.subscribe", SUBSCRIBE), ("state_stream.history", HISTORY)):
        line = next(line for line in PROTOCOL.splitlines() if line.startswith(f"| `{method}`"))
        assert re.findall(r"`(\w+)`", line.split("|")[2]) == list(params)
    for test in TESTS.keys() - {"eq"}:
        assert re.search(rf'`{test}`|"{test}"', PROTOCOL), test


def test_every_error_code():
    assert [int(row[0]) for row in table(PROTOCOL, "Errors", "code")] == [int(code) for code in ErrorCode]


@pytest.mark.parametrize("text", [PROTOCOL, OPERATIONS], ids=["protocol", "operations"])
def test_every_close_code(text):
    title = "Close codes" if text is PROTOCOL else "Why connections end"
    rows = table(text, title, "code")
    assert [(int(row[0]), row[1]) for row in rows] == [(close.code, close.name) for close in CLOSES]
    if text is PROTOCOL:
        then = {Retry.NEVER: "stay away", Retry.AFTER_FIX: "mend the client", Retry.YES: "come back"}
        assert [row[3].split(" after ")[0] for row in rows] == [then[close.retry] for close in CLOSES]


def test_every_stream():
    rows = {row[0]: row for row in table(PROTOCOL, "Updates", "stream")}
    assert list(rows) == [stream.name for stream in Catalogue()]
    messages = {f.message_type.full_name: f.message_type for f in update_pb2.Update.DESCRIPTOR.oneofs_by_name["data"].fields}
    for stream in Catalogue():
        message = messages[stream.message]
        null = message.GetOptions().Extensions[options_pb2.stream].unset == options_pb2.UNSET_NULL
        line = next(line for line in PROTOCOL.splitlines() if line.startswith(f"| `{stream.name}`"))
        assert rows[stream.name][1:4] == [stream.type, stream.delivery.value, "null" if null else "left out"]
        assert re.findall(r"`(\w+)`", line.split("|")[5]) == [field.json_name for field in message.fields]
        assert not stream.keyed or f"`{stream.name}` is keyed by `{stream.key_field}`" in PROTOCOL
    assert NAME_RULE in PROTOCOL
    assert KEY_RULE in PROTOCOL


def test_every_limit():
    fields = {field.name: field.default for field in dataclasses.fields(Limits)}
    assert {row[0]: int(row[1]) for row in table(PROTOCOL, "Limits", "limit")} == {
        name: default for name, default in fields.items() if name not in OF_OTHER_EDGES
    }


def test_every_wait():
    patience = Patience()
    text = " ".join(PROTOCOL.split())
    assert f"silent for {patience.ping_interval_seconds:.0f} s" in text
    assert f"no life for {patience.pong_timeout_seconds:.0f} s" in text
    assert f"nothing at all for {patience.stall_timeout_seconds:.0f} s" in text
    assert f"took nothing for {patience.stall_timeout_seconds:.0f} s" in " ".join(OPERATIONS.split())
    assert CLOSE_SECONDS == 2
    assert "two seconds to hang up" in text


async def test_every_path():
    async with serving() as rig:
        served = {
            f"{route.method} {route.resource.canonical}"
            for route in rig.app.router.routes()
            if route.method != "HEAD" and route.resource is not None
        }
    documented = [row[0] for row in table(PROTOCOL, "HTTP", "path")]
    assert set(documented) == served
    assert len(documented) == len(served)


def test_every_subprotocol_and_frame():
    assert [row[0] for row in table(PROTOCOL, "The connection", "subprotocol")] == ["none", *SUBPROTOCOLS]
    sources = [ROOT / "bridge/core/session.py", ROOT / "bridge/core/v1.py"]
    sent = {kind for path in sources for kind in re.findall(r'_event\("(\w+)"', path.read_text())}
    classic = {row[0] for row in table(PROTOCOL, "Frames from the sidecar", "type")} - {"that of the stream"}
    v1 = {row[0] for row in table(PROTOCOL, "v1", "type")}
    assert classic == {"pong", "error"}
    assert classic | v1 == sent
    assert not classic & v1


def test_every_http_error():
    codes = set()
    for path in (ROOT / "bridge/edges").glob("*.py"):
        codes |= set(re.findall(r'\b[45]\d\d, "([A-Z_]+)"', path.read_text()))
    rows = table(PROTOCOL, "The connection", "status") + table(PROTOCOL, "Errors over HTTP", "status")
    assert {row[1] for row in rows} == codes


def test_every_metric():
    """Walk the rows wherever they are made; that those of every process say what is shown is tested elsewhere."""
    made = set()
    for path in (ROOT / "bridge").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(
                    func=ast.Name(id="gauge" | "counter" as kind),
                    args=[ast.Constant(value=str(name)), ast.Constant(value=str(doc)), *_],
                ):
                    total = "_total" if kind == "counter" else ""
                    made.add((PREFIX + name + total, kind, doc))
    rows = set(re.findall(r"^\| `(\w+)` \| (\w+) \| [^|]* \| ([^|]+) \|$", OPERATIONS, re.MULTILINE))
    assert made <= rows
    titles = re.findall(r"^### (Of .*)$", OPERATIONS, re.MULTILINE)
    others = {tuple(row) for title in titles[1:] for row in table(OPERATIONS, title, "metric")}
    assert {(name, kind, doc) for name, kind, _, doc in others} <= made
