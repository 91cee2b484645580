"""How a stand-in is configured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """The node's settings, with its measured defaults, and the stand-in's own.

    Attributes:
        host: address to listen on.
        allowed_hosts: ``Host`` headers let in, port aside.
        blocks_per_second: automatic growth; 0 for none.
        txs_per_block: new transactions in every block of that growth, besides those waiting in the mempool.
        tokens_per_second: rate and capacity of the general limiter, requests.
        energy_read_tokens_per_second: the same for energy reads.
        energy_dispute_tokens_per_second: the same for registering and disputes; below 1 every first call bans.
        energy_settle_tokens_per_second: the same for settlements.
        ban_seconds: how long a ban lasts.
        max_body_bytes: longest request body; a longer one resets the connection.
        max_handlers: permits for handlers, each open stream included; the next request hangs.
        request_timeout_seconds: for the first request after connecting, and for the rest of any begun request.
        keep_alive_seconds: until an idle connection is closed.
        state_stream_seconds: between two messages of ``/state_stream``.
        max_proof_accounts: a larger account set is streamed with empty proofs. The real node proves every account,
            about 2 KB each at 100,000 of them, which no test wants to wait for.
        telemetry: whether the node was built with it.
        governor: whether the launch governor is on.
        energy_rehearsal: whether the energy market refuses changes, as on every fresh node.
        admin_token: opens the admin methods, and closes energy reads to callers without a token.
        energy_token: the provider token: read-only access to the energy market.
    """

    host: str = "127.0.0.1"
    allowed_hosts: tuple[str, ...] = ("127.0.0.1", "localhost")
    blocks_per_second: float = 0.0
    txs_per_block: int = 0
    tokens_per_second: float = 100.0
    energy_read_tokens_per_second: float = 16.67
    energy_dispute_tokens_per_second: float = 0.33
    energy_settle_tokens_per_second: float = 0.83
    ban_seconds: float = 60.0
    max_body_bytes: int = 1024 * 1024
    max_handlers: int = 1024
    request_timeout_seconds: float = 5.0
    keep_alive_seconds: float = 90.0
    state_stream_seconds: float = 1.0
    max_proof_accounts: int = 256
    telemetry: bool = True
    governor: bool = True
    energy_rehearsal: bool = True
    admin_token: str | None = None
    energy_token: str | None = None
