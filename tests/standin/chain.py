"""The model of the chain: blocks, accounts, the mempool and the counters that belong to them."""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass, field

from .clock import Clock, SystemClock
from .mempool import Mempool

LANES = ("consumer", "industrial")
DEFAULT_TIP = 1000
TRANSFER = 1
CHANGES_PER_TRANSFER = 3


@dataclass(slots=True)
class Account:
    """An account: ``balance`` in base units, ``account_seq`` counts the transactions that it has sent."""

    balance: int
    account_seq: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """What a block did to one account, so that it can be done again or undone."""

    address: str
    balance: int
    account_seq: int


@dataclass(frozen=True, slots=True)
class Block:
    """A block as the node shows it (``height``, ``hash``, ``difficulty``) and what it did.

    Attributes:
        height: 0 for the first block.
        hash: 64 hex digits, no ``0x``.
        difficulty: of its proof of work.
        txs: user transactions in it; the miner's reward is not one.
        changes: what it did to each account, in order.
    """

    height: int
    hash: str
    difficulty: int
    txs: int
    changes: tuple[Change, ...]

    def header(self) -> dict[str, int | str]:
        """Return it as ``light.headers`` shows it."""
        return {"difficulty": self.difficulty, "hash": self.hash, "height": self.height}


@dataclass(slots=True)
class Counters:
    """Telemetry counters: they begin at 0 with every start of the node, however long the chain is."""

    block_mined: int = 0
    tx_submitted: int = 0
    tx_admitted: int = 0


@dataclass(slots=True)
class Lanes:
    """The two fee lanes of the mempool."""

    consumer: Mempool = field(default_factory=Mempool)
    industrial: Mempool = field(default_factory=Mempool)

    def __getitem__(self, lane: str) -> Mempool:
        """Return a lane by name; the node takes every unknown name for ``consumer``."""
        return self.industrial if lane == "industrial" else self.consumer


class ChainPoisoned(Exception):
    """The handler of ``light.latest_header`` died holding the chain's lock: nothing can be mined until a restart."""


