"""Chromium, as these tests drive it: where it is, and a page with all that it complains about."""

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WAIT_MS = 60_000
"""How long what is waited for may take: nothing takes a tenth of it, but a machine may be busy with something else."""

PAUSE_MS = 50

UNREACHABLE = re.compile(
    r"WebSocket connection to .* failed|status of 50[23]"
    r"|net::ERR_(CONNECTION|EMPTY_RESPONSE|FAILED|INCOMPLETE_CHUNKED|CONTENT_LENGTH|SOCKET_NOT_CONNECTED|TIMED_OUT)"
)
"""What a browser itself writes to the console while nobody answers, or who does is only beginning."""

COLLECT = """
window.complaints = []
document.addEventListener("securitypolicyviolation", (event) => complaints.push(`CSP: ${event.violatedDirective}`))
addEventListener("unhandledrejection", (event) => complaints.push(`rejected: ${event.reason}`))
"""


def missing() -> str | None:
    """Return why there is no browser to test with; None: there is one."""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "playwright is not installed: pip install 'theblock-bridge[browser]'"
    if not program():
        return f"no Chromium is installed (looked for {', '.join(NAMES)}): on Debian, apt-get install chromium"
    return None


def program() -> str | None:
    """Return the path of Chromium; the environment variable CHROMIUM goes before what is on PATH."""
    return os.environ.get("CHROMIUM") or next((found for name in NAMES if (found := shutil.which(name))), None)


@contextmanager
def chromium() -> Iterator[Any]:
    """Run Chromium; yield playwright's Browser."""
    from playwright.sync_api import sync_playwright

    # Chromium's own sandbox needs what containers and root do not have; only pages of ours are opened.
    with sync_playwright() as playwright:
        given = ["--no-sandbox", "--disable-lcd-text"]
        browser = playwright.chromium.launch(executable_path=program(), args=given, timeout=WAIT_MS)
        yield browser
        browser.close()


class Visit:
    """A page in a context of its own.

    Attributes:
        page: playwright's Page.
    """

    def __init__(self, browser: Any, **options: Any) -> None:
        options = {"viewport": {"width": 1440, "height": 1000}, **options}
        self._context = browser.new_context(**options)
        self._context.set_default_timeout(WAIT_MS)
        self._said: list[str] = []
        self.page = self._context.new_page()
        self.page.add_init_script(COLLECT)
        self.page.on("console", lambda message: self._hear(message.type, message.text))
        self.page.on("pageerror", lambda error: self._hear("error", str(error)))

    def _hear(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self._said.append(text)

    def complaints(self, *, outage: bool = False) -> list[str]:
        """Return what the page has complained about; in an outage, what a browser writes itself is left out."""
        found: list[str] = self.page.evaluate("window.complaints")
        return found + [text for text in self._said if not (outage and UNREACHABLE.search(text))]

    def close(self) -> None:
        self._context.close()

    # What is read of it

    def run(self, script: str) -> Any:
        """Run JavaScript in the page; return what comes of it."""
        return self.page.evaluate(script)

    def until(self, script: str, seconds: float = WAIT_MS / 1000) -> None:
        """Wait until an expression is true in the page; its policy forbids to leave code there that would wait."""
        deadline = time.monotonic() + seconds
        while not self.page.evaluate(script):
            assert time.monotonic() < deadline, f"it never came to this: {script}\n{self.page.inner_text('body')}"
            self.page.wait_for_timeout(PAUSE_MS)

    def text(self, selector: str) -> str:
        return self.page.text_content(selector) or ""

    def link(self, name: str) -> str:
        """Return a figure of the connection as it is shown."""
        return self.text(f'[data-link="{name}"]')

    def cdp(self) -> Any:
        """Return a session of the Chrome DevTools Protocol."""
        return self._context.new_cdp_session(self.page)

    def collect(self) -> None:
        """Have the positions of all blocks kept that the client tells of from now on."""
        self.until("window.ws")
        self.run("""() => {
            window.seen = []
            ws.on("block_update", (_data, { epoch, seq, snapshot }) => snapshot || seen.push([epoch, seq]))
        }""")

    def positions(self) -> list[int]:
        """Return the seqs of those blocks; they are of one epoch."""
        seen = self.run("window.seen")
        assert len({epoch for epoch, _ in seen}) == 1
        return [seq for _, seq in seen]


def has_no_hole(seqs: list[int]) -> bool:
    """Whether every update came once, in order."""
    return seqs == list(range(seqs[0], seqs[0] + len(seqs)))
