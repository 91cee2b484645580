"""What a client asks for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bridge.core.position import Position


@dataclass(frozen=True, slots=True)
class Subscription:
    """A stream to read; at most one of `since`, `since_height`, `since_time_ms` and `last`. None: from now on.

    Attributes:
        stream: its name.
        key: of the values wanted; None: all.
        since: position of the last update that is known.
        since_height: begin with the first update of at least that height.
        since_time_ms: begin with the first update published then or later, Unix milliseconds.
        last: how many of the newest updates to begin with.
        where: conditions on fields of data, all must hold: a value, or an object of in, prefix, gt, gte, lt, lte.
        fields: of data that are wanted; None: all. JSON only.
        max_rate_hz: the most updates a second, of a stream delivered `latest`.
    """

    stream: str
    key: str | None = None
    since: Position | None = None
    since_height: int | None = None
    since_time_ms: int | None = None
    last: int | None = None
    where: Mapping[str, object] | None = None
    fields: Sequence[str] | None = None
    max_rate_hz: float | None = None

    @property
    def name(self) -> tuple[str, str | None]:
        """What it is called: a connection has one subscription to each stream and key."""
        return self.stream, self.key

    @property
    def goes_on(self) -> bool:
        """Whether nothing says where it begins."""
        return self.last is None and since_params(self.since, self.since_height, self.since_time_ms) is None

    def resumed(self, position: Position) -> "Subscription":
        """Return it as it goes on behind a position."""
        return replace(self, since=position, since_height=None, since_time_ms=None, last=None)

    def to_params(self) -> dict[str, object]:
        """Return it as an entry of the params of state_stream.subscribe."""
        return given(
            stream=self.stream,
            key=self.key,
            since=since_params(self.since, self.since_height, self.since_time_ms),
            last=self.last,
            where=None if self.where is None else dict(self.where),
            fields=None if self.fields is None else list(self.fields),
            max_rate=self.max_rate_hz,
        )


def given(**members: object) -> dict[str, object]:
    """Return params without those that are not given."""
    return {name: value for name, value in members.items() if value is not None}


def since_params(position: Position | None, height: int | None, time_ms: int | None) -> dict[str, object] | None:
    """Return where reading begins, as params have it; None: nothing says."""
    if position is not None:
        return dict(position._asdict())
    if height is not None:
        return {"height": height}
    return None if time_ms is None else {"time": time_ms}
