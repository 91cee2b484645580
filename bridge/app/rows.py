"""The metrics of the parts of a process."""

from prometheus_client.core import GaugeMetricFamily

from bridge.edges.events import EventsEdge
from bridge.edges.rpc import RpcEdge
from bridge.edges.websocket import WebSocketEdge
from bridge.ops.call_cache import CallCache
from bridge.ops.metrics import Row, counter, gauge
from bridge.sources.grpc import UpstreamSource
from bridge.store.journal import Journal


def connection_rows(edge: WebSocketEdge, events: EventsEdge) -> list[Row]:
    """Return the metrics of WebSocket connections; those of events are among the connections of that edge."""
    return [
        gauge("connections", "WebSocket connections that are open.", lambda: len(edge.wires) - events.open),
        counter("connections_accepted", "WebSocket connections that were accepted.", lambda: edge.accepted),
        counter("connections_refused", "WebSocket handshakes that were refused.", lambda: edge.refused),
        gauge("connections_waiting", "WebSocket handshakes that wait for their turn.", lambda: edge.waiting),
    ]


def journal_rows(journal: Journal) -> list[Row]:
    """Return the metrics of the journal of a state service."""
    return [
        gauge("journal_updates", "Updates in the journal.", lambda: journal.updates),
        gauge("journal_bytes", "Disk space of the journal.", lambda: journal.size_bytes),
        counter("journal_syncs", "Times that the disk was waited for.", lambda: journal.syncs),
        counter("journal_sync_seconds", "Time that the disk was waited for.", lambda: journal.sync_seconds),
        counter("journal_failures", "Times that the journal could not be read or written.", lambda: journal.failures),
    ]


def upstream_rows(upstream: UpstreamSource) -> list[Row]:
    """Return the metrics of a sidecar's subscription to its state service."""
    counts, upstreams = upstream.subscriptions, upstream.upstreams
    return [
        Row(
            "upstream_in_use",
            GaugeMetricFamily,
            "1 for the address of the state service that is followed, or was last, 0 for the others.",
            ("number", "address"),
            lambda: [((str(one.number), str(one.address)), float(one is upstreams.in_use)) for one in upstreams],
        ),
        counter("upstream_failovers", "Times that another address came to be followed.", lambda: upstreams.failovers),
        counter("upstream_subscribes", "Subscribe calls to the state service.", lambda: counts.calls),
        counter("upstream_reconnects", "Subscriptions followed again after a loss.", lambda: counts.reconnects),
        counter("upstream_repeats", "Updates dropped because they had come before.", lambda: counts.repeats),
        counter("upstream_conflated", "Updates of latest streams dropped for a newer one.", lambda: counts.conflated),
        counter("upstream_faults", "Times that the state service broke the protocol.", lambda: counts.faults),
        counter(
            "upstream_positions_given_up",
            "Positions given up because the state service failed at them again and again.",
            lambda: counts.given_up,
        ),
    ]


def event_rows(events: EventsEdge) -> list[Row]:
    """Return the metrics of Server-Sent Events."""
    return [
        gauge("event_connections", "Server-Sent Events connections that are open.", lambda: events.open),
        counter("event_connections_accepted", "Server-Sent Events connections accepted.", lambda: events.accepted),
        counter("event_connections_refused", "Server-Sent Events requests refused.", lambda: events.refused),
    ]


def rpc_rows(rpc: RpcEdge, calls: CallCache | None) -> list[Row]:
    """Return the metrics of /rpc and of the calls of the node that it makes."""
    rows = [counter("rpc_requests", "JSON-RPC requests at /rpc.", lambda: rpc.requests)]
    if calls is not None:
        rows += [
            counter("node_calls", "Calls of the node made for clients.", lambda: calls.made),
            counter("node_calls_shared", "Calls of clients answered by a call made for another.", lambda: calls.shared),
        ]
    return rows
