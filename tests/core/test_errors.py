"""Errors as clients get them."""

import pytest

from bridge.core import codes, errors
from bridge.core.codes import ErrorCode


def test_a_refusal_as_json_rpc_error_object():
    refused = errors.RequestError(ErrorCode.INVALID_PARAMS, "no")
    assert refused.to_object() == {"code": -32602, "message": "no"}
    refused = errors.RequestError(ErrorCode.RATE_LIMITED, "later", {"retry_after_ms": 5})
    assert refused.to_object() == {"code": -32029, "message": "later", "data": {"retry_after_ms": 5}}


@pytest.mark.parametrize(
    "error",
    [
        errors.RequestError(ErrorCode.PARSE_ERROR, "one sentence"),
        errors.FrameError(codes.TOO_BIG, "one sentence"),
        errors.PublishError("one sentence"),
        errors.NodeCallError(-32000, "one sentence"),
        errors.SchemaError("one sentence"),
        errors.StartError("one sentence"),
    ],
)
def test_every_error_is_a_bridge_error_and_its_text_is_the_sentence(error):
    assert isinstance(error, errors.BridgeError)
    assert str(error) == "one sentence"


def test_the_nodes_own_code_is_kept():
    assert errors.NodeCallError(-32000, "no such block").code == -32000
