"""How one node is read."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class NodeSettings:
    """How one node is read.

    Attributes:
        url: JSON-RPC address of the node, http://host:port.
        host_header: Host header to send, since the node may answer to 127.0.0.1 and localhost only; None: that of url.
        token: bearer token, which the node may want for reading the energy market; None: none is sent.
        backfill_blocks: how many of the newest blocks are read at the start; the newest one always is.
        poll_interval_ms: how often the node is asked for new blocks.
        ban_seconds: how long the node is left alone after it refused for rate; it bans for 60 s.
        call_timeout_seconds: how long an answer is waited for.
        stale_after_seconds: how long without an answer until the node counts as stale.
        account_limit: how many accounts are followed.
        message_limit_bytes: largest message of /state_stream.
        metrics_url: Prometheus address of the node; None: its metrics are read by JSON-RPC.
    """

    url: str = "http://127.0.0.1:3030"
    host_header: str | None = None
    token: str | None = field(default=None, repr=False)
    backfill_blocks: int = 100
    poll_interval_ms: int = 300
    ban_seconds: float = 61.0
    call_timeout_seconds: float = 4.0
    stale_after_seconds: float = 10.0
    account_limit: int = 100_000
    message_limit_bytes: int = 64 << 20
    metrics_url: str | None = None


@dataclass(frozen=True)
class Intervals:
    """Seconds between two calls of one kind: all of them together stay under a tenth of the node's limit.

    The node allows 100 requests a second (measured), which every process on the host shares. Beside the blocks' 3.3
    calls a second these make 1.7.

    Attributes:
        mempool: of `mempool.stats`.
        telemetry: of `metrics`.
        peers: of `net.peer_stats_all`, one page a call.
        energy: of `energy.market_state`.
        metrics: between two updates of the metrics stream that no block calls for.
        refused: of a method that the node does not have or does not allow.
        silence: of /state_stream, after which it is opened anew; it sends every second.
    """

    mempool: float = 2.0
    telemetry: float = 5.0
    peers: float = 2.0
    energy: float = 2.0
    metrics: float = 2.0
    refused: float = 60.0
    silence: float = 5.0
