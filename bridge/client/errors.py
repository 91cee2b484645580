"""What goes wrong for a client: refused, unanswered, or the connection lost."""

from bridge.core.errors import BridgeError


class RefusedError(BridgeError):
    """The sidecar refuses what is asked.

    Attributes:
        code: JSON-RPC error code, HTTP status or close code; None if it is none of them.
        data: more about it, for programs.
        retry_after_seconds: when asking again may help; None: it will not.
    """

    def __init__(self, message: str, code: int | None = None, data: dict[str, object] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data or {}
        self.retry_after_seconds = retry_after_seconds(self.data)


class UnansweredError(BridgeError):
    """A request was not answered: there was no connection, it was lost, or time ran out. It may have been done."""


class LostError(BridgeError):
    """The connection is lost, or did not come about; the client tries again. Never leaves `bridge.client`.

    Attributes:
        code: close code; None if there was none.
        retry_after_seconds: when the sidecar wants to see the client again; None: it did not say.
        fault: whether either side broke the protocol, so that it may well happen again.
    """

    def __init__(
        self, reason: str, code: int | None = None, retry_after_seconds: float | None = None, *, fault: bool = False
    ) -> None:
        super().__init__(reason)
        self.code = code
        self.retry_after_seconds = retry_after_seconds
        self.fault = fault


def retry_after_seconds(members: dict[str, object]) -> float | None:
    """Return the time that an error or a close reason gives, in seconds."""
    value = members.get("retry_after_ms")
    return value / 1000 if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else None
