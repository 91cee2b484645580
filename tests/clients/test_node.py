"""The clients that run on Node.js. Those in other languages need more than Python: `python -m tests.clients`."""

from collections.abc import Iterator

import pytest

from tests.clients.checks import CHECKS, Bench
from tests.clients.programs import PROGRAMS, Program
from tests.clients.world import World, running

NODE_PROGRAMS = [program for program in PROGRAMS if not program.needs]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with running() as world:
        yield world


@pytest.fixture(scope="module", params=NODE_PROGRAMS, ids=lambda program: program.name)
def bench(request, world) -> Bench:
    program: Program = request.param
    return Bench(program, program.prepare(), world)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_client(bench, check):
    check(bench)
