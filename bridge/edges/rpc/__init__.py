"""JSON-RPC 2.0 at POST /rpc: for dashboards that poll, from memory where the streams know, else from the node."""

from bridge.edges.rpc.edge import RpcEdge

__all__ = ["RpcEdge"]
