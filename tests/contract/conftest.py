"""The flag that writes the golden files anew: pytest tests/contract --update-golden."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden frames as they are now")


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether to write the golden files instead of comparing with them."""
    return request.config.getoption("--update-golden", default=False)
