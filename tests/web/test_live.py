"""The browser client against a sidecar over real sockets: nothing is lost, nothing comes twice."""

import asyncio
import random

import pytest

from bridge.core.history import HistoryLimits
from tests.edges.rig import Options, until
from tests.web.world import browsing, serving

UPDATES = 1500
CUTS = 50
LONG = "x" * 1500
"""Makes frames long enough that a cut leaves some of them halfway."""


async def interrupt(site, chance: random.Random) -> None:
    """End every connection in one of the ways in which connections end."""
    match chance.randrange(5):
        case 0 | 1 | 2:
            await asyncio.wait(site.cut())
        case 3:
            await site.stop()
            await site.start()
        case 4:
            await site.stop(drain_seconds=chance.random() * 0.03)
            await site.start()


def publish(site, index: int) -> None:
    site.tick(index, LONG)
    site.block(index)
    site.values(index)
    site.account(f"a{index % 3}", index)


STREAMS = ("ticks", "block_updates", "metrics", "account", {"stream": "account", "key": "a1"})
NAMES = ("ticks", "block_updates", "metrics", "account")


@pytest.mark.parametrize("format_", ["json", "proto"])
async def test_nothing_is_lost_or_repeated_over_fifty_disconnections(format_):
    chance = random.Random(format_)
    cuts = sorted(chance.sample(range(50, UPDATES), CUTS))

    async def publish_and_cut(site) -> None:
        for index in range(1, UPDATES + 1):
            publish(site, index)
            if chance.random() < 0.05:
                await asyncio.sleep(0)
            if index in cuts:
                await until(lambda: site.connected, "somebody is connected")
                for _ in range(chance.randrange(8)):
                    await asyncio.sleep(0)
                await interrupt(site, chance)

    async with (
        serving(Options(history=HistoryLimits(count=20_000, bytes=1 << 30))) as site,
        browsing(site, *STREAMS, format=format_, transports=["websocket"]) as browser,
    ):
        await browser.subscribed(len(STREAMS))
        publishing = asyncio.create_task(publish_and_cut(site))
        await browser.caught_up(NAMES, UPDATES)
        await publishing
        verdict = site.oracle.verdict()
        assert verdict.ok, verdict
        for stream in ("ticks", "block_updates", "account"):
            assert browser.seqs(stream) == list(range(1, UPDATES + 1))
        assert browser.of("gap") == []
        metrics = await browser.end()
        assert len(browser.of("disconnected")) >= CUTS
        assert metrics["reconnects"] > CUTS / 2
        assert metrics["recovered"] >= metrics["reconnects"]
        assert (metrics["repeated"], metrics["missed"], metrics["errors"]) == (0, 0, 0)


WAYS = {"websocket": (True, True), "sse": (False, True), "polling": (False, False)}
"""Whether WebSockets and events come through, by what then feeds the client."""


@pytest.mark.parametrize("other", ["polling", "sse"])
async def test_from_websocket_to_something_else_and_back_nothing_is_lost_or_repeated(other):
    async with serving() as site, browsing(site, *NAMES, {"stream": "account", "key": "a1"}) as browser:
        await browser.subscribed(5)
        index = 0
        for way in ["websocket", other] * 6:
            site.websockets_pass, site.events_pass = WAYS[way]
            if way != "websocket":
                site.cut()
            await browser.over(way)
            for _ in range(3):
                for _ in range(40):
                    index += 1
                    publish(site, index)
                await browser.caught_up(NAMES, index)
        verdict = site.oracle.verdict()
        assert verdict.ok, verdict
        for stream in ("ticks", "block_updates", "account"):
            assert browser.seqs(stream) == list(range(1, index + 1))
        assert browser.of("gap") == []
        assert (await browser.end())["repeated"] == 0


async def test_nothing_is_lost_or_repeated_over_cuts_of_server_sent_events():
    chance = random.Random("sse")
    async with serving(Options(history=HistoryLimits(count=20_000))) as site:
        site.websockets_pass, site.events_pass = WAYS["sse"]
        async with browsing(site, *NAMES, {"stream": "account", "key": "a1"}, transports=["sse"]) as browser:
            await browser.subscribed(5)
            index = 0
            for _ in range(20):
                for _ in range(chance.randrange(1, 60)):
                    index += 1
                    publish(site, index)
                    if chance.random() < 0.1:
                        await asyncio.sleep(0)
                site.cut()
            await browser.caught_up(NAMES, index)
            verdict = site.oracle.verdict()
            assert verdict.ok, verdict
            for stream in ("ticks", "block_updates", "account"):
                assert browser.seqs(stream) == list(range(1, index + 1))
            assert browser.of("gap") == []
            await browser.end()


