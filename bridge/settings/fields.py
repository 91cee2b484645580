"""Fields: every setting there is, with its kind, default and doc. A name ends in its unit where it has one."""
# ruff: noqa: RUF009 - setting() is dataclasses.field()

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from bridge.core.limits import Limits
from bridge.settings.address import Address
from bridge.settings.kinds import (
    FILE,
    FOLDER,
    HOST,
    LISTEN,
    METHOD,
    ORIGIN,
    PEER,
    SWITCH,
    URL,
    Kind,
    choice,
    number,
    optional,
    several,
    whole,
)

T = TypeVar("T")

NODE_METHODS = (
    "ad_market.broker_state",
    "ad_market.inventory",
    "analytics",
    "balance",
    "compute_market.scheduler_stats",
    "compute_market.stats",
    "energy.market_state",
    "governor.status",
    "light.headers",
    "net.overlay_status",
    "net.peer_stats_all",
)
"""Methods of the node that only read and that dashboards poll."""

UPSTREAM_LIMIT = 16
"""How many addresses a sidecar may be given for its state service."""


def setting(kind: Kind[T], default: T, doc: str, *, secret: bool = False) -> T:
    """Declare a field of a settings class.

    Args:
        kind: how its value is read.
        default: its value when nobody gives one.
        doc: what it is, one sentence.
        secret: whether its value is kept out of everything that is printed.
    """
    return field(default=default, repr=not secret, metadata={"kind": kind, "doc": doc, "secret": secret})


@dataclass(frozen=True)
class NodeSettings:
    """How the node is read."""

    node_url: str = setting(URL, "http://127.0.0.1:3030", "JSON-RPC address of the node.")
    node_host_header: str | None = setting(
        optional(HOST),
        None,
        "Host header sent to the node, which may answer to 127.0.0.1 and localhost only; off: the host of its URL.",
    )
    node_token_file: Path | None = setting(optional(FILE), None, "File with the node's bearer token.", secret=True)
    node_metrics_url: str | None = setting(
        optional(URL), None, "Prometheus address of the node; without one, metrics are read by JSON-RPC."
    )
    node_methods: tuple[str, ...] = setting(
        several(METHOD, "names of methods, separated by commas"),
        NODE_METHODS,
        "Methods of the node that clients may call through the bridge; all must only read, since answers are shared.",
    )
    call_cache_ms: int = setting(whole(0, 60_000), 1000, "How long an answer to such a call serves equal ones.")
    backfill_blocks: int = setting(whole(0, 100_000), 100, "Blocks before the newest that are read at the start.")
    poll_interval_ms: int = setting(whole(100, 60_000), 300, "How often the node is asked for new blocks.")
    ban_seconds: float = setting(number(1, 3600), 61.0, "How long the node is left alone after it refused for rate.")
    call_timeout_seconds: float = setting(number(0.1, 60), 4.0, "How long an answer of the node is waited for.")
    stale_after_seconds: float = setting(number(1, 3600), 10.0, "How long without news until the node counts as stale.")
    account_limit: int = setting(whole(0, 10_000_000), 100_000, "Accounts that are followed at most.")
    account_message_limit_bytes: int = setting(
        whole(65_536, 1 << 30), 64 << 20, "Largest message of the node about its accounts."
    )


@dataclass(frozen=True)
class HistorySettings:
    """What is remembered of each stream."""

    history_count: int = setting(whole(1, 1_000_000), 4096, "Updates remembered of a stream.")
    history_bytes: int = setting(whole(65_536, 4 << 30), 16 << 20, "Memory for the updates of a stream.")
    history_age_seconds: float = setting(
        number(0, 31_536_000), 3600.0, "How long an update is remembered; 0: no limit."
    )
    page_bytes: int = setting(
        whole(1 << 20, 16 << 30), 64 << 20, "Memory for older updates that were read again from disk."
    )
    key_limit: int = setting(whole(1, 10_000_000), 200_000, "Keys of a stream whose current value is remembered.")


@dataclass(frozen=True)
class JournalSettings:
    """What the state service keeps on disk, so that positions outlive it."""

    data_dir: str = setting(
        FOLDER,
        "auto",
        "Folder of the journal; auto: theblock-bridge and the name of the source, under $XDG_STATE_HOME or "
        "~/.local/state; off: no journal, and every start begins a new epoch.",
    )
    journal_sync: str = setting(
        choice("batch", "always", "off"),
        "batch",
        "When updates reach the disk for sure: soon (batch), before anybody gets them (always), or when the system "
        "sees fit (off); only a crash of the machine makes a difference.",
    )
    journal_count: int = setting(whole(1, 1_000_000_000), 1_000_000, "Updates of a stream that are kept on disk.")
    journal_bytes: int = setting(whole(1 << 20, 1 << 50), 256 << 20, "Disk space for the updates of a stream.")
    journal_age_seconds: float = setting(
        number(0, 315_360_000), 604_800.0, "How long an update is kept on disk; 0: no limit."
    )


@dataclass(frozen=True)
class GrpcSettings:
    """gRPC between the state service and its clients; both ends should agree."""

    keepalive_seconds: float = setting(number(1, 3600), 30.0, "How often a quiet gRPC connection is tried for life.")


