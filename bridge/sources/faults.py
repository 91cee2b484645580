"""Faults: what a state service may answer a subscription with that it cannot be followed by."""

from enum import Enum

from bridge.core.errors import UpstreamError


class Fault(UpstreamError):
    """The state service broke the protocol; the sentence says how.

    Attributes:
        stream: that it is about; "" for none.
    """

    def __init__(self, message: str, stream: str = "") -> None:
        super().__init__(message)
        self.stream = stream


class Doubt(Enum):
    """Why a state service takes our positions for worth nothing."""

    EPOCH = "epoch"  # it has another epoch
    BEHIND = "behind"  # its streams are not as far as ours


class Doubted(UpstreamError):
    """Positions that were asked for are worth nothing to the state service.

    If that is believed, `Intake.give_up` has those streams begin anew.

    Attributes:
        doubt: why.
        streams: whose positions they are.
        epoch: that the service is in.
    """

    def __init__(self, doubt: Doubt, streams: frozenset[str], epoch: str) -> None:
        super().__init__(f"is in another epoch, {epoch}" if doubt is Doubt.EPOCH else "is behind the updates held here")
        self.doubt = doubt
        self.streams = streams
        self.epoch = epoch
