"""A real process, really killed, again and again, on one journal."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.store.journals import quick_folder

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize(("sync", "kills"), [("batch", 200), ("off", 40), ("always", 40)])
def test_nothing_acknowledged_is_lost_by_kill_9(sync: str, kills: int) -> None:
    with quick_folder() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "tests.store.journal_child", folder / "data", str(kills), sync],
            cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert not (folder / "data" / "ended").exists()
    assert done.returncode == 0, done.stderr
    *faults, seen = done.stdout.splitlines()
    assert faults == []
    published = re.fullmatch(rf"{kills} kills, (\d+) of them while it was published, heads \d+ \d+", seen)
    assert published
    assert int(published[1]) >= kills * 3 // 4