async def test_the_first_values_come_over_http_and_the_websocket_goes_on_behind_them():
    async with serving() as site:
        publish(site, 1)
        publish(site, 2)
        async with browsing(site, "block_updates", "metrics") as browser:
            await browser.take_until(lambda line: line["kind"] == "subscribed" and line["body"]["stream"] == "metrics")
            rows = {row["stream"]: row for row in browser.of("subscribed")}
            assert (rows["block_updates"]["seq"], rows["block_updates"]["recovered"]) == (2, True)
            (first,) = [one for one in browser.of("update") if one["stream"] == "block_updates"]
            assert (first["seq"], first["snapshot"]) == (2, True)
            publish(site, 3)
            await browser.take_until(lambda line: line["kind"] == "update" and line["body"]["stream"] == "metrics")
            assert len(browser.of("update")) == 4
            assert site.oracle.verdict().ok


async def test_history_that_is_gone_is_told_over_either():
    async with serving(Options(history=HistoryLimits(count=10))) as site, browsing(site, "block_updates") as browser:
        await browser.subscribed(1)
        await site.blocks(3)
        await browser.take_until(lambda line: line["kind"] == "update" and line["body"]["seq"] == 3)
        site.websockets_pass = False
        site.cut()
        await site.blocks(20)
        await browser.take_until(lambda line: line["kind"] == "update" and line["body"]["seq"] == 23)
        (gap,) = browser.of("gap")
        assert (gap["from"], gap["to"], gap["reason"]) == (4, 13, "trimmed")
        assert browser.seqs("block_updates") == [1, 2, 3, *range(14, 24)]
        await site.stop()
        await site.blocks(20)
        site.websockets_pass = True
        await site.start()
        await browser.take_until(lambda line: line["kind"] == "update" and line["body"]["seq"] == 43)
        assert browser.seqs("block_updates")[-10:] == list(range(34, 44))
        assert (await browser.end())["missed"] == 20


REQUESTS = (
    "ws.request('state_stream.list')",
    "ws.request('state_stream.history', [{stream: 'account', limit: 3, reverse: true}])",
    "ws.request('state_stream.history', [{stream: 'block_updates', since: {height: 3}, limit: 2}])",
    "ws.request('state_stream.history', [{stream: 'account', key: 'a1', since: {epoch: 'epoch1', seq: 1}}])",
    "ws.request('state_stream.subscribe', [{stream: 'trading', last: 3}, 'energy', {stream: 'nothing_yet'}])",
    "ws.request('state_stream.subscribe', [{stream: 'metrics', max_rate: 2.5, where: {tps: {gt: 1, lt: 2.5}}}])",
    "ws.request('state_stream.subscribe', [{stream: 'account', where: {address: {in: ['a1', 'a2']}, nonce: 1}}])",
    "ws.request('state_stream.subscribe', [{stream: 'block_updates', since: {epoch: 'epoch0', seq: 3}}])",
    "ws.request('session.stats')",
    "ws.request('state_stream.unsubscribe', ['energy', {stream: 'nothing_yet'}, {stream: 'account', key: 'x'}])",
    "ws.request('state_stream.subscribe', [{stream: 'Bad Name'}]).catch(({code, message}) => ({code, message}))",
    "ws.request('state_stream.subscribe', [{stream: 'network', max_rate: -1}]).catch(({code}) => code)",
    "ws.request('session.authenticate', [{token: 'x'}]).catch(({code, message}) => ({code, message}))",
)


async def test_requests_are_answered_alike_in_both_formats():
    answers = []
    for format_ in ("json", "proto"):
        async with serving() as site:
            site.hub.clock_ms = lambda: 1_700_000_000_000
            for index in range(1, 7):
                publish(site, index)
            async with browsing(site, format=format_) as browser:
                await browser.over("websocket")
                answers.append([await browser.run(request) for request in REQUESTS])
                await browser.end()
    for request, json_answer, proto_answer in zip(REQUESTS, *answers, strict=True):
        assert untimed(proto_answer) == untimed(json_answer), request


def untimed(value: object) -> object:
    """Return a value without the times of updates."""
    if isinstance(value, dict):
        return {name: untimed(item) for name, item in value.items() if name != "time"}
    return [untimed(item) for item in value] if isinstance(value, list) else value


async def test_a_final_close_ends_in_polling():
    async with serving() as site:
        site.block(1)
        async with browsing(site, "block_updates") as browser:
            await browser.over("websocket")
            # Twenty bad messages in a row make a sidecar close with 4500.
            await browser.run("{ for (let n = 0; n < 20; n++) ws.send({method: 'nonsense', params: 7, id: n}) }")
            await browser.over("polling")
            (end,) = browser.of("gave_up")
            assert "4500" in end["sentence"]
            site.block(2)
            await browser.take_until(lambda line: line["kind"] == "update" and line["body"]["seq"] == 2)
            await browser.end()
