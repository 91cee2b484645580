"""The commands that talk to a running bridge: watch, publish, record, streams, verify."""

from bridge.commands.publish import publish
from bridge.commands.record import record
from bridge.commands.streams import streams
from bridge.commands.verify import verify
from bridge.commands.watch import watch

__all__ = ["publish", "record", "streams", "verify", "watch"]