@dataclass(frozen=True)
class WebSocketSettings:
    """How WebSocket connections are served."""

    ping_interval_seconds: float = setting(number(0.1, 3600), 25.0, "How often a client is pinged.")
    pong_timeout_seconds: float = setting(number(0.1, 600), 10.0, "How long a pinged client may show no life.")
    stall_timeout_seconds: float = setting(number(0.1, 3600), 60.0, "How long a client may read nothing.")
    send_buffer_bytes: int = setting(whole(4096, 16 << 20), 65_536, "Send buffer of a connection in the kernel.")
    write_buffer_bytes: int = setting(
        whole(4096, 16 << 20), 131_072, "Unsent answers of a connection at which its next messages wait."
    )
    slice_writes: int = setting(whole(1, 100_000), 300, "Connections written to before other work gets its turn.")
    connection_limit: int = setting(whole(1, 1_000_000), 20_000, "Connections at one time.")
    accept_rate: int = setting(
        whole(0, 1_000_000), 0, "WebSocket connections accepted a second; others wait for their turn; 0: no limit."
    )
    deflate: bool = setting(SWITCH, True, "Whether messages are compressed for clients that offer permessage-deflate.")
    deflate_minimum_bytes: int = setting(whole(1, 16 << 20), 512, "Shorter messages are not compressed.")
    deflate_level: int = setting(whole(1, 9), 1, "How hard compression tries: 1 is the fastest, 9 saves the most.")


@dataclass(frozen=True)
class LogSettings:
    """What is logged on stderr, and how."""

    log_level: str = setting(choice("debug", "info", "warning", "error"), "info", "Least severity that is logged.")
    log_format: str = setting(choice("text", "json"), "text", "Form of a line of the log.")


@dataclass(frozen=True)
class StateSettings:
    """The state service: a source, and gRPC."""

    source: str = setting(choice("node", "simulated", "recording", "none"), "node", "Where the updates come from.")
    ingest: bool = setting(SWITCH, False, "Whether publishers may add updates through gRPC.")
    grpc_listen: Address | None = setting(
        optional(LISTEN),
        Address("127.0.0.1", 50051),
        "Address of the gRPC state service; the `state` command needs one.",
    )
    subscriber_limit: int = setting(whole(1, 10_000), 64, "Subscriptions of gRPC clients at one time.")
    seed: int = setting(whole(0, (1 << 63) - 1), 0, "Seed of the simulated chain: the same seed, the same chain.")
    blocks_per_second: float = setting(number(0.01, 1000), 1.0, "Rate of the simulated chain.")
    recording: Path | None = setting(optional(FILE), None, "Recording to play.")
    recording_speed: float = setting(number(1, 100), 1.0, "How many times faster than recorded it is played.")
    node: NodeSettings = field(default_factory=NodeSettings)
    journal: JournalSettings = field(default_factory=JournalSettings)
    history: HistorySettings = field(default_factory=HistorySettings)
    grpc: GrpcSettings = field(default_factory=GrpcSettings)
    log: LogSettings = field(default_factory=LogSettings)


@dataclass(frozen=True)
class SidecarSettings:
    """The sidecar: the state service's streams on WebSocket and HTTP."""

    listen: Address = setting(LISTEN, Address("127.0.0.1", 5000), "Address of WebSocket and HTTP.")
    reuse_port: bool = setting(
        SWITCH,
        False,
        "Whether other processes of this user may listen at the same TCP address, so that a successor can take over; "
        "the sidecar then listens once it has caught up with its upstream.",
    )
    transport: str = setting(
        choice("asyncio", "aiofastnet"),
        "asyncio",
        "What moves bytes through sockets: Python's own, or the package of that name, which theblock-bridge[fast] "
        "installs; it costs less processor time where thousands of clients are served.",
    )
    upstream: tuple[Address, ...] = setting(
        several(PEER, f"1 to {UPSTREAM_LIMIT} of {PEER.allowed}, separated by commas", 1, UPSTREAM_LIMIT),
        (Address("127.0.0.1", 50051),),
        "Addresses of the state service and of relays of it; when the one in use fails, the next one is followed.",
    )
    allowed_hosts: tuple[str, ...] = setting(
        several(HOST, "hosts, separated by commas"), (), "Host headers allowed beside loopback names."
    )
    allowed_origins: tuple[str, ...] = setting(
        several(ORIGIN, "origins like https://example.org, in lower case, separated by commas"),
        (),
        "Origins of web pages allowed beside loopback names.",
    )
    drain_seconds: float = setting(number(0, 300), 3.0, "Over how long clients are sent away at the end.")
    dashboard_poll_interval_ms: int = setting(
        whole(100, 600_000), 2000, "How often dashboards are told to poll while they have no WebSocket."
    )
    websockets_percent: float = setting(
        number(0, 100), 100.0, "Share of visitors that config.json tells to use the WebSocket; the others poll."
    )
    websockets_percent_file: Path | None = setting(
        optional(FILE),
        None,
        "File with that percentage, which goes before websockets_percent and may change while the process runs.",
    )
    websocket: WebSocketSettings = field(default_factory=WebSocketSettings)
    history: HistorySettings = field(default_factory=HistorySettings)
    limits: Limits = field(default_factory=Limits)
    grpc: GrpcSettings = field(default_factory=GrpcSettings)
    log: LogSettings = field(default_factory=LogSettings)


@dataclass(frozen=True)
class UpSettings:
    """State service and sidecar in one process; `sidecar.upstream` is not used.

    What both have in common (`history`, `grpc`, `log`) is the same in both.
    """

    state: StateSettings = field(default_factory=StateSettings)
    sidecar: SidecarSettings = field(default_factory=SidecarSettings)
