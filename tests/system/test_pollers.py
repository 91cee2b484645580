"""A thousand dashboards that poll all at once, and a node that hears no more of them than its budget allows."""

import asyncio
import json
import time
from contextlib import ExitStack

from bridge.settings.fields import NODE_METHODS
from bridge.settings.fields import NodeSettings as Defaults
from bridge.sources.node.client import PASSED_BURST, PASSED_PER_SECOND, REQUESTS_PER_SECOND
from bridge.sources.node.settings import Intervals
from tests.edges.rig import until
from tests.edges.rpc.rig import POLL, PROBES
from tests.standin.node import StandinNode
from tests.system.pollers import NOT_ALLOWED
from tests.system.processes import ANY, enter, started
from tests.system.test_chain import followed

POLLERS, ROUNDS = 1000, 6
SECONDS = 120
"""How long they may take."""

OWN = {
    "light.headers": Defaults().poll_interval_ms / 1000,
    "mempool.stats": Intervals().mempool,
    "metrics": Intervals().telemetry,
    "net.peer_stats_all": Intervals().peers,
    "energy.market_state": Intervals().energy,
}
"""What the state service asks a node for itself, and the seconds between two such calls."""

SHARED = {method for method, _ in POLL}.union(PROBES).intersection(NODE_METHODS)
"""What it asks for dashboards, once for all of them in the time for which an answer serves."""

EARLY = 9
"""Calls that may come before their turn: polls for blocks do not wait for the other calls that do."""


def poll(port: int) -> dict:
    """Have them poll; return what came of it."""
    arguments = (str(port), str(POLLERS), str(ROUNDS))
    with started(*arguments, program=("-m", "tests.system.pollers")) as running:
        assert running.process.wait(SECONDS) == 0, running.stderr
        return json.loads(running.stdout)


def most(method: str, seconds: float) -> float:
    """Return how often a node is asked for something at most, as the intervals have it."""
    own = seconds / OWN[method] + 2 if method in OWN else 0
    return own + (seconds / (Defaults().call_cache_ms / 1000) + 2 if method in SHARED else 0)


async def test_a_thousand_pollers_are_nothing_to_the_node():
    async with StandinNode(blocks_per_second=4, txs_per_block=1) as quiet, StandinNode(blocks_per_second=4) as busy:
        with ExitStack() as stack:
            await enter(stack, "state", "--node-url", quiet.url, "--listen", ANY)
            state = await enter(stack, "state", "--node-url", busy.url, "--listen", ANY)
            sidecar = await enter(stack, "sidecar", "--upstream", state.grpc, "--listen", ANY)
            await followed(sidecar)
            for node in (quiet, busy):
                node.peers.add("peer", requests_per_second=1.2, bytes_per_second=400)
                await until(lambda: node.requests.by_method.keys() >= OWN.keys(), "everything is read")  # noqa: B023
                node.requests.clear()
            began = time.monotonic()
            tally = await asyncio.to_thread(poll, sidecar.port)
            seconds = time.monotonic() - began
            check_answers(tally, busy)
            check_requests(tally, quiet, busy, seconds)


def check_answers(tally: dict, node: StandinNode) -> None:
    """See that everybody was answered, at once and rightly."""
    assert tally["statuses"]["probe"] == {"200": POLLERS * (len(PROBES) + 1)}
    assert tally["statuses"]["poll"] == {"200": POLLERS * ROUNDS}
    assert tally["statuses"]["state"].keys() <= {"200", "304"}
    assert tally["went_back"] == 0
    assert 0 < tally["height"] <= node.chain.tip.height
    asked = dict(tally["codes"])
    for method in NOT_ALLOWED:
        assert asked.pop(method).keys() == {"-32601"}, method
    for method, codes in asked.items():
        if method in SHARED:
            assert codes.keys() <= {"0", "-32010"}, method  # before the first answer there may be none in time
            assert codes["0"] > sum(codes.values()) / 2
        else:
            assert codes.keys() == {"0" if method in ("consensus.block_height", "consensus.stats") else "-32601"}


def check_requests(tally: dict, quiet: StandinNode, busy: StandinNode, seconds: float) -> None:
    """See that nothing of that many polls came through to the node."""
    asked = sum(sum(codes.values()) for method, codes in tally["codes"].items() if method in SHARED)
    assert asked > 100 * busy.requests.total
    assert busy.requests.by_method.keys() <= OWN.keys() | SHARED
    assert quiet.requests.by_method.keys() <= OWN.keys()
    for node in (quiet, busy):
        for method, count in node.requests.by_method.items():
            assert count <= most(method, seconds), method
        assert node.requests.total <= REQUESTS_PER_SECOND * seconds + EARLY
        # What was due while a process had no processor for a second comes in the next one.
        assert node.requests.busiest() <= EARLY + REQUESTS_PER_SECOND
        assert node.requests.refused == node.requests.energy_refused == 0
    passed = PASSED_PER_SECOND * seconds + PASSED_BURST
    assert busy.requests.total <= quiet.requests.total + passed + len(OWN)
