"""The keeper: what a hub knows of what is on disk, and what it begins with."""

import pytest

from bridge.core.history import HistoryLimits
from bridge.core.hub import Hub
from bridge.core.origin import Origin
from bridge.core.streams import Catalogue
from bridge.ops.deep import PageLoader, from_disk
from bridge.store.journal import Journal, JournalLimits, Sync
from bridge.store.keeper import Keeper
from generated.theblock.state.v1 import account_pb2, block_pb2

BLOCKS = "block_updates"


class Run:
    """A state service without its network, from its start to its end."""

    def __init__(self, folder, *, count: int = 10) -> None:
        limits = JournalLimits(count=40, segment_count=16)
        self.journal = Journal.open(folder, limits=limits, sync=Sync.OFF, new_epoch=lambda: "e1", clock_ms=lambda: 0)
        self.hub = Hub(Catalogue(), clock_ms=lambda: 0, schedule=lambda: None, limits=HistoryLimits(count=count))
        PageLoader(from_disk(self.journal.read), self.hub)
        keeper = Keeper(self.journal, sync=Sync.OFF, clock_ms=lambda: 0)
        keeper.fill(self.hub, lambda: "e2")
        self.origin = Origin(self.hub, new_epoch=lambda: "e3", store=keeper)

    def block(self, height: int) -> None:
        self.origin.publish(block_pb2.BlockUpdate(height=height))


def test_how_far_back_the_disk_goes_is_known_with_every_update(tmp_path):
    run = Run(tmp_path)
    history = run.hub.histories[BLOCKS]
    reaches = set()
    for height in range(1, 201):
        run.block(height)
        assert history.reach == run.journal.oldest(BLOCKS)
        reaches.add(history.reach)
    assert len(reaches) > 3, "it has let go of some by itself"
    run.journal.close()


@pytest.mark.parametrize("count", [5, 1000])
def test_a_service_that_is_started_again_knows_the_value_before_what_it_remembers(tmp_path, count):
    run = Run(tmp_path)
    for number in range(1, 101):
        run.block(number)
        run.origin.publish(account_pb2.AccountUpdate(address="abc"[number % 3], nonce=number))
    run.journal.close()
    again = Run(tmp_path, count=count)
    history = again.hub.histories[BLOCKS]
    assert [update.seq for update in history.base.values()] == [history.oldest - 1]
    assert history.oldest == max(history.reach, 101 - count) > 1
    accounts = again.hub.histories["account"]
    if count == 1000:
        assert sorted(accounts.base) == ["a", "b", "c"], "they stand in for what is gone"
    again.journal.close()
