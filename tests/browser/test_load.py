"""The live page when much comes: it draws once a frame, and holds no more and more."""

from collections.abc import Iterator

import pytest

from tests.system.processes import ANY, Running, bridge

UPDATES = 10_000
GROWTH_BYTES = 1_000_000
"""How much the heap may differ: it was 0.5 MB, and 1.2 MB when only the blocks among the updates were kept."""

COUNT_DRAWS = """
window.most = 0
let drawn = new Map()
const clear = CanvasRenderingContext2D.prototype.clearRect
CanvasRenderingContext2D.prototype.clearRect = function (...area) {
  const times = (drawn.get(this.canvas) ?? 0) + 1
  drawn.set(this.canvas, times)
  most = Math.max(most, times)
  return clear.apply(this, area)
}
const frame = () => {
  drawn = new Map()
  requestAnimationFrame(frame)
}
requestAnimationFrame(frame)
"""

MEASURE = """(seconds) => new Promise((resolve) => {
  const frames = []
  let before = performance.now()
  const until = before + 1000 * seconds
  const frame = (now) => {
    frames.push(now - before)
    before = now
    if (now < until) requestAnimationFrame(frame)
    else resolve(frames.slice(1).sort((one, other) => one - other))
  }
  requestAnimationFrame(frame)
})"""


@pytest.fixture
def fast(request) -> Iterator[Running]:
    """Run a demo at a rate."""
    given = ("--listen", ANY, "--grpc-listen", "off", "--data-dir", "off", "--blocks-per-second", request.param)
    with bridge("demo", *given) as running:
        yield running


@pytest.mark.parametrize("fast", ["60"], indirect=True)
def test_sixty_blocks_a_second_are_drawn_once_a_frame(browser, fast, visit, record_property):
    visited = visit()
    visited.page.add_init_script(COUNT_DRAWS)
    visited.page.goto(fast.http)
    visited.collect()
    visited.until("seen.length > 60")
    session = visited.cdp()
    session.send("Performance.enable")

    def busy() -> float:
        metrics = {row["name"]: row["value"] for row in session.send("Performance.getMetrics")["metrics"]}
        return metrics["TaskDuration"]

    came, spent = len(visited.positions()), busy()
    frames = visited.page.evaluate(MEASURE, 4)
    came, spent = len(visited.positions()) - came, busy() - spent
    middle, late = frames[len(frames) // 2], frames[len(frames) * 95 // 100]
    record_property("frame_ms", {"median": middle, "p95": late, "longest": frames[-1], "busy_seconds": spent})
    print(f"{len(frames)} frames, {came} blocks: median {middle:.1f} ms, p95 {late:.1f} ms, "
          f"longest {frames[-1]:.1f} ms; the main thread worked {spent:.2f} s of 4")  # fmt: skip
    assert came > 120
    assert visited.run("most") == 1
    assert middle < 34, "less than 30 frames a second"
    assert visited.complaints() == []


@pytest.mark.parametrize("fast", ["400"], indirect=True)
def test_the_heap_stays_as_it_is_over_ten_thousand_updates(browser, fast, visit):
    visited = visit(fast.http)
    session = visited.cdp()
    session.send("HeapProfiler.enable")

    def heap() -> int:
        for _ in range(2):
            session.send("HeapProfiler.collectGarbage")
        return session.send("Runtime.getHeapUsage")["usedSize"]

    visited.until("window.ws && ws.getMetrics().updates > 3000")  # everything that has a bound has reached it
    before, begun = heap(), visited.run("ws.getMetrics().updates")
    visited.until(f"ws.getMetrics().updates > {begun + UPDATES}", 120)
    after = heap()
    print(f"heap {before:,} bytes, after {UPDATES:,} updates {after:,}")
    assert after - before < GROWTH_BYTES
    nodes = visited.run("document.querySelectorAll('*').length")
    assert nodes < 1500
    assert visited.complaints() == []


def test_points_of_a_chart_have_a_bound_and_stay_in_order(demo, visit):
    """A chart takes minutes to reach its bound: so this is seen by itself."""
    visited = visit(demo.http)
    lengths, merged, seeded = visited.run("""() => import("/page/series.js").then(({ Series }) => {
        const long = new Series(1)
        for (let time = 0; time < 10000; time++) long.add([time, time])
        const near = new Series(1)
        for (const point of [[1, 10], [1.1, 11], [2, 20], [1.9, 21]]) near.add(point)
        const late = new Series(1)
        late.add([5, 50])
        late.seed([[3, 30], [4, 40], [5, 55], [6, 60]])
        return [[long.data.map((column) => column.length), long.data[1].at(-1)], near.data, late.data]
    })""")
    assert lengths == [[600, 600], 9999]
    assert merged == [[1, 2], [11, 21]]
    assert seeded == [[3, 4, 5], [30, 40, 50]]
