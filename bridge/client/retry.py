"""When a client tries again, and when it gives up."""

from collections.abc import Callable
from dataclasses import dataclass

from bridge.client.errors import LostError, RefusedError
from bridge.core.backoff import Backoff

FINAL_CODES = range(4500, 5000)
"""Close codes after which trying again does not help."""

FAULTY_CODES = frozenset({1002, 1003, 1007, 1008, 1009, 1010})
"""Close codes that say that somebody broke the protocol (RFC 6455, section 7.4.1)."""

FAULTS = 3
"""How many such ends in a row, with no steady connection between them, are the last."""

LONGEST_WAIT_SECONDS = 600.0
"""The longest that a sidecar may send a client away for."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a client waits for what.

    Attributes:
        connect_seconds: for a connection, handshake and welcome included.
        answer_seconds: for the answer to a request, a connection to send it on included.
        quiet_seconds: without any frame, before it asks whether the sidecar is still there.
        pong_seconds: for the answer to that.
        close_seconds: for the sidecar to answer a close.
        steady_seconds: after which a connection counts as good, so that the pauses between tries begin anew.
        first_retry_seconds: upper end of the first pause between two tries; it doubles with each.
        longest_retry_seconds: upper end of every pause.
    """

    connect_seconds: float = 10.0
    answer_seconds: float = 10.0
    quiet_seconds: float = 20.0
    pong_seconds: float = 10.0
    close_seconds: float = 1.0
    steady_seconds: float = 5.0
    first_retry_seconds: float = 0.2
    longest_retry_seconds: float = 10.0


class Retry:
    """Says how long to wait after each lost connection: at least what the sidecar asks for, and a random bit more."""

    def __init__(self, patience: Patience, random: Callable[[], float]) -> None:
        """Begin with no failure.

        Args:
            patience: the pauses.
            random: returns a number in [0, 1).
        """
        self._patience = patience
        self._backoff = Backoff(patience.first_retry_seconds, patience.longest_retry_seconds, random)
        self._faults = 0

    def wait_seconds(self, lost: LostError, lived_seconds: float) -> float:
        """Return how long to wait.

        Args:
            lost: why the connection ended.
            lived_seconds: how long it was open; 0 if it never was.

        Raises:
            RefusedError: trying again would not help.
        """
        if lost.code in FINAL_CODES:
            raise RefusedError(str(lost), lost.code)
        if lived_seconds >= self._patience.steady_seconds:
            self._backoff.reset()
            self._faults = 0
        self._faults += lost.fault
        if self._faults >= FAULTS:
            raise RefusedError(f"{lost}, {FAULTS} times in a row", lost.code)
        return min(lost.retry_after_seconds or 0.0, LONGEST_WAIT_SECONDS) + self._backoff.next()
