"""WebSocket frames (RFC 6455, section 5; RFC 7692): those we send, and a reader for those a client sends.

No I/O: `Decoder` takes bytes as they come and gives whole messages and control frames.
"""

import json
from enum import IntEnum
from typing import NamedTuple

from bridge.core.codes import BAD_DATA, PROTOCOL_ERROR, TOO_BIG, Close
from bridge.core.deflate import Deflate, inflate
from bridge.core.errors import FrameError

FIN = 0x80
RESERVED = 0x70
RSV1 = 0x40
"""On the first frame of a message: it is deflated (RFC 7692, section 6)."""

MASKED = 0x80
CONTROL_BYTES = 125
"""The longest payload of a control frame (RFC 6455, section 5.5)."""


class Opcode(IntEnum):
    """Kinds of frames (RFC 6455, section 5.2)."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


class Frame(NamedTuple):
    """A whole message, or a control frame; fragments are put together."""

    opcode: Opcode
    payload: bytes
    deflated: bool = False  # the payload; `Decoder.inflate` gives the message


def frame(opcode: Opcode, payload: bytes, *, reserved: int = 0) -> bytes:
    """Return an unfragmented frame from the server: not masked; `reserved` are the reserved bits to set."""
    length, first = len(payload), FIN | reserved | opcode
    if length < 126:
        return bytes((first, length)) + payload
    if length < 1 << 16:
        return bytes((first, 126)) + length.to_bytes(2, "big") + payload
    return bytes((first, 127)) + length.to_bytes(8, "big") + payload


def message_frame(opcode: Opcode, payload: bytes, deflate: Deflate | None) -> bytes:
    """Return the frame of a message, deflated if that was agreed on and makes it shorter."""
    packed = None if deflate is None else deflate.pack(payload)
    return frame(opcode, payload) if packed is None else frame(opcode, packed, reserved=RSV1)


def text_frame(text: bytes) -> bytes:
    """Return a text frame; `text` is UTF-8."""
    return frame(Opcode.TEXT, text)


def close_frame(code: int, reason: bytes = b"") -> bytes:
    """Return a close frame; `reason` is UTF-8 of at most 123 bytes."""
    return frame(Opcode.CLOSE, code.to_bytes(2, "big") + reason)


def close_reason(close: Close, **more: int | str) -> bytes:
    """Return the reason that goes with a close code: compact JSON under 123 bytes.

    Members of `more` that do not fit are left out, the last one first.
    """
    members: dict[str, int | str] = {"error": close.name, **more}
    while len(reason := json.dumps(members, separators=(",", ":")).encode()) >= 123:
        members.popitem()
    return reason


def parse_close(payload: bytes) -> int | None:
    """Return the code of a close frame's payload, None if it is empty.

    Raises:
        FrameError: the payload is one byte, the code may not be sent, or the reason is not UTF-8.
    """
    if not payload:
        return None
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or not ((1000 <= code <= 1014 and code not in (1004, 1005, 1006)) or 3000 <= code <= 4999):
        raise FrameError(PROTOCOL_ERROR, "the close frame has no valid code")
    check_utf8(payload[2:])
    return code


def check_utf8(data: bytes) -> str:
    """Return `data` decoded.

    Raises:
        FrameError: it is not UTF-8.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise FrameError(BAD_DATA, f"the text is not UTF-8 at byte {error.start}") from error


