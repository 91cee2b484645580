"""What machines read: the documents are valid, and the server does what they say, no more and no less."""

import ast
import asyncio
import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from jsonschema import Draft7Validator, Draft202012Validator
from jsonschema.protocols import Validator

from bridge import __version__
from bridge.core import methods
from bridge.core.codes import CLOSES, GOING_AWAY, RESTARTING, ErrorCode
from bridge.core.contract import BOTH, CLASSIC, ERRORS, FRAMES, METHODS
from bridge.core.history import HistoryLimits
from bridge.core.hub import State
from bridge.core.streams import Catalogue
from bridge.core.v1 import PROGRESS_MS
from bridge.edges.documents.paths import HEADERS, HISTORY, HTTP_ERRORS, OPERATIONS
from bridge.edges.guard import EXPOSED
from bridge.edges.state import PARAMETERS
from generated.theblock.state.v1 import account_pb2, energy_pb2, frames_pb2, network_pb2, trading_pb2
from tests import frames
from tests.contract.pages import plain, quoted, table
from tests.edges.rawclient import TEXT, RawClient, frame
from tests.edges.rig import Options, Rig, until

ROOT = Path(__file__).resolve().parents[2]
SCHEMAS = ROOT / "tests/schemas"
EDGES = {path: path.read_text() for path in (ROOT / "bridge/edges").rglob("*.py")}
V1 = {"Sec_WebSocket_Protocol": "theblock.v1.json"}


@pytest.fixture
async def asyncapi(http) -> dict:
    async with http.get("/asyncapi.json") as response:
        return await response.json()


@pytest.fixture
async def openapi(http) -> dict:
    async with http.get("/openapi.json") as response:
        return await response.json()


def read_schema(name: str) -> dict:
    return json.loads((SCHEMAS / name).read_text())


def faults(validator: Validator, value: object) -> list[str]:
    return [f"{fault.json_path}: {fault.message[:200]}" for fault in validator.iter_errors(value)]


