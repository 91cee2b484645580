"""The simulated chain: accounts, transactions with fees, blocks, and branches that lose.

Money is conserved at every height: balances and burned fees together are the genesis balances and the issued
rewards. A block can be taken off again while it is not final; its transactions wait again then.
"""

from collections import deque
from hashlib import sha256
from typing import NamedTuple

from bridge.sources.simulation.chance import Chance

ACCOUNTS = 40
"""How many accounts there are; the first `MINERS` also make blocks."""

MINERS = 5
REWARD = 5_000_000_000
"""What a block issues, in base units."""

BASE_FEE = 21_000
"""What a transaction burns, in base units; its tip goes to the miner."""

CAPACITY = 16
"""How many transactions a block holds."""

WAITING = 256
"""How many transactions wait at most; the ones with the smallest tips are dropped."""

FINALITY_LAG = 6
"""How far below the tip a block is final."""


class Account(NamedTuple):
    """State of an account."""

    balance: int  # base units
    nonce: int  # transactions sent


class Transaction(NamedTuple):
    """A transfer that waits or stands in a block; amounts are base units."""

    sender: str
    receiver: str
    amount: int
    tip: int


class Block(NamedTuple):
    """A block of the chain."""

    height: int
    hash: bytes
    parent_hash: bytes | None  # None: the first block
    timestamp: int  # Unix milliseconds
    transactions: tuple[Transaction, ...]


class Undo(NamedTuple):
    """What takes a block off again: how things stood before it."""

    accounts: dict[str, Account]  # those that the block changed
    burned: int
    issued: int
    transactions: int


class Chain:
    """The chain at its tip.

    Attributes:
        accounts: by address.
        genesis: sum of the balances before the first reward.
        burned: sum of the fees burned.
        issued: sum of the rewards paid.
        transactions: how many stand in the blocks of the chain.
        waiting: transactions that no block holds yet, those with the largest tip first.
        tip: the newest block; None before the first.
        finalized_height: height of the newest block that cannot be taken off; it never goes back.
        changed: addresses whose state changed since `take_changed` was last called.
    """

    def __init__(self, chance: Chance) -> None:
        """Make a chain without a block, its addresses and balances drawn."""
        self.accounts: dict[str, Account] = {}
        for _ in range(ACCOUNTS):
            address = sha256(chance.bytes(32)).hexdigest()
            self.accounts[address] = Account(10**16 * (1 + chance.below(1000)), 0)
        self.genesis = sum(account.balance for account in self.accounts.values())
        self.burned = self.issued = self.transactions = 0
        self.waiting: list[Transaction] = []
        self.tip: Block | None = None
        self.finalized_height = 0
        self.changed: set[str] = set(self.accounts)
        self._addresses = tuple(self.accounts)
        self._open: deque[tuple[Block, Undo]] = deque(maxlen=FINALITY_LAG + 1)  # down to the final one

    @property
    def reorg_limit(self) -> int:
        """How many blocks can be taken off: those that are not final."""
        return 0 if self.tip is None else self.tip.height - self.finalized_height

    def add_transactions(self, chance: Chance, count: int, urgency: int) -> None:
        """Have accounts send `count` transactions, with tips of up to `urgency` base fees."""
        for _ in range(count):
            sender = self._addresses[chance.skewed(ACCOUNTS)]
            receiver = self._addresses[chance.below(ACCOUNTS)]
            amount = (self.accounts[sender].balance >> 24) * chance.below(1 << 16)
            self.waiting.append(Transaction(sender, receiver, amount, chance.below(BASE_FEE * urgency)))
        self._sort_waiting()

    def add_block(self, chance: Chance, timestamp: int) -> Block:
        """Put a block with the waiting transactions that pay most on the tip, and return it.

        Args:
            chance: draws the miner and the hash.
            timestamp: of the block, Unix milliseconds.
        """
        height = 0 if self.tip is None else self.tip.height + 1
        parent = None if self.tip is None else self.tip.hash
        undo = Undo({}, self.burned, self.issued, self.transactions)
        chosen, self.waiting = self.waiting[:CAPACITY], self.waiting[CAPACITY:]
        miner = self._addresses[chance.below(MINERS)]
        done = tuple(transaction for transaction in chosen if self._execute(transaction, miner, undo))
        self._set(miner, self.accounts[miner].balance + REWARD, self.accounts[miner].nonce, undo)
        self.issued += REWARD
        self.transactions += len(done)
        digest = sha256((parent or b"") + chance.bytes(32)).digest()
        self.tip = Block(height, digest, parent, timestamp, done)
        self._open.append((self.tip, undo))
        self.finalized_height = max(self.finalized_height, height - FINALITY_LAG)
        return self.tip

    def take_off(self, depth: int) -> list[Block]:
        """Take the newest `depth` blocks off, at most `reorg_limit`; their transactions wait again.

        Returns:
            The blocks, the lowest first.
        """
        assert 0 < depth <= self.reorg_limit
        lost: list[Block] = []
        for _ in range(depth):
            block, undo = self._open.pop()
            self.accounts.update(undo.accounts)
            self.changed.update(undo.accounts)
            self.burned, self.issued, self.transactions = undo.burned, undo.issued, undo.transactions
            self.waiting += block.transactions
            lost.append(block)
        self.tip = self._open[-1][0]
        self._sort_waiting()
        lost.reverse()
        return lost

    def take_changed(self) -> list[str]:
        """Return the addresses whose state changed since the last call, in the order of the accounts."""
        changed = [address for address in self._addresses if address in self.changed]
        self.changed.clear()
        return changed

    def median_tip(self) -> int:
        """Return the median tip of the waiting transactions, 0 where none waits, as the node says it."""
        return self.waiting[len(self.waiting) // 2].tip if self.waiting else 0

    def _execute(self, transaction: Transaction, miner: str, undo: Undo) -> bool:
        """Do a transaction; return False, with nothing done, if its sender cannot pay."""
        sender = self.accounts[transaction.sender]
        cost = transaction.amount + transaction.tip + BASE_FEE
        if cost > sender.balance:
            return False
        self._set(transaction.sender, sender.balance - cost, sender.nonce + 1, undo)
        for address, amount in ((transaction.receiver, transaction.amount), (miner, transaction.tip)):
            self._set(address, self.accounts[address].balance + amount, self.accounts[address].nonce, undo)
        self.burned += BASE_FEE
        return True

    def _set(self, address: str, balance: int, nonce: int, undo: Undo) -> None:
        undo.accounts.setdefault(address, self.accounts[address])
        self.accounts[address] = Account(balance, nonce)
        self.changed.add(address)

    def _sort_waiting(self) -> None:
        self.waiting.sort(key=lambda transaction: -transaction.tip)
        del self.waiting[WAITING:]
