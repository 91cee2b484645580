"""JSON as strangers send it: read as everybody reads it, or refused with a sentence."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.core.jsontext import JsonError, parse_json, parse_object

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
)

REFUSED = {
    "": "not JSON",
    "{": "not JSON",
    "{'a':1}": "not JSON",
    '{"a":1,}': "not JSON",
    "[1] 2": "not JSON",
    "01": "not JSON",
    '"\n"': "not JSON",
    "\ufeff{}": "not JSON",
    '{"a":1,"a":1}': "the key 'a' stands twice in one object",
    '[{"b":{"x":1,"y":2,"x":3}}]': "the key 'x' stands twice in one object",
    '{"a":1,"\\u0061":2}': "the key 'a' stands twice in one object",
    "NaN": "NaN is not JSON",
    '{"a":[-Infinity]}': "-Infinity is not JSON",
    "1e400": "a number is too large",
    "[-1e999999]": "a number is too large",
    "1" * 5000: "a number has too many digits",
    '"\\ud800"': "half of a surrogate pair",
    '{"\\udfff":1}': "half of a surrogate pair",
    "[" * 5 + "]" * 5: "nested too deep: at most 4 levels are allowed",
    '{"a":' * 5 + "1" + "}" * 5: "nested too deep",
    "[" * 100_000: "nested too deep",
    '{"a":' * 100_000: "nested too deep",
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:20])
def test_what_is_refused_and_why(text):
    for given_as in (text, text.encode()):
        with pytest.raises(JsonError) as error:
            parse_json(given_as, 4)
        assert REFUSED[text] in str(error.value)
        assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    "data",
    [
        b"\xff",
        b'"\xc3"',
        '{"a":1}'.encode("utf-16"),
        "{}".encode("utf-16-le"),
        "[]".encode("utf-32-be"),
        b'"\xed\xa0\x80"',
        b"\xef\xbb\xbf{}",
    ],
)
def test_bytes_are_utf8_and_nothing_else(data):
    with pytest.raises(JsonError):
        parse_json(data, 4)


def test_what_is_wrong_in_bytes_is_located():
    with pytest.raises(JsonError, match="not UTF-8 at byte 2"):
        parse_json(b'"a\xff"', 4)


def test_a_long_key_does_not_make_a_long_sentence():
    with pytest.raises(JsonError) as error:
        parse_json(f'{{"{"k" * 9999}":1,"{"k" * 9999}":2}}', 4)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[[[[]]]]", [[[[]]]]),
        ('{"a":{"b":{"c":{}}}}', {"a": {"b": {"c": {}}}}),
        ('"\\ud83d\\ude00"', "😀"),
        ("1e308", 1e308),
        ("123456789012345678901234567890", 123456789012345678901234567890),
        (' "\\u0000" ', "\0"),
        ("-0", 0),
        ("null", None),
    ],
)
def test_what_is_read(text, value):
    assert parse_json(text, 4) == value
    assert parse_json(text.encode(), 4) == value


@given(values)
def test_what_json_writes_is_read_back(value):
    text = json.dumps(value, ensure_ascii=False)
    assert parse_json(text, 100) == value
    assert parse_json(text.encode(), 100) == value
    assert parse_json(json.dumps(value), 100) == value


@given(st.text() | st.binary() | st.text(alphabet='{}[]",:0123456789eE+-.\\ud8nulltrefas '))
@example("[" * 3000 + "]" * 3000)
def test_arbitrary_text_is_json_or_refused(text):
    try:
        value = parse_json(text, 32)
    except JsonError as error:
        assert str(error)
    else:
        decoded = text if isinstance(text, str) else text.decode()
        assert json.loads(decoded) == value
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()  # can be passed on


@pytest.mark.parametrize("text", ["[]", "1", '"a"', "null"])
def test_an_object_is_wanted(text):
    with pytest.raises(JsonError, match="not a JSON object"):
        parse_object(text, 4)
    assert parse_object('{"a":[1]}', 4) == {"a": [1]}
