"""An hour of a chain in a minute, before the live page: python -m tests.browser.hour measures it, and prints."""

import argparse

from tests.browser.chromium import Visit, chromium, has_no_hole
from tests.browser.smoothness import COUNT_DRAWS, measure
from tests.system.processes import ANY, bridge

TIMES = 60
"""As fast as the chain, which has a block a second."""


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60, help="of the chain (60)")
    parser.add_argument("--format", choices=("json", "proto"), default="json", help="of the frames (json)")
    options = parser.parse_args()
    given = ("--listen", ANY, "--grpc-listen", "off", "--data-dir", "off", "--blocks-per-second", str(TIMES))
    with chromium() as browser, bridge("demo", *given, "--seed", "7") as running:
        visited = Visit(browser)
        visited.page.add_init_script(COUNT_DRAWS)
        visited.page.goto(f"{running.http}/?format={options.format}")
        visited.collect()
        visited.until(f"seen.length >= {TIMES}")
        begun, updates = len(visited.positions()), visited.run("ws.getMetrics().updates")
        wanted = round(options.minutes * 60)
        measured = measure(visited, wanted / TIMES, f"seen.length >= {begun + wanted}")
        came = len(visited.positions()) - begun
        updates = visited.run("ws.getMetrics().updates") - updates
        print(f"{came:,} blocks, {updates:,} updates of all streams; {measured}")
        print(f"drawn in one frame: each chart at most {visited.run('most')} time; complaints: {visited.complaints()}")
        assert has_no_hole(visited.positions())
        visited.close()


if __name__ == "__main__":
    main()
