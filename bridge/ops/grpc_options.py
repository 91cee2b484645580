"""gRPC options: one table for both ends, since keepalive and flow control only work where both agree.

What they mean: https://grpc.github.io/grpc/cpp/channel__arg__names_8h_source.html
"""

REQUEST_BYTES = 4 << 20
"""Largest message that a server takes: gRPC's default in every language."""

RESPONSE_BYTES = 16 << 20
"""Largest message that a client takes: a single update, or the answer of the node, may be larger than a full page."""

KEEPALIVE_TIMEOUT_MS = 10_000
"""How long a connection that is tried for life may stay silent."""

CONNECT_MS = 5_000
"""How long a try to connect may take, and the longest pause between two tries."""

BOTH = {
    # Without it a client that stops reading lets a server run 5 MB ahead; with it 0.1 MB (measured).
    "grpc.http2.bdp_probe": 0,
    "grpc.keepalive_timeout_ms": KEEPALIVE_TIMEOUT_MS,
    "grpc.keepalive_permit_without_calls": 1,
    "grpc.http2.max_pings_without_data": 0,  # no limit: a quiet subscription is tried for life too
}

SERVER = {
    "grpc.so_reuseport": 0,  # on by default: a second server on the same port would start without a word
    # Less than any keepalive setting, so that no client of ours is sent away with `too_many_pings`.
    "grpc.http2.min_ping_interval_without_data_ms": 500,
    "grpc.max_receive_message_length": REQUEST_BYTES,
    "grpc.max_send_message_length": RESPONSE_BYTES,
}

CHANNEL = {
    "grpc.max_receive_message_length": RESPONSE_BYTES,
    "grpc.max_send_message_length": REQUEST_BYTES,
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.min_reconnect_backoff_ms": CONNECT_MS,  # also how long a try may take
    "grpc.max_reconnect_backoff_ms": 1_000,  # how long to wait is for the caller to decide
}

Options = list[tuple[str, int]]


def server_options(keepalive_seconds: float) -> Options:
    """Return the options of a server that tries quiet connections for life every `keepalive_seconds`."""
    return _options(BOTH | SERVER, keepalive_seconds)


def channel_options(keepalive_seconds: float) -> Options:
    """Return the options of a client's channel that is tried for life every `keepalive_seconds` of quiet."""
    return _options(BOTH | CHANNEL, keepalive_seconds)


def _options(table: dict[str, int], keepalive_seconds: float) -> Options:
    return [*table.items(), ("grpc.keepalive_time_ms", int(keepalive_seconds * 1000))]
