"""A sidecar's metrics and tables on its state service: documented as they are, and made from the settings."""

from bridge.app.parts import make_upstream
from bridge.app.process import upstream_rows
from bridge.ops.metrics import PREFIX, Metrics
from bridge.settings import Address, SidecarSettings
from bridge.sources.grpc import UpstreamSource
from bridge.sources.statuses import MEANINGS
from tests.contract.pages import OPERATIONS, plain, quoted, table
from tests.state_service import new_hub

ADDRESSES = (Address("a", 1), Address("b", 2))


def source() -> UpstreamSource:
    return make_upstream(new_hub(), SidecarSettings(upstream=ADDRESSES))


async def test_every_metric_of_the_upstream_is_documented_and_nothing_else():
    families = list(Metrics(upstream_rows(source())).collect())
    shown = [
        (family.name + "_total" * (family.type == "counter"), family.type, family.documentation) for family in families
    ]
    rows = table(OPERATIONS, "Of a sidecar that has a state service", "metric")
    assert [(plain(row[0]), row[1], row[3]) for row in rows] == shown
    labels = {plain(row[0]).removesuffix("_total"): tuple(quoted(row[2])) for row in rows}
    assert labels == {PREFIX + row.name: row.labels for row in upstream_rows(source())}


async def test_the_addresses_are_those_of_the_setting_and_the_first_is_in_use_first():
    samples = Metrics(upstream_rows(source())).text().decode().splitlines()
    name = f"{PREFIX}upstream_in_use"
    assert [line for line in samples if line.startswith(name)] == [
        f'{name}{{address="a:1",number="1"}} 1.0',
        f'{name}{{address="b:2",number="2"}} 0.0',
    ]


def test_what_each_status_means_is_documented():
    rows = table(OPERATIONS, "When the state service answers with an error", "status")
    assert {plain(row[0]): tuple(row[1:]) for row in rows} == {
        status.name: (meaning.problem, meaning.pace.value, meaning.blame.value) for status, meaning in MEANINGS.items()
    }
