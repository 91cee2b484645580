"""A reader of Server-Sent Events as the HTML Living Standard has it, section 9.2.6: what a browser makes of them.

source = EventSource()
for event in source.feed(data): ...   # of any number of bytes
"""

from typing import NamedTuple

NO_EVENT = b"\xef\xbb\xbf"
"""A byte order mark, which may stand at the beginning."""


class Event(NamedTuple):
    """An event that is dispatched."""

    type: str
    data: str
    last_event_id: str


class EventSource:
    """Reads one connection after another.

    Attributes:
        last_event_id: what is sent as Last-Event-ID at the next connection.
        retry_ms: how long is waited before it.
        comments: how many there were.
    """

    def __init__(self) -> None:
        self.last_event_id = ""
        self.retry_ms = 3000
        self.comments = 0
        self.connect()

    def connect(self) -> None:
        """Begin a connection: what is not whole of the one before is thrown away."""
        self._rest = b""
        self._begun = False
        self._data: list[str] = []
        self._type = ""
        self._id = self.last_event_id

    def feed(self, data: bytes) -> list[Event]:
        """Take bytes in; return the events that they complete."""
        self._rest += data
        if not self._begun and len(self._rest) >= len(NO_EVENT):
            self._begun, self._rest = True, self._rest.removeprefix(NO_EVENT)
        events: list[Event] = []
        while (line := self._take_line()) is not None:
            if (event := self._line(line.decode())) is not None:
                events.append(event)
        return events

    def _take_line(self) -> bytes | None:
        ends = [place for place in (self._rest.find(b"\n"), self._rest.find(b"\r")) if place >= 0]
        if not ends or self._rest[min(ends) :] == b"\r":  # a line feed may follow
            return None
        line, rest = self._rest[: min(ends)], self._rest[min(ends) :]
        self._rest = rest[2:] if rest.startswith(b"\r\n") else rest[1:]
        return line

    def _line(self, line: str) -> Event | None:
        if not line:
            return self._dispatch()
        name, colon, value = line.partition(":")
        if not name and colon:
            self.comments += 1
            return None
        value = value.removeprefix(" ")
        match name:
            case "event":
                self._type = value
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if value.isascii() and value.isdigit():
                self.retry_ms = int(value)
        return None

    def _dispatch(self) -> Event | None:
        self.last_event_id = self._id
        data, type_ = "\n".join(self._data), self._type or "message"
        has_data, self._data, self._type = bool(self._data), [], ""
        return Event(type_, data, self.last_event_id) if has_data else None
