"""What tests of the v1 dialect share."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.core.v1_clients import CLIENTS, V1Client
from tests.core.world import World


@pytest.fixture
def world() -> World:
    """Return a hub with its origin; a test module has its own where it wants a smaller history."""
    return World()


@pytest.fixture(params=["json", "proto"])
def encoding(request: pytest.FixtureRequest) -> str:
    """Return the name of an encoding: what holds in one holds in the other."""
    return request.param


@pytest.fixture
def join(world: World, encoding: str) -> Callable[..., V1Client]:
    """Return a function that adds a client that speaks v1 in this encoding."""

    def add(**options: Any) -> V1Client:
        return CLIENTS[encoding](world, **options)

    return add
