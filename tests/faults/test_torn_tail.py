"""What a torn write leaves behind is gone for good: whatever ends the process later, the epoch goes on."""

import random

import pytest

from tests.store.journals import leave, quick_folder
from tests.store.test_journal_damage import make, opened


@pytest.mark.parametrize("torn_bytes", [1, 300, 5000, 200_000])
def test_behind_a_torn_write_the_epoch_goes_on_after_every_end(tmp_path, torn_bytes):
    journal, content = make(tmp_path / "open")
    with quick_folder() as folder:
        left = leave(tmp_path / "open", folder / "left")
        journal.close()
        last = max((left / "journal").glob("blocks.*.segment"), key=lambda path: int(path.suffixes[-2][1:]))
        with last.open("ab") as file:
            file.write(random.Random(torn_bytes).randbytes(torn_bytes))
        assert opened(left)[::2] == (journal.epoch, content), "after a crash; it ends in order"
        epoch, notes, again = opened(left)
        assert (epoch, notes, again) == (journal.epoch, [], content), "after that end"
