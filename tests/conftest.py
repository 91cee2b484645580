"""What all tests share."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests import frames, tap

# The same examples in every run, and none fails for having taken long: a machine may be busy.
settings.register_profile("theblock-bridge", derandomize=True, deadline=None)
settings.load_profile("theblock-bridge")

NARROWING = ("collectonly", "keyword", "markexpr", "deselect", "ignore", "ignore_glob", "lf", "stepwise", "setuponly",
             "setupplan", "numprocesses")  # fmt: skip
"""Options with which less than the whole suite runs, or not in this process."""

GAPS = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session", autouse=True)
def tapped() -> Iterator[None]:
    """Have every frame looked at that a sidecar within the tests sends."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bridge.edges.websocket.Wire", tap.TappedWire)
        patch.setattr("bridge.edges.websocket.Sockets", tap.TappedSockets)
        yield


@pytest.fixture(autouse=True)
def sound_frames(tapped: None) -> Iterator[None]:
    """Fail a test in which such a frame was not as it is documented."""
    yield
    faults, tap.FAULTS[:] = list(tap.FAULTS), []
    assert faults == []


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run of the whole suite in which the server was not made to say all that it is documented to say."""
    config = session.config
    whole = [path.rstrip("/") for path in config.args] == config.getini("testpaths")
    narrowed = any(config.getoption(name, default=None) for name in NARROWING)
    if not whole or narrowed or session.testsfailed or session.shouldstop:
        return
    gaps = [f"documented, but no test has seen it: {what}" for what in frames.unseen()]
    gaps += [f"seen, but not documented: {what}" for what in frames.undocumented()]
    config.stash[GAPS] = gaps
    if gaps:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what is missing."""
    for gap in config.stash.get(GAPS, []):
        terminalreporter.write_line(f"the wire contract: {gap}", red=True)
