"""Metrics for Prometheus: a table of what is measured, read from the parts when somebody asks.

Nothing is counted twice and nothing on the way of an update: each row reads a number that its part has anyway.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bridge.core.history import History
from bridge.core.hub import Hub, State

PREFIX = "theblock_bridge_"

Kind = type[GaugeMetricFamily] | type[CounterMetricFamily]

Sample = tuple[tuple[str, ...], float]
"""Label values and the number."""


class Row(NamedTuple):
    """A row of the table: one metric."""

    name: str  # without the prefix; counters without _total
    kind: Kind
    doc: str
    labels: tuple[str, ...]
    read: Callable[[], Iterable[Sample]]


def gauge(name: str, doc: str, read: Callable[[], float]) -> Row:
    """Return a row for a number that goes up and down."""
    return Row(name, GaugeMetricFamily, doc, (), lambda: [((), read())])


def counter(name: str, doc: str, read: Callable[[], float]) -> Row:
    """Return a row for a number that only grows."""
    return Row(name, CounterMetricFamily, doc, (), lambda: [((), read())])


def declared(hub: Hub) -> list[History]:
    """Return the histories of declared streams: names that clients make up never become labels."""
    return [history for history in list(hub.histories.values()) if history.stream is not None]


def hub_rows(hub: Hub) -> list[Row]:
    """Return the rows that every process has."""

    def by_stream(name: str, kind: Kind, doc: str, read: Callable[[History], float]) -> Row:
        return Row(name, kind, doc, ("stream",), lambda: [((h.name,), read(h)) for h in declared(hub)])

    return [
        by_stream("updates", CounterMetricFamily, "Updates taken in.", lambda h: h.taken),
        by_stream("subscriptions", GaugeMetricFamily, "Subscriptions.", lambda h: h.cursors),
        by_stream("history_updates", GaugeMetricFamily, "Updates held.", len),
        by_stream("history_bytes", GaugeMetricFamily, "Memory of the updates held.", lambda h: h.size_bytes),
        gauge("page_bytes", "Memory of the pages that were read again from disk.", lambda: hub.pages.size_bytes),
        counter("page_loads", "Pages read again from disk.", lambda: hub.pages.loads),
        counter("page_hits", "Reads from a page that was held.", lambda: hub.pages.hits),
        counter("page_failures", "Pages that could not be had, and were passed over.", lambda: hub.pages.failures),
        gauge("page_waiting", "Clients and requests that wait for a page.", lambda: hub.pages.waiting),
        counter("deliveries", "Updates written to clients.", lambda: hub.deliveries),
        gauge("readers", "Clients attached to the hub.", lambda: len(hub.readers)),
        gauge("readers_catching_up", "Clients that read from history.", lambda: hub.catching_up),
        gauge("lag_milliseconds", "From publication to arrival here, of the newest update.", lambda: hub.lag_ms),
        Row(
            "upstream_state",
            GaugeMetricFamily,
            "1 for the state of what feeds the bridge, 0 for the others.",
            ("state",),
            lambda: [((state.value,), float(state is hub.status.state)) for state in State],
        ),
    ]


class Metrics(Collector):
    """The metrics of one process."""

    def __init__(self, rows: list[Row]) -> None:
        """Make a registry of its own, so that several can live in one process."""
        self.rows = rows
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Read every row."""
        for row in self.rows:
            family = row.kind(PREFIX + row.name, row.doc, labels=row.labels)
            for labels, value in row.read():
                family.add_metric(list(labels), value)
            yield family

    def text(self) -> bytes:
        """Return them in Prometheus's text format."""
        return generate_latest(self._registry)
