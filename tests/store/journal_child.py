"""A process that publishes into a journal until it is killed, and tells through a pipe what was acknowledged.

The parent (`python -m tests.store.journal_child FOLDER KILLS SYNC`) forks children that only know the journal, kills
each at a moment of its own, opens the journal as the next process would, and judges it against what was acknowledged.
It prints a line for each fault, and last how much was seen.
"""

import os
import random
import select
import signal
import struct
import sys
import time
from pathlib import Path

from bridge.store.journal import Declared, Journal, JournalLimits, Record, Sync

LIMITS = JournalLimits(count=300, segment_count=20)
STREAMS = [
    Declared("blocks", "block", keyed=False, custom=False),
    Declared("accounts", "account", keyed=True, custom=False),
]
ACK = struct.Struct("<QQ")


def make(stream: int, seq: int) -> Record:
    """Make the one record that may stand at a position."""
    key = f"k{seq * 7 % 50}" if stream else ""
    size = (seq * 37) % 700
    return Record(seq, seq, seq, key, f"{stream}/{seq}/".encode() + b"." * size, "alice" if seq % 5 == 0 else "", seq)


def open_journal(folder: Path, sync: Sync) -> Journal:
    """Open the journal; a new epoch is named after the process."""
    return Journal.open(folder, limits=LIMITS, sync=sync, new_epoch=lambda: f"e{os.getpid()}", clock_ms=lambda: 0)


def publish(folder: Path, sync: Sync, pipe: int) -> None:
    """Publish until killed, acknowledging each update behind its append."""
    journal = open_journal(folder, sync)
    for declared in STREAMS:
        journal.declare(declared)
    while True:
        for number, declared in enumerate(STREAMS):
            seq = journal.head(declared.name) + 1
            journal.append(declared.name, make(number, seq))
            os.write(pipe, ACK.pack(number, seq))
        if seq % 100 == 0:
            journal.trim(0)


def run_child(folder: Path, sync: Sync, delay: float, begun: bool) -> list[int]:
    """Fork a child, kill it, and return the newest acknowledged seq of each stream, 0 where there is none.

    Args:
        folder: of the journal.
        sync: how it is opened.
        delay: seconds until the kill.
        begun: whether to wait for a first acknowledgement before.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            publish(folder, sync, writing)
        finally:
            os._exit(1)
    os.close(writing)
    data = os.read(reading, ACK.size) if begun else b""
    end = time.monotonic() + delay
    while (left := end - time.monotonic()) > 0:
        if select.select([reading], [], [], left)[0]:
            data += os.read(reading, 1 << 16)
    os.kill(pid, signal.SIGKILL)
    while more := os.read(reading, 1 << 16):  # what it acknowledged and nobody has read yet
        data += more
    os.close(reading)
    os.waitpid(pid, 0)
    heads = [0, 0]
    for number, seq in ACK.iter_unpack(data):
        heads[number] = seq
    return heads


def judge(folder: Path, sync: Sync, epoch: str, heads: list[int]) -> tuple[list[str], str]:
    """Return what is wrong with the journal that a child left, and its epoch."""
    journal = open_journal(folder, sync)
    faults = []
    try:
        if epoch and journal.epoch != epoch:
            faults.append(f"the epoch is {journal.epoch}, not {epoch}: {journal.notes}")
        for number, declared in enumerate(STREAMS):
            name, head = declared.name, journal.head(declared.name)
            if head < heads[number]:
                faults.append(f"{name}: head {head}, and {heads[number]} was acknowledged")
            oldest = journal.oldest(name)
            page = journal.read(name, 0, head + 1, 1 << 20, 1 << 30)
            if page.records != [make(number, seq) for seq in range(oldest, head + 1)]:
                faults.append(f"{name}: the updates from {oldest} to {head} are not those that were published")
            newest = {make(number, seq).key: seq for seq in range(max(1, head - 60), head + 1)}
            if list(journal.values(name)) != [make(number, seq).raw for seq in sorted(newest.values())]:
                faults.append(f"{name}: the current values are wrong at {head}")
            heads[number] = head
        for _, forgotten, positions in journal.publishers():
            known = {seq for seq, _, _ in positions}
            if any(seq > forgotten and seq not in known for seq in range(5, min(heads) + 1, 5)):
                faults.append("a publication is no longer known")
        return faults, journal.epoch
    finally:
        journal.close()


def main(folder: Path, kills: int, sync: Sync) -> None:
    """Kill children at random moments, and judge what each leaves."""
    chance = random.Random(7)
    epoch, faults, published, heads = "", [], 0, [0, 0]
    for number in range(kills):
        # A quarter are killed while they open the journal, or later; the others while they publish.
        begun = number % 4 > 0
        acknowledged = run_child(folder, sync, (0.01 if begun else 0.06) * chance.random(), begun)
        heads = [max(before, now) for before, now in zip(heads, acknowledged, strict=True)]
        wrong, epoch = judge(folder, sync, epoch, heads)
        faults += [f"kill {number}: {fault}" for fault in wrong]
        published += any(acknowledged)
    for fault in faults:
        print(fault)
    print(f"{kills} kills, {published} of them while it was published, heads {heads[0]} {heads[1]}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), Sync(sys.argv[3]))
