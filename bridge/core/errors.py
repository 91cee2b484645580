"""The exceptions of theblock-bridge; each says in one sentence what was wrong, where, and what is allowed.

BridgeError
├── RequestError       a client's request was refused; carries the JSON-RPC error code
├── PublishError       an update was refused and not published
├── JournalError       an update could not be written to disk and was not published
├── FrameError         a client broke RFC 6455; carries the close code
├── SchemaError        a proto file describes a stream in a way that cannot be served
├── UpstreamError      the state service or the node did not do what was asked
│   └── NodeCallError  the node answered a call with an error; carries its code
└── StartError         a server could not start
"""

from bridge.core.codes import Close, ErrorCode


class BridgeError(Exception):
    """Base of every error that a user may see; its text is one clear sentence."""


class RequestError(BridgeError):
    """A client's request was refused.

    Attributes:
        code: JSON-RPC error code.
        data: more about it for programs, or None.
    """

    def __init__(self, code: ErrorCode, message: str, data: dict[str, object] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data

    def to_object(self) -> dict[str, object]:
        """Return the JSON-RPC error object."""
        error: dict[str, object] = {"code": int(self.code), "message": str(self)}
        if self.data is not None:
            error["data"] = self.data
        return error


class PublishError(BridgeError):
    """An update was refused and not published."""


class JournalError(BridgeError):
    """An update could not be written to disk, and was not published: it may be published again."""


class FrameError(BridgeError):
    """A client broke RFC 6455; `close` is the close code that answers it."""

    def __init__(self, close: Close, message: str) -> None:
        super().__init__(message)
        self.close = close


class SchemaError(BridgeError):
    """A proto file describes a stream in a way that cannot be served."""


class UpstreamError(BridgeError):
    """The state service or the node did not do what was asked."""


class NodeCallError(UpstreamError):
    """The node answered a call with an error; `code` is the node's own."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class StartError(BridgeError):
    """A server could not start."""
