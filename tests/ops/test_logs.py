"""Logs: whose records are shown, in which form."""

import json
import logging
import subprocess
import sys

import pytest

from bridge.ops.logs import FORMATTERS

PROGRAM = """
import logging
from bridge.ops.logs import set_up_logs
set_up_logs({level!r}, {form!r})
for name in ("bridge.node", "bridge.sources.grpc", "aiohttp.server"):
    logging.getLogger(name).info("told by %s", name)
    logging.getLogger(name).error("failed in %s", name)
"""


def logged(level: str, form: str) -> list[str]:
    program = PROGRAM.format(level=level, form=form)
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stderr.splitlines()


@pytest.mark.parametrize(("level", "shown"), [("info", 5), ("error", 3)])
def test_the_level_is_that_of_every_logger_of_ours_and_of_no_other(level, shown):
    lines = logged(level, "text")
    assert len(lines) == shown
    assert any("error node: failed in bridge.node" in line for line in lines)
    assert any(("info sources.grpc: told by" in line) for line in lines) is (level == "info")
    assert not any("told by aiohttp" in line for line in lines)


def test_a_line_of_json_is_one_object():
    entries = [json.loads(line) for line in logged("info", "json")]
    assert [(entry["level"], entry["logger"]) for entry in entries][:2] == [
        ("info", "bridge.node"),
        ("error", "bridge.node"),
    ]
    assert all(entry["time"].endswith("Z") and entry["message"] for entry in entries)


@pytest.mark.parametrize("form", FORMATTERS)
def test_an_exception_is_told_with_where_it_came_from(form):
    try:
        raise ValueError("what was wrong")
    except ValueError:
        record = logging.getLogger("bridge.test").makeRecord(
            "bridge.test", logging.ERROR, __file__, 1, "it failed", (), sys.exc_info()
        )
    assert "ValueError: what was wrong" in FORMATTERS[form]().format(record)
