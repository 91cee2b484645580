"""The live page when much comes: it draws once a frame, and holds no more and more."""

from collections.abc import Iterator

import pytest

from tests.browser.chromium import has_no_hole
from tests.browser.smoothness import COUNT_DRAWS, measure, part
from tests.system.processes import ANY, Running, bridge

UPDATES = 10_000
GROWTH_BYTES = 1_000_000
"""How much the heap may differ: it was 0.5 MB, and 1.2 MB when only the blocks among the updates were kept."""


@pytest.fixture
def fast(request) -> Iterator[Running]:
    """Run a demo at a rate."""
    given = ("--listen", ANY, "--grpc-listen", "off", "--data-dir", "off", "--blocks-per-second", request.param)
    with bridge("demo", *given) as running:
        yield running


@pytest.mark.parametrize("fast", ["60"], indirect=True)
def test_at_sixty_times_the_pace_it_draws_once_a_frame_and_answers_keys(fast, visit, record_property):
    """Ten minutes of a chain in ten seconds; python -m tests.browser.hour takes the whole hour."""
    visited = visit()
    visited.page.add_init_script(COUNT_DRAWS)
    visited.page.goto(fast.http)
    visited.collect()
    visited.until("seen.length > 60")
    empty = measure(visit("about:blank"), 2)
    begun = len(visited.positions())
    measured = measure(visited, 10, f"seen.length > {begun + 300}")
    record_property("smoothness", str(measured))
    print(f"{len(visited.positions()) - begun} blocks; {measured}\nan empty page: {empty}")
    assert has_no_hole(visited.positions())
    assert visited.run("most") == 1
    assert measured.busy < 0.9
    # Sixty frames a second are usual: these bounds are for machines that are busy with something else.
    assert part(measured.frames, 50) < max(100, 2 * part(empty.frames, 50))
    assert part(measured.waits, 50) < 1000
    assert visited.complaints() == []


WIDTHS = """() => new Promise((resolve) => {
  let left = 120
  const frame = () => {
    document.querySelector("main").style.width = `${800 + (left % 2)}px`
    if (left--) requestAnimationFrame(frame)
    else resolve(most)
  }
  requestAnimationFrame(frame)
})"""


@pytest.mark.parametrize("fast", ["60"], indirect=True)
def test_a_chart_that_is_resized_is_still_drawn_once_a_frame(fast, visit):
    visited = visit()
    visited.page.add_init_script(COUNT_DRAWS)
    visited.page.goto(fast.http)
    visited.collect()
    visited.until("seen.length > 60")
    assert visited.run(WIDTHS) == 1
    assert visited.run("document.querySelector('canvas').clientWidth") < 800 / 2


@pytest.mark.parametrize("fast", ["400"], indirect=True)
def test_the_heap_stays_as_it_is_over_ten_thousand_updates(fast, visit):
    visited = visit(fast.http)
    session = visited.cdp()
    session.send("HeapProfiler.enable")

    def heap() -> int:
        for _ in range(2):
            session.send("HeapProfiler.collectGarbage")
        return session.send("Runtime.getHeapUsage")["usedSize"]

    visited.until("window.ws && ws.getMetrics().updates > 3000")  # everything that has a bound has reached it
    sizes = [heap()]
    while len(sizes) < 2 or (len(sizes) < 4 and sizes[-1] - sizes[-2] >= GROWTH_BYTES):  # what leaks does so each time
        begun = visited.run("ws.getMetrics().updates")
        visited.until(f"ws.getMetrics().updates > {begun + UPDATES}", 240)
        sizes.append(heap())
    print(f"heap after each {UPDATES:,} updates: {sizes} bytes")
    assert sizes[-1] - sizes[-2] < GROWTH_BYTES
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
