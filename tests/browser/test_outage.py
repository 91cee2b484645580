"""The live page when processes die and connections are blocked: nothing is missed, nothing comes twice."""

import random
import re
import signal
import socket
import tempfile
from contextlib import suppress

from tests.browser.chromium import has_no_hole
from tests.system.processes import bridge


def free_port() -> int:
    """Return a port that nobody gets by chance while the process that listened there is away."""
    ports = random.sample(range(20_000, 32_000), 100)  # below those that systems give to connections
    for port in ports:
        with suppress(OSError), socket.socket() as listener:
            listener.bind(("127.0.0.1", port))
            return port
    raise AssertionError("a hundred ports are taken")


LONGEST_SECONDS = 120.0
"""How long a client may take to come back: pauses between its tries are up to 30 s, and a try may come too early."""


def over(visited, transport):
    visited.until(f"ws.transport === '{transport}'", LONGEST_SECONDS)


def test_a_process_that_is_killed_and_comes_back_costs_nothing(browser, visit):
    with tempfile.TemporaryDirectory() as folder:
        given = ("demo", "--listen", f"127.0.0.1:{free_port()}", "--grpc-listen", "off", "--data-dir", folder)
        with bridge(*given, "--blocks-per-second", "5") as first:
            visited = visit(first.http)
            visited.collect()
            visited.until("seen.length >= 5")
            first.end(signal.SIGKILL)
        over(visited, "none")
        visited.until("document.querySelector('#state').textContent === 'Reconnecting'")
        before = len(visited.positions())
        with bridge(*given, "--blocks-per-second", "5"):
            over(visited, "websocket")
            visited.until(f"seen.length >= {before + 10}")
            visited.until("""Number(document.querySelector('[data-link="reconnects"]').textContent) >= 1""")
            assert has_no_hole(visited.positions())
            assert visited.link("missed") == "0"
            assert visited.complaints(outage=True) == []


class Blocked:
    """What does not come through to a page: WebSockets, and Server-Sent Events."""

    def __init__(self, visited, *, events):
        self.websockets = True
        visited.page.route_web_socket(re.compile(r"/ws$"), self._take)
        self.events = events
        visited.page.route(re.compile(r"/events\?"), lambda route: route.abort() if self.events else route.continue_())

    def _take(self, route):
        if self.websockets:
            route.close(code=1011)
        else:
            route.connect_to_server()


def test_events_and_polling_stand_in_for_the_websocket_until_it_is_back(demo, visit):
    pages = {"sse": visit(), "polling": visit()}
    blocked = {name: Blocked(visited, events=name == "polling") for name, visited in pages.items()}
    for visited in pages.values():
        visited.page.goto(demo.http)
        visited.collect()
    words = {"sse": "Live, over Server-Sent Events", "polling": "Connected, over polling"}
    for name, visited in pages.items():
        over(visited, name)
        visited.until(f"document.querySelector('#state').textContent === '{words[name]}'")
        visited.until("seen.length >= 5")
        assert visited.link("missed") == "0"
    for one in blocked.values():
        one.websockets = False
    for visited in pages.values():
        over(visited, "websocket")
        before = len(visited.positions())
        visited.until(f"seen.length >= {before + 5}")
        assert has_no_hole(visited.positions())
        assert visited.link("missed") == "0"
        assert visited.complaints(outage=True) == []
