"""An upgrade without a gap: a successor listens at the same address before the old process is told to stop.

`python -m tests.system.upgrade` does the same with 2,000 and 200 clients; UPGRADE_V1 and UPGRADE_CLASSIC say how many
there are here.
"""

import os

from tests.system.upgrade import upgrade

V1, CLASSIC = int(os.environ.get("UPGRADE_V1", "300")), int(os.environ.get("UPGRADE_CLASSIC", "50"))


async def test_nobody_notices():
    done = await upgrade(V1, CLASSIC)
    assert list(done.faults()) == []
    assert len(done.return_seconds) == V1
