"""Everything that the node knows, without a socket."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from .chain import Chain
from .energy import EnergyMarket
from .faults import Faults
from .limiter import Limiter
from .options import Options
from .peers import Peers

DISPUTE_METHODS = frozenset(
    {"energy.flag_dispute", "energy.register_provider", "energy.resolve_dispute", "energy.update_provider"}
)
READ_METHODS = frozenset({"energy.credits", "energy.disputes", "energy.market_state", "energy.receipts"})


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the source address, and the bearer token it showed."""

    ip: str
    token: str | None = None

    @property
    def is_loopback(self) -> bool:
        """Whether it asks from the node's own machine."""
        return ipaddress.ip_address(self.ip).is_loopback


@dataclass(slots=True)
class Model:
    """The node's memory.

    Attributes:
        chain: blocks, accounts, mempool.
        options: how the node was configured.
        prices: compute prices by lane, ``(p25, median, p75)``; a lane without one answers -33000.
        nonces: of ``submit_tx``, never forgotten before a restart.
    """

    chain: Chain
    options: Options
    energy: EnergyMarket = field(init=False)
    peers: Peers = field(init=False)
    faults: Faults = field(default_factory=Faults)
    prices: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    nonces: set[int] = field(default_factory=set)
    limiter: Limiter = field(init=False)
    energy_limiters: dict[str, Limiter] = field(init=False)

    def __post_init__(self) -> None:
        clock, options = self.chain.clock, self.options
        self.energy = EnergyMarket(self.chain)
        self.peers = Peers(clock)
        self.limiter = Limiter(clock, options.tokens_per_second, options.ban_seconds)
        read = Limiter(clock, options.energy_read_tokens_per_second, options.ban_seconds)
        dispute = Limiter(clock, options.energy_dispute_tokens_per_second, options.ban_seconds)
        settle = Limiter(clock, options.energy_settle_tokens_per_second, options.ban_seconds)
        self.energy_limiters = {
            **dict.fromkeys(READ_METHODS, read),
            **dict.fromkeys(DISPUTE_METHODS, dispute),
            "energy.settle": settle,
        }

    def restart(self) -> None:
        """Lose what a restart of the process loses: counters, energy market, bans, nonces. Chain and prices stay."""
        self.chain.restart()
        self.energy.clear()
        self.peers.restart()
        self.nonces.clear()
        self.limiter.clear()
        for limiter in self.energy_limiters.values():
            limiter.clear()
