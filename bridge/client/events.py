"""What a client hears: a class for each kind of frame, and for what becomes of the connection.

Names of members are those of the protocol, with a unit where there is one.
"""

import json

from msgspec import Struct, field

from bridge.core.position import Position


class Missed(Struct, frozen=True):
    """Updates that a snapshot stands in for, both ends included."""

    first: int = field(name="from")
    last: int = field(name="to")


class Updated(Struct, frozen=True, kw_only=True):
    """An update, or a snapshot of a current value.

    Attributes:
        stream: what it was published on.
        type: what kind of value `data` is.
        epoch: of its position.
        seq: of its position.
        time_ms: when it was published, Unix milliseconds.
        key: of the value; None where there are no keys.
        prev: seq of the key's update before; None where there are no keys.
        snapshot: whether it is a current value, or one that stands in, rather than what comes next.
        missed: what it stands in for.
        data: the value, the same in both formats.
        raw: the frame's payload as it came; empty for updates of a history page.
    """

    stream: str
    type: str
    epoch: str
    seq: int
    time_ms: int = field(name="time")
    key: str | None = None
    prev: int | None = None
    snapshot: bool = False
    missed: Missed | None = None
    data: dict[str, object]
    raw: bytes = b""

    @property
    def position(self) -> Position:
        """Its position."""
        return Position(self.epoch, self.seq)

    def to_json(self) -> str:
        """Return it as one line of JSON: what a JSON client gets as a frame."""
        members: dict[str, object] = {"type": self.type, "stream": self.stream, "epoch": self.epoch, "seq": self.seq}
        members["time"] = self.time_ms
        if self.key is not None:
            members |= {"key": self.key, "prev": self.prev}
        if self.snapshot:
            members["snapshot"] = True
        if self.missed is not None:
            members["missed"] = {"from": self.missed.first, "to": self.missed.last}
        return json.dumps(members | {"data": self.data}, ensure_ascii=False, separators=(",", ":"))


class Gap(Struct, frozen=True, kw_only=True):
    """Updates that will not come.

    Attributes:
        stream: that they were published on.
        key: of the subscription.
        epoch: of the positions.
        first: the first missing seq; 0 in a new epoch, where there is no range to name.
        last: the last missing seq.
        reason: `trimmed`: history no longer holds them, and values that stand in follow. `epoch`: the stream begins
            anew, and its current value follows. `unexplained`: the sidecar did not say; found by the client.
    """

    stream: str
    key: str | None = None
    epoch: str = ""
    first: int = field(name="from")
    last: int = field(name="to")
    reason: str


class FellBehind(Struct, frozen=True):
    """The client reads too slowly to stay live: `seq` has been served, `head` is the newest."""

    stream: str
    seq: int
    head: int


class CaughtUp(Struct, frozen=True):
    """The client is live again: `seq` has been served."""

    stream: str
    seq: int


class Upstream(Struct, frozen=True):
    """Whether the streams follow the node: `state` is live, stale or down, since `since_ms`, Unix milliseconds."""

    state: str
    since_ms: int = field(name="since")


class StreamAt(Struct, frozen=True):
    """How far a stream has come."""

    stream: str
    seq: int
    epoch: str = ""


class Progress(Struct, frozen=True):
    """How far streams have come that moved without an update for this client."""

    positions: tuple[StreamAt, ...]


class GoingAway(Struct, frozen=True):
    """The sidecar will close the connection; `retry_after_ms` is this client's own time to come back."""

    retry_after_ms: int
    reason: str = ""


class Welcome(Struct, frozen=True):
    """What the sidecar says of itself.

    Attributes:
        session: name of the connection, for logs.
        server: name of the software.
        version: of the software.
        format: of the frames: json or proto.
        ping_interval_ms: how long a client may be silent before it is pinged.
        max_message_bytes: the largest message that a client may send.
        streams: that are declared.
    """

    session: str
    server: str
    version: str
    format: str
    ping_interval_ms: int
    max_message_bytes: int
    streams: tuple[str, ...]


class Started(Struct, frozen=True, kw_only=True):
    """Where a subscription begins.

    Attributes:
        stream: its name.
        key: that it is for; None: all.
        declared: whether anything has declared the stream yet.
        did_you_mean: the nearest declared name, where it is not.
        epoch: of the position behind which updates follow.
        seq: of that position.
        recovered: after a resume, whether every update behind the position follows; None: it begins here.
        replayed: how many updates are replayed from history.
        reason: why not all follow: trimmed, epoch or ahead.
    """

    stream: str
    key: str | None = None
    declared: bool
    did_you_mean: str | None = None
    epoch: str = ""
    seq: int
    recovered: bool | None = None
    replayed: int | None = None
    reason: str | None = None


class Connected(Struct, frozen=True):
    """The sidecar has answered, at first and after each reconnect."""

    welcome: Welcome
    subscriptions: tuple[Started, ...]


class Postponed(Struct, frozen=True):
    """The sidecar cannot decide now where the client goes on; positions are kept, it is asked again on its own."""

    reason: str
    retry_seconds: float


class Disconnected(Struct, frozen=True):
    """The connection is lost, or did not come about; another try follows on its own.

    Attributes:
        reason: one sentence.
        code: close code; None if there was none.
        retry_seconds: until the next try.
    """

    reason: str
    code: int | None
    retry_seconds: float


Event = (
    Connected
    | Updated
    | Gap
    | FellBehind
    | CaughtUp
    | Upstream
    | Progress
    | GoingAway
    | Postponed
    | Disconnected
)  # fmt: skip


# ---------------------------------------------------------------------- answers to requests


class StreamInfo(Struct, frozen=True, kw_only=True):
    """A declared stream, and what of it can be had.

    Attributes:
        stream: its name.
        type: of its updates.
        delivery: what a client that falls behind gets: every or latest.
        keyed: whether its updates carry keys.
        message: full name of the protobuf message in its updates.
        epoch: of its positions.
        oldest: seq of the oldest update in history; 0 where there is none.
        newest: seq of the newest update; 0 before the first.
    """

    stream: str
    type: str
    delivery: str
    keyed: bool
    message: str
    epoch: str = ""
    oldest: int
    newest: int


class Page(Struct, frozen=True):
    """A page of history: `next` is where the next one begins, None at the end; `missed` is no longer held."""

    updates: tuple[Updated, ...]
    next: Position | None = None
    missed: Missed | None = None


class Books(Struct, frozen=True, kw_only=True):
    """What became of every update of a subscription.

    head - start = delivered + filtered + skipped + missed + pending.
    """

    stream: str
    key: str | None = None
    epoch: str = ""
    start: int
    head: int
    delivered: int
    filtered: int
    skipped: int
    missed: int
    pending: int


class Pong(Struct, frozen=True):
    """Answer to a ping.

    Attributes:
        server_time_ms: the sidecar's clock, Unix milliseconds.
        round_trip_seconds: until the answer was read, what had to be read before it included.
    """

    server_time_ms: int
    round_trip_seconds: float
