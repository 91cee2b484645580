"""The pages on Server-Sent Events say what the code does."""

import json
import re

from bridge.core import catchup
from bridge.core.contract import FRAMES
from bridge.core.limits import Limits
from bridge.core.vector import Vector
from bridge.edges.documents.paths import EVENT_DATA, HTTP_SCHEMAS
from bridge.edges.events.edge import HEADERS, RETRY_MS
from bridge.edges.events.request import PARAMETERS
from bridge.edges.events.wire import DISCARD_BYTES
from bridge.edges.patience import Patience
from tests import frames
from tests.contract.pages import PROTOCOL, ROOT, plain, quoted, table
from tests.eventsource import EventSource

TITLE = "Server-Sent Events"
SECTION = re.split(r"^## ", PROTOCOL.split(f"## {TITLE}\n")[1], flags=re.MULTILINE)[0]
TEXT = " ".join(SECTION.split())
HTTP = (ROOT / "docs/http.md").read_text()


def test_every_kind_and_its_members():
    rows = {plain(row[0]): quoted(row[1]) for row in table(PROTOCOL, TITLE, "`event`")}
    assert rows.keys() == EVENT_DATA.keys() - {"message"}
    of_v1 = {frame.name: [field.name for field in frame.fields] for frame in FRAMES}
    for name, members in rows.items():
        if name in of_v1:
            assert members == of_v1[name]
            assert EVENT_DATA[name] == {"$ref": f"#/components/schemas/{name}"}
        else:
            schema = HTTP_SCHEMAS[EVENT_DATA[name]["$ref"].rpartition("/")[2]]
            assert ["type", *members] == list(schema["properties"])


def test_the_example_is_what_a_client_gets():
    (example,) = re.findall(r"```\n(retry: .*?)```", SECTION, re.DOTALL)
    source = EventSource()
    events = source.feed(example.encode())
    assert [event.type for event in events] == ["subscribed", "message", "message"]
    frames.refuse_faults("SubscribedEvent", json.loads(events[0].data))
    assert RETRY_MS[0] <= source.retry_ms <= RETRY_MS[1]
    for event in events[1:]:
        assert frames.check_frame(event.data) == "block_update"
    assert str(Vector.parse(source.last_event_id)) == source.last_event_id
    for vector in re.findall(r"`(?:epoch|lq3x8f2a)(;[^`]*)`", SECTION):
        assert Vector.parse(f"epoch{vector}").positions


def test_parameters_and_numbers():
    assert {plain(row[0]) for row in table(HTTP, TITLE, "parameter")} == set(PARAMETERS)
    assert f"there may be {Limits().sse_streams}, and as many" in TEXT
    assert f"A comment comes every {Patience().ping_interval_seconds:.0f} s" in TEXT
    assert f"nothing at all for {Patience().stall_timeout_seconds:.0f} s" in TEXT
    assert f"sends more than {DISCARD_BYTES // 1024} KiB" in TEXT
    assert f"is between {RETRY_MS[0] // 1000} and {RETRY_MS[1] // 1000} s" in TEXT
    assert f"is {catchup.BEHIND_UPDATES} updates behind or more" in TEXT
    assert f"`X-Accel-Buffering: {HEADERS['X-Accel-Buffering']}`" in HTTP
