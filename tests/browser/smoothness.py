"""How smoothly a page runs: its frames, its long tasks, how long it keeps somebody waiting who presses a key."""

import time
from typing import Any, NamedTuple

from tests.browser.chromium import Visit

PRESS_MS = 250
"""Between two keys that are pressed."""

LONGEST_SECONDS = 60.0
"""How long a slow machine may take beyond what is measured."""

COUNT_DRAWS = """
window.most = 0
{
  const ask = requestAnimationFrame
  const clear = CanvasRenderingContext2D.prototype.clearRect
  let frame = 0
  let drawn = new Map()
  window.requestAnimationFrame = (callback) => ask((now) => {
    if (now !== frame) drawn = new Map()
    frame = now
    callback(now)
  })
  CanvasRenderingContext2D.prototype.clearRect = function (...area) {
    const times = (drawn.get(this.canvas) ?? 0) + 1
    drawn.set(this.canvas, times)
    most = Math.max(most, times)
    return clear.apply(this, area)
  }
  const next = () => requestAnimationFrame(next)
  next()
}
"""
"""How often a canvas was drawn in one frame at most, as `most`: all callbacks of a frame are given one time."""

OBSERVE = """() => {
  const seen = { frames: [], long: [], waits: [] }
  window.observed = () => seen
  const observe = (type, into, options) =>
    new PerformanceObserver((list) => into.push(...list.getEntries().map(({ duration }) => duration)))
      .observe({ type, ...options })
  observe("longtask", seen.long)
  observe("event", seen.waits, { durationThreshold: 16 })
  let before = null
  const frame = (now) => {
    if (before !== null) seen.frames.push(now - before)
    before = now
    requestAnimationFrame(frame)
  }
  requestAnimationFrame(frame)
}"""
"""Long tasks are those of 50 ms and more; waits are from a key to the next paint, those of 16 ms and more."""


class Smoothness(NamedTuple):
    """What was measured of a page; times are milliseconds, sorted, the shortest first.

    Attributes:
        seconds: how long it was measured.
        frames: between one frame and the next.
        long: tasks of 50 ms and more.
        waits: from a key to the next paint.
        presses: keys that were pressed; one that waited for less than 16 ms is not among the waits.
        busy: share of the time that the main thread had a processor.
    """

    seconds: float
    frames: list[float]
    long: list[float]
    waits: list[float]
    presses: int
    busy: float

    def __str__(self) -> str:
        median, p95, p99, longest = (part(self.frames, percent) for percent in (50, 95, 99, 100))
        return (
            f"{len(self.frames)} frames in {self.seconds:.0f} s, {len(self.frames) / self.seconds:.0f} a second; "
            f"between frames median {median:.1f}, p95 {p95:.1f}, p99 {p99:.1f}, longest {longest:.1f} ms; "
            f"{len(self.long)} long tasks, {sum(self.long):.0f} ms in all, longest {part(self.long, 100):.0f} ms; "
            f"{self.presses} keys, longest wait {part(self.waits, 100):.0f} ms; "
            f"main thread busy {self.busy:.0%}"
        )


def part(values: list[float], percent: int) -> float:
    """Return the value that so many percent of sorted values do not exceed; 0 if there are none."""
    return values[max(0, -(-len(values) * percent // 100) - 1)] if values else 0.0


def measure(visited: Visit, seconds: float, enough: str = "true") -> Smoothness:
    """Measure a page while keys are pressed in it.

    Args:
        visited: the page.
        seconds: how long at least.
        enough: expression that must have become true as well.
    """
    session = visited.cdp()
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    visited.run(OBSERVE)
    spent, begun, presses = busy_seconds(session), time.monotonic(), 0
    while (lasted := time.monotonic() - begun) < seconds or not visited.run(enough):
        assert lasted < seconds + LONGEST_SECONDS, f"it never came to this: {enough}"
        visited.page.keyboard.press("Shift")
        visited.page.wait_for_timeout(PRESS_MS)
        presses += 1
    seen = visited.run("observed()")
    share = (busy_seconds(session) - spent) / lasted
    return Smoothness(lasted, *(sorted(seen[name]) for name in ("frames", "long", "waits")), presses, share)


def busy_seconds(session: Any) -> float:
    """Return how long the main thread of a page has had a processor for tasks."""
    metrics = {row["name"]: row["value"] for row in session.send("Performance.getMetrics")["metrics"]}
    return float(metrics["TaskDuration"])
