"""What /rpc answers from memory, and what it asks the node for under other names than the node's."""

import asyncio

import pytest

from bridge.core.deep import Place
from bridge.core.errors import UpstreamError
from bridge.core.history import HistoryLimits
from bridge.core.update import Update
from bridge.settings.fields import NODE_METHODS
from generated.theblock.state.v1 import account_pb2, block_pb2, update_pb2
from tests.core.disk import Disk
from tests.edges.rpc.rig import POLL, Nobody, asking, height_of, polling
from tests.standin.chain import Chain
from tests.standin.node import StandinNode

# From memory


async def test_before_the_first_block_there_is_no_height(poller):
    for method in ("consensus.block_height", "consensus.block"):
        error = (await poller.answer(method, [3]))["error"]
        assert (error["code"], error["data"]["retry_after_ms"] > 0) == (-32010, True)
    assert await poller.code("consensus.finality_status") == -32601
    assert await poller.result("consensus.stats") == {"tps": None, "avg_block_time_ms": None}


async def test_the_height_is_that_of_the_newest_block(poller):
    for height in (0, 1, 2):
        poller.rig.block(height)
        assert await poller.result("consensus.block_height") == {"height": height}
    poller.rig.values(2)
    assert await poller.result("consensus.stats") == {"tps": 1.5, "avg_block_time_ms": None}
    assert await poller.result("consensus.tps") == {"tps": 1.5, "avgBlockTime": None}


async def test_the_height_is_never_below_one_that_was_sent(poller):
    poller.rig.block(6)
    poller.rig.values(7)  # metrics with a height come before its block
    assert await poller.result("consensus.block_height") == {"height": 7}
    poller.rig.block(7)
    poller.rig.block(8)
    assert await poller.result("consensus.block_height") == {"height": 8}


async def test_what_is_final_is_told_where_it_is_known(poller):
    poller.rig.block(9, finalized_height=0)
    assert await poller.result("consensus.block_height") == {"height": 9, "finalized_height": 0}
    assert await poller.result("consensus.finality_status") == {"finalized_height": 0}
    poller.rig.block(10)
    assert await poller.result("consensus.block_height") == {"height": 10}
    assert await poller.code("consensus.finality_status") == -32601


@pytest.mark.parametrize(
    ("times", "average"),
    [
        ([1000], None),
        ([1000, 1250], 250.0),
        ([1000, 1000], None),
        ([None, 1000, 2000, 4000], 1500.0),
        ([1000, None, 3000], None),
        ([None, None], None),
        ([0, *range(10_000, 10_021)], 1.0),  # of the newest 20
        ([0, 1000, 1001], 500.5),
    ],
)
async def test_the_time_between_blocks_is_that_of_the_newest_ones(poller, times, average):
    for height, timestamp in enumerate(times):
        poller.rig.block(height + 5, **({} if timestamp is None else {"timestamp": timestamp}))
        await poller.result("consensus.stats")  # read piece by piece
    poller.rig.block(len(times) + 4, **({} if times[-1] is None else {"timestamp": times[-1]}), tx_count=3)
    assert (await poller.result("consensus.stats"))["avg_block_time_ms"] == average
    assert (await poller.result("consensus.tps"))["avgBlockTime"] == average


async def test_memory_answers_while_nothing_can_be_reached(poller, node):
    poller.rig.block(5)
    node.results = dict.fromkeys(NODE_METHODS, UpstreamError("the node at 127.0.0.1:3030 cannot be reached"))
    poller.rig.hub.upstream_reached = False
    answers = await poller.answers(*POLL)
    assert height_of(answers[0]) == 5
    assert [answer["error"]["code"] for answer in answers[3:]] == [-32010] * 5


# Blocks, accounts and peers


async def test_a_block_comes_from_history(poller, node):
    for height in range(3, 9):
        poller.rig.block(height, tx_count=height)
    for params in ([4], {"height": 4}, [{"height": 4}]):
        assert await poller.result("consensus.block", params) == {"height": 4, "hash": f"0x{4:064x}", "tx_count": 4}
    poller.rig.block(8, tx_count=99)  # the newest word on a block counts
    assert (await poller.result("consensus.block", [8]))["tx_count"] == 99
    assert node.asked == []


