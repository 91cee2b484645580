"""Transactions of a block, counted from what `/state_stream` says about all accounts.

`account_seq` of an account counts the transactions that it has sent, so between two messages the sum over all
accounts grows by the number of transactions included (measured: exact). If exactly one block lies between the two,
they are that block's.
"""

from typing import NamedTuple


class Sample(NamedTuple):
    """What one message of `/state_stream` says about all accounts together.

    Attributes:
        height: of the newest block; 0 on an empty chain too.
        accounts: how many there are.
        transactions: sum of `account_seq` over them.
        generation: of the chain; samples of two generations have nothing to do with one another.
    """

    height: int
    accounts: int
    transactions: int
    generation: int


class Count(NamedTuple):
    """The number of user transactions in the block at `height`."""

    height: int
    transactions: int
    generation: int


class Counter:
    """Counts the transactions of blocks that lie alone between two samples."""

    def __init__(self) -> None:
        self._before: Sample | None = None

    def observe(self, sample: Sample) -> Count | None:
        """Take in a sample.

        Returns:
            The count of its newest block, None where it cannot be known: more than one block or none since the sample
            before, another generation, accounts that vanished, or a sample before that may be of the empty chain.
        """
        before, self._before = self._before, sample
        if before is None or before.generation != sample.generation or before.height == 0:
            return None
        transactions = sample.transactions - before.transactions
        if sample.height != before.height + 1 or sample.accounts < before.accounts or transactions < 0:
            return None
        return Count(sample.height, transactions, sample.generation)
