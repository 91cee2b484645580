"""Chromium, and a demo to look at."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.browser.chromium import Visit, chromium, missing
from tests.system.processes import ANY, Running, bridge


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    """Run Chromium, if it is here; .ci/run names it, and then it must be."""
    if (reason := missing()) is not None:
        if os.environ.get("CHROMIUM"):
            pytest.fail(reason)
        pytest.skip(reason)
    with chromium() as running:
        yield running


@pytest.fixture(scope="package")
def demo(browser: Any) -> Iterator[Running]:
    """Run a demo with five blocks a second."""
    with bridge("demo", "--listen", ANY, "--grpc-listen", "off", "--blocks-per-second", "5") as running:
        yield running


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Visit]]:
    """Return a function that opens a page of its own; all are closed at the end."""
    visits: list[Visit] = []

    def open_one(url: str = "", **options: Any) -> Visit:
        visits.append(Visit(browser, **options))
        if url:
            visits[-1].page.goto(url)
        return visits[-1]

    yield open_one
    for one in visits:
        one.close()