@pytest.mark.parametrize("params", [[], None, {}, ["4"], [-1], [1.0], [True], [2**63], [None], [1, 2], [[4]]])
async def test_a_height_that_cannot_be_is_refused(poller, node, params):
    poller.rig.block(5)
    assert await poller.code("consensus.block", params) == -32602
    assert node.asked == []


async def test_a_block_that_was_taken_off_the_chain_is_not_told(poller, node):
    for height in range(8):
        poller.rig.block(height)
    assert (await poller.result("consensus.block", [6]))["height"] == 6
    replaced = block_pb2.ReplacedBlock(height=5, hash=b"old", depth=3)
    poller.rig.origin.publish(block_pb2.BlockUpdate(height=5, hash=b"new", replaces=replaced))
    assert (await poller.result("consensus.block", [5]))["hash"] == "0x" + b"new".hex()
    assert (await poller.result("consensus.block", [4]))["height"] == 4
    assert await poller.code("consensus.block", [6]) == -32602
    poller.rig.block(6, tx_count=7)
    assert (await poller.result("consensus.block", [6]))["tx_count"] == 7
    assert node.asked == []


async def test_blocks_of_another_chain_are_forgotten(poller):
    for height in range(8):
        poller.rig.block(height)
    assert (await poller.result("consensus.block", [6]))["height"] == 6
    poller.rig.origin.begin_epoch()
    assert await poller.code("consensus.block_height") == -32010
    poller.rig.block(2)
    assert await poller.result("consensus.block_height") == {"height": 2}
    assert await poller.code("consensus.block", [6]) == -32602


async def test_no_block_of_a_longer_chain_before_is_told(poller, node):
    for height in (10, 11, 12):
        poller.rig.block(height)
    assert (await poller.result("consensus.block", [11]))["height"] == 11
    poller.rig.origin.begin_epoch()
    for height in range(5):
        poller.rig.block(height, tx_count=1)
    assert await poller.code("consensus.block", [11]) == -32602
    assert (await poller.result("consensus.block", [2]))["tx_count"] == 1
    assert node.asked == []


async def test_the_block_that_history_begins_with_is_known(poller, node):
    stream = poller.rig.hub.catalogue.get("block_updates")
    raw = update_pb2.Update(block=block_pb2.BlockUpdate(height=70, hash=b"h")).SerializeToString()
    poller.rig.hub.begin("block_updates", "later", 7, [Update(stream, "later", 7, 1, raw)])
    assert await poller.result("consensus.block_height") == {"height": 70}
    assert (await poller.result("consensus.block", [70]))["hash"] == "0x" + b"h".hex()
    assert node.asked == []


async def test_a_block_published_again_keeps_none_of_the_others():
    node = Nobody()
    node.results["light.headers"] = b"[]"
    async with polling(node.call, history=HistoryLimits(count=10)) as poller:
        for height in range(5):
            poller.rig.block(height)
        await poller.result("consensus.stats")
        poller.rig.block(0, tx_count=1)
        for height in range(5, 11):
            poller.rig.block(height)
        assert (await poller.result("consensus.block", [0]))["tx_count"] == 1
        assert (await poller.result("consensus.block", [2]))["height"] == 2
        assert await poller.code("consensus.block", [1]) == -32602
        assert node.asked == [("light.headers", {"start": 1, "limit": 1})]


async def test_a_block_that_history_let_go_of_comes_from_the_node():
    chain = Chain()
    chain.mine(40)
    async with (
        StandinNode(chain) as node,
        asking(node) as call,
        polling(call, history=HistoryLimits(count=10)) as poller,
    ):
        for height in range(41):
            poller.rig.block(height)
            if height % 7 == 0:
                await poller.result("consensus.stats")  # so that some were known before they were let go
        assert (await poller.result("consensus.block", [31]))["hash"] == f"0x{31:064x}"
        assert node.requests.count() == 0
        old = chain.blocks[7].header()
        assert await poller.result("consensus.block", [7]) == old | {"hash": f"0x{old['hash']}"}
        assert [entry.params for entry in node.requests.entries] == [{"start": 7, "limit": 1}]
        assert await poller.code("consensus.block", [41]) == -32602
        assert await poller.code("consensus.block", [40_000]) == -32602
        assert node.requests.count() == 1


