"""The page on v1 says what the code and frames.proto do: every row has its counterpart, and the other way round."""

import json
import re

import pytest
from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor

from bridge.core import catchup
from bridge.core.binary import METHOD_NAMES
from bridge.core.contract import FRAMES, V1_JSON
from bridge.core.hub import State
from bridge.core.methods import METHODS, RETRY_AFTER_MS, Started
from bridge.core.pages import Reason
from bridge.core.requests import SUBSCRIBE
from bridge.core.update import Format
from bridge.core.v1 import PROGRESS_MS
from bridge.core.where import TESTS
from bridge.edges.handshake import SUBPROTOCOLS
from generated.theblock.state.v1 import frames_pb2
from tests import frames
from tests.contract.pages import ROOT, plain, quoted, table

PAGE = (ROOT / "docs/frames.md").read_text()
TEXT = " ".join(PAGE.split())
EXAMPLES = [line for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
V1_FRAMES = {frame.name: frame for frame in FRAMES if V1_JSON in frame.dialects and frame.name != "response"}


def names(message: Descriptor) -> list[str]:
    return [field.name for field in message.fields]


def members(message: Descriptor, oneof: str) -> list[str]:
    return [field.name for field in message.oneofs_by_name[oneof].fields]


def test_every_subprotocol():
    rows = table(PAGE, "Choosing it", "subprotocol")
    assert {plain(row[0]): Format[plain(row[1]).upper()] for row in rows} == SUBPROTOCOLS


def test_every_request_in_both_encodings():
    rows = table(PAGE, "Requests", "method")
    requests = {plain(row[1]): plain(row[0]) for row in rows}
    assert list(requests) == members(frames_pb2.ClientFrame.DESCRIPTOR, "request")
    assert requests | {"ping": "ping"} == METHOD_NAMES
    assert {method for method in requests.values() if method in METHODS} == set(METHODS)
    for row in rows:
        message = frames_pb2.ClientFrame.DESCRIPTOR.fields_by_name[plain(row[1])].message_type
        assert quoted(row[2]) == names(message)
    outcomes = {plain(row[3]) for row in rows if row[3].startswith("`")}
    assert outcomes == set(members(frames_pb2.ResponseFrame.DESCRIPTOR, "outcome")) - {"error"}


def test_every_option_of_a_subscription():
    rows = table(PAGE, "Requests", "JSON")
    assert {quoted(row[0])[0] for row in rows} == set(SUBSCRIBE)
    assert [name for row in rows for name in quoted(row[1])] == names(frames_pb2.SubscriptionSpec.DESCRIPTOR)


def test_filters():
    sentence = TEXT.split("A `WhereTerm` has")[1].split("A filter sees")[0]
    assert set(TESTS) <= set(quoted(sentence))
    wanted = names(frames_pb2.WhereTerm.DESCRIPTOR) + names(frames_pb2.WhereValue.DESCRIPTOR)
    assert set(wanted) <= set(quoted(sentence))


def test_every_member_of_the_answer_to_subscribe():
    rows = table(PAGE, "Responses", "answer to subscribe")
    told = [name for row in rows for name in quoted(row[0])]
    assert told == names(frames_pb2.SubscriptionStarted.DESCRIPTOR)
    assert set(told) == set(Started._fields) - {"position"} | {"epoch", "seq"}
    reasons = [value for name, value in vars(Reason).items() if name.isupper()]
    assert quoted(rows[-1][1]) == reasons
    assert set(quoted(PAGE.split("either the result")[1].split("which")[0])) == {
        "ErrorFrame",
        *names(frames_pb2.ErrorFrame.DESCRIPTOR),
    }


def test_every_frame_of_the_server():
    rows = table(PAGE, "Frames from the sidecar", "frame")
    told = {plain(row[0]): quoted(row[1]) for row in rows}
    assert told.keys() == V1_FRAMES.keys()
    for name, frame in V1_FRAMES.items():
        assert told[name] == [field.name for field in frame.fields], name
    assert {*told, "snapshot", "response"} == set(members(frames_pb2.ServerFrame.DESCRIPTOR, "frame"))


@pytest.mark.parametrize("name", [name for name in V1_FRAMES if name != "update"])
def test_a_frame_has_the_same_members_in_protobuf(name):
    message = frames_pb2.ServerFrame.DESCRIPTOR.fields_by_name[name].message_type
    assert names(message) == [field.name for field in V1_FRAMES[name].fields]


def test_every_state():
    assert [plain(row[0]) for row in table(PAGE, "States of what feeds the sidecar", "`state`")] == list(State)


def test_numbers():
    assert f"every {PROGRESS_MS // 1000} s" in TEXT
    assert f"is {catchup.BEHIND_UPDATES} updates behind or more" in TEXT
    assert f"`retry_after_ms`, {RETRY_AFTER_MS};" in TEXT


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda line: line[:60])
def test_examples_are_as_the_schemas_have_them(example):
    value = json.loads(example)
    if "method" in value:
        frames.refuse_faults(f"{value['method']}.request", value)
    else:
        frames.examine(value)


def test_there_is_an_example_of_every_frame():
    shown = {json.loads(line).get("type") for line in EXAMPLES}
    assert V1_FRAMES.keys() - {"update", "pong"} <= shown


def test_the_example_in_protobuf_is_the_one_in_json():
    (block,) = re.findall(r"```\n(id: .*?)```", PAGE, re.DOTALL)
    message = text_format.Parse(block, frames_pb2.ClientFrame())
    (request,) = [json.loads(line) for line in EXAMPLES if '"method"' in line]
    (spec,) = request["params"]
    (found,) = message.subscribe.subscriptions
    assert (message.id, found.stream, found.last) == (request["id"], spec["stream"], spec["last"])
