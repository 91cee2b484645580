"""Health: what is said about the node, made of how its answers go. Time is an argument."""

from typing import NamedTuple

from bridge.core.errors import UpstreamError
from bridge.core.hub import State
from bridge.sources.node.client import NodeBanned, NodeUnreachable


class Verdict(NamedTuple):
    """What to say about the node: its state, and a sentence for the operator."""

    state: State
    detail: str


class Health:
    """Judges the node by the answers to the calls for blocks.

    Args:
        node: what the node is called in sentences.
        stale_after: seconds without an answer until it counts as stale.
    """

    def __init__(self, node: str, stale_after: float) -> None:
        self._node = node
        self._stale_after = stale_after
        self._verdict: Verdict | None = None
        self._answered_at: float | None = None
        self._error = "it has not answered yet"

    def following(self, now: float, height: int) -> Verdict:
        """Note an answer: the node's newest block (-1: none) is known."""
        detail = "is followed" if height >= 0 else "is followed; its chain is empty so far"
        return self._note(now, Verdict(State.LIVE, f"The node at {self._node} {detail}."))

    def reading(self, now: float) -> Verdict:
        """Note an answer that is not the newest yet."""
        if self._verdict is not None and self._verdict.state is State.LIVE:
            return self._note(now, self._verdict)
        detail = f"The blocks of the node at {self._node} are being read up to its newest."
        return self._note(now, Verdict(State.STALE, detail))

    def resyncing(self, now: float, at: int, tip: int) -> Verdict:
        """Note an answer that shows the chain, now at height `at`, shorter than what was published, up to `tip`."""
        has = f"is at height {at}" if at >= 0 else "is empty"
        detail = f"The chain of the node at {self._node} {has}, below height {tip} that was published"
        return self._note(now, Verdict(State.STALE, f"{detail}: it is waited for until it has passed it."))

    def failed(self, now: float, error: UpstreamError, until: str) -> Verdict | None:
        """Note a failure.

        Args:
            now: monotonic seconds.
            error: what went wrong.
            until: the time of day until which the node is left alone, for a ban.

        Returns:
            What to say now, None: what was said before.
        """
        self._error = str(error).rstrip(".")
        if isinstance(error, NodeUnreachable):
            self._verdict = Verdict(State.DOWN, f"{self._error}.")
        elif isinstance(error, NodeBanned):
            refused = "refused for rate (HTTP 429): it is left alone until"
            self._verdict = Verdict(State.STALE, f"The node at {self._node} {refused} {until}.")
        elif self._answered_at is None:
            self._verdict = Verdict(State.DOWN, f"The node at {self._node} has not answered yet: {self._error}.")
        elif self._verdict is not None and self._verdict.state is State.LIVE:
            return self.check(now)
        else:
            self._verdict = Verdict(State.STALE, f"The node at {self._node} gives no usable answer: {self._error}.")
        return self._verdict

    def check(self, now: float) -> Verdict | None:
        """Say whether the node has been silent for too long; None: what was said before."""
        if self._verdict is None or self._verdict.state is not State.LIVE or self._answered_at is None:
            return None
        if now - self._answered_at < self._stale_after:
            return None
        silent = f"has given no usable answer for {self._stale_after:g} s"
        self._verdict = Verdict(State.STALE, f"The node at {self._node} {silent}: {self._error}.")
        return self._verdict

    def _note(self, now: float, verdict: Verdict) -> Verdict:
        self._answered_at = now
        self._error = "it stopped answering"
        self._verdict = verdict
        return verdict
