"""The checks of the node: whether it answers, and what it has for the streams. Six requests, all told."""

from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from bridge.doctor.ask import Answer, Reason, Unanswered, fetch
from bridge.doctor.findings import Check, Finding, Found, Status
from bridge.doctor.targets import Targets
from bridge.settings import NodeSettings
from bridge.sources.node.metrics import FAMILIES, REWARD
from bridge.sources.node.promtext import parse

BLOCKS: Final = "light.headers"
"""What the chain is read with. The newest header's own method is never asked for: an empty chain dies of it."""

METHODS: Final[dict[str, tuple[dict[str, object], str]]] = {
    "mempool.stats": ({"lane": "consumer"}, "fees in metrics"),
    "net.peer_stats_all": ({"offset": 0, "limit": 1}, "peers in metrics, and network"),
    "energy.market_state": ({}, "energy"),
}
"""Methods that streams are made of beside the blocks: params, and what is missing without them."""

NODE_SKIPPED = Finding(Status.SKIP, "not looked at, as was asked for")
ANSWERS = Finding(Status.OK, "the node at {node} answers in {ms} ms")
UNREACHABLE = Finding(
    Status.FAIL,
    "no connection to the node at {node}: {why}",
    "start the node, or say where its JSON-RPC is: --node-url http://HOST:PORT (setting node_url)",
)
FROZEN = Finding(
    Status.FAIL,
    "the node at {node} takes connections but gives no answer within {seconds} s: it is frozen",
    "look at its log and its load; if it stays so, restart the node",
)
HUNG_UP = Finding(
    Status.FAIL,
    "what listens at {node} hangs up when it is asked for blocks: a node whose chain is locked, or no node at all",
    "restart the node; if it happens again, find what calls light.latest_header on an empty chain: that locks it",
)
HOST_REFUSED = Finding(
    Status.FAIL,
    "the node at {node} answers HTTP 403: it does not answer to the Host header {host}",
    "set node_host_header to a name that the node's rpc.allowed_hosts has (--node-host-header 127.0.0.1), "
    "or add {host} there",
)
BANNED = Finding(
    Status.FAIL,
    "the node at {node} refuses everything from this address for its rate (HTTP 429, code {code}): it is banned",
    "wait 61 s; then find what asks so much, since the ban counts every program of this machine together "
    "(a second bridge, scripts, a dashboard that polls the node itself)",
)
NOT_A_NODE = Finding(
    Status.FAIL,
    "something listens at {node}, but it is no node: {why}",
    "say where the node's JSON-RPC is: --node-url http://HOST:PORT (setting node_url); a node's own default is 3030",
)
NO_BLOCKS = Finding(
    Status.FAIL,
    "the node at {node} refuses light.headers, with which blocks are read: {error}",
    "use a version of the node that has this method",
)
HAS_BLOCKS = Finding(Status.OK, "the chain has blocks, from height {height} on")
EMPTY = Finding(
    Status.WARN,
    "the chain is empty, so that there are no blocks to show; all is well otherwise",
    "nothing, if the chain has just begun; else start mining, or see whether its data directory is the right one",
)
TELEMETRY = Finding(Status.OK, "telemetry is on: tps and issuance in metrics have a source")
FIRST_EPOCH = Finding(
    Status.OK, "telemetry is on: tps in metrics has a source; issuance is null until the node ends its first epoch"
)
NO_TELEMETRY = Finding(
    Status.WARN,
    "telemetry is off: issuance in metrics stays null, and tps is counted from accounts, if these are not too many",
    "use a node that is built with the feature telemetry, if these are wanted",
)
NO_METRICS = Finding(
    Status.WARN,
    "no metrics can be read from {where}: {why}; issuance in metrics stays null, and tps is counted from accounts",
    "correct node_metrics_url, or leave it out: metrics then come through JSON-RPC",
)
ALL_METHODS = Finding(Status.OK, "the node answers all other methods that streams are made of")
SOME_METHODS = Finding(
    Status.WARN,
    "the node refuses {refused}; missing: {missing}",
    "for energy, give the node's provider token (setting node_token_file); for peers, run the state service "
    "on the node's own machine, since the node tells them to no other",
)
STOPPED = Finding(Status.FAIL, "the node stopped answering: {why}", "run the doctor again, and look at the node's log")


class _Error(msgspec.Struct):
    code: int
    message: str


class _Reply(msgspec.Struct):
    jsonrpc: str
    result: Any = None
    error: _Error | None = None


class _Header(msgspec.Struct):
    height: int


def settings_of(targets: Targets) -> NodeSettings:
    """Return how the node is read; checks that need the check `node` are made only if it is looked at."""
    assert targets.node is not None
    return targets.node


def where(targets: Targets) -> str:
    """Return host and port of the node, as they are shown."""
    return urlsplit(settings_of(targets).node_url).netloc


