"""The follower against model chains: whatever a chain does, each block is given out once, in order, with its hash."""

import hashlib
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.sources.node.chain import Added, Ask, Block, Event, Follower, NewChain, Phase, Replaced


def digest(*parts: object) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()


@dataclass
class ModelChain:
    """A node's chain: a list of hashes."""

    hashes: list[bytes] = field(default_factory=list)
    shelf: list[bytes] = field(default_factory=list)  # blocks that come back, the same ones
    branch: int = 0

    def grow(self, count: int) -> None:
        for _ in range(count):
            if self.shelf:
                self.hashes.append(self.shelf.pop(0))
            else:
                self.hashes.append(digest(self.branch, len(self.hashes), self.hashes[-1:]))

    def fork(self, depth: int, count: int) -> None:
        del self.hashes[len(self.hashes) - min(depth, len(self.hashes)) :]
        self.shelf.clear()
        self.branch += 1
        self.grow(count)

    def shorten(self, count: int) -> None:
        kept = max(0, len(self.hashes) - count)
        self.shelf = self.hashes[kept:] + self.shelf
        del self.hashes[kept:]

    def replace(self, count: int) -> None:
        self.fork(len(self.hashes), count)

    def answer(self, ask: Ask) -> list[Block]:
        page = self.hashes[ask.start : ask.start + ask.limit]
        return [Block(ask.start + i, block_hash) for i, block_hash in enumerate(page)]


class Reader:
    """Holds what a reader of the events holds, and checks each of them."""

    def __init__(self) -> None:
        self.blocks: dict[int, bytes] = {}
        self.chains = 1

    def take(self, event: Event) -> None:
        if isinstance(event, NewChain):
            self.blocks = {}
            self.chains += 1
        elif isinstance(event, Added):
            assert event.block.height == max(self.blocks, default=event.block.height - 1) + 1
            self.blocks[event.block.height] = event.block.hash
        else:
            height = event.block.height
            assert self.blocks[height] == event.hash != event.block.hash
            assert event.depth == max(self.blocks) + 1 - height
            self.blocks = {at: known for at, known in self.blocks.items() if at < height}
            self.blocks[height] = event.block.hash


def ask_until_settled(follower: Follower, chain: ModelChain, reader: Reader) -> int:
    """Ask until the newest block is known; return how many times."""
    for asks in range(1, 2000):
        ask = follower.ask()
        for event in follower.apply(ask, chain.answer(ask)):
            reader.take(event)
        if follower.caught_up:
            return asks
    raise AssertionError("the follower does not settle")


CHANGES = st.one_of(
    st.tuples(st.just("grow"), st.integers(0, 40)),
    st.tuples(st.just("fork"), st.integers(1, 60), st.integers(0, 60)),
    st.tuples(st.just("shorten"), st.integers(1, 80)),
    st.tuples(st.just("replace"), st.integers(0, 30)),
    st.tuples(st.just("restart")),
)
STEPS = st.lists(st.tuples(CHANGES, st.sampled_from((0, 1, 2, 20))), min_size=4, max_size=20)


@settings(max_examples=500)
@given(st.integers(0, 300), STEPS, st.integers(0, 30), st.integers(1, 12), st.integers(1, 40), st.integers(5, 100))
def test_whatever_a_chain_does_the_reader_ends_up_with_it(length, steps, backfill, reread, page, memory):
    chain, reader = ModelChain(), Reader()
    chain.grow(length)
    follower = Follower(backfill, reread=reread, page=page, memory=memory)
    ask_until_settled(follower, chain, reader)
    for (name, *arguments), asks in steps:
        if name == "restart":  # of the process: all that is left is what was given out
            genesis, follower = follower.genesis, Follower(backfill, reread=reread, page=page, memory=memory)
            follower.resume([Block(*block) for block in sorted(reader.blocks.items())], genesis)
        else:
            getattr(chain, name)(*arguments)
        for _ in range(asks):
            ask = follower.ask()
            assert ask.start >= 0
            assert 1 <= ask.limit <= max(memory, reread) + page
            for event in follower.apply(ask, chain.answer(ask)):
                reader.take(event)
    ask_until_settled(follower, chain, reader)

    assert follower.tip == max(reader.blocks, default=-1)
    if follower.phase is Phase.RESYNCING:
        assert len(chain.hashes) <= follower.tip
        chain.grow(follower.tip + 1 - len(chain.hashes))
        ask_until_settled(follower, chain, reader)
    if chain.hashes:
        assert follower.phase is Phase.FOLLOWING
        assert max(reader.blocks) == len(chain.hashes) - 1
    assert reader.blocks == {height: chain.hashes[height] for height in reader.blocks}


@given(st.integers(0, 2000), st.integers(1, 30), st.lists(st.integers(0, 50), max_size=10))
def test_a_chain_that_only_grows_is_given_out_once_from_the_backfill_on(length, backfill, growth):
    chain, reader = ModelChain(), Reader()
    chain.grow(length)
    follower = Follower(backfill)
    ask_until_settled(follower, chain, reader)
    for count in growth:
        chain.grow(count)
        assert ask_until_settled(follower, chain, reader) == 1
    assert reader.chains == 1
    assert reader.blocks == dict(list(enumerate(chain.hashes))[max(0, length - backfill) :])


