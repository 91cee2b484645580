"""The chain as `light.headers` shows it, followed: pages of headers in, events out. No I/O, no clock.

The follower says what to ask for next and takes in the answer. It first finds the newest block without reading the
chain (doubling steps, then halves), then reads on from there, always together with the last few blocks it knows, so
that a block that was replaced is seen. A chain that became shorter with the same blocks is waited for, a fork is
searched backwards in what is remembered, and a chain with nothing in common is another chain.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

REREAD_BLOCKS = 10
"""Known blocks that are read again with every page."""

PAGE_BLOCKS = 200
"""New blocks that one page may bring."""

MEMORY_BLOCKS = 4096
"""Blocks whose hashes are remembered: the deepest fork that is not another chain."""

LOOK_BACK = 4
"""How many times as far back the next page begins when a fork lies before this one."""


class Ask(NamedTuple):
    """Params of `light.headers`."""

    start: int
    limit: int


class Block(NamedTuple):
    """A block of the chain: height, and hash as bytes."""

    height: int
    hash: bytes


class Added(NamedTuple):
    """A block above all others."""

    block: Block


class Replaced(NamedTuple):
    """A block where another was: `depth` blocks, from its height up, are no longer on the chain."""

    block: Block
    hash: bytes  # of the block that was there
    depth: int


class NewChain(NamedTuple):
    """The node has another chain: nothing that was known is on it."""

    sentence: str


Event = Added | Replaced | NewChain


class Phase(StrEnum):
    """What the follower is doing."""

    SEARCHING = "searching"  # for the newest block
    FOLLOWING = "following"  # reading on from the newest block that it knows
    RESYNCING = "resyncing"  # waiting for a chain that became shorter to pass the newest block that it knows


class Follower:
    """Follows a chain.

    Attributes:
        tip: height of the newest block given out, -1 before the first.
        at: height of the newest block that the node showed, -1 while its chain is empty.
        caught_up: whether the last page ended at the node's newest block.
    """

    def __init__(
        self, backfill: int, *, reread: int = REREAD_BLOCKS, page: int = PAGE_BLOCKS, memory: int = MEMORY_BLOCKS
    ) -> None:
        """Begin before the first answer.

        Args:
            backfill: how many of the newest blocks are given out at the start, at least one.
            reread: known blocks that are read again with every page.
            page: new blocks that one page may bring.
            memory: blocks whose hashes are remembered, at least `reread`.
        """
        self._backfill = max(1, backfill)
        self._reread = reread
        self._page = page
        self._memory = max(memory, reread)
        self._reset()

    def _reset(self) -> None:
        self.tip = self.at = -1
        self.caught_up = False
        self._hashes: dict[int, bytes] = {}  # of the heights _oldest to tip
        self._oldest = 0
        self._genesis: bytes | None = None
        self._back: int | None = None  # where the next page begins when a fork is searched
        self._search(None)

    def resume(self, blocks: Iterable[Block], genesis: bytes | None) -> None:
        """Go on with a chain that was followed before; called before the first answer.

        Args:
            blocks: that were given out, in that order; one at a height that another had is in its place, and what was
                above it is void. Of blocks with a gap between them those above it count.
            genesis: hash of the first block of that chain, None if it was never seen.
        """
        self._genesis = genesis
        for block in blocks:
            if self._hashes and block.height > self.tip + 1:
                self._hashes.clear()
            for height in range(block.height, self.tip + 1):
                self._hashes.pop(height, None)
            self._remember(block)
        self.at = self.tip
        self._searching = not self._hashes

    @property
    def genesis(self) -> bytes | None:
        """Hash of the first block of the chain, None while it has not been seen."""
        return self._genesis

    @property
    def phase(self) -> Phase:
        """What it is doing."""
        if self.at < self.tip:
            return Phase.RESYNCING
        return Phase.SEARCHING if self._searching else Phase.FOLLOWING

    def hash_of(self, height: int) -> bytes | None:
        """Return the hash of the block given out at `height`, None if it is not remembered."""
        return self._hashes.get(height)

    def ask(self) -> Ask:
        """Return what to ask for next."""
        if self._searching:
            return self._ask_search()
        start = self.at + 1
        if self._hashes:
            start = max(0, start - self._reread)
            if self.at >= self._oldest:
                start = max(start, self._oldest)
        if self._back is not None:
            start = self._back
        return Ask(start, self.at + 1 - start + self._page)

    def apply(self, ask: Ask, blocks: Sequence[Block]) -> list[Event]:
        """Take in an answer.

        Args:
            ask: what was asked for, as `ask` returned it.
            blocks: the answer: heights without a gap from `ask.start` on, at most `ask.limit`.

        Returns:
            What has changed, in order.
        """
        if self._searching:
            return self._apply_search(ask, blocks)
        if not blocks and ask.start > 0:  # the chain ends before the page
            self._search(ask.start)
            return []
        different = next((block for block in blocks if self._differs(block)), None)
        if different is not None:
            fork = different.height
            if fork == 0:
                return self._begin_chain("its first block is another one")
            if fork == self._oldest:
                return self._begin_chain("none of the blocks that were known is on it")
            if fork == ask.start:
                back = fork - LOOK_BACK * max(self._reread, self.at + 1 - fork)
                self._back = max(self._oldest, back)
                self.caught_up = False
                return []
        self._back = None
        self.at = blocks[-1].height if blocks else -1
        self.caught_up = len(blocks) < ask.limit
        return self._take(blocks, different)

    def _differs(self, block: Block) -> bool:
        known = self._genesis if block.height == 0 else self._hashes.get(block.height)
        return known is not None and known != block.hash

    def _take(self, blocks: Sequence[Block], different: Block | None) -> list[Event]:
        events: list[Event] = []
        if different is not None:
            events.append(Replaced(different, self._hashes[different.height], self.tip + 1 - different.height))
            for height in range(different.height, self.tip + 1):
                del self._hashes[height]
            self._remember(different)
        for block in blocks:
            if block.height > self.tip:
                events.append(Added(block))
                self._remember(block)
        return events

    def _remember(self, block: Block) -> None:
        if not self._hashes:
            self._oldest = block.height
        if block.height == 0:
            self._genesis = block.hash
        self._hashes[block.height] = block.hash
        self.tip = block.height
        while self.tip - self._oldest >= self._memory:
            del self._hashes[self._oldest]
            self._oldest += 1

    def _begin_chain(self, sentence: str) -> list[Event]:
        self._reset()
        return [NewChain(sentence)]

    # ------------------------------------------------------------------ searching the newest block

    def _search(self, beyond: int | None) -> None:
        """Begin to search the newest block; at `beyond` there is none, if that is given."""
        self._searching = True
        self._low = -1  # the newest height known to have a block
        self._beyond = beyond
        self._step = self._page
        self._back = None
        self.caught_up = False
        if beyond is not None:
            self.at = min(self.at, beyond - 1)

    def _ask_search(self) -> Ask:
        if self._low < 0:
            return Ask(0, 1)
        if self._beyond is None:
            return Ask(self._low + self._step, 1)
        if self._beyond - self._low > self._page:
            return Ask((self._low + self._beyond) // 2, 1)
        return Ask(self._low, self._page)

    def _apply_search(self, ask: Ask, blocks: Sequence[Block]) -> list[Event]:
        if not blocks:
            if ask.start == 0:  # the chain is empty
                self._end_search(-1)
                self.caught_up = True
            elif ask.start == self._low:  # it became shorter meanwhile
                self._search(ask.start)
            else:
                self._beyond = ask.start
            return []
        if ask.start == 0 and self._differs(blocks[0]):
            return self._begin_chain("its first block is another one")
        if ask.start == 0:
            self._genesis = blocks[0].hash
        if ask.limit == self._page and ask.start == self._low:
            self._end_search(blocks[-1].height)
            return []
        self._low = ask.start
        self._step *= 2
        return []

    def _end_search(self, newest: int) -> None:
        self._searching = False
        self.at = min(newest, self.tip) if self.tip >= 0 else max(-1, newest - self._backfill)
