"""The node's rate limiter: one token bucket and one ban clock per source address."""

from __future__ import annotations

from dataclasses import dataclass

from .clock import Clock

RATE_LIMITED = (-32001, "rate limited")
BANNED = (-32002, "banned")


@dataclass(slots=True)
class Client:
    """What the limiter knows about one address.

    Attributes:
        tokens: requests it may still make at once.
        refilled_at: when ``tokens`` was last brought up to date, clock seconds.
        banned_until: end of its ban, clock seconds; 0 when it has none.
    """

    tokens: float
    refilled_at: float
    banned_until: float = 0.0


class Limiter:
    """A token bucket per address; the request that finds it empty starts a ban.

    The bucket holds as many tokens as it refills in a second, so a rate below one refuses and bans at the very first
    request, as the real node's dispute bucket does. Asking while banned does not prolong the ban.

    Args:
        clock: where time comes from.
        tokens_per_second: refill, and capacity.
        ban_seconds: how long an address stays banned.
    """

    def __init__(self, clock: Clock, tokens_per_second: float, ban_seconds: float) -> None:
        self.clock = clock
        self.tokens_per_second = tokens_per_second
        self.ban_seconds = ban_seconds
        self._clients: dict[str, Client] = {}

    def check(self, ip: str) -> tuple[int, str] | None:
        """Take a token for ``ip``.

        Returns:
            None when the request may go on, else the error code and message to refuse it with.
        """
        now = self.clock.now()
        client = self._clients.setdefault(ip, Client(self.tokens_per_second, now))
        if client.banned_until > now:
            return BANNED
        client.banned_until = 0.0
        refill = (now - client.refilled_at) * self.tokens_per_second
        client.tokens = min(client.tokens + refill, self.tokens_per_second)
        client.refilled_at = now
        if client.tokens >= 1.0:
            client.tokens -= 1.0
            return None
        client.banned_until = now + self.ban_seconds
        return RATE_LIMITED

    def is_banned(self, ip: str) -> bool:
        """Say whether ``ip`` is banned now."""
        client = self._clients.get(ip)
        return client is not None and client.banned_until > self.clock.now()

    def clear(self) -> None:
        """Forget every address and every ban, as a restart of the node does."""
        self._clients.clear()