def test_a_long_chain_is_not_read_whole():
    class Endless(ModelChain):
        def answer(self, ask: Ask) -> list[Block]:
            heights = range(ask.start, min(ask.start + ask.limit, 50_000_001))
            return [Block(height, digest(height)) for height in heights]

    chain, reader = Endless(), Reader()
    asks = ask_until_settled(Follower(100), chain, reader)
    assert asks < 45
    assert list(reader.blocks) == list(range(49_999_901, 50_000_001))


def test_an_empty_chain_is_asked_for_its_first_block_only():
    follower, chain, reader = Follower(100), ModelChain(), Reader()
    assert ask_until_settled(follower, chain, reader) == 1
    assert (follower.tip, follower.phase) == (-1, Phase.FOLLOWING)
    chain.grow(1)
    ask_until_settled(follower, chain, reader)
    assert reader.blocks == {0: chain.hashes[0]}


def following(length: int, backfill: int = 100) -> tuple[Follower, ModelChain, Reader]:
    follower, chain, reader = Follower(backfill), ModelChain(), Reader()
    chain.grow(length)
    ask_until_settled(follower, chain, reader)
    return follower, chain, reader


def events_of(follower: Follower, chain: ModelChain) -> list[Event]:
    events: list[Event] = []
    for _ in range(50):
        ask = follower.ask()
        events += follower.apply(ask, chain.answer(ask))
        if follower.caught_up:
            break
    return events


def test_a_fork_names_the_block_that_was_there_and_how_many_went():
    follower, chain, _ = following(50)
    old = chain.hashes[47]
    chain.fork(3, 4)
    first, *others = events_of(follower, chain)
    assert first == Replaced(Block(47, chain.hashes[47]), old, 3)
    assert others == [Added(Block(height, chain.hashes[height])) for height in (48, 49, 50)]


def test_a_fork_deeper_than_what_is_read_again_is_found():
    follower, chain, _ = following(3000, backfill=2000)
    old = chain.hashes[2000]
    chain.fork(1000, 1000)
    first, *others = events_of(follower, chain)
    assert first == Replaced(Block(2000, chain.hashes[2000]), old, 1000)
    assert len(others) == 999
    assert follower.ask() == Ask(2990, 210)


def test_a_fork_below_all_that_is_known_is_another_chain():
    follower, chain, _ = following(3000, backfill=100)
    chain.fork(500, 500)
    events = events_of(follower, chain)
    assert isinstance(events[0], NewChain)
    assert events[1:] == [Added(Block(height, chain.hashes[height])) for height in range(2900, 3000)]


def test_another_first_block_is_another_chain_however_long():
    for length in (1, 20, 2000):
        follower, chain, _ = following(300)
        chain.replace(length)
        events = events_of(follower, chain)
        assert isinstance(events[0], NewChain)
        assert len(events) == 1 + min(100, length)


def test_a_chain_that_became_shorter_is_waited_for():
    follower, chain, _ = following(300)
    chain.shorten(250)
    ask = follower.ask()
    assert follower.apply(ask, chain.answer(ask)) == []
    assert follower.phase is Phase.RESYNCING
    assert events_of(follower, chain) == []
    assert (follower.phase, follower.at, follower.tip) == (Phase.RESYNCING, 49, 299)
    chain.grow(249)
    assert events_of(follower, chain) == []
    chain.grow(2)
    assert events_of(follower, chain) == [Added(Block(300, chain.hashes[300]))]
    assert follower.phase is Phase.FOLLOWING


def test_a_chain_that_became_empty_is_waited_for():
    follower, chain, _ = following(300)
    chain.shorten(300)
    assert events_of(follower, chain) == []
    assert (follower.phase, follower.at) == (Phase.RESYNCING, -1)
    chain.grow(301)
    assert events_of(follower, chain) == [Added(Block(300, chain.hashes[300]))]


def test_a_shorter_chain_that_grows_another_way_is_a_fork():
    follower, chain, _ = following(300)
    chain.shorten(5)
    assert events_of(follower, chain) == []
    old = chain.shelf[0]
    chain.fork(0, 1)
    assert events_of(follower, chain) == [Replaced(Block(295, chain.hashes[295]), old, 5)]
    assert follower.phase is Phase.FOLLOWING


def test_a_follower_that_goes_on_reads_only_what_is_new_and_sees_what_was_replaced():
    follower, chain, reader = following(50, backfill=20)
    given_out = [Block(height, reader.blocks[height]) for height in range(30, 50)]
    chain.fork(3, 8)
    again = Follower(20)
    again.resume(given_out, follower.genesis)
    assert (again.tip, again.ask().start) == (49, 40)
    ask_until_settled(again, chain, reader)
    assert (again.tip, reader.chains) == (54, 1)
    assert reader.blocks == {height: chain.hashes[height] for height in range(30, 55)}


def test_what_was_given_out_is_read_as_it_was_given_out():
    hashes = [digest(n) for n in range(10)]
    follower = Follower(5)
    follower.resume(
        [Block(3, hashes[3]), Block(4, hashes[4]), Block(5, hashes[5]), Block(5, hashes[5]), Block(4, hashes[6]),
         Block(7, hashes[7]), Block(8, hashes[8])], None)  # fmt: skip
    assert [follower.hash_of(height) for height in (3, 4, 5, 7, 8)] == [None, None, None, hashes[7], hashes[8]]
    assert follower.tip == 8
