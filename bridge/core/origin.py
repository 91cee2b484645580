"""The origin of positions: beside the node, every update gets its place here, once.

A source publishes payload messages; the origin gives each the next position of its stream, serializes it once and
puts it into the hub. Everywhere else updates arrive with the position that they were given here.
"""

from collections.abc import Callable, Iterable

from google.protobuf.message import Message

from bridge.core.contract import FRAMES
from bridge.core.errors import PublishError
from bridge.core.hub import Hub
from bridge.core.jsontext import JsonError, parse_object
from bridge.core.streams import KEY, KEY_RULE, NAME, NAME_RULE, Stream, check_decimals
from bridge.core.update import Update
from generated.theblock.state.v1 import update_pb2

CUSTOM_BYTES = 256 << 10
"""The largest custom value."""

CUSTOM_DEPTH = 32
"""How deep a custom value may be nested."""


RESERVED_TYPES = frozenset(frame.name for frame in FRAMES if frame.typed)
"""Types that clients know as something else than updates."""


class Origin:
    """Gives positions.

    Attributes:
        hub: where the updates go.
        epoch: of the positions.
        owned: names of the streams that the source feeds, which nobody else may publish on.
    """

    def __init__(self, hub: Hub, *, new_epoch: Callable[[], str], custom_streams: int = 1000) -> None:
        """Begin an epoch.

        Args:
            hub: where the updates go.
            new_epoch: makes the name of an epoch, [a-z0-9]{1,32}, another one each time.
            custom_streams: how many custom streams publishers may add.
        """
        self.hub = hub
        self.owned: frozenset[str] = frozenset()
        self._new_epoch = new_epoch
        self._custom_streams = custom_streams
        self.begin_epoch()

    def begin_epoch(self) -> None:
        """Begin a new epoch, since the chain is not the same any more: every stream begins anew."""
        self.epoch = self._new_epoch()
        self.hub.set_epoch(self.epoch)

    def own(self, streams: Iterable[str]) -> None:
        """Reserve streams for the source."""
        self.owned = frozenset(streams)

    def publish(self, data: Message, *, time_ms: int | None = None) -> Update:
        """Publish the payload of a declared stream.

        Args:
            data: the payload; which stream it is for follows from its type.
            time_ms: when it was published, Unix milliseconds; default: now.

        Returns:
            The update, with its position.

        Raises:
            PublishError: no stream has such a payload, its key is ill-formed, or a decimal string holds none.
        """
        stream = self.hub.catalogue.of_message(data)
        key = check_key(getattr(data, stream.key_field)) if stream.keyed else ""
        check_decimals(data)
        message = update_pb2.Update()
        getattr(message, stream.field).CopyFrom(data)
        return self._publish(stream, message, key, time_ms)

    def publish_custom(self, name: str, type_: str, json: bytes, *, key: str = "") -> Update:
        """Publish a JSON object on a custom stream, which begins with its first update.

        Args:
            name: of the stream.
            type_: of the update; the same for all of a stream.
            json: the object, UTF-8.
            key: of the value; a stream has keys from its first update on, or never.

        Returns:
            The update, with its position.

        Raises:
            PublishError: a name, the key or the JSON is not as it must be, or the stream is not a custom one.
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
        return self._publish(stream, message, key, None)

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

    def _publish(self, stream: Stream, message: update_pb2.Update, key: str, time_ms: int | None) -> Update:
        history = self.hub.histories[stream.name]
        message.stream = stream.name
        message.epoch = self.epoch
        message.seq = history.head + 1
        message.time_ms = self.hub.clock_ms() if time_ms is None else time_ms
        if stream.keyed:
            message.key = key
            before = history.latest.get(key)
            if before is not None:
                message.prev = before.seq
            elif len(history.latest) >= history.limits.keys:
                raise PublishError(f"stream {stream.name!r} has {len(history.latest)} keys, and no more are allowed")
        raw = message.SerializeToString(deterministic=True)
        update = Update(stream, self.epoch, message.seq, message.time_ms, raw, key, message.prev)
        self.hub.admit(update)
        return update


def check_key(key: str) -> str:
    """Return `key`.

    Raises:
        PublishError: it is ill-formed.
    """
    if not KEY.fullmatch(key):
        raise PublishError(f"the key {key[:200]!r} is ill-formed: it must match {KEY_RULE}")
    return key
