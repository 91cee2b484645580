"""The rollout: visitors stay on their side, and a percentage that grows takes nobody out."""

import asyncio
import logging
from itertools import pairwise

import aiohttp
import pytest

from bridge.core.errors import BridgeError
from bridge.edges.documents import Rollout
from tests.system.processes import ANY, bridge, run

VISITORS = [f"{number:016x}" for number in range(10_000)]


def admitted(percent: float) -> set[str]:
    rollout = Rollout(percent)
    return {visitor for visitor in VISITORS if rollout.admits(visitor)}


@pytest.mark.parametrize("percent", [0.5, 1, 10, 25, 50, 90, 99.5])
def test_as_many_are_in_as_should_be(percent):
    share = percent / 100
    deviation = (len(VISITORS) * share * (1 - share)) ** 0.5
    assert abs(len(admitted(percent)) - len(VISITORS) * share) < 4 * deviation


def test_nobody_is_in_at_0_and_everybody_at_100():
    assert admitted(0) == set()
    assert admitted(100) == set(VISITORS)


def test_who_is_in_stays_in_while_the_percentage_grows():
    steps = [admitted(percent) for percent in (0, 1, 5, 10, 50, 90, 100)]
    assert all(before < after for before, after in pairwise(steps))


def test_a_visitor_is_always_on_the_same_side():
    """Also in other processes and versions: these are the first of their ids' SHA-256."""
    assert [Rollout(10).admits(visitor) for visitor in VISITORS[:8]] == [Rollout(10).admits(v) for v in VISITORS[:8]]
    assert Rollout(73).admits("") is False  # e3b0c442...: 88.9
    assert Rollout(89).admits("") is True
    assert Rollout(70).admits("abc") is False  # ba7816bf...: 72.8
    assert Rollout(73).admits("abc") is True


def test_who_has_no_id_is_in_once_everybody_is():
    assert not Rollout(99.9).admits(None)
    assert Rollout(100).admits(None)


def test_a_percentage_in_a_file_is_that_of_the_moment(tmp_path, caplog):
    file = tmp_path / "percent"
    file.write_text("0\n")
    rollout = Rollout(100, file)
    assert not rollout.admits("abc")
    file.write_text("100")
    assert rollout.admits("abc")
    for bad in ("", "all", "101", "-1", "nan", "5" + " " * 100):
        file.write_text(bad)
        assert rollout.admits("abc"), "the last percentage counts"
    file.unlink()
    assert rollout.admits("abc")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "stays at 100" in caplog.text
    (tmp_path / "next").write_text("10")
    (tmp_path / "next").rename(file)
    assert not rollout.admits("abc")


@pytest.mark.parametrize("text", ["", "half", "101", "10 20"])
def test_a_file_without_a_percentage_is_refused_at_the_start(tmp_path, text):
    (tmp_path / "percent").write_text(text)
    with pytest.raises(BridgeError, match="percent must hold a number from 0 to 100"):
        Rollout(100, tmp_path / "percent")


async def test_a_process_answers_by_the_file_without_a_restart(tmp_path):
    file = tmp_path / "percent"
    file.write_text("0")
    given = ("demo", "--listen", ANY, "--grpc-listen", "off", "--websockets-percent-file", str(file))
    with bridge(*given) as running:
        async with aiohttp.ClientSession() as http:

            async def told(visitor: str) -> bool:
                async with http.get(f"{running.http}/config.json", params={"visitor": visitor}) as response:
                    return (await response.json())["websockets"]

            assert await asyncio.gather(*map(told, VISITORS[:100])) == [False] * 100
            file.write_text("50")
            rollout = Rollout(50)
            wanted = [rollout.admits(visitor) for visitor in VISITORS[:100]]
            assert await asyncio.gather(*map(told, VISITORS[:100])) == wanted
            file.write_text("100")
            assert await asyncio.gather(*map(told, VISITORS[:100])) == [True] * 100


def test_a_percentage_that_is_none_is_refused():
    done = run("sidecar", "--websockets-percent", "101")
    assert done.returncode == 2
    assert "websockets_percent = '101' from --websockets-percent must be a number from 0 to 100" in done.stderr