def unmask(payload: bytes, key: bytes) -> bytes:
    """Return `payload` with the client's mask taken off (RFC 6455, section 5.3)."""
    length = len(payload)
    mask = int.from_bytes((key * (length // 4 + 1))[:length], "little")
    return (int.from_bytes(payload, "little") ^ mask).to_bytes(length, "little")


class Decoder:
    """Reads a client's frames.

    Attributes:
        limit_bytes: the largest message, deflated or not.
    """

    __slots__ = ("_buffer", "_deflated", "_deflates", "_message", "_opcode", "limit_bytes")

    def __init__(self, limit_bytes: int, *, deflates: bool = False) -> None:
        """Begin at the first frame.

        Args:
            limit_bytes: the largest message, deflated or not.
            deflates: whether permessage-deflate was agreed on.
        """
        self.limit_bytes = limit_bytes
        self._deflates = deflates
        self._buffer = b""  # a frame that is not all there yet
        self._message: bytearray | None = None  # the fragmented message in progress
        self._opcode = Opcode.TEXT  # of that message
        self._deflated = False  # whether that message is

    def feed(self, data: bytes) -> list[Frame]:
        """Take bytes in; return the messages and control frames that are whole.

        Raises:
            FrameError: the client broke the protocol; what came before is lost, nothing more can be read.
        """
        buffer = self._buffer + data if self._buffer else data
        frames: list[Frame] = []
        start = 0
        while (read := self._read(buffer, start)) is not None:
            whole, start = read
            if whole is not None:
                frames.append(whole)
        self._buffer = buffer[start:]
        return frames

    def inflate(self, received: Frame) -> Frame:
        """Return a message inflated if it is deflated; only when its turn has come, since it may become a lot larger.

        Raises:
            FrameError: it is larger than the limit, or its compressed data is damaged.
        """
        return Frame(received.opcode, inflate(received.payload, self.limit_bytes)) if received.deflated else received

    def _read(self, buffer: bytes, start: int) -> tuple[Frame | None, int] | None:
        """Read one frame at `start`: what it completes and where the next begins, or None while it is not all there."""
        if len(buffer) < start + 2:
            return None
        opcode, final, length, mask = self._head(buffer, start)
        if length is None:
            return None
        if opcode < Opcode.CLOSE and len(self._message or b"") + length > self.limit_bytes:
            raise FrameError(TOO_BIG, f"a message is at most {self.limit_bytes} bytes")
        end = mask + 4 + length
        if len(buffer) < end:
            return None
        payload = unmask(buffer[mask + 4 : end], buffer[mask : mask + 4])
        return self._complete(opcode, final, payload, deflated=bool(buffer[start] & RSV1)), end

    def _head(self, buffer: bytes, start: int) -> tuple[Opcode, bool, int | None, int]:
        """Read a frame's head: opcode, whether final, payload length (None while not there), where the mask is."""
        first, second = buffer[start], buffer[start + 1]
        try:
            opcode = Opcode(first & 0x0F)
        except ValueError:
            raise FrameError(PROTOCOL_ERROR, f"opcode {first & 0x0F} is not known") from None
        if (reserved := first & RESERVED) and not self._deflates:
            raise FrameError(PROTOCOL_ERROR, "a reserved bit is set, but no extension was agreed on")
        if reserved and (reserved != RSV1 or opcode not in (Opcode.TEXT, Opcode.BINARY)):
            raise FrameError(PROTOCOL_ERROR, "of the reserved bits only RSV1 is used, on the first frame of a message")
        if not second & MASKED:
            raise FrameError(PROTOCOL_ERROR, "the frame is not masked; a client masks every frame")
        final, length = bool(first & FIN), second & 0x7F
        if opcode >= Opcode.CLOSE and (length > CONTROL_BYTES or not final):
            raise FrameError(PROTOCOL_ERROR, "a control frame is at most 125 bytes and not fragmented")
        size = {126: 2, 127: 8}.get(length, 0)
        start += 2
        if not size:
            return opcode, final, length, start
        if len(buffer) < start + size:
            return opcode, final, None, start
        length = int.from_bytes(buffer[start : start + size], "big")
        if length >> 63:
            raise FrameError(PROTOCOL_ERROR, "a payload length has its highest bit set")
        return opcode, final, length, start + size

    def _complete(self, opcode: Opcode, final: bool, payload: bytes, *, deflated: bool) -> Frame | None:
        if opcode >= Opcode.CLOSE:
            return Frame(opcode, payload)
        if (opcode is Opcode.CONTINUATION) is (self._message is None):
            raise FrameError(PROTOCOL_ERROR, "a continuation without a message, or a message within a message")
        if self._message is None:
            if final:
                return Frame(opcode, payload, deflated)
            self._opcode, self._deflated, self._message = opcode, deflated, bytearray()
        self._message += payload
        if not final:
            return None
        whole, self._message = Frame(self._opcode, bytes(self._message), self._deflated), None
        return whole
