"""A client of Server-Sent Events on a bare socket: it reads only when it is told to, and may take half of what it read.

It comes back as a browser's EventSource does, and is judged over all its connections as if they were one.
"""

import json
from collections.abc import Iterable
from typing import Any

from bridge.core.vector import Vector
from bridge.edges.documents.paths import EVENT_DATA
from bridge.verify import oracle
from tests import frames
from tests.edges.rawclient import Answer, Hung, RawClient, parse_answer
from tests.eventsource import Event, EventSource

CRLF = b"\r\n"


class Chunks:
    """Takes a body in chunks apart (RFC 9112, section 7.1).

    Attributes:
        ended: whether the last chunk has come.
    """

    def __init__(self) -> None:
        self.ended = False
        self._rest = b""
        self._left = 0  # of the chunk that has begun
        self._begun = False

    def feed(self, data: bytes) -> bytes:
        """Take bytes in; return what they hold."""
        self._rest += data
        found = b""
        while self._rest and not self.ended:
            if self._left:
                piece, self._rest = self._rest[: self._left], self._rest[self._left :]
                self._left -= len(piece)
                found += piece
            elif not self._begin():
                break
        return found

    def _begin(self) -> bool:
        """Begin the next chunk, if its head is there."""
        behind = len(CRLF) * self._begun
        assert CRLF.startswith(self._rest[:behind]), "a chunk is longer than it says"
        line, end, rest = self._rest[behind:].partition(CRLF)
        if not end or (line == b"0" and rest != CRLF):
            return False
        self._left, self._rest, self._begun = int(line, 16), rest, True
        self.ended = not self._left
        return True


def check(event: Event) -> None:
    """Hold an event to what is documented of it."""
    if event.type == "message":
        frames.check_frame(event.data)
    else:
        frames.refuse_faults(EVENT_DATA[event.type]["$ref"].rpartition("/")[2], json.loads(event.data))


class Listener:
    """A client that listens.

    Attributes:
        source: what reads its events.
        events: that have come and were not read yet.
        reached: the positions with which it came last.
        answer: the head of the answer; the body too, where it has a length.
        judged: who is told what it gets.
    """

    def __init__(
        self,
        port: int,
        streams: Iterable[str],
        *,
        query: str = "",
        version: str = "1.1",
        receive_buffer_bytes: int = 0,
        judged: oracle.Client | None = None,
    ) -> None:
        self.port = port
        self.streams = list(streams)
        self.path = "/events?" + "&".join(f"stream={stream}" for stream in self.streams) + query
        self.version = version
        self.receive_buffer_bytes = receive_buffer_bytes
        self.judged = judged
        self.source = EventSource()
        self.events: list[Event] = []
        self._raw: RawClient | None = None

    @property
    def raw(self) -> RawClient:
        """The connection."""
        assert self._raw is not None
        return self._raw

    async def connect(self, **headers: str) -> Answer:
        """Connect with the last id, and read the head of the answer."""
        self.hang_up()
        self.source.connect()
        self.reached = Vector.parse(self.source.last_event_id) if self.source.last_event_id else Vector({})
        self._raw = await RawClient.dial(self.port, receive_buffer_bytes=self.receive_buffer_bytes)
        usual = {"Host": f"127.0.0.1:{self.port}", "Accept": "text/event-stream"}
        usual |= {"Last-Event-ID": self.source.last_event_id} if self.source.last_event_id else {}
        wanted = usual | {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"{name}: {value}" for name, value in wanted.items()]
        await self.raw.send("\r\n".join([f"GET {self.path} HTTP/{self.version}", *lines, "", ""]).encode("latin-1"))
        while b"\r\n\r\n" not in self.raw.buffer:
            await self.raw.fill()
        head, _, rest = bytes(self.raw.buffer).partition(b"\r\n\r\n")
        self.raw.buffer[:] = rest
        self.answer = parse_answer(head, b"")
        self._chunks = Chunks() if self.answer.headers.get("transfer-encoding") == "chunked" else None
        if "content-length" in self.answer.headers:
            while len(self.raw.buffer) < int(self.answer.headers["content-length"]):
                await self.raw.fill()
            self.answer = self.answer._replace(body=bytes(self.raw.buffer))
        return self.answer

    async def listen(self, **headers: str) -> dict[str, Any]:
        """Connect; return the data of the first event."""
        assert (await self.connect(**headers)).status == 200, self.answer
        event = await self.read()
        assert event.type == "subscribed", event
        return json.loads(event.data)

    # ------------------------------------------------------------------ reading

    async def fill(self) -> None:
        """Read what is there, be it half an event.

        Raises:
            Hung: there is no more, in good order.
        """
        try:
            if not self.raw.buffer:
                await self.raw.fill()
        except Hung:
            assert self._chunks is None or self._chunks.ended, "it was cut off"
            raise
        self.take()

    def take(self, size: int | None = None) -> None:
        """Take in what has been read, or so many bytes of it."""
        data = bytes(self.raw.buffer)[:size]
        del self.raw.buffer[: len(data)]
        for event in self.source.feed(data if self._chunks is None else self._chunks.feed(data)):
            check(event)
            self._note(event)
            self.events.append(event)

    def _note(self, event: Event) -> None:
        """Tell the oracle of an event."""
        if self.judged is None:
            return
        if event.type in ("message", "gap"):
            self.judged.received(event.data)
        elif event.type == "subscribed":
            for row in json.loads(event.data)["subscriptions"]:
                stream, key = row["stream"], row.get("key")
                if (stream, key) not in self.reached.positions and "recovered" not in row:
                    self.judged.subscribed(stream, key=key)
                elif row.get("reason") in ("epoch", "ahead"):
                    self.judged.subscribed(stream, key=key, epoch=row["epoch"], seq=row["seq"])

    async def read(self) -> Event:
        """Read an event.

        Raises:
            Hung: there is none.
        """
        while not self.events:
            await self.fill()
        return self.events.pop(0)

    async def read_value(self) -> dict[str, Any]:
        """Read an update."""
        event = await self.read()
        assert event.type == "message", event
        return json.loads(event.data)

    async def read_until(self, stream: str, seq: int) -> list[dict[str, Any]]:
        """Read updates, up to one."""
        values = [await self.read_value()]
        while (values[-1]["stream"], values[-1]["seq"]) != (stream, seq):
            values.append(await self.read_value())
        return values

    async def read_to_end(self) -> list[Event]:
        """Read events until the answer ends."""
        events = []
        try:
            while True:
                events.append(await self.read())
        except Hung:
            return events

    def hang_up(self) -> None:
        """Close the socket; what was not taken is lost."""
        if self._raw is not None:
            self._raw.hang_up()
        self.events.clear()