async def test_a_balance_comes_from_the_accounts_stream_and_else_from_the_node():
    chain = Chain(wallets=1)
    chain.mine(2, txs=1)
    address, account = next((address, one) for address, one in chain.accounts.items() if one.balance)
    async with StandinNode(chain) as node, asking(node) as call, polling(call) as poller:
        update = account_pb2.AccountUpdate(address="alice", balance=str(2**80), nonce=3, height=9)
        poller.rig.origin.publish(update)
        whole = {"account": "alice", "balance": str(2**80), "nonce": 3, "height": 9}
        for params in (["alice"], {"account": "alice"}, [{"address": "alice"}]):
            assert await poller.result("ledger.balance", params) == whole
        assert node.requests.count() == 0
        assert await poller.result("ledger.balance", [address]) == {"account": address, "balance": str(account.balance)}
        assert await poller.result("ledger.balance", ["nobody"]) == {"account": "nobody", "balance": "0"}
        for params in ([], [3], ["a b"], ["x" * 129], {"name": "alice"}):
            assert await poller.code("ledger.balance", params) == -32602
        assert node.requests.count() == 2


async def test_peers_come_from_the_node():
    async with StandinNode() as node, asking(node) as call, polling(call) as poller:
        for number in range(3):
            node.peers.add(f"peer-{number}", requests_per_second=1, bytes_per_second=100)
        listed = await poller.result("peer.list")
        known = [peer["peer_id"] for peer in node.peers.page(0, 100)]
        assert len(known) == 3
        assert [peer["peer_id"] for peer in listed] == known
        assert all(peer.keys() == {"peer_id", "last_updated", "reputation"} for peer in listed)
        same = {"offset": 0, "limit": 100}
        assert await poller.result("peer.stats") == await poller.result("net.peer_stats_all", same)
        assert node.requests.count() == 1
        assert len(await poller.result("peer.stats", [{"offset": 1, "limit": 1}])) == 1
        for params in ([-1], ["all"], {"limit": 0}, {"limit": 1001}, {"limit": True}):
            assert await poller.code("peer.list", params) == -32602


@pytest.mark.parametrize("result", [b"{}", b"[1]", b'[{"peer_id":1,"metrics":{}}]', b'[{"peer_id":"a"}]', b"nope"])
async def test_a_node_that_talks_nonsense_cannot_be_told(poller, node, result):
    poller.rig.block(5)
    node.results = dict.fromkeys(NODE_METHODS, result)
    assert await poller.code("peer.list") == -32010
    assert await poller.code("consensus.block", [2]) == -32010
    assert await poller.code("ledger.balance", ["bob"]) == -32010


async def test_without_a_node_memory_still_answers():
    async with polling() as poller:
        poller.rig.block(5)
        answers = await poller.answers(*POLL)
        assert height_of(answers[0]) == 5
        assert [answer["error"]["code"] for answer in answers[3:]] == [-32601] * 5
        assert await poller.code("consensus.block", [2]) == -32602
        assert await poller.code("ledger.balance", ["bob"]) == -32602


async def test_a_block_that_memory_has_let_go_of_comes_from_disk():
    async with polling(history=HistoryLimits(count=3)) as poller:
        disk, loop = Disk(poller.rig.hub), asyncio.get_running_loop()
        disk.hub.pages.load = lambda place: loop.call_soon(disk.answer, place)
        for number, height in enumerate((*range(1, 101), *range(100, 601))):  # the newest word on a block counts
            poller.rig.block(height, tx_count=number)
            disk.keep(poller.rig.hub.histories["block_updates"].latest[""])
        for height, count in ((50, 49), (100, 100), (101, 101)):
            block = await poller.result("consensus.block", {"height": height})
            assert block == {"height": height, "hash": f"0x{height:064x}", "tx_count": count}
        disk.hub.pages.drop("block_updates")
        disk.trim("block_updates", 60)
        assert await poller.code("consensus.block", [50]) == -32602, "it is gone, and there is no node"
        disk.hub.pages.refuse(Place("block_updates", "epoch1", 0))
        assert await poller.code("consensus.block", [90]) == -32602
