"""The origin of positions: beside the node, every update gets its place here, once.

A source publishes payload messages; the origin gives each the next position of its stream, serializes it once and
puts it into the hub, once it is kept on disk if there is a store. Everywhere else updates arrive with the position
that they were given here.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from google.protobuf.message import Message

from bridge.core.contract import FRAMES
from bridge.core.errors import PublishError
from bridge.core.history import History
from bridge.core.hub import Hub
from bridge.core.jsontext import JsonError, parse_object
from bridge.core.names import KEY, KEY_RULE, NAME, NAME_RULE
from bridge.core.streams import Stream, check_decimals
from bridge.core.update import Update
from generated.theblock.state.v1 import update_pb2

CUSTOM_BYTES = 256 << 10
"""The largest custom value."""

CUSTOM_DEPTH = 32
"""How deep a custom value may be nested."""


RESERVED_TYPES = frozenset(frame.name for frame in FRAMES if frame.typed)
"""Types that clients know as something else than updates."""


class Store(Protocol):
    """Keeps what is published before anybody is sent it, so that no position is ever given twice.

    Attributes:
        epoch: of the positions that it keeps.
        immediate: whether what it has kept may be sent at once; if not, it says when, by `Origin.admit_kept`.
        chain: hash of the first block of the chain that the epoch is about, None while it is not known.
    """

    epoch: str
    immediate: bool
    chain: bytes | None

    def keep_chain(self, chain: bytes) -> None:
        """Keep which chain the epoch is about.

        Raises:
            JournalError: that cannot be written.
        """

    def keep(self, update: Update, publisher: str, publisher_seq: int) -> None:
        """Keep an update, and who published it.

        Raises:
            JournalError: it cannot; nothing of it is kept.
        """

    def begin_epoch(self, epoch: str) -> None:
        """Forget everything: an epoch begins.

        Raises:
            JournalError: that cannot be kept.
        """

    async def durable(self) -> None:
        """Wait until everything that was kept has been admitted. Cancelling it changes nothing."""


class Origin:
    """Gives positions.

    Attributes:
        hub: where the updates go.
        epoch: of the positions.
        chain: hash of the first block of the chain that the epoch is about, None while it is not known.
        owned: names of the streams that the source feeds, which nobody else may publish on.
    """

    def __init__(
        self, hub: Hub, *, new_epoch: Callable[[], str], store: Store | None = None, custom_streams: int = 1000
    ) -> None:
        """Begin an epoch, or go on with that of the store.

        Args:
            hub: where the updates go; it holds already what the store has kept.
            new_epoch: makes the name of an epoch, [a-z0-9]{1,32}, another one each time.
            store: keeps what is published; None: nothing is kept, and every start is a new epoch.
            custom_streams: how many custom streams publishers may add.
        """
        self.hub = hub
        self.chain: bytes | None = None
        self.owned: frozenset[str] = frozenset()
        self._new_epoch = new_epoch
        self._store = store
        self._custom_streams = custom_streams
        self._waiting: deque[Update] = deque()  # kept, but not to be sent yet
        self._heads: dict[str, int] = {}  # seq of the newest of them, by stream
        self._newest: dict[tuple[str, str], int] = {}  # by stream and key
        if store is None:
            self.begin_epoch()
        else:
            self.epoch, self.chain = store.epoch, store.chain

    def begin_epoch(self) -> None:
        """Begin a new epoch, since the chain is not the same any more: every stream begins anew.

        Raises:
            JournalError: that cannot be kept; nothing has changed.
        """
        epoch = self._new_epoch()
        if self._store is not None:
            self._store.begin_epoch(epoch)
        self.epoch, self.chain = epoch, None
        for waiting in (self._waiting, self._heads, self._newest):
            waiting.clear()
        self.hub.set_epoch(epoch)

    def set_chain(self, chain: bytes) -> None:
        """Note which chain the epoch is about, so that a process after this one can tell another from it.

        Args:
            chain: hash of its first block.

        Raises:
            JournalError: that cannot be kept.
        """
        if chain != self.chain:
            if self._store is not None:
                self._store.keep_chain(chain)
            self.chain = chain

    def own(self, streams: Iterable[str]) -> None:
        """Reserve streams for the source."""
        self.owned = frozenset(streams)

    async def durable(self) -> None:
        """Wait until everything that was published is as safe as the store makes it. Cancelling it changes nothing."""
        if self._store is not None:
            await self._store.durable()

    def publish(
        self, data: Message, *, time_ms: int | None = None, publisher: str = "", publisher_seq: int = 0
    ) -> Update:
        """Publish the payload of a declared stream.

        Args:
            data: the payload; which stream it is for follows from its type.
            time_ms: when it was published, Unix milliseconds; default: now.
            publisher: id of who publishes it; empty: the source.
            publisher_seq: that publisher's own number of it.

        Returns:
            The update, with its position.

        Raises:
            PublishError: no stream has such a payload, its key is ill-formed, or a decimal string holds none.
            JournalError: it cannot be kept, and was not published.
        """
        stream = self.hub.catalogue.of_message(data)
        key = check_key(getattr(data, stream.key_field)) if stream.keyed else ""
        check_decimals(data)
        message = update_pb2.Update()
        getattr(message, stream.field).CopyFrom(data)
        return self._publish(stream, message, key, time_ms, publisher, publisher_seq)

    def publish_custom(
        self, name: str, type_: str, json: bytes, *, key: str = "", publisher: str = "", publisher_seq: int = 0
    ) -> Update:
        """Publish a JSON object on a custom stream, which begins with its first update.

        Args:
            name: of the stream.
            type_: of the update; the same for all of a stream.
            json: the object, UTF-8.
            key: of the value; a stream has keys from its first update on, or never.
            publisher: id of who publishes it; empty: the source.
            publisher_seq: that publisher's own number of it.

        Returns:
            The update, with its position.

        Raises:
            PublishError: a name, the key or the JSON is not as it must be, or the stream is not a custom one.
            JournalError: it cannot be kept, and was not published.
        """
        for what, text in (("stream", name), ("type", type_)):
            if not NAME.fullmatch(text):
                raise PublishError(f"the {what} {text!r} is ill-formed: it must match {NAME_RULE}")
        if type_ in RESERVED_TYPES or any(type_ == stream.type for stream in self.hub.catalogue):
            raise PublishError(f"the type {type_!r} is taken: clients would mistake the value for something else")
        if len(json) > CUSTOM_BYTES:
            raise PublishError(f"the value has {len(json)} bytes; at most {CUSTOM_BYTES} are allowed")
        try:
            parse_object(json, CUSTOM_DEPTH)
        except JsonError as error:
            raise PublishError(f"the value is not a JSON object that is allowed: {error}") from error
        stream = self._custom_stream(name, type_, key)
        one_line = json.translate(None, b"\r\n")  # they can only stand between tokens; frames are one line
        message = update_pb2.Update(custom=update_pb2.CustomUpdate(type=type_, json=one_line))
        return self._publish(stream, message, key, None, publisher, publisher_seq)

    def _custom_stream(self, name: str, type_: str, key: str) -> Stream:
        if key:
            check_key(key)
        known = self.hub.histories.get(name)
        if known is None or known.stream is None:
            count = sum(h.stream is not None and h.stream.custom for h in self.hub.histories.values())
            if count >= self._custom_streams:
                raise PublishError(f"there are {count} custom streams already, and no more are allowed")
            return self.hub.find_stream(name, type_, keyed=bool(key))
        stream = known.stream
        if not stream.custom:
            raise PublishError(f"stream {name!r} is declared: it takes {stream.message}, not JSON")
        if stream.type != type_:
            raise PublishError(f"stream {name!r} carries {stream.type!r}, not {type_!r}")
        if stream.keyed != bool(key):
            raise PublishError(f"stream {name!r} has {'keys: give one' if stream.keyed else 'no keys: give none'}")
        return stream

    def _publish(
        self,
        stream: Stream,
        message: update_pb2.Update,
        key: str,
        time_ms: int | None,
        publisher: str,
        publisher_seq: int,
    ) -> Update:
        history = self.hub.histories[stream.name]
        message.stream = stream.name
        message.epoch = self.epoch
        message.seq = self._heads.get(stream.name, history.head) + 1
        message.time_ms = self.hub.clock_ms() if time_ms is None else time_ms
        if stream.keyed:
            message.key = key
            message.prev = self._prev(history, key)
        raw = message.SerializeToString(deterministic=True)
        update = Update(stream, self.epoch, message.seq, message.time_ms, raw, key, message.prev)
        if self._store is not None:
            self._store.keep(update, publisher, publisher_seq)
        if self._store is None or self._store.immediate:
            self.hub.admit(update)
        else:
            self._waiting.append(update)
            self._heads[stream.name] = self._newest[stream.name, key] = update.seq
        return update

    def _prev(self, history: History, key: str) -> int:
        """Return the seq of a key's previous update, 0 if there is none."""
        waiting = self._newest.get((history.name, key))
        if waiting is not None:
            return waiting
        before = history.latest.get(key)
        if before is None and len(history.latest) >= history.limits.keys:
            raise PublishError(f"stream {history.name!r} has {len(history.latest)} keys, and no more are allowed")
        return before.seq if before is not None else 0

    def admit_kept(self, count: int) -> None:
        """Admit the first updates that the store has kept and that were not to be sent at once; it calls this.

        Args:
            count: how many of the epoch that goes on.
        """
        for _ in range(min(count, len(self._waiting))):
            self.hub.admit(self._waiting.popleft())
        if not self._waiting:
            self._heads.clear()
            self._newest.clear()


def check_key(key: str) -> str:
    """Return `key`.

    Raises:
        PublishError: it is ill-formed.
    """
    if not KEY.fullmatch(key):
        raise PublishError(f"the key {key[:200]!r} is ill-formed: it must match {KEY_RULE}")
    return key
