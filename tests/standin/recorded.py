"""The answers that a running node gave, one JSON file each in ``recordings/``, and how to compare with them."""

from __future__ import annotations

import copy
import functools
import json
import re
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "recordings"
HASH = re.compile(r'"[0-9a-f]{64}"')


@functools.cache
def _parsed(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def recording(name: str) -> Any:
    """Return the recording ``recordings/<name>.json``, the caller's own copy.

    Most are ``{request, status, headers, response, elapsed_ms, captured_at_ms, note?}``; ``status`` is None and
    ``error`` set where the node closed the connection instead of answering.

    Raises:
        FileNotFoundError: there is none of that name.
    """
    return copy.deepcopy(_parsed(name))


def masked(value: Any) -> str:
    """Return the JSON text that the node would send for ``value``, every hash and address of 64 hex digits replaced.

    They differ from chain to chain; nothing else does.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return masked_text(text.encode())


def masked_text(text: bytes) -> str:
    """Return JSON as it came, every hash and address of 64 hex digits replaced."""
    return HASH.sub('"<hash>"', text.decode())


def shape(value: Any) -> Any:
    """Reduce JSON to its structure: keys and types; of a list, its first element."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    if isinstance(value, list):
        return [shape(each) for each in value[:1]]
    return type(value).__name__
