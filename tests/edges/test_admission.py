"""Handshakes wait for their turn where a rate is set; nothing else does."""

import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.edges.admission import AT_ONCE, LONGEST_WAIT_SECONDS, Slices, Turns
from tests.edges.rawclient import RawClient
from tests.edges.rig import Options, until, within

V1 = {"Sec_WebSocket_Protocol": "theblock.v1.json"}
PAGE = V1 | {"Origin": "http://localhost:4173"}


def test_without_a_rate_it_is_always_somebodys_turn():
    turns = Turns(0)
    assert [turns.take(5.0) for _ in range(100_000)] == [0.0] * 100_000


def test_turns_are_even_and_in_order():
    turns = Turns(10)
    assert [turns.take(100.0) for _ in range(4)] == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert turns.take(100.25) == pytest.approx(0.15)
    assert turns.take(200.0) == 0.0, "turns that nobody took are not saved up"
    assert turns.take(200.0) == pytest.approx(0.1)


def test_nobody_waits_for_ever_and_who_is_refused_takes_no_turn():
    turns = Turns(2, longest_wait_seconds=1.0)
    assert [turns.take(0.0) for _ in range(5)] == [0.0, 0.5, 1.0, None, None]
    assert turns.take(0.5) == 1.0


@given(st.floats(0.1, 1000), st.lists(st.floats(0, 1), max_size=200))
def test_never_more_than_the_rate_whoever_comes_when(rate, pauses):
    turns, now, starts = Turns(rate), 1000.0, []
    for pause in pauses:
        now += pause
        wait = turns.take(now)
        if wait is not None:
            assert 0 <= wait <= LONGEST_WAIT_SECONDS
            starts.append(now + wait)
    assert all(later - before >= 1 / rate - 1e-6 for before, later in itertools.pairwise(starts))


async def test_in_one_turn_of_the_loop_only_so_many_go_on_in_the_order_in_which_they_came():
    slices, turn, went_on = Slices(3), 0, []

    async def come(number: int) -> None:
        if (place := slices.take()) is not None:
            await place
        went_on.append((number, turn))

    comers = [asyncio.ensure_future(come(number)) for number in range(10)]
    await asyncio.sleep(0)
    comers[4].cancel()  # it has waited long enough: its place is the next one's
    for turn in range(1, 20):  # noqa: B007
        await asyncio.sleep(0)
    assert [number for number, _ in went_on] == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    most = max(len(list(group)) for _, group in itertools.groupby(went_on, key=lambda gone: gone[1]))
    assert most == 3
    assert slices.take() is None, "whoever comes later finds room"


class TestPaced:
    @pytest.fixture
    def options(self) -> Options:
        return Options(accept_rate=20)

    async def test_who_comes_with_many_others_waits_and_is_served(self, rig, dial):
        clients = [await dial() for _ in range(10)]
        order: list[RawClient] = []

        async def shake(client: RawClient) -> None:
            assert (await client.shake("/ws?subscribe=block_updates")).status == 101
            order.append(client)

        handshakes = []
        for client in clients:
            handshakes.append(asyncio.create_task(shake(client)))
            await until(lambda: rig.edge.waiting + rig.edge.accepted >= len(handshakes), "it has come in")
        assert rig.edge.waiting > 0
        await within(asyncio.gather(*handshakes))
        assert order == clients
        assert (rig.edge.accepted, rig.edge.waiting, rig.edge.refused) == (10, 0, 0)
        rig.block(1)
        assert all([(await client.read_json())["seq"] == 1 for client in clients])


class TestTooMany:
    @pytest.fixture
    def options(self) -> Options:
        return Options(accept_rate=1)

    async def test_beyond_the_bound_they_are_told_when_to_come_back(self, rig, dial):
        first = await dial()
        assert (await first.shake()).status == 101
        waiting = [asyncio.create_task((await dial()).shake()) for _ in range(int(LONGEST_WAIT_SECONDS))]
        await until(lambda: rig.edge.waiting == len(waiting), "as many as may wait for their turn")
        for headers in ({}, V1):
            answer = await (await dial()).shake(**headers)
            assert (answer.status, answer.json()["error"]["code"]) == (503, "OVERLOADED")
            assert 1 <= int(answer.headers["retry-after"]) <= 1 + LONGEST_WAIT_SECONDS
        page = await dial()
        assert (await page.shake(**PAGE)).status == 101
        code, reason = await page.read_close()
        assert (code, reason["error"]) == (1013, "overloaded")
        assert 1000 <= reason["retry_after_ms"] <= 1000 * (1 + LONGEST_WAIT_SECONDS)
        for path in ("/livez", "/readyz", "/health", "/metrics", "/state/block_updates"):
            answer = await (await dial()).shake(path, Upgrade=None, Connection=None)
            assert answer.status in (200, 404), path
        assert rig.edge.waiting == len(waiting), "what is no handshake waits for nothing"
        answer = await (await dial()).shake(Sec_WebSocket_Protocol="unknown")
        assert answer.status == 400
        for handshake in waiting:
            handshake.cancel()
        await asyncio.wait(waiting)


class TestRoom:
    @pytest.fixture
    def options(self) -> Options:
        return Options(accept_rate=0.5, connection_limit=2)

    async def test_who_waits_has_a_place(self, rig, dial):
        assert (await (await dial()).shake()).status == 101
        waiting = asyncio.create_task((await dial()).shake())
        await until(lambda: rig.edge.waiting == 1, "it waits for its turn")
        assert (await (await dial()).shake()).status == 503
        assert (await within(waiting)).status == 101

    async def test_who_gives_up_waiting_leaves_nothing(self, rig, dial):
        assert (await (await dial()).shake()).status == 101
        impatient = await dial()
        waiting = asyncio.create_task(impatient.shake())
        await until(lambda: rig.edge.waiting == 1, "it waits for its turn")
        waiting.cancel()
        await asyncio.wait([waiting])
        impatient.reset()
        await until(lambda: rig.edge.waiting == 0, "its turn has come")
        await until(lambda: len(rig.edge.wires) == 1, "the other one is left")


async def test_many_who_come_at_once_are_all_served_and_counted(rig, dial):
    clients = [await dial() for _ in range(4 * AT_ONCE)]
    answers = await asyncio.gather(*(client.shake("/ws?subscribe=block_updates", **V1) for client in clients))
    assert {answer.status for answer in answers} == {101}
    await until(lambda: len(rig.edge.wires) == len(clients), "all are served")
    assert (rig.edge.waiting, rig.edge.accepted) == (0, len(clients))
