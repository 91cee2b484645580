"""Holds every text frame that a server sends to its schema, and keeps count of what was seen.

    frames.saw(opcode, payload)   # for each frame that a test client reads

When the whole suite has run, `unseen()` names everything that is documented and that no test has made the server say.
"""

import json
import re
from collections import Counter
from copy import deepcopy
from functools import cache

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

from bridge.core.codes import CLOSES
from bridge.core.contract import ERRORS, FRAMES, METHODS
from bridge.core.messages import schemas
from bridge.core.streams import Catalogue
from bridge.edges.documents.paths import HTTP_SCHEMAS

TEXT, CLOSE = 0x1, 0x8

SEEN: Counter[tuple[str, object]] = Counter()
"""How often what was seen: ("schema", name), ("frame", name), ("method", name), ("error", code) and ("close", code)."""

NUMBER = re.compile(rb'(?<="time":)[1-9][0-9]*(?=,)|(?<=:)[1-9][0-9]{0,8}(?=[,}])')
HEX = re.compile(rb'(?<="0x)([0-9a-f]{2})+(?=")')
"""What may differ between frames that are equally sound: no schema tells such numbers apart, or such digits."""

SOUND: dict[bytes, list[tuple[str, object]]] = {}
"""What was seen in a frame, by the frame without its numbers: thousands differ in nothing else."""

UPDATES = {stream.name: stream.type for stream in Catalogue()}
TYPED = {frame.name for frame in FRAMES if frame.typed}
RESULTS = {
    "unsubscribed": "state_stream.unsubscribe",
    "streams": "state_stream.list",
    "updates": "state_stream.history",
}
"""The method whose result has a member that no other has."""


class BadFrame(AssertionError):
    """A frame is not as it is documented."""


def saw(opcode: int, payload: bytes) -> None:
    """Take notice of a frame that the server sent.

    Raises:
        BadFrame: it is not as it is documented.
    """
    if opcode == TEXT:
        check_frame(payload)
    elif opcode == CLOSE and len(payload) > 2:
        SEEN["close", int.from_bytes(payload[:2], "big")] += 1


def check_frame(text: str | bytes) -> str:
    """Return the kind of a text frame, and keep count.

    Raises:
        BadFrame: it is not as it is documented.
    """
    text = text.encode() if isinstance(text, str) else text
    outline = HEX.sub(b"", NUMBER.sub(b"1", text))
    if outline not in SOUND:
        SOUND[outline] = examine(json.loads(text))
    SEEN.update(SOUND[outline])
    return str(SOUND[outline][0][1])


def examine(value: object) -> list[tuple[str, object]]:
    """Return what is seen in a frame: its schema first.

    Raises:
        BadFrame: it is not as it is documented.
    """
    kind = kind_of(value)
    refuse_faults(kind, value)
    found: list[tuple[str, object]] = [("schema", kind)]
    found.append(("frame", "update" if kind in {"custom_update", *UPDATES.values()} else kind))
    for response in value if isinstance(value, list) else [value]:
        if "error" in response:
            found.append(("error", response["error"]["code"]))
        elif "result" in response:
            found.append(("method", method_of(response["result"])))
            refuse_faults(f"{found[-1][1]}.result", response["result"])
    return found


def kind_of(value: object) -> str:
    """Return the name of the schema of a frame."""
    if isinstance(value, list):
        return "batch"
    if not isinstance(value, dict):
        raise BadFrame(f"not an object: {value!r}")
    if "jsonrpc" in value:
        return "response"
    if "data" in value or value.get("type") not in TYPED:
        return UPDATES.get(str(value.get("stream")), "custom_update")
    return str(value["type"])


def method_of(result: dict[str, list[dict[str, object]]]) -> str:
    """Return the method that has such a result."""
    for member, method in RESULTS.items():
        if member in result:
            return method
    books = all("delivered" in row for row in result["subscriptions"])
    return "session.stats" if books else "state_stream.subscribe"


def refuse_faults(name: str, value: object) -> None:
    """Hold a value to a schema; fields of data may be left out, since subscriptions may trim it.

    Raises:
        BadFrame: something is wrong with it.
    """
    faults = (fault for fault in validator(name).iter_errors(value) if not trimmed(fault))
    if (worst := best_match(faults)) is not None:
        raise BadFrame(f"{name}: {worst.json_path}: {worst.message[:500]}")


def trimmed(fault: ValidationError) -> bool:
    """Whether all that is wrong is that data lacks a field."""
    return fault.validator == "required" and list(fault.absolute_path) == ["data"]


@cache
def validator(name: str, int64: str = "") -> Draft202012Validator:
    """Return what validates a value against a schema, with no member beside those that it names.

    Args:
        name: of the schema.
        int64: number or string, where 64-bit integers must be the one or the other.
    """
    named = closed(schemas(Catalogue()) | HTTP_SCHEMAS)
    if int64:
        for whole in ("Int64", "Uint64"):
            named[whole] = named[whole]["anyOf"][int64 == "string"]
    schema = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": named}}
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def closed(schema: dict) -> dict:
    """Return a schema whose objects have no members but those that it names."""
    schema = deepcopy(schema)
    waiting: list[object] = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if isinstance(value.get("properties"), dict) and "type" in value:
                value.setdefault("additionalProperties", False)
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return schema


def documented() -> set[tuple[str, object]]:
    """Return everything that the documents say that the server may say."""
    return {
        *(("frame", frame.name) for frame in FRAMES),
        ("frame", "batch"),
        *(("method", method.name) for method in METHODS),
        *(("error", int(code)) for code in ERRORS),
        *(("close", close.code) for close in CLOSES),
    }


def unseen() -> list[str]:
    """Return what is documented and was not seen."""
    return sorted(f"{kind} {name}" for kind, name in documented() - SEEN.keys())


def undocumented() -> list[str]:
    """Return what was seen and is not documented; a client's own close code is echoed, whatever it is."""
    return sorted(f"{kind} {name}" for kind, name in SEEN.keys() - documented() if kind not in ("close", "schema"))
