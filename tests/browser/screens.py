"""The pictures of the live page in docs/screens: python -m tests.browser.screens takes them."""

from pathlib import Path

from tests.browser.chromium import Visit, chromium
from tests.browser.png import with_palette
from tests.system.processes import ANY, bridge

SCREENS = Path(__file__).resolve().parents[2] / "docs/screens"
LARGEST_BYTES = 150_000
SIZES = {"desktop": {"width": 1216, "height": 1000}, "phone": {"width": 390, "height": 844}}
HEIGHT = 150
"""Of the chain when the pictures are taken, about; it is the same chain every time."""


def take() -> None:
    """Take all pictures at once, of one chain."""
    given = ("--listen", ANY, "--grpc-listen", "off", "--data-dir", "off", "--blocks-per-second", "4", "--seed", "7")
    with chromium() as browser, bridge("demo", *given) as running:
        visits = {
            f"{size}-{scheme}": Visit(browser, viewport=viewport, color_scheme=scheme)
            for size, viewport in SIZES.items()
            for scheme in ("light", "dark")
        }
        for visited in visits.values():
            visited.page.goto(running.http)
        visits["desktop-dark"].page.click("#inspector [name=run]")
        for visited in visits.values():
            visited.until(f"window.ws && Number(ws.store.get('metrics')?.height) >= {HEIGHT}", 60)
        taken = {name: visited.page.screenshot() for name, visited in visits.items()}
        for visited in visits.values():
            visited.close()
    for name, picture in taken.items():
        path = SCREENS / f"{name}.png"
        path.write_bytes(with_palette(picture))
        assert path.stat().st_size < LARGEST_BYTES, f"{path} is too large"


if __name__ == "__main__":
    SCREENS.mkdir(exist_ok=True)
    take()
