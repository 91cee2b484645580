"""Updates as lines for people."""

import re

import pytest

from bridge.client import Updated
from bridge.commands.lines import COLUMNS, Style, show_value, update_line
from bridge.core.streams import Catalogue

WIDE = Style(colours=False, width=1000)


def update(stream: str, data: dict, **members) -> Updated:
    return Updated(stream=stream, type="t", epoch="e", seq=7, time_ms=1, data=data, **members)


def test_columns_are_fields_of_their_streams():
    """What is written down by hand here agrees with the proto files."""
    streams = {stream.name: stream for stream in Catalogue()}
    assert COLUMNS.keys() == streams.keys()
    for name, columns in COLUMNS.items():
        payload = update_field(streams[name].field)
        known = set(payload.fields_by_camelcase_name) | {field.json_name for field in payload.fields}
        assert {column.name.partition(".")[0] for column in columns} <= known


def update_field(name: str):
    from generated.theblock.state.v1 import update_pb2

    return update_pb2.Update.DESCRIPTOR.fields_by_name[name].message_type


def test_columns_stand_below_one_another():
    lines = [
        update_line(update("block_updates", {"height": height, "hash": "0x" + "ab" * 32}), WIDE)
        for height in (9, 123456)
    ]
    assert lines[0].index("hash=") == lines[1].index("hash=")
    assert (
        lines[0] == " block_updates #7       height=9          tx_count=-      hash=0xabababab…abab  finalized_height=-"
    )


def test_a_block_that_replaces_another_says_so():
    replaced = {"height": 5, "hash": "0x00", "depth": 1}
    assert "replaces={height=5 hash=0x00 depth=1}" in update_line(update("block_updates", {"replaces": replaced}), WIDE)


def test_other_streams_show_every_field_and_the_key():
    line = update_line(update("weather", {"celsius": 21.5, "sunny": True}, key="berlin", prev=0, snapshot=True), WIDE)
    assert line == "*weather #7       berlin  celsius=21.5  sunny=true"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (0, "0"),
        (2**64, "18446744073709551616"),
        (1.5, "1.5"),
        (1 / 3, "0.333333"),
        ("x" * 18, "x" * 18),
        ("0123456789abcdefghij", "0123456789…ghij"),
        ([1, 2], "[2]"),
        ({"a": None, "b": [1]}, "{a=- b=[1]}"),
        ("a\x1b[2Jb\n", "a\N{REPLACEMENT CHARACTER}[2Jb\N{REPLACEMENT CHARACTER}"),
        ({"\x9b": "\u202e"}, "{\N{REPLACEMENT CHARACTER}=\N{REPLACEMENT CHARACTER}}"),
    ],
)
def test_values(value, shown):
    assert show_value(value) == shown


@pytest.mark.parametrize("width", [0, 20, 40, 80])
def test_no_line_is_wider_than_the_terminal(width):
    for style in (Style(colours=False, width=width), Style(colours=True, width=width)):
        line = re.sub("\x1b\\[[0-9]*m", "", update_line(update("metrics", {"tps": 1.5}), style))
        assert len(line) <= max(width, len(" metrics #7       "))


def test_colours_only_where_they_are_wanted():
    assert "\x1b" not in update_line(update("metrics", {}), WIDE)
    coloured = update_line(update("metrics", {}), Style(colours=True, width=1000))
    assert re.match("^ \x1b\\[3[0-9]mmetrics\x1b\\[0m \x1b\\[2m#7 +\x1b\\[0m  ", coloured)
