"""What a test makes the node do wrong on top of its ordinary manners."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any


class Panic(Exception):
    """A handler of the node died: the connection ends without a reply."""


@dataclass(slots=True)
class Faults:
    """Switches, all of them off at first. Change them at any time.

    Attributes:
        latency_seconds: how long every answer takes, its handler's permit held meanwhile.
        method_latency_seconds: the same for single JSON-RPC methods, instead.
        panics: JSON-RPC methods whose handler dies.
        results: what single JSON-RPC methods give for a result instead of the model's.
        running: cleared while the node is frozen.
    """

    latency_seconds: float = 0.0
    method_latency_seconds: dict[str, float] = field(default_factory=dict)
    panics: set[str] = field(default_factory=set)
    results: dict[str, Any] = field(default_factory=dict)
    running: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.running.set()

    def latency_of(self, method: str) -> float:
        """Return how long the answer to ``method`` takes, seconds."""
        return self.method_latency_seconds.get(method, self.latency_seconds)
