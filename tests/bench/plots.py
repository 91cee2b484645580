"""Draw what was measured, from build/bench into docs/plots, and write its tables into docs/performance.md."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tests.bench import svg
from tests.bench.report import RESULTS, figure

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "performance.md"
PLOTS: Final = DOCUMENT.parent / "plots"

Rows = list[dict[str, Any]]


def main() -> None:
    """Draw, print the tables, and put them where the document has room for them."""
    PLOTS.mkdir(parents=True, exist_ok=True)
    document = DOCUMENT.read_text()
    for path in sorted(RESULTS.glob("*.json")):
        result = json.loads(path.read_text())
        for name, draw in DRAWINGS.get(path.stem, {}).items():
            (PLOTS / f"{name}.svg").write_text(draw(result["rows"]))
        images = [f"![{name.replace('_', ' ')}](plots/{name}.svg)\n" for name in DRAWINGS.get(path.stem, {})]
        tables = by_server(result["rows"]) if path.stem == "fanout" else by_columns(result["rows"])
        tables.append([target_row(target) for target in result["targets"]])
        text = "\n".join((when(result), *images, *(markdown(table) for table in tables if table)))
        print(f"{path.stem}: {text}")
        begin, end = f"<!-- figures: {path.stem} -->\n", "<!-- end -->"
        if begin in document:
            before, after = document.split(begin)
            document = f"{before}{begin}{text}{end}{after.partition(end)[2]}"
    DOCUMENT.write_text(document)


def when(result: dict[str, Any]) -> str:
    """Return when something was measured, and how long."""
    seconds = f" SECONDS={result['seconds']:g}" if result["seconds"] else ""
    return f"Measured on {result['date']} with ROUNDS={result['rounds']}{seconds}.\n"


def markdown(rows: Rows) -> str:
    """Return a table whose columns are those of the first row."""
    names = [name.replace("_", " ") for name in rows[0]]
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    lines += [f"| {' | '.join(cell(value) for value in row.values())} |" for row in rows]
    return "\n".join(lines) + "\n"


def by_columns(rows: Rows) -> list[Rows]:
    """Return rows as tables, each with columns of its own."""
    found: dict[tuple[str, ...], Rows] = {}
    for row in rows:
        found.setdefault(tuple(row), []).append(row)
    return list(found.values())


def by_server(rows: Rows) -> list[Rows]:
    """Return tables of servers by how updates are published, one for each number of clients."""
    tables: dict[int, dict[str, dict[str, Any]]] = {}
    for row in rows:
        head = f"{row['clients']:,} clients"
        named = tables.setdefault(row["clients"], {}).setdefault(row["server"], {head: row["server"]})
        cost, ratio = row["cost_us"]["median"], row["of_floor"]
        named[row["mode"]] = f"{figure(cost)} µs: {cell(ratio)}"
    return [list(table.values()) for table in tables.values()]


def target_row(target: dict[str, Any]) -> dict[str, Any]:
    """Return a target as a row."""
    value, most = (f"{number} {target['unit']}".strip() for number in (figure(target["value"]), f"{target['most']:g}"))
    return {"target": target["what"], "measured": value, "at most": most, "": "within" if target["within"] else "over"}


def cell(value: Any) -> str:
    """Return a figure as it stands in a table."""
    if isinstance(value, dict):
        return f"{figure(value['median'])} ({figure(value['low'])} to {figure(value['high'])})"
    return figure(value) if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def draw_servers(rows: Rows) -> str:
    """Draw what a delivery costs each server, for as many clients as most servers were measured with."""
    clients = Counter(row["clients"] for row in rows).most_common(1)[0][0]
    modes: dict[str, dict[str, float]] = {}
    for row in rows:
        if row["clients"] == clients and "/s" not in row["mode"]:
            modes.setdefault(row["mode"], {})[row["server"]] = row["cost_us"]["median"]
    order = sorted(modes["one in flight"], key=lambda server: modes["one in flight"][server])
    groups = {server: [costs[server] for costs in modes.values()] for server in order}
    return svg.bars(f"Processor time a delivery, {clients:,} clients", "µs", groups, tuple(modes))


def draw_clients(rows: Rows) -> str:
    """Draw what a delivery costs over clients."""
    rate = rows[0]["updates_per_s"]
    points = [(row["clients"], row["cost_us"]["median"]) for row in rows if row["updates_per_s"] == rate]
    return svg.lines("Processor time a delivery", "µs", "clients", {f"{rate} updates/s": points})


def draw_rates(rows: Rows) -> str:
    """Draw the share of a core over deliveries a second."""
    points = sorted((row["deliveries_per_s"], row["core_percent"]["median"]) for row in rows)
    return svg.lines("Share of a core", "%", "deliveries/s", {"100 to 10,000 clients": points}, ideal=True)


def draw_latency(rows: Rows) -> str:
    """Draw latencies."""
    groups = {
        f"{row['clients']:,} at {row['updates_per_s']}/s": [row["p50_ms"]["median"], row["p99_ms"]["median"]]
        for row in rows
    }
    limits = [row["most_ms"] for row in rows]
    return svg.bars("From publish to receipt, clients at updates/s", "ms", groups, ("p50", "p99"), limits)


DRAWINGS: Final[dict[str, dict[str, Callable[[Rows], str]]]] = {
    "fanout": {"fanout": draw_servers},
    "growth": {"growth_clients": draw_clients, "growth_deliveries": draw_rates},
    "latency": {"latency": draw_latency},
}
"""Functions that draw, by the name of the plot, by the benchmark whose figures they take."""
