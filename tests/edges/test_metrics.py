"""The metrics: each is one that a collector can read, says what is so, and is documented."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bridge.core.hub import State
from bridge.ops.metrics import PREFIX, hub_rows
from tests.contract.pages import OPERATIONS, plain, quoted, table
from tests.edges.rig import Options, until


async def read(http) -> dict[tuple[str, tuple[str, ...]], float]:
    """Return the samples by name, without the prefix, and label values."""
    async with http.get("/metrics") as response:
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/plain; version=")
        text = await response.text()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    assert all(sample.name.startswith(PREFIX) for sample in samples)
    found = {(one.name.removeprefix(PREFIX), tuple(one.labels.values())): one.value for one in samples}
    assert len(found) == len(samples), "a sample stands twice"
    return found


async def test_metrics_say_what_is_so(rig, http, connect):
    before = await read(http)
    assert before["readers", ()] == before["deliveries_total", ()] == before["updates_total", ("metrics",)] == 0
    clients = [await connect("/ws?subscribe=block_updates") for _ in range(3)]
    for client in clients:
        await client.pong()
    for height in range(1, 6):
        rig.block(height)
    rig.values(5)
    for client in clients:
        assert [(await client.read_json())["seq"] for _ in range(5)] == [1, 2, 3, 4, 5]
    after = await read(http)
    assert after["readers", ()] == after["subscriptions", ("block_updates",)] == 3
    assert after["subscriptions", ("metrics",)] == 0
    assert after["updates_total", ("block_updates",)] == after["history_updates", ("block_updates",)] == 5
    assert after["updates_total", ("metrics",)] == 1
    assert after["history_bytes", ("block_updates",)] > 1000
    assert after["deliveries_total", ()] == 15
    assert after["readers_catching_up", ()] == 0
    for client in clients:
        client.hang_up()
    await until(rig.holds_nothing, "nothing is left")
    assert (await read(http))["readers", ()] == 0


@pytest.mark.parametrize("state", State)
async def test_one_state_of_upstream_is_on(rig, http, state):
    rig.hub.set_status(state, "so it is")
    samples = await read(http)
    assert {one.value: samples["upstream_state", (one.value,)] for one in State} == {
        one.value: float(one is state) for one in State
    }


class TestClock:
    @pytest.fixture
    def options(self) -> Options:
        return Options(clock_ms=iter(range(1000, 100_000, 7)).__next__)

    async def test_the_lag_is_from_publication_to_arrival(self, rig, http):
        rig.block(1)  # the clock is read once for the update and once at its arrival
        assert (await read(http))["lag_milliseconds", ()] == 7


async def test_every_metric_is_documented_and_nothing_else(rig, http):
    async with http.get("/metrics") as response:
        families = {family.name: family for family in text_string_to_metric_families(await response.text())}
    assert len(families) == len(hub_rows(rig.hub))
    shown = {
        (name + "_total" * (family.type == "counter"), family.type, family.documentation)
        for name, family in families.items()
    }
    rows = table(OPERATIONS, "Of every process", "metric")
    assert {(plain(row[0]), row[1], row[3]) for row in rows} == shown
    labels = {plain(row[0]).removesuffix("_total"): tuple(quoted(row[2])) for row in rows}
    assert labels == {PREFIX + row.name: row.labels for row in hub_rows(rig.hub)}
