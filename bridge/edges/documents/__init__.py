"""What machines read of the sidecar: where it is, its messages in protobuf, its WebSocket and its HTTP."""

from bridge.edges.documents.edge import DocumentsEdge

__all__ = ["DocumentsEdge"]
