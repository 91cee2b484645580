"""Patience: how long the source of a sidecar waits for what."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Patience:
    """How long a source waits, seconds.

    Attributes:
        answer: for the first response to a subscription.
        silence: for the next response; a state service sends one every 15 s.
        call: for the answer to a call that a client makes.
        slow_pause: before the next try after a refusal that will hardly change by itself.
        settle: for an upstream that says it is down, before others are asked.
        look: for what the others answer.
        look_pause: between two rounds of asking the others, the first time; it grows tenfold.
        doubt: until an address is believed that our positions are worth nothing: it may be a relay that lags, and
            what they were worth something to may come back.
        left: the same for an epoch that was left for another.
    """

    answer: float = 10.0
    silence: float = 45.0
    call: float = 10.0
    slow_pause: float = 30.0
    settle: float = 1.0
    look: float = 2.0
    look_pause: float = 1.0
    doubt: float = 10.0
    left: float = 60.0
