"""The page on the browser client says what its types and its code say."""

import re

import pytest

from tests.contract.pages import ROOT, plain, quoted, table
from tests.web.node import CLIENT

PAGE = (ROOT / "docs/browser.md").read_text()
TYPES = (CLIENT / "theblock.d.ts").read_text()
CODE = (CLIENT / "websocket.js").read_text()


def members(kind: str, name: str) -> list[str]:
    """Return the names of the members that the types give something, each once."""
    found = re.search(rf"^export {kind} {name} .*?\{{\n(.*?)^\}}", TYPES, re.MULTILINE | re.DOTALL)
    assert found is not None, name
    names = re.findall(r"^  (?:readonly )?([\w:]+|\"[\w:]+\")(?:<[^(]*>)?[?(:]", found[1], re.MULTILINE)
    return list(dict.fromkeys(name.strip('"').rstrip(":") for name in names if name != "constructor"))


def named(title: str, first: str) -> list[str]:
    """Return what the first cells of a table name, without the params of methods."""
    return [name.split("(")[0] for row in table(PAGE, title, first) for name in quoted(row[0])]


def test_options():
    assert sorted(named("Options", "option")) == sorted(members("interface", "Options"))
    assert named("Options", "option of a subscription") == members("interface", "SubscriptionOptions")


def test_defaults():
    (code,) = re.findall(r"^const DEFAULTS = \{(.*?)^\}", CODE, re.MULTILINE | re.DOTALL)
    wanted = {name: value.replace("_", "") for name, value in re.findall(r"^  (\w+): ([\d_]+),$", code, re.MULTILINE)}
    shown = {plain(row[0]): row[1] for row in table(PAGE, "Options", "option")}
    assert len(wanted) == 6
    assert {name: shown[name] for name in wanted} == wanted
    for name, listed in {"streams": "DEFAULT_STREAMS", "transports": "TRANSPORTS"}.items():
        (text,) = re.findall(rf"const {listed} = \[(.*)\]", CODE)
        assert quoted(shown[name]) == re.findall(r'"(\w+)"', text)


def test_members():
    assert sorted(named("The client", "member of `BlockWebSocket`")) == sorted(members("class", "BlockWebSocket"))


def test_notices():
    assert named("The client", "notice") == members("interface", "Notices")
    emitted = set(re.findall(r'"(ws:\w+)"', CODE))
    assert emitted <= set(members("interface", "Notices"))


def test_metrics():
    assert sorted(named("The client", "metric")) == sorted(members("interface", "Metrics"))


def test_the_store():
    rows = table(PAGE, "The store", "key")
    assert [plain(row[0]) for row in rows] == members("interface", "State")
    assert set(quoted(rows[0][1])) == set(members("interface", "ConnectionState"))


def test_transports():
    (text,) = re.findall(r"const TRANSPORTS = \[(.*)\]", CODE)
    assert named("How updates come", "`transport`") == [*re.findall(r'"(\w+)"', text), "none"]


@pytest.mark.parametrize(
    ("sentence", "code"),
    [
        ("good for 5 s", r"STEADY_MS = 5000"),
        ("up to ten minutes", r"LONGEST_MS = 600_000"),
        ("tried again every 30 s", r"POLLING_MS = 30_000"),
        ("no answer for 10 s", r"CONNECT_MS = 10_000"),
        ("silence for 10 s after a ping", r"ANSWER_MS = 10_000"),
        ("1002, 1003, 1007 to 1010", r"new Set\(\[1002, 1003, 1007, 1008, 1009, 1010\]\)"),
        ("the third in a row", r"FAULTS = 3\b"),
        ("the last hundred\nchanges", r"HISTORY = 100\b"),
    ],
)
def test_times_and_limits(sentence, code):
    assert sentence in PAGE
    assert any(re.search(code, path.read_text()) for path in CLIENT.glob("*.js"))