async def ask(targets: Targets, method: str, params: dict[str, object]) -> Answer:
    """Call a method of the node, as the bridge does.

    Raises:
        Unanswered: there is no answer.
    """
    node = settings_of(targets)
    headers = {"Content-Type": "application/json"}
    if node.node_host_header:
        headers["Host"] = node.node_host_header
    if targets.token:
        headers["Authorization"] = f"Bearer {targets.token}"
    body = msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    url = urlsplit(node.node_url)
    return await fetch(f"{url.scheme}://{url.netloc}/", post=body, headers=headers, seconds=targets.answer_seconds)


def read(answer: Answer) -> _Reply | None:
    """Return an answer as JSON-RPC, None if it is not."""
    try:
        return msgspec.json.decode(answer.body, type=_Reply)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


async def check_node(targets: Targets) -> Found:
    """Whether a node answers."""
    if targets.node is None:
        return NODE_SKIPPED()
    node = where(targets)
    try:
        answer = await ask(targets, BLOCKS, {"start": 0, "limit": 1})
    except Unanswered as error:
        match error.reason:
            case Reason.UNREACHABLE:
                return UNREACHABLE(node=node, why=error)
            case Reason.SILENT:
                return FROZEN(node=node, seconds=f"{targets.answer_seconds:g}")
            case Reason.CLOSED:
                return HUNG_UP(node=node)
            case Reason.FOREIGN:
                return NOT_A_NODE(node=node, why=error)
    reply = read(answer)
    if answer.status == 429:
        return BANNED(node=node, code=reply.error.code if reply and reply.error else "none")
    if answer.status == 403 and not answer.body:
        return HOST_REFUSED(node=node, host=targets.node.node_host_header or node)
    if answer.status != 200:
        return NOT_A_NODE(node=node, why=f"it answers {answer.what}")
    if reply is None:
        return NOT_A_NODE(node=node, why=f"its answer ({answer.what}) is not JSON-RPC")
    if reply.error is not None:
        return NO_BLOCKS(node=node, error=f"{reply.error.message} ({reply.error.code})")
    return ANSWERS(node=node, ms=round(answer.ms))


async def check_chain(targets: Targets) -> Found:
    """Whether the chain has blocks."""
    try:
        reply = read(await ask(targets, BLOCKS, {"start": 0, "limit": 1}))
        headers = msgspec.convert(reply and reply.result, list[_Header])
    except Unanswered as error:
        return STOPPED(why=error)
    except msgspec.ValidationError:
        return STOPPED(why="its answer to light.headers holds no blocks")
    return HAS_BLOCKS(height=headers[0].height) if headers else EMPTY()


async def check_telemetry(targets: Targets) -> Found:
    """Whether the node tells its own metrics."""
    url = settings_of(targets).node_metrics_url
    try:
        if url is None:
            answer = await ask(targets, "metrics", {})
            if answer.status != 200:
                return STOPPED(why=f"metrics is answered with {answer.what}")
            reply = read(answer)
            text = str(reply.result) if reply is not None else ""
        else:
            answer = await fetch(url, seconds=targets.answer_seconds)
            if answer.status != 200:
                return NO_METRICS(where=url, why=answer.what)
            text = answer.body.decode(errors="replace")
    except Unanswered as error:
        return STOPPED(why=error) if url is None else NO_METRICS(where=url, why=error)
    values = parse(text, FAMILIES)
    if not values:
        return NO_TELEMETRY() if url is None else NO_METRICS(where=url, why="what it tells is not of a node")
    return TELEMETRY() if REWARD in values else FIRST_EPOCH()


async def check_methods(targets: Targets) -> Found:
    """Whether the node answers the other methods that streams are made of."""
    refused: list[str] = []
    missing: list[str] = []
    for method, (params, part) in METHODS.items():
        try:
            answer = await ask(targets, method, params)
        except Unanswered as error:
            return STOPPED(why=error)
        reply = read(answer)
        if answer.status != 200 or reply is None:
            return STOPPED(why=f"{method} is answered with {answer.what}")
        if reply.error is not None:
            refused.append(f"{method} ({reply.error.message})")
            missing.append(part)
    return SOME_METHODS(refused=", ".join(refused), missing="; ".join(missing)) if refused else ALL_METHODS()


NODE_CHECKS: Final = (
    Check(
        "node",
        "whether a node answers JSON-RPC at `node_url`",
        check_node,
        (ANSWERS, UNREACHABLE, FROZEN, HUNG_UP, HOST_REFUSED, BANNED, NOT_A_NODE, NO_BLOCKS, NODE_SKIPPED),
    ),
    Check("chain", "whether the node's chain has blocks", check_chain, (HAS_BLOCKS, EMPTY, STOPPED), needs="node"),
    Check(
        "telemetry",
        "whether the node tells its own metrics, at `node_metrics_url` if that is set",
        check_telemetry,
        (TELEMETRY, FIRST_EPOCH, NO_TELEMETRY, NO_METRICS, STOPPED),
        needs="node",
    ),
    Check(
        "methods",
        "whether the node answers the methods that fees, peers and energy come from",
        check_methods,
        (ALL_METHODS, SOME_METHODS, STOPPED),
        needs="node",
    ),
)
