"""What a client counts."""

from dataclasses import dataclass


@dataclass
class Counts:
    """What a client has counted.

    Attributes:
        connections: that came about.
        updates: that were told, snapshots left aside.
        snapshots: that were told.
        repeated: updates that had come before and were dropped.
        unexplained: gaps that the sidecar did not announce.
        unasked: updates of no subscription, dropped.
        unknown: frames of a kind that this client does not know, dropped.
    """

    connections: int = 0
    updates: int = 0
    snapshots: int = 0
    repeated: int = 0
    unexplained: int = 0
    unasked: int = 0
    unknown: int = 0
