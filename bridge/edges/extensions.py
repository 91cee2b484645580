"""Extensions of WebSocket: what `Sec-WebSocket-Extensions` offers, and how permessage-deflate is agreed on.

The header is that of RFC 6455, section 9.1, the parameters are those of RFC 7692, section 7.1.
"""

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from bridge.core.deflate import WINDOW_BITS

NAME: Final = "permessage-deflate"

ANSWER: Final = f"{NAME}; server_no_context_takeover; client_no_context_takeover"
"""Messages are deflated each on its own, ours and those of the client: nothing is kept between them."""

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PIECE = re.compile(rf'[ \t]*(?:({_WORD})|"((?:[^"\\]|\\.)*)"|([,;=]))')
"""A token, what stands in quotes, or a separator (RFC 9110, section 5.6)."""


class Extension(NamedTuple):
    """An extension that is offered: its name, and its parameters with their values, None where there is none."""

    name: str
    parameters: list[tuple[str, str | None]]


def _absent(value: str | None) -> bool:
    return value is None


def _window_bits(value: str | None) -> bool:
    return value in {"8", "9", "10", "11", "12", "13", "14", "15"}


PARAMETERS: Final[dict[str, Callable[[str | None], bool]]] = {
    "server_no_context_takeover": _absent,
    "client_no_context_takeover": _absent,
    "server_max_window_bits": lambda value: value == str(-WINDOW_BITS),  # what is sent is made for the largest window
    "client_max_window_bits": lambda value: _absent(value) or _window_bits(value),
}
"""The parameters of permessage-deflate, and which values can be agreed to."""


def agree(header: str) -> str | None:
    """Return how the first offer that can be is accepted, None if none can be.

    Args:
        header: Sec-WebSocket-Extensions of the client; several are one with commas between.

    Raises:
        ValueError: it is not written as RFC 6455 demands; the text says what is wrong.
    """
    for offer in parse(header):
        names = [name for name, _ in offer.parameters]
        known = all(name in PARAMETERS and PARAMETERS[name](value) for name, value in offer.parameters)
        if offer.name == NAME and known and len(set(names)) == len(names):
            bits = f"; server_max_window_bits={-WINDOW_BITS}" if "server_max_window_bits" in names else ""
            return ANSWER + bits
    return None


def parse(header: str) -> list[Extension]:
    """Return the extensions that a header names, in order.

    Raises:
        ValueError: it is not written as RFC 6455 demands; the text says what is wrong.
    """
    return [_extension(part) for part in _split(_pieces(header), ",") if part]  # a list may have empty elements


def _pieces(header: str) -> list[str]:
    """Return the tokens, values and separators of a header; a value in quotes has a quote before it."""
    pieces: list[str] = []
    at = 0
    header = header.rstrip(" \t")
    while at < len(header):
        if (found := _PIECE.match(header, at)) is None:
            raise ValueError(f"cannot be read at character {at + 1}")
        token, quoted, separator = found.groups()
        pieces.append(token or separator or '"' + re.sub(r"\\(.)", r"\1", quoted))
        at = found.end()
    return pieces


def _split(pieces: list[str], separator: str) -> list[list[str]]:
    """Return the pieces between the separators."""
    parts: list[list[str]] = [[]]
    for piece in pieces:
        if piece == separator:
            parts.append([])
        else:
            parts[-1].append(piece)
    return parts


def _extension(pieces: list[str]) -> Extension:
    head, *rest = _split(pieces, ";")
    match head:
        case [name] if _is_token(name):
            return Extension(name.lower(), [_parameter(part) for part in rest])
        case _:
            raise ValueError("does not name an extension where one must stand")


def _parameter(pieces: list[str]) -> tuple[str, str | None]:
    match pieces:
        case [name] if _is_token(name):
            return name.lower(), None
        case [name, "=", value] if _is_token(name) and _is_token(value.removeprefix('"')):
            return name.lower(), value.removeprefix('"')  # in quotes too it must be a token
        case _:
            raise ValueError("has a parameter that is no name or name=value")


def _is_token(text: str) -> bool:
    return re.fullmatch(_WORD, text) is not None
