"""The JSON-RPC methods. One that is in no table here does not exist: -32601."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .faults import Panic
from .jsonrpc import INVALID_PARAMS, METHOD_NOT_FOUND, Call, Params, RpcError
from .model import DISPUTE_METHODS, READ_METHODS, Caller, Model
from .recorded import recording
from .telemetry import DISABLED_GOVERNOR, DISABLED_METRICS, governor_status, metrics_text

Handler = Callable[[Model, Params], Any]

DEFAULT_HEADERS = 200
DEFAULT_PEERS = 100
DEFAULT_PAGE = 25
NO_PRICE_DATA = (-33000, "no price data")
UNAUTHORIZED = (-33009, "unauthorized")
REHEARSAL = -33020
DISPUTE_STATES = ("open", "resolved")

RECORDED = frozenset(
    {
        "ad_market.broker_state",
        "ad_market.budget",
        "ad_market.distribution",
        "ad_market.inventory",
        "ad_market.list_campaigns",
        "ad_market.readiness",
        "analytics",
        "compute_market.audit",
        "compute_market.provider_balances",
        "compute_market.recent_roots",
        "compute_market.scheduler_metrics",
        "compute_market.scheduler_stats",
        "compute_market.sla_history",
        "compute_market.stats",
        "dex_escrow_proof",
        "dex_escrow_status",
        "dns.auctions",
        "gateway.venue_status",
        "gov.release_signers",
        "governor.decisions",
        "htlc_status",
        "inflation.params",
        "jurisdiction.status",
        "light_client.rebate_history",
        "light_client.rebate_status",
        "mesh.peers",
        "microshard.roots.last",
        "net.handshake_failures",
        "net.overlay_status",
        "net.quic_certs",
        "net.quic_stats",
        "net.reputation_show",
        "pow.get_template",
        "rent.escrow.balance",
        "settlement_status",
        "stake.role",
        "storage.discover_providers",
        "storage.manifests",
    }
)
"""Methods that always give the answer once recorded."""

ADMIN = frozenset({"gov_list", "gov_params", "telemetry.configure"})
"""Recorded answers that only the admin token gets; to others these methods do not exist."""

LOOPBACK_ONLY = frozenset({"net.peer_stats_all", "net.peer_stats_export_all"})
NEED_TELEMETRY = frozenset({"analytics", "telemetry.configure"})
CHAIN_LOCKED = frozenset({"light.headers", "light.latest_header"})
"""Methods that die on a poisoned chain lock; all others go on."""


def _latest_header(model: Model, _: Params) -> Any:
    if model.chain.tip is None:
        model.chain.poisoned = True
        raise Panic
    return model.chain.tip.header()


def _headers(model: Model, params: Params) -> Any:
    start, limit = params.number("start") or 0, params.number("limit")
    end = start + (DEFAULT_HEADERS if limit is None else limit)
    return [block.header() for block in model.chain.blocks[start:end]]


def _balance(model: Model, params: Params) -> Any:
    account = model.chain.accounts.get(params.text("address") or "")
    return {"amount": account.balance if account else 0}


def _mempool_stats(model: Model, params: Params) -> Any:
    return model.chain.mempool[params.text("lane") or ""].stats(model.chain.clock.now())


def _price_board(model: Model, params: Params) -> Any:
    lane = "industrial" if params.text("lane") == "industrial" else "consumer"
    if lane not in model.prices:
        raise RpcError(*NO_PRICE_DATA)
    return dict(zip(("p25", "median", "p75"), model.prices[lane], strict=True))


def _peer_stats_all(model: Model, params: Params) -> Any:
    limit = params.number("limit")
    return model.peers.page(params.number("offset") or 0, DEFAULT_PEERS if limit is None else limit)


def _gossip_status(model: Model, _: Params) -> Any:
    name = "devnode_p2p.net.gossip_status" if len(model.peers) else "net.gossip_status"
    return recording(name)["response"]["result"]


def _governor_snapshot(_: Model, params: Params) -> Any:
    if params.number("epoch") is None:
        raise RpcError(INVALID_PARAMS, "epoch required")
    return {"status": "not_found"}


def _submit_tx(model: Model, params: Params) -> Any:
    nonce = params.number("nonce")
    if nonce is None:
        raise RpcError(INVALID_PARAMS, "missing nonce")
    if nonce in model.nonces:
        raise RpcError(-32000, "replayed nonce")
    model.nonces.add(nonce)
    raise RpcError(INVALID_PARAMS, "invalid params")  # measured: the node cannot decode even its own transactions


def _page(rows: list[dict[str, Any]], key: str, params: Params) -> Any:
    page, size = params.number("page") or 0, params.number("page_size")
    size = DEFAULT_PAGE if size is None else size
    shown = rows[page * size : (page + 1) * size]
    return {key: shown, "page": page, "page_size": size, "status": "ok", "total": len(rows)}


def _matching(rows: list[dict[str, Any]], **wanted: str | None) -> list[dict[str, Any]]:
    return [row for row in rows if all(value in (None, row[key]) for key, value in wanted.items())]


def _energy_credits(model: Model, params: Params) -> Any:
    params.require_object()
    newest_first = model.energy.credits[::-1]
    return _page(_matching(newest_first, provider=params.text("provider_id")), "credits", params)


def _energy_receipts(model: Model, params: Params) -> Any:
    params.require_object()
    return _page(_matching(model.energy.receipts, seller=params.text("provider_id")), "receipts", params)


def _energy_disputes(model: Model, params: Params) -> Any:
    params.require_object()
    status = params.text("status")
    if status is not None and status not in DISPUTE_STATES:
        raise RpcError(INVALID_PARAMS, "invalid dispute status (expected 'open' or 'resolved')")
    provider_id, meter_hash = params.text("provider_id"), params.text("meter_hash")
    rows = _matching(model.energy.disputes, status=status, provider_id=provider_id, meter_hash=meter_hash)
    return _page(rows, "disputes", params)


MODELLED: dict[str, Handler] = {
    "balance": _balance,
    "consensus.difficulty": lambda model, _: {"difficulty": model.chain.difficulty},
    "energy.credits": _energy_credits,
    "energy.disputes": _energy_disputes,
    "energy.market_state": lambda model, params: model.energy.state(params.text("provider_id")),
    "energy.receipts": _energy_receipts,
    "governor.snapshot": _governor_snapshot,
    "governor.status": lambda model, _: governor_status(model.chain) if model.options.governor else DISABLED_GOVERNOR,
    "light.headers": _headers,
    "light.latest_header": _latest_header,
    "mempool.stats": _mempool_stats,
    "metrics": lambda model, _: metrics_text(model.chain) if model.options.telemetry else DISABLED_METRICS,
    "net.gossip_status": _gossip_status,
    "net.peer_stats_all": _peer_stats_all,
    "net.peer_stats_export_all": lambda model, _: model.peers.metrics(),
    "price_board_get": _price_board,
    "submit_tx": _submit_tx,
}
"""Methods that answer from the model."""

ENERGY_CHANGES = (DISPUTE_METHODS | {"energy.settle"}) - {"energy.update_provider"}
"""Methods that change the market. Limited like the real ones, never carried out: tests change ``Model.energy``."""


def _admit_energy(model: Model, call: Call, caller: Caller) -> None:
    limiter = model.energy_limiters.get(call.method)
    if limiter is None:
        return
    if refusal := limiter.check(caller.ip):
        raise RpcError(*refusal)
    admins = {model.options.admin_token} - {None}
    readers = admins | ({model.options.energy_token} - {None})
    if readers and caller.token not in (readers if call.method in READ_METHODS else admins):
        raise RpcError(*UNAUTHORIZED)


def _exists(model: Model, method: str, caller: Caller) -> bool:
    if method in NEED_TELEMETRY and not model.options.telemetry:
        return False
    if method in LOOPBACK_ONLY and not caller.is_loopback:
        return False
    if method in ADMIN:
        return model.options.admin_token is not None and caller.token == model.options.admin_token
    return method in MODELLED or method in RECORDED or method in ENERGY_CHANGES


def answer(model: Model, call: Call, caller: Caller) -> Any:
    """Return the result of ``call``.

    Raises:
        RpcError: the node answers with an error object.
        Panic: the node's handler dies.
    """
    _admit_energy(model, call, caller)
    if call.method in model.faults.panics or (model.chain.poisoned and call.method in CHAIN_LOCKED):
        raise Panic
    if call.method in model.faults.results:
        return model.faults.results[call.method]
    if not _exists(model, call.method, caller):
        raise RpcError(*METHOD_NOT_FOUND)
    if call.method in MODELLED:
        return MODELLED[call.method](model, Params(call.params))
    if call.method in ENERGY_CHANGES:
        reason = "energy market in rehearsal" if model.options.energy_rehearsal else "not part of the stand-in"
        raise RpcError(REHEARSAL, f"{call.method} blocked: {reason}")
    response = recording(call.method)["response"]
    if "error" in response:
        raise RpcError(response["error"]["code"], response["error"]["message"])
    return response["result"]
