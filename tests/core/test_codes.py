"""The tables of error codes and close codes, against those of the protocol."""

from bridge.core.codes import CLOSES, ErrorCode, Retry


def test_error_codes_are_those_of_json_rpc_and_of_its_range_for_implementations():
    assert {code.name: int(code) for code in ErrorCode}.items() >= {
        "PARSE_ERROR": -32700,
        "INVALID_REQUEST": -32600,
        "METHOD_NOT_FOUND": -32601,
        "INVALID_PARAMS": -32602,
        "UNAUTHORIZED": -32001,
        "FORBIDDEN": -32003,
        "UPSTREAM_UNAVAILABLE": -32010,
        "RATE_LIMITED": -32029,
    }.items()
    assert all(code in range(-32099, -31999) or code in range(-32700, -32599) for code in ErrorCode)


def test_close_codes_say_by_their_range_whether_to_come_back():
    assert len({close.code for close in CLOSES}) == len({close.name for close in CLOSES}) == len(CLOSES)
    for close in CLOSES:
        if 4000 <= close.code <= 4499:
            assert close.retry is Retry.YES, close
        elif close.code >= 4500:
            assert close.retry is Retry.NEVER, close
        assert close.code not in (1000, 1004, 1005, 1006, 1015), "may not be sent, or is final for the dashboard"
        assert close.meaning


def test_what_a_client_must_fix_first():
    assert {close.code for close in CLOSES if close.retry is Retry.AFTER_FIX} == {1002, 1003, 1007, 1009}
