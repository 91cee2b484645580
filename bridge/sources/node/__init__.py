"""The node source: a The Block node's JSON-RPC and /state_stream, turned into streams."""

from bridge.sources.node.client import NodeError
from bridge.sources.node.settings import NodeSettings
from bridge.sources.node.source import NodeSource

__all__ = ["NodeError", "NodeSettings", "NodeSource"]
