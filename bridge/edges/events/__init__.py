"""The Server-Sent Events edge: GET /events."""

from bridge.edges.events.edge import EventsEdge

__all__ = ["EventsEdge"]
