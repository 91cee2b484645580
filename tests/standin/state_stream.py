"""The messages of ``/state_stream``: the whole account set, every time."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from .chain import Chain
from .jsonrpc import to_json

Proof = list[tuple[list[int], bool]]


def _digest(*parts: bytes) -> bytes:
    return hashlib.blake2s(b"".join(parts)).digest()  # the node uses BLAKE3, which Python does not have


def merkle(leaves: Sequence[bytes]) -> tuple[bytes, list[Proof]]:
    """Return the root over ``leaves`` (32-byte digests) and, for each, its siblings upwards.

    A sibling comes with whether it stands on the left; a node without one is its own, as in the real trie.
    """
    proofs: list[Proof] = [[] for _ in leaves]
    level, width = list(leaves), 1
    while len(level) > 1:
        for index, proof in enumerate(proofs):
            place = index // width
            sibling = level[min(place ^ 1, len(level) - 1)]
            proof.append((list(sibling), place % 2 == 1))
        level = [_digest(level[i], level[min(i + 1, len(level) - 1)]) for i in range(0, len(level), 2)]
        width *= 2
    return (level[0] if level else bytes(32)), proofs


class StateSnapshot:
    """The message of the chain's present state, made anew only when the chain has changed.

    Args:
        chain: whose accounts are shown.
        max_proof_accounts: a larger account set has empty proofs.
    """

    def __init__(self, chain: Chain, max_proof_accounts: int) -> None:
        self.chain = chain
        self.max_proof_accounts = max_proof_accounts
        self._generation = -1
        self._head = b""
        self._rows: dict[str, tuple[int, int, bytes]] = {}

    def message(self, seq: int) -> bytes:
        """Return the message number ``seq`` of a connection."""
        if self._generation != self.chain.generation:
            self._head = self._build()
            self._generation = self.chain.generation
        return self._head + b',"seq":%d,"tip_height":%d}' % (seq, self.chain.tip_height)

    def _build(self) -> bytes:
        addresses = sorted(self.chain.accounts)
        if len(addresses) <= self.max_proof_accounts:
            root, proofs = merkle([_digest(self._row(address)) for address in addresses])
            rows = [self._row(address, proof) for address, proof in zip(addresses, proofs, strict=True)]
        else:
            rows = [self._cached_row(address) for address in addresses]
            root = _digest(*rows)
        return b'{"accounts":[%b],"compressed":false,"root":%b' % (b",".join(rows), to_json(list(root)))

    def _row(self, address: str, proof: Proof | None = None) -> bytes:
        account = self.chain.accounts[address]
        fields = {"account_seq": account.account_seq, "address": address, "balance": account.balance}
        return to_json({**fields, "proof": proof or []})

    def _cached_row(self, address: str) -> bytes:
        account = self.chain.accounts[address]
        balance, account_seq, row = self._rows.get(address, (None, None, b""))
        if (balance, account_seq) != (account.balance, account.account_seq):
            row = self._row(address)
            self._rows[address] = (account.balance, account.account_seq, row)
        return row
