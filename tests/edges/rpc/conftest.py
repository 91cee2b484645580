"""What tests of /rpc share."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.edges.rpc.rig import Nobody, Poller, polling


@pytest.fixture
async def node() -> Nobody:
    """Return a node that answers `{}` to everything."""
    return Nobody()


@pytest.fixture
async def poller(node: Nobody) -> AsyncIterator[Poller]:
    """Serve /rpc before that node."""
    async with polling(node.call) as poller:
        yield poller


@pytest.fixture(autouse=True)
def nothing_unhandled(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail a test in which a handler raised what it should not: aiohttp only logs that."""
    yield
    assert [record.getMessage() for record in caplog.records if "nhandled" in record.getMessage()] == []
