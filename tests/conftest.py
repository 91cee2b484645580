"""What all tests share."""

import pytest
from hypothesis import settings

from tests import frames

# The same examples in every run, and none fails for having taken long: a machine may be busy.
settings.register_profile("theblock-bridge", derandomize=True, deadline=None)
settings.load_profile("theblock-bridge")

NARROWING = ("collectonly", "keyword", "markexpr", "deselect", "ignore", "ignore_glob", "lf", "setuponly", "setupplan")
"""Options with which less than the whole suite runs."""

GAPS = pytest.StashKey[list[str]]()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run of the whole suite in which the server was not made to say all that it is documented to say."""
    config = session.config
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
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
