"""Kinds: how each kind of value is read, and what is allowed, in words.

Text (environment, command line) and TOML values go through the same reader, so `"300"` and `300` mean the same.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar
from urllib.parse import urlsplit

from bridge.settings.address import Address

T = TypeVar("T")

OFF = "off"
"""The text of an optional setting that has no value."""

SWITCHES = {"true": True, "on": True, "yes": True, "1": True, "false": False, "off": False, "no": False, "0": False}


@dataclass(frozen=True)
class Kind(Generic[T]):
    """A kind of value.

    Attributes:
        metavar: stands for the value in `--help`.
        allowed: completes "it must be …".
        read: takes a TOML value or text; raises ValueError, with a reason where `allowed` does not say enough.
    """

    metavar: str
    allowed: str
    read: Callable[[object], T]


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise ValueError


def _convert(to: type[int] | type[float], value: object) -> object:
    """Return text as a number, other values as they are; Python's own reason is not for users."""
    try:
        return to(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError from None


def whole(minimum: int, maximum: int) -> Kind[int]:
    """Return the kind of whole numbers from `minimum` to `maximum`."""

    def read(value: object) -> int:
        result = _convert(int, value)
        if not isinstance(result, int) or isinstance(result, bool) or not minimum <= result <= maximum:
            raise ValueError
        return result

    return Kind("N", f"a whole number from {minimum} to {maximum}", read)


def number(minimum: float, maximum: float) -> Kind[float]:
    """Return the kind of numbers from `minimum` to `maximum`."""

    def read(value: object) -> float:
        result = _convert(float, value)
        if not isinstance(result, int | float) or isinstance(result, bool) or not minimum <= result <= maximum:
            raise ValueError  # also when it is NaN
        return float(result)

    return Kind("N", f"a number from {minimum} to {maximum}", read)


def choice(*names: str) -> Kind[str]:
    """Return the kind whose values are `names`."""

    def read(value: object) -> str:
        if (name := _text(value)) not in names:
            raise ValueError
        return name

    return Kind("{" + ",".join(names) + "}", f"one of {', '.join(names)}", read)


def pattern(metavar: str, regex: str, allowed: str) -> Kind[str]:
    """Return the kind of text that `regex` matches in full."""
    compiled = re.compile(regex)

    def read(value: object) -> str:
        if not compiled.fullmatch(text := _text(value)):
            raise ValueError
        return text

    return Kind(metavar, allowed, read)


def url(*schemes: str) -> Kind[str]:
    """Return the kind of URLs of `schemes`, which never carry a password or a token."""

    def read(value: object) -> str:
        # urlsplit drops some control characters, so they are looked for first.
        text = _text(value)
        if not text.isascii() or not text.isprintable() or " " in text:
            raise ValueError
        parts = urlsplit(text)
        if parts.scheme not in schemes or not parts.hostname or parts.port == 0:
            raise ValueError
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError("it must not carry a password, a query or a fragment")
        return text

    return Kind("URL", " or ".join(f"{scheme}://host:port" for scheme in schemes) + ", with or without a path", read)


def several(kind: Kind[T], allowed: str, least: int = 0, most: int | None = None) -> Kind[tuple[T, ...]]:
    """Return the kind of lists of `kind`: a TOML array, or text with commas; empty text is an empty list.

    Args:
        kind: of each of them.
        allowed: completes "it must be …".
        least: how many there must be; where it is not 0, each may stand there once only.
        most: how many there may be; None: any number.
    """

    def read(value: object) -> tuple[T, ...]:
        texts: list[str] = []
        for item in value if isinstance(value, list) else [value]:
            texts += (text.strip() for text in _text(item).split(","))
        found = tuple(kind.read(text) for text in texts if text)
        if len(found) < least or (most is not None and len(found) > most):
            raise ValueError(f"{len(found)} are given")
        twice = [one for number, one in enumerate(found) if least and one in found[:number]]
        if twice:
            raise ValueError(f"{twice[0]} is given twice")
        return found

    return Kind(f"{kind.metavar},...", allowed, read)


def optional(kind: Kind[T]) -> Kind[T | None]:
    """Return `kind`, or `off` for none."""

    def read(value: object) -> T | None:
        return None if isinstance(value, str) and value in (OFF, "") else kind.read(value)

    return Kind(kind.metavar, f"{kind.allowed}, or {OFF}", read)


def _switch(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if (name := _text(value).lower()) not in SWITCHES:
        raise ValueError
    return SWITCHES[name]


def _address(value: object) -> Address:
    return Address.parse(_text(value))


def _peer(value: object) -> Address:
    address = _address(value)
    if not address.path and not address.port:
        raise ValueError("port 0 cannot be connected to")
    return address


def _file(value: object) -> Path:
    if not (text := _text(value)).isprintable():
        raise ValueError
    path = Path(text)
    if not os.access(path, os.R_OK) or path.is_dir():
        raise ValueError("there is no such file that this user can read")
    return path


def _folder(value: object) -> str:
    if not (text := _text(value)).isprintable() or not text:
        raise ValueError
    return text


SWITCH = Kind("{true,false}", "true or false", _switch)
LISTEN = Kind("ADDRESS", "host:port, [IPv6]:port (port 0: any free one) or unix:/path", _address)
PEER = Kind("ADDRESS", "host:port, [IPv6]:port or unix:/path", _peer)
URL = url("http", "https")
FILE = Kind("FILE", "a file that can be read", _file)
FOLDER = Kind("FOLDER", f"a folder, auto, or {OFF}", _folder)
HOST = pattern("HOST", r"[A-Za-z0-9._-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?", "a host, or host:port")
ORIGIN = pattern("ORIGIN", r"[a-z][a-z0-9+.-]*://[^\sA-Z/@?#,]+", "scheme://host or scheme://host:port")
METHOD = pattern("METHOD", r"[A-Za-z0-9_.]{1,128}", "the name of a method")
