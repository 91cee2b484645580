"""Everybody can use the live page: axe-core finds nothing, in light and dark, wide and narrow."""

from pathlib import Path

import pytest

from tests.clients.programs import cache, install_packages, locked

HERE = Path(__file__).parent
SIZES = {"desktop": {"width": 1440, "height": 1000}, "phone": {"width": 360, "height": 740}}


@pytest.fixture(scope="module")
def axe(browser) -> str:
    """Return axe-core, which is kept in a folder of the user's cache."""
    folder = cache().parent / "browser"
    with locked(folder.with_name("browser.lock")):
        folder.mkdir(exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            (folder / name).write_bytes((HERE / name).read_bytes())
        install_packages(folder)
    return (folder / "node_modules/axe-core/axe.min.js").read_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_no_rule_is_broken(demo, visit, axe, scheme, size):
    visited = visit(demo.http, color_scheme=scheme, viewport=SIZES[size])
    visited.until("/[0-9]/.test(document.querySelector('[data-value=\"age\"]').textContent)")
    visited.run(axe)
    found = visited.run("axe.run().then(({ violations }) => violations.map(({ id, nodes }) => [id, nodes[0].html]))")
    assert found == []
    assert visited.run("document.documentElement.scrollWidth <= innerWidth")
    assert visited.complaints() == []
