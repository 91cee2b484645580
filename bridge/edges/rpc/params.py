"""Params as dashboards send them: `[]`, `[{…}]`, a bare `{…}`, values by position, or nothing at all."""

from bridge.core.codes import ErrorCode
from bridge.core.errors import RequestError
from bridge.core.names import KEY, KEY_RULE

Members = dict[str, object]
Params = Members | list[object] | None

HEIGHT_LIMIT = 1 << 63
OFFSET_LIMIT = 1_000_000
DEFAULT_PAGE = 100
LARGEST_PAGE = 1000


def bad(sentence: str) -> RequestError:
    """Return the error for parameters that cannot be."""
    return RequestError(ErrorCode.INVALID_PARAMS, sentence)


def by_name(params: Params, *names: str) -> Members:
    """Return params by name.

    Args:
        params: as they came.
        names: what values by position are called, in order; none: such values are refused.

    Raises:
        RequestError: there are more values by position than names.
    """
    if params is None:
        return {}
    if isinstance(params, dict):
        return params
    if len(params) == 1 and isinstance(params[0], dict):
        return params[0]
    if len(params) > len(names):
        wanted = f"{', '.join(names)} by position, or " if names else ""
        raise bad(f"params must be {wanted}one object, not {len(params)} values")
    return dict(zip(names, params, strict=False))


def height(params: Params) -> int:
    """Read the height of a block.

    Raises:
        RequestError: there is none, or it cannot be.
    """
    value = by_name(params, "height").get("height")
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < HEIGHT_LIMIT:
        raise bad("params must be [height], the height of a block: a whole number that is not negative")
    return value


def account(params: Params) -> str:
    """Read the address of an account, which may be called account or address.

    Raises:
        RequestError: there is none, or it cannot be.
    """
    members = by_name(params, "account")
    value = members.get("account", members.get("address"))
    if not isinstance(value, str) or not KEY.fullmatch(value):
        raise bad(f"params must be [account], an address that matches {KEY_RULE}")
    return value


def page(params: Params) -> Members:
    """Read which part of a list is wanted: offset and limit, both with a default.

    Raises:
        RequestError: one cannot be.
    """
    members = by_name(params, "offset", "limit")
    return {
        "offset": whole(members, "offset", 0, 0, OFFSET_LIMIT),
        "limit": whole(members, "limit", DEFAULT_PAGE, 1, LARGEST_PAGE),
    }


def whole(members: Members, name: str, default: int, lowest: int, highest: int) -> int:
    """Read a whole number within bounds; what is left out has a default."""
    value = members.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
        raise bad(f"{name} must be a whole number from {lowest} to {highest}")
    return value
