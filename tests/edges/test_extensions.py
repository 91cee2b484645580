"""Sec-WebSocket-Extensions: which offers of permessage-deflate are agreed to, and what cannot be read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.edges.extensions import Extension, agree, parse

PLAIN = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
WINDOW = f"{PLAIN}; server_max_window_bits=15"

OFFERS = [
    ("", None),
    (",", None),
    ("permessage-deflate", PLAIN),
    ("Permessage-Deflate", PLAIN),
    ("permessage-deflate; client_max_window_bits", PLAIN),  # what browsers offer
    ("permessage-deflate;client_max_window_bits=8", PLAIN),
    ('permessage-deflate; client_max_window_bits="15"', PLAIN),
    ("permessage-deflate; CLIENT_NO_CONTEXT_TAKEOVER", PLAIN),
    ("permessage-deflate; server_no_context_takeover; client_no_context_takeover", PLAIN),
    ("permessage-deflate; server_max_window_bits=15", WINDOW),
    ('permessage-deflate\t;\tserver_max_window_bits="1\\5"', WINDOW),
    ("x-webkit-deflate-frame, permessage-deflate", PLAIN),
    ('other; a; b=c; d="e", permessage-deflate', PLAIN),
    (", ,permessage-deflate,,", PLAIN),
    # the window asked for is smaller than the one that frames are made with
    ("permessage-deflate; server_max_window_bits=14", None),
    ("permessage-deflate; server_max_window_bits=8", None),
    ("permessage-deflate; server_max_window_bits=10, permessage-deflate", PLAIN),
    ("permessage-deflate; server_max_window_bits=10, permessage-deflate; server_max_window_bits=15", WINDOW),
    # RFC 7692, section 7.1: an offer is declined with a parameter that is unknown, wrong, or there twice
    ("permessage-deflate; server_max_window_bits", None),
    ("permessage-deflate; server_max_window_bits=16", None),
    ("permessage-deflate; server_max_window_bits=015", None),
    ("permessage-deflate; client_max_window_bits=7", None),
    ("permessage-deflate; client_max_window_bits=16", None),
    ("permessage-deflate; client_max_window_bits=08", None),
    ("permessage-deflate; client_max_window_bits=ten", None),
    ("permessage-deflate; server_no_context_takeover=1", None),
    ("permessage-deflate; client_no_context_takeover=true", None),
    ("permessage-deflate; client_max_window_bits; client_max_window_bits=15", None),
    ("permessage-deflate; server_no_context_takeover; server_no_context_takeover", None),
    ("permessage-deflate; level=9", None),
    ("permessage-deflate; level=9, permessage-deflate; client_max_window_bits", PLAIN),
    ("permessage-bzip2", None),
    ("deflate", None),
]


@pytest.mark.parametrize(("header", "answer"), OFFERS)
def test_offers(header, answer):
    assert agree(header) == answer


def test_what_a_header_names():
    assert parse('A;b;c=d , e ; f="g"') == [Extension("a", [("b", None), ("c", "d")]), Extension("e", [("f", "g")])]


UNREADABLE = [
    "permessage-deflate;",
    ";",
    "permessage-deflate; =15",
    "permessage-deflate; server_max_window_bits=",
    "permessage-deflate; a=b=c",
    "permessage-deflate server_no_context_takeover",
    "permessage-deflate=15",
    '"permessage-deflate"',
    'permessage-deflate; "a"=b',
    'permessage-deflate; a="b',
    'permessage-deflate; a=""',
    'permessage-deflate; a="b c"',
    "permessage-deflate; a={}",
    "permessage-deflate, \u00e4",
]


@pytest.mark.parametrize("header", UNREADABLE)
def test_what_is_not_written_as_rfc_6455_demands(header):
    with pytest.raises(ValueError, match="^(cannot|does|has) ") as error:
        agree(header)
    assert "\n" not in str(error.value)


@given(st.text('permessage-deflate;,= \t"\\ax15', max_size=40))
def test_anything_is_read_or_refused_in_one_sentence(header):
    try:
        assert agree(header) in (None, PLAIN, WINDOW)
    except ValueError as error:
        assert str(error).startswith(("cannot be read at character ", "does not name an extension", "has a parameter"))
