"""What machines read of the sidecar: where it is, its messages in protobuf, its WebSocket and its HTTP."""

from bridge.edges.documents.edge import DocumentsEdge
from bridge.edges.documents.rollout import Rollout

__all__ = ["DocumentsEdge", "Rollout"]
