"""The gRPC edge: StateStreamService, and the server that it and other services stand on."""

from bridge.edges.grpc.server import Service, StateServer
from bridge.edges.grpc.state import StateStreamService

__all__ = ["Service", "StateServer", "StateStreamService"]
