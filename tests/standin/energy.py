"""The energy market as ``energy.market_state`` shows it. It does not survive a restart of the node (measured)."""

from __future__ import annotations

import hashlib
from typing import Any

from .chain import Chain

TREASURY_SHARE = 0.01
GOVERNANCE = {
    "expiry_blocks": 0,
    "min_stake": 1000,
    "mode": "real_time",
    "oracle_timeout_blocks": 0,
    "quorum_threshold_ppm": 0,
}


class EnergyMarket:
    """Providers, credits, receipts and disputes, kept in the node's own wire form so that a test may change any field.

    Args:
        chain: gives block heights; the next block drains the receipts.

    Attributes:
        providers: by ``provider_id``.
        credits: meter readings not yet used up, oldest first; ``timestamp`` is a block height.
        disputes: oldest first.
    """

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.providers: dict[str, dict[str, Any]] = {}
        self.credits: list[dict[str, Any]] = []
        self.disputes: list[dict[str, Any]] = []
        self._receipts: list[dict[str, Any]] = []
        self._settled_in = -1
        self._readings = 0

    @property
    def receipts(self) -> list[dict[str, Any]]:
        """What was settled since the last block: the node drops it with the next one."""
        return self._receipts if self._settled_in == self.chain.generation else []

    def add_provider(
        self,
        *,
        owner: str = "acme-solar",
        capacity_kwh: int = 1000,
        price_per_kwh: int = 50,
        jurisdiction: str = "US_CA",
        staked_balance: int = 5000,
    ) -> str:
        """Register a provider and return its ``provider_id``."""
        index = len(self.providers)
        provider_id = f"energy-0x{index:08x}"
        self.providers[provider_id] = {
            "available_kwh": capacity_kwh,
            "capacity_kwh": capacity_kwh,
            "jurisdiction": jurisdiction,
            "meter_address": f"meter-{index + 1}",
            "owner": owner,
            "price_per_kwh": price_per_kwh,
            "provider_id": provider_id,
            "reputation_score": 1.0,
            "staked_balance": staked_balance,
            "total_delivered_kwh": 0,
        }
        return provider_id

    def credit(self, provider_id: str, amount_kwh: int = 25) -> str:
        """Credit ``provider_id`` with a meter reading and return the reading's ``meter_hash``."""
        self._readings += 1
        meter_hash = hashlib.sha256(f"{provider_id}/{self._readings}".encode()).hexdigest()
        self.credits.append(
            {
                "amount_kwh": amount_kwh,
                "meter_hash": meter_hash,
                "provider": provider_id,
                "timestamp": self.chain.tip_height,
            }
        )
        return meter_hash

    def settle(self, provider_id: str, kwh: int = 15, buyer: str = "buyer-bob") -> dict[str, Any]:
        """Credit a reading, sell ``kwh`` of it to ``buyer`` and return the receipt, which the next block drains."""
        provider = self.providers[provider_id]
        provider["available_kwh"] -= kwh
        provider["total_delivered_kwh"] += kwh
        price_paid = kwh * provider["price_per_kwh"]
        receipt = {
            "block_settled": self.chain.tip_height,
            "buyer": buyer,
            "kwh_delivered": kwh,
            "meter_hash": self.credit(provider_id, kwh + 10),
            "price_paid": price_paid,
            "seller": provider_id,
            "slash_applied": 0,
            "treasury_fee": int(price_paid * TREASURY_SHARE),
        }
        self._receipts = [*self.receipts, receipt]
        self._settled_in = self.chain.generation
        return receipt

    def dispute(self, meter_hash: str, reason: str = "over-report", reporter: str = "alice") -> dict[str, Any]:
        """Open a dispute about a credited reading and return it."""
        provider_id = next(credit["provider"] for credit in self.credits if credit["meter_hash"] == meter_hash)
        dispute = {
            "id": len(self.disputes) + 1,
            "meter_hash": meter_hash,
            "opened_at": self.chain.tip_height,
            "provider_id": provider_id,
            "reason": reason,
            "reporter": reporter,
            "resolution_note": None,
            "resolved_at": None,
            "resolver": None,
            "status": "open",
        }
        self.disputes.append(dispute)
        return dispute

    def state(self, provider_id: str | None) -> dict[str, Any]:
        """Return the answer to ``energy.market_state``, of one provider or (None) of all."""

        def chosen(rows: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
            return [row for row in rows if provider_id is None or row[key] == provider_id]

        return {
            "credits": chosen(self.credits, "provider"),
            "disputes": chosen(self.disputes, "provider_id"),
            "governance": GOVERNANCE,
            "providers": chosen(list(self.providers.values()), "provider_id"),
            "receipts": chosen(self.receipts, "seller"),
            "status": "ok",
        }
