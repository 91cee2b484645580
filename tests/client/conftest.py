"""What tests of the client share."""

from collections.abc import AsyncIterator

import pytest

from tests.client.world import World, serving
from tests.edges.rig import Options


@pytest.fixture(params=["json", "proto"])
def format_(request: pytest.FixtureRequest) -> str:
    """Return each format in turn."""
    return request.param


@pytest.fixture
def options() -> Options:
    """Return what the sidecar is made with; a test module has its own where it wants something else."""
    return Options()


@pytest.fixture
async def world(options: Options) -> AsyncIterator[World]:
    """Serve."""
    async with serving(options) as world:
        yield world
