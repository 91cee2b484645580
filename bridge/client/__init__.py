"""The Python client of the sidecar: updates from a WebSocket, resumed by itself over reconnects.

Example:
    async with Client("ws://127.0.0.1:5000/ws", [Subscription("block_updates")]) as client:
        async for event in client:
            if isinstance(event, Updated):
                print(event.data)
"""

from bridge.client.client import Client
from bridge.client.counts import Counts
from bridge.client.errors import RefusedError, UnansweredError
from bridge.client.events import (
    Books,
    CaughtUp,
    Connected,
    Disconnected,
    Event,
    FellBehind,
    Gap,
    GoingAway,
    Missed,
    Page,
    Pong,
    Postponed,
    Progress,
    Started,
    StreamAt,
    StreamInfo,
    Updated,
    Upstream,
    Welcome,
)
from bridge.client.retry import Patience
from bridge.client.subscription import Subscription
from bridge.core.position import Position

__all__ = [
    "Books",
    "CaughtUp",
    "Client",
    "Connected",
    "Counts",
    "Disconnected",
    "Event",
    "FellBehind",
    "Gap",
    "GoingAway",
    "Missed",
    "Page",
    "Patience",
    "Pong",
    "Position",
    "Postponed",
    "Progress",
    "RefusedError",
    "Started",
    "StreamAt",
    "StreamInfo",
    "Subscription",
    "UnansweredError",
    "Updated",
    "Upstream",
    "Welcome",
]