def walk(value: object) -> Iterator[dict]:
    """Yield every object in a document."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from walk(inner)


def resolve(document: dict, ref: str) -> object:
    value: object = document
    for name in ref.removeprefix("#/").split("/"):
        value = value[name]  # type: ignore[index]
    return value


# They are valid


async def test_asyncapi_is_valid(asyncapi):
    assert faults(Draft7Validator(read_schema("asyncapi-3.0.0.json")), asyncapi) == []
    for schema in asyncapi["components"]["schemas"].values():
        Draft7Validator.check_schema(schema)


async def test_openapi_is_valid(openapi):
    assert faults(Draft202012Validator(read_schema("openapi-3.1.json")), openapi) == []
    for schema in openapi["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    names = [operation["operationId"] for path in openapi["paths"].values() for operation in path.values()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("path", ["/asyncapi.json", "/openapi.json"])
async def test_every_reference_leads_somewhere_and_every_schema_is_needed(http, path):
    async with http.get(path) as response:
        document = await response.json()
    refs = {value["$ref"] for value in walk(document) if isinstance(value.get("$ref"), str)}
    assert all(isinstance(resolve(document, ref), dict) for ref in refs)
    if path == "/asyncapi.json":
        named = {f"#/components/{kind}/{name}" for kind, all_ in document["components"].items() for name in all_}
        assert named - refs == {"#/components/messages/update"} & named


async def test_path_parameters_are_those_in_the_path(openapi):
    for path, operations in openapi["paths"].items():
        for operation in operations.values():
            named = [row["name"] for row in operation.get("parameters", []) if row["in"] == "path"]
            assert sorted(named) == sorted(re.findall(r"{(\w+)}", path))


@pytest.mark.parametrize("path", ["/asyncapi.json", "/openapi.json"])
async def test_who_has_a_document_is_not_sent_it_again(rig, path):
    async with aiohttp.ClientSession(rig.url, auto_decompress=False) as http:
        async with http.get(path, headers={"Accept-Encoding": "gzip"}) as response:
            tag, packed = response.headers["ETag"], await response.read()
            assert response.headers["Content-Type"] == "application/json"
            assert response.headers["Vary"] == "Origin, Accept-Encoding"
        async with http.get(path, headers={"Accept-Encoding": "identity"}) as response:
            assert await response.read() == gzip.decompress(packed)
        async with http.get(path, headers={"If-None-Match": tag}) as response:
            assert (response.status, await response.read()) == (304, b"")


# They are about this server


def test_the_tables_name_every_method():
    assert [method.name for method in METHODS] == list(methods.METHODS)


def test_the_tables_name_every_error_in_use():
    sources = [*(ROOT / "bridge/core").glob("*.py"), ROOT / "bridge/edges/wire.py", ROOT / "bridge/edges/websocket.py"]
    used = {name for path in sources for name in re.findall(r"RequestError\(\s*ErrorCode\.([A-Z_]+)", path.read_text())}
    assert {ErrorCode[name] for name in used} == set(ERRORS)


def test_events_have_the_fields_of_their_messages():
    """What v1 tells in JSON and in protobuf is the same."""
    kinds = dict(frames_pb2.ServerFrame.DESCRIPTOR.fields_by_name)
    events = {frame.name: [field.name for field in frame.fields] for frame in FRAMES if frame.typed}
    for name in events.keys() - {"error"}:
        assert events[name] == [field.name for field in kinds[name].message_type.fields], name
    assert kinds.keys() - {"update", "snapshot", "response"} == events.keys() - {"error"}


async def test_asyncapi_names_what_the_tables_name(asyncapi):
    classic, v1 = (set(asyncapi["channels"][name]["messages"]) for name in ("classic", "v1_json"))
    updates = {stream.type for stream in Catalogue()} | {"custom_update"}
    both = {frame.name for frame in FRAMES if frame.dialects == BOTH} - {"update"}
    assert updates | both < classic
    assert classic - v1 == {frame.name for frame in FRAMES if frame.dialects == (CLASSIC,)}
    assert v1 - classic == {frame.name for frame in FRAMES if CLASSIC not in frame.dialects}
    assert {f"{method.name}.request" for method in METHODS} < classic
    assert {row["code"] for row in asyncapi["x-errors"]} == {int(code) for code in ERRORS}
    assert {row["code"] for row in asyncapi["x-close-codes"]} == {close.code for close in CLOSES}


def test_every_route_is_described_and_everything_described_is_a_route():
    routes = [found for text in EDGES.values() for found in re.findall(r'\bweb\.(get|post)\("(/[^"]*)"', text)]
    routes += re.findall(r'\bweb\.(get|post)\("(/[^"]*)"', (ROOT / "bridge/app/process.py").read_text())
    assert sorted((method.upper(), path) for method, path in routes) == sorted((o.method, o.path) for o in OPERATIONS)


async def test_everything_that_is_described_is_served(rig, http, openapi):
    await rig.blocks(2)
    rig.origin.publish(account_pb2.AccountUpdate(address="a"))
    served = {(route.method, route.resource.canonical) for route in rig.app.router.routes() if route.resource}
    for path, operations in openapi["paths"].items():
        if ("GET", path) not in served:
            continue
        stream = "account" if "{key}" in path else "block_updates"
        async with http.get(path.replace("{stream}", stream).replace("{key}", "a")) as response:
            described = operations["get"]["responses"]
            assert str(response.status) in described, path
            if response.status != 200:
                continue
            content = described["200"]["content"][response.content_type]
            if response.content_type == "application/json":
                whole = content["schema"] | {"components": frames.closed(openapi["components"])}
                assert faults(Draft202012Validator(whole), await response.json()) == [], path
            told = {"ETag", "Link"} & response.headers.keys()
            assert told <= described["200"].get("headers", {}).keys(), path


async def test_live_answers_hold_to_openapi_with_headers(rig, http, openapi):
    await rig.blocks(3)
    async with http.get("/state/block_updates/history?limit=1") as response:
        assert {"ETag", "Link"} <= response.headers.keys()
    assert {"ETag", "Link", "Theblock-Missed"} == set(
        openapi["paths"]["/state/{stream}/history"]["get"]["responses"]["200"]["headers"]
    )


def test_parameters_of_history_are_those_that_are_read():
    assert [row.name for row in HISTORY] == list(PARAMETERS)


def test_every_http_error_is_in_the_table():
    made = {found for text in EDGES.values() for found in re.findall(r'\b([45]\d\d), "([A-Z_]+)"', text)}
    assert made == {(str(error.status), error.code) for error in HTTP_ERRORS}
    calls = [
        node
        for text in EDGES.values()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("error_response", "refuse")
    ]
    unread = [call for call in calls if not all(isinstance(argument, ast.Constant) for argument in call.args[:2])]
    assert [ast.unparse(call) for call in unread] == ["error_response(status, code, message, **details)"]


# The page for people says the same


HTTP = (ROOT / "docs/http.md").read_text()


def test_the_page_names_every_path_its_parameters_and_its_errors():
    rows = table(HTTP, "Paths", "path")
    assert [plain(row[0]) for row in rows] == [f"{o.method} {o.path}" for o in OPERATIONS]
    for row, operation in zip(rows, OPERATIONS, strict=True):
        assert quoted(row[2]) == [p.name for p in operation.parameters if p.place != "path"], operation.path
        assert quoted(row[3]) == list(operation.errors), operation.path


def test_the_page_names_every_parameter_of_history_every_header_and_every_error():
    assert [plain(row[0]) for row in table(HTTP, "History", "parameter")] == [*PARAMETERS, "int64"]
    assert {plain(row[0]) for row in table(HTTP, "Headers", "header")} == set(HEADERS)
    assert [(int(row[0]), plain(row[1])) for row in table(HTTP, "Errors", "status")] == [e[:2] for e in HTTP_ERRORS]
    assert all(f"`{name}`" in HTTP.split("Pages of allowed origins")[1] for name in EXPOSED.split(", "))


async def test_the_page_names_every_member_of_the_configuration(http):
    async with http.get("/config.json") as response:
        assert [plain(row[0]) for row in table(HTTP, "Documents", "member")] == list(await response.json())


# What a dashboard begins with


async def test_config_leads_to_the_websocket(rig, http):
    async with http.get("/config.json") as response:
        config = await response.json()
        assert response.headers["Cache-Control"] == "no-store"
    frames.refuse_faults("Config", config)
    assert config == {
        "ws_url": f"ws://127.0.0.1:{rig.port}/ws",
        "websockets": True,
        "poll_interval_ms": 2000,
        "ping_interval_ms": 25_000,
        "version": __version__,
    }
    async with http.ws_connect(config["ws_url"]) as socket:
        await socket.send_json({"type": "ping"})
        assert (await socket.receive_json())["type"] == "pong"


@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "[::1]:5000"])
async def test_config_knows_by_which_name_it_was_asked(http, host):
    async with http.get("/config.json", headers={"Host": host}) as response:
        assert (await response.json())["ws_url"] == f"ws://{host}/ws"


# Every frame holds to its schema; RawClient holds each that it reads to it


def everything(rig: Rig) -> None:
    """Publish on every stream."""
    rig.values(1)
    rig.block(1, tx_count=2)
    for message in (
        network_pb2.NetworkUpdate(peers=3, bandwidth=network_pb2.Bandwidth(inbound=1.5)),
        trading_pb2.TradingUpdate(orders=[trading_pb2.Order(id="o")], executions=[trading_pb2.Execution(id="x")]),
        energy_pb2.EnergyUpdate(price=float("nan")),
        account_pb2.AccountUpdate(address="a", balance="-5", nonce=2**53 + 1),
    ):
        rig.origin.publish(message)
    rig.tick(1)


NAMES = [*(stream.name for stream in Catalogue()), "ticks"]


async def kinds(client: RawClient, number: int) -> list[str]:
    """Read frames; return what each is."""
    return [frames.check_frame((await client.read()).payload) for _ in range(number)]


async def call(client: RawClient, method: str, *params: object, id_: object = 1) -> dict:
    await client.ask({"jsonrpc": "2.0", "method": method, "params": list(params), "id": id_})
    return await client.read_json()


async def v1(dial, path: str = "/ws") -> RawClient:
    client = await dial()
    assert (await client.shake(path, **V1)).status == 101
    return client


@pytest.mark.parametrize("int64", ["number", "string"])
async def test_updates_of_every_stream(rig, connect, int64):
    client = await connect(f"/ws?subscribe={','.join(NAMES)}&int64={int64}")
    await client.pong()
    everything(rig)
    read = [(await client.read()).payload for _ in NAMES]
    assert {frames.check_frame(text) for text in read} == {
        *(stream.type for stream in Catalogue()),
        "custom_update",
    }
    other = {"number": "string", "string": "number"}[int64]
    for text in read:
        value = json.loads(text)
        kind = frames.kind_of(value)
        assert faults(frames.validator(kind, int64), value) == []
        if value["stream"] in ("block_updates", "account"):
            assert faults(frames.validator(kind, other), value) != []


async def test_results_of_every_method(rig, dial):
    everything(rig)
    client = await v1(dial)
    assert await kinds(client, 1) == ["welcome"]
    answer = await call(client, "state_stream.subscribe", *NAMES, {"stream": "account", "key": "b"}, "metric")
    assert answer["result"]["subscriptions"][-1]["did_you_mean"] == "metrics"
    await kinds(client, 7)
    past = {"stream": "block_updates", "since": {"epoch": "epoch1", "seq": 0}}
    for params in (past, past | {"since": {"epoch": "x", "seq": 0}}, past | {"since": {"epoch": "epoch1", "seq": 9}}):
        answer = await call(client, "state_stream.subscribe", params)
        await kinds(client, 1)
        assert answer["result"]["subscriptions"][0]["recovered"] == (params == past)
    for method in ("state_stream.list", "session.stats"):
        assert "result" in await call(client, method)
    await rig.blocks(1)
    await kinds(client, 1)
    page = (await call(client, "state_stream.history", {"stream": "block_updates", "limit": 1}))["result"]
    assert page["next"] == {"epoch": "epoch1", "seq": 1}
    assert "result" in await call(client, "state_stream.unsubscribe", "metrics", {"stream": "account", "key": "b"})


async def test_errors_of_every_kind(rig, connect, dial):
    client = await connect()
    for text in (b"{", b"[]", b'{"method":"no","id":1}', b'{"method":"state_stream.list","params":[1],"id":"x"}'):
        await client.send(frame(TEXT, text))
        assert await kinds(client, 1) == ["error"]
    await client.send(frame(TEXT, b'[{"jsonrpc":"2.0","method":"no","id":1},{"jsonrpc":"2.0","id":2},5]'))
    assert await kinds(client, 1) == ["batch"]
    client = await v1(dial)
    rig.hub.upstream_reached = False
    await client.read()
    answer = await call(client, "state_stream.subscribe", {"stream": "metrics", "since": {"epoch": "x", "seq": 1}})
    assert answer["error"]["code"] == ErrorCode.UPSTREAM_UNAVAILABLE


class TestEvents:
    now_ms = 1_000_000

    @pytest.fixture
    def options(self) -> Options:
        return Options(history=HistoryLimits(count=300), clock_ms=lambda: self.now_ms)

    async def test_what_happens_without_a_request(self, rig, dial):
        rig.hub.set_status(State.STALE, "the node stands still")
        client = await v1(dial, "/ws?subscribe=network,block_updates")
        assert await kinds(client, 2) == ["welcome", "upstream"]
        await client.pong()
        rig.origin.publish(network_pb2.NetworkUpdate(peers=1))
        assert await kinds(client, 1) == ["network_update"]
        await call(client, "state_stream.subscribe", {"stream": "block_updates", "where": {"height": -1}})
        await rig.blocks(2)
        self.now_ms += PROGRESS_MS + 1
        rig.hub.set_status(State.LIVE, "following the node")
        found = {*(await kinds(client, 2))}
        assert found == {"upstream", "progress"}
        rig.origin.begin_epoch()
        rig.origin.publish(network_pb2.NetworkUpdate(peers=2))
        found = [*(await kinds(client, 3))]
        assert found.count("gap") == 2
        await rig.edge.drain(0, GOING_AWAY)
        assert await kinds(client, 1) == ["going_away"]
        assert (await client.read_close())[0] == GOING_AWAY.code

    async def test_a_slow_reader_is_told_what_it_misses(self, rig, dial):
        client = await dial(receive_buffer_bytes=4096)
        assert (await client.shake("/ws?subscribe=ticks", **V1)).status == 101
        await client.read()
        await until(lambda: "ticks" in rig.hub.histories, "it has subscribed")
        for number in range(5000):
            rig.tick(number, "x" * 200)
            if number % 100 == 0:
                await asyncio.sleep(0)  # what is published so far is written
        seen = set()
        while "caught_up" not in seen:
            seen |= set(await kinds(client, 1))
        assert {"fell_behind", "gap", "caught_up", "custom_update"} <= seen


async def test_a_restart_is_announced(rig, dial):
    client = await v1(dial)
    await client.read()
    await rig.edge.drain(0)
    assert (await client.read()).opcode == TEXT
    assert (await client.read()).payload[:2] == RESTARTING.code.to_bytes(2, "big")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b'{"type":"pong","timestamp":1,"server_time":"now"}', "server_time"),
        (b'{"type":"pong","timestamp":1,"server_time":1,"more":1}', "more"),
        (b'{"type":"welcome"}', "session"),
        (b'{"type":"block_update","stream":"block_updates","epoch":"e","seq":0,"time":1,"data":{}}', "seq"),
        (b'{"type":"tick","stream":"metrics","epoch":"e","seq":1,"time":1,"data":{}}', "type"),
        (b'{"jsonrpc":"2.0","id":1}', "response"),
        (b'{"jsonrpc":"2.0","id":1,"result":{"streams":[{}]}}', "streams"),
        (b"[]", "batch"),
        (b"5", "object"),
    ],
)
def test_a_frame_that_is_not_as_documented_is_found(text, sentence):
    with pytest.raises(frames.BadFrame, match=sentence):
        frames.check_frame(text)
