"""What the doctor looks at."""

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

from bridge.core.errors import StartError
from bridge.settings import Address, NodeSettings, UpSettings

ANSWER_SECONDS: Final = 4.0
"""How long an answer is waited for: as long as the bridge itself waits for the node."""

ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
"""Addresses to listen on that cannot be connected to, and what stands for them."""


@dataclass(frozen=True)
class Targets:
    """What the doctor looks at.

    Attributes:
        node: how the node is read; None: it is not looked at.
        upstream: addresses of the state service; none: it is not looked at.
        url: of the sidecar, http or https, without a slash at its end; None: it is not looked at.
        origin: of the page that is to be let in; None: that of `url`.
        idle_seconds: how long a quiet WebSocket is watched; None: not at all.
        answer_seconds: how long each answer is waited for.
        token: that the node may want.
    """

    node: NodeSettings | None = None
    upstream: tuple[Address, ...] = ()
    url: str | None = None
    origin: str | None = None
    idle_seconds: float | None = None
    answer_seconds: float = ANSWER_SECONDS
    token: str | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls,
        settings: UpSettings,
        off: Collection[str] = (),
        url: str | None = None,
        origin: str | None = None,
        idle_seconds: float | None = None,
    ) -> Self:
        """Return what there is to look at, as the settings have it.

        Args:
            settings: of the bridge.
            off: node_url, upstream: what is not looked at.
            url: of the sidecar; "": it is not looked at; None: where it listens.
            origin: of the page that is to be let in.
            idle_seconds: how long a quiet WebSocket is watched.

        Raises:
            StartError: the file with the node's token cannot be read.
        """
        node, upstream = settings.state.node, settings.sidecar.upstream
        return cls(
            node=None if "node_url" in off else node,
            upstream=() if "upstream" in off else upstream,
            url=url_of(settings.sidecar.listen) if url is None else http_url(url) if url else None,
            origin=origin,
            idle_seconds=idle_seconds,
            token=None if "node_url" in off else read_token(node.node_token_file),
        )


def http_url(url: str) -> str:
    """Return the HTTP address of a sidecar, whose WebSocket address may be given instead: ws is http, /ws is cut."""
    parts = urlsplit(url)
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    return f"{scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/ws')}"


def url_of(listen: Address) -> str | None:
    """Return where a sidecar that listens there is reached, None if that cannot be known."""
    if listen.path or not listen.port:
        return None
    return f"http://{Address(ANYWHERE.get(listen.host, listen.host), listen.port)}"


def read_token(file: Path | None) -> str | None:
    """Return the token in a file, None without a file.

    Raises:
        StartError: the file holds no token, or cannot be read.
    """
    if file is None:
        return None
    try:
        token = file.read_text().strip()
    except (OSError, UnicodeDecodeError):
        raise StartError("the file that node_token_file names cannot be read") from None
    if not (token.isascii() and token.isprintable()):
        raise StartError("the file that node_token_file names does not hold a token of printable ASCII in one line")
    return token
