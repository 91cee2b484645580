"""The node's Prometheus text and its launch governor: recorded answers with the chain's own figures put in."""

from __future__ import annotations

from typing import Any

from .chain import LANES, Block, Chain
from .recorded import recording

DISABLED_METRICS = "telemetry disabled"
DISABLED_GOVERNOR = {"status": "disabled"}
SECONDS_PER_YEAR = 365 * 24 * 3600
FIRST_EPOCH_REWARD = 50_000
"""What the governor says a block's reward is until the first epoch is over, whatever it is (measured)."""


def _last_epoch(chain: Chain) -> list[Block]:
    end = chain.epoch * chain.epoch_blocks
    return chain.blocks[max(0, end - chain.epoch_blocks) : end]


def _samples(chain: Chain) -> dict[str, int]:
    samples = {
        "base_fee": chain.base_fee,
        "block_mined_total": chain.counters.block_mined,
        "tx_admitted_total": chain.counters.tx_admitted,
        "tx_submitted_total": chain.counters.tx_submitted,
    }
    samples |= {f'mempool_size{{lane="{lane}"}}': len(chain.mempool[lane]) for lane in LANES}
    if chain.epoch > 0:
        samples |= {
            "economics_annual_issuance_block": chain.block_reward * SECONDS_PER_YEAR,
            "economics_block_reward_per_block": chain.block_reward,
            "economics_control_law_update_total": chain.epoch,
            "economics_epoch_tx_count": sum(block.txs for block in _last_epoch(chain)),
        }
    return samples


def metrics_text(chain: Chain) -> str:
    """Return the answer to ``metrics``: the recorded exposition with ``chain``'s figures put in.

    The ``economics_*`` families appear with the end of the first epoch: the recordings of a node with 145 blocks have
    them, those of nodes with fewer than 120 blocks do not.
    """
    samples = _samples(chain)
    lines = []
    for line in recording("metrics")["response"]["result"].split("\n"):
        words = line.split(" ")
        family = words[2] if line.startswith("# ") else words[0]
        if family.startswith("economics_") and chain.epoch == 0:
            continue
        lines.append(f"{words[0]} {samples[words[0]]}" if words[0] in samples else line)
    return "\n".join(lines)


def governor_status(chain: Chain) -> dict[str, Any]:
    """Return the answer to ``governor.status``: the recorded shape, with the epoch and its sample from ``chain``."""
    status: dict[str, Any] = recording("governor.status")["response"]["result"]
    txs = sum(block.txs for block in _last_epoch(chain))
    status["epoch"] = chain.epoch
    status["economics_sample"] |= {
        "block_reward": chain.block_reward if chain.epoch else FIRST_EPOCH_REWARD,
        "epoch_tx_count": txs,
        "epoch_tx_volume": txs,
    }
    return status