class Chain:
    """A chain that grows when it is told to, the same for the same ``genesis``.

    Args:
        genesis: names the chain: another name gives other hashes and addresses.
        clock: where time comes from, for this chain and for the node that serves it.
        difficulty: of every block.
        wallets: accounts that exist from the start and send the transactions.
        balance: what each wallet starts with, base units.
        block_reward: created in every block for the miner, base units.
        base_fee: burned for every transaction, base units.
        epoch_blocks: blocks in an epoch of the economics.
    """

    def __init__(
        self,
        genesis: str = "standin",
        *,
        clock: Clock | None = None,
        difficulty: int = 1,
        wallets: int = 3,
        balance: int = 10**15,
        block_reward: int = 1,
        base_fee: int = 1,
        epoch_blocks: int = 120,
    ) -> None:
        self.clock: Clock = clock or SystemClock()
        self.difficulty = difficulty
        self.block_reward = block_reward
        self.base_fee = base_fee
        self.epoch_blocks = epoch_blocks
        self.counters = Counters()
        self.mempool = Lanes()
        self.poisoned = False
        self.generation = 0
        """Goes up with every block that is added or taken away."""
        self._wallet_count = wallets
        self._balance = balance
        self.replace_genesis(genesis)

    def replace_genesis(self, genesis: str) -> None:
        """Become another chain, empty, as when the node's data directory was replaced."""
        self.genesis = genesis
        self.blocks: list[Block] = []
        self.miner = self._digest("miner")
        self.wallets = [self._digest(f"wallet/{index}") for index in range(self._wallet_count)]
        self.accounts = {address: Account(self._balance) for address in self.wallets}
        self.generation += 1
        self._branch = 0
        self._to_replay: deque[Block] = deque()
        self._next_sender = 0

    @property
    def tip(self) -> Block | None:
        """The newest block, None while there is none."""
        return self.blocks[-1] if self.blocks else None

    @property
    def tip_height(self) -> int:
        """Height of the newest block; 0 on an empty chain too, as the node says it."""
        return self.blocks[-1].height if self.blocks else 0

    @property
    def epoch(self) -> int:
        """How many epochs are complete."""
        return len(self.blocks) // self.epoch_blocks

    def submit(self, count: int = 1, *, lane: str = "consumer", tip: int = DEFAULT_TIP) -> None:
        """Let ``count`` transactions that pay ``tip`` (base units) enter the mempool."""
        for _ in range(count):
            self.mempool[lane].admit(self.clock.now(), tip)
        self.counters.tx_submitted += count
        self.counters.tx_admitted += count

    def mine(self, n: int = 1, txs: int | None = None) -> list[Block]:
        """Add ``n`` blocks; after ``resync``, first the very blocks that it took away.

        Args:
            n: how many.
            txs: user transactions in each: the waiting ones first, then new ones. None: those that are waiting.

        Returns:
            The new blocks, oldest first.

        Raises:
            ChainPoisoned: the node has to be restarted first.
            ValueError: no wallet can pay for a transaction.
        """
        if self.poisoned:
            raise ChainPoisoned("the chain's lock is poisoned: restart the node before mining")
        mined = [self._replay() if self._to_replay else self._build(txs) for _ in range(n)]
        self.counters.block_mined += n
        return mined

    def reorg(self, depth: int, blocks: int | None = None, txs: int = 0) -> list[Block]:
        """Replace the last ``depth`` blocks by ``blocks`` others (as many when None) of ``txs`` transactions each.

        Raises:
            ValueError: the chain has fewer than ``depth`` blocks.
        """
        if not 0 <= depth <= len(self.blocks):
            raise ValueError(f"a reorg of {depth} blocks does not fit a chain of {len(self.blocks)}")
        self._drop(depth)
        self._to_replay.clear()
        self._branch += 1
        return self.mine(depth if blocks is None else blocks, txs)

    def resync(self, height: int) -> None:
        """Go back to ``height`` (-1: empty); the blocks above come back one by one, the same ones, with ``mine``.

        Raises:
            ValueError: there is no block of that height.
        """
        if not -1 <= height < len(self.blocks):
            raise ValueError(f"height {height} is not on a chain of {len(self.blocks)} blocks")
        self._to_replay.extendleft(reversed(self._drop(len(self.blocks) - height - 1)))

    def restart(self) -> None:
        """Lose what a restart of the node loses: counters, mempool and a poisoned lock. Blocks and accounts stay."""
        self.counters = Counters()
        self.mempool = Lanes()
        self.poisoned = False

    def _digest(self, text: str) -> str:
        return hashlib.sha256(f"{self.genesis}/{text}".encode()).hexdigest()

    def _build(self, txs: int | None) -> Block:
        height = len(self.blocks)
        waiting = [self.mempool[lane] for lane in LANES]
        changes = []
        for _ in range(sum(len(lane) for lane in waiting) if txs is None else txs):
            lane = next((lane for lane in waiting if len(lane)), None)
            if lane is None:
                self.counters.tx_submitted += 1
                self.counters.tx_admitted += 1
            changes += self._transfer(DEFAULT_TIP if lane is None else lane.take())
        count = len(changes) // CHANGES_PER_TRANSFER
        changes.append(self._change(self.miner, self.block_reward))
        parent = self.blocks[-1].hash if self.blocks else ""
        block_hash = self._digest(f"{self._branch}/{height}/{parent}")
        return self._append(Block(height, block_hash, self.difficulty, count, tuple(changes)))

    def _transfer(self, tip: int) -> list[Change]:
        cost = TRANSFER + self.base_fee + tip
        for _ in self.wallets:
            sender = self.wallets[self._next_sender]
            self._next_sender = (self._next_sender + 1) % len(self.wallets)
            if self.accounts[sender].balance >= cost:
                recipient = self.wallets[self._next_sender]
                return [
                    self._change(sender, -cost, 1),
                    self._change(recipient, TRANSFER),
                    self._change(self.miner, tip),
                ]
        raise ValueError(f"no wallet has the {cost} base units that a transaction costs")

    def _change(self, address: str, balance: int, account_seq: int = 0) -> Change:
        account = self.accounts.setdefault(address, Account(0))
        account.balance += balance
        account.account_seq += account_seq
        return Change(address, balance, account_seq)

    def _append(self, block: Block) -> Block:
        self.blocks.append(block)
        self.generation += 1
        return block

    def _replay(self) -> Block:
        block = self._to_replay.popleft()
        for change in block.changes:
            self._change(change.address, change.balance, change.account_seq)
        return self._append(block)

    def _drop(self, count: int) -> list[Block]:
        keep = len(self.blocks) - count
        dropped = self.blocks[keep:]
        del self.blocks[keep:]
        for change in (change for block in dropped for change in block.changes):
            self._change(change.address, -change.balance, -change.account_seq)
        self.generation += 1
        return dropped
