"""JSON as strangers send it: read strictly, so that nobody after us reads it in another way.

Refused beyond RFC 8259: duplicate keys (two parsers disagree on them), NaN and infinities, numbers too large for
a double or of thousands of digits, lone surrogates (they cannot be written as UTF-8), and deep nesting.
"""

import json
import math
from collections import Counter
from typing import Final, NoReturn


class JsonError(ValueError):
    """The text is not JSON that we accept; the sentence says why."""


def parse_json(text: str | bytes, depth: int) -> object:
    """Read a JSON text.

    Args:
        text: of any length; the caller has bounded it.
        depth: how many arrays and objects may stand within one another.

    Raises:
        JsonError: it is not JSON, or not JSON that we accept.
    """
    try:
        value = DECODER.decode(text if isinstance(text, str) else text.decode())
    except JsonError:
        raise
    except RecursionError:
        raise JsonError(f"nested too deep: at most {depth} levels are allowed") from None
    except UnicodeDecodeError as error:
        raise JsonError(f"not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise JsonError(f"not JSON: {error.msg} at character {error.pos}") from error
    except ValueError as error:
        raise JsonError("a number has too many digits") from error
    if not shallower(value, depth):
        raise JsonError(f"nested too deep: at most {depth} levels are allowed")
    check_surrogates(text, value)
    return value


def parse_object(text: str | bytes, depth: int) -> dict[str, object]:
    """Read a JSON text that is an object.

    Raises:
        JsonError: it is not.
    """
    value = parse_json(text, depth)
    if not isinstance(value, dict):
        raise JsonError("not a JSON object")
    return value


def unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Make an object of its members, none of them twice."""
    members = dict(pairs)
    if len(members) != len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise JsonError(f"the key {twice[:80]!r} stands twice in one object")
    return members


def refuse_constant(name: str) -> NoReturn:
    """Refuse NaN, Infinity and -Infinity, which Python would take."""
    raise JsonError(f"{name} is not JSON")


def finite_float(text: str) -> float:
    """Read a number with a fraction or an exponent."""
    number = float(text)
    if not math.isfinite(number):
        raise JsonError("a number is too large")
    return number


def shallower(value: object, depth: int) -> bool:
    """Whether at most `depth` arrays and objects of `value` stand within one another."""
    level = [value]
    for _ in range(depth + 1):
        containers = [item for item in level if isinstance(item, dict | list)]
        if not containers:
            return True
        level = [inner for item in containers for inner in (item.values() if isinstance(item, dict) else item)]
    return False


def check_surrogates(text: str | bytes, value: object) -> None:
    """Refuse half of a surrogate pair, which only an escape can make."""
    if not ("\\u" in text if isinstance(text, str) else b"\\u" in text):
        return
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise JsonError("a string has half of a surrogate pair") from None


DECODER: Final = json.JSONDecoder(
    object_pairs_hook=unique_keys, parse_constant=refuse_constant, parse_float=finite_float
)
