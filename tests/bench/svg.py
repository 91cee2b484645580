"""Plain SVG charts, bars and lines, that can be read on a light page and on a dark one."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from math import ceil, floor, log10
from typing import Final

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 340, 56, 12, 56, 48
COLOURS: Final = ("#3b82f6", "#d97706", "#0d9488", "#a855f7", "#e11d48")
STYLE: Final = (
    "text{font:12px system-ui,sans-serif;fill:#334155}.title{font-size:15px;font-weight:600}.small{font-size:9px}"
    ".grid{stroke:#94a3b8;stroke-opacity:.35}.limit{stroke:#e11d48;stroke-dasharray:5 4}"
    "@media(prefers-color-scheme:dark){text{fill:#e2e8f0}}"
)


def bars(
    title: str, unit: str, groups: Mapping[str, Sequence[float]], series: Sequence[str], limits: Sequence[float] = ()
) -> str:
    """Draw groups of bars.

    Args:
        title: above it.
        unit: of the values.
        groups: values by the label below them, one of each series.
        series: what the bars of a group are.
        limits: what a group's last value may be at most, marked across the group.
    """
    ticks = steps(max((*limits, *(value for values in groups.values() for value in values))))
    parts, wide = frame(title, unit, ticks, series), (WIDTH - LEFT - RIGHT) / len(groups)
    for number, (label, values) in enumerate(groups.items()):
        at, bar = LEFT + number * wide, wide * 0.8 / len(series)
        parts.append(text(at + wide / 2, HEIGHT - BOTTOM + 18, label, "middle"))
        for index, value in enumerate(values):
            x, y = at + wide * 0.1 + index * bar, height(value, ticks[-1])
            parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{bar * 0.92:.1f}" height="{HEIGHT - BOTTOM - y:.1f}" '
                         f'fill="{COLOURS[index]}"/>')  # fmt: skip
            kind = "" if bar > 30 else "small"
            parts.append(text(x + bar * 0.46, y - 4, f"{value:.3g}" if bar > 30 else f"{value:.1f}", "middle", kind))
        if limits:
            y = height(limits[number], ticks[-1])
            parts.append(line(at + wide * 0.04, y, at + wide * 0.96, y, "limit"))
    return document(parts)


def lines(
    title: str, unit: str, below: str, series: Mapping[str, Sequence[tuple[float, float]]], *, ideal: bool = False
) -> str:
    """Draw lines through points.

    Args:
        title: above it.
        unit: of the values.
        below: what the other axis is.
        series: points by name.
        ideal: whether to draw a straight line from zero through the last point, too.
    """
    points = [point for values in series.values() for point in values]
    across, ticks = steps(max(x for x, _ in points)), steps(max(y for _, y in points))
    parts = frame(title, unit, ticks, tuple(series))

    def place(x: float, y: float) -> tuple[float, float]:
        return LEFT + (WIDTH - LEFT - RIGHT) * x / across[-1], height(y, ticks[-1])

    for tick in across:
        anchor = "end" if tick == across[-1] else "middle"
        parts.append(text(place(tick, 0)[0], HEIGHT - BOTTOM + 18, f"{tick:,g}", anchor))
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, below, "middle"))
    for index, values in enumerate(series.values()):
        placed = [place(*point) for point in values]
        if ideal:
            parts.append(line(*place(0, 0), *placed[-1], "grid"))
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{COLOURS[index]}" stroke-width="2.5"/>')
        for (x, y), (_, value) in zip(placed, values, strict=True):
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{COLOURS[index]}"/>')
            parts.append(text(min(x, WIDTH - 24), y - 10, f"{value:.3g}", "middle"))
    return document(parts)


def steps(most: float) -> list[float]:
    """Return round numbers from 0 up to what is at least a value."""
    size = 10 ** floor(log10(most))
    step = next(size * part for part in (0.2, 0.5, 1, 2) if most / (size * part) <= 6)
    return [step * number for number in range(ceil(most / step - 1e-9) + 1)]


def height(value: float, most: float) -> float:
    """Return where a value is."""
    return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * value / most


def frame(title: str, unit: str, ticks: Sequence[float], series: Sequence[str]) -> list[str]:
    """Draw the title, the names of the series, and the grid."""
    parts = [f'<text x="{LEFT}" y="20" class="title">{escape(title)} ({escape(unit)})</text>']
    for index, name in enumerate(series):
        x = LEFT + index * (WIDTH - LEFT) / max(len(series), 3)
        parts += [f'<rect x="{x:.1f}" y="31" width="10" height="10" fill="{COLOURS[index]}"/>', text(x + 16, 40, name)]
    for tick in ticks:
        y = height(tick, ticks[-1])
        parts += [line(LEFT, y, WIDTH - RIGHT, y, "grid"), text(LEFT - 8, y + 4, f"{tick:,g}", "end")]
    return parts


def text(x: float, y: float, words: str, anchor: str = "start", kind: str = "") -> str:
    """Draw words."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """Draw a line."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def document(parts: Iterable[str]) -> str:
    """Put it all together."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
    return "\n".join((head, f"<style>{STYLE}</style>", *parts, "</svg>")) + "\n"
