"""`python -m bridge` is the same as `theblock-bridge`."""

import sys

from bridge.cli import main

if __name__ == "__main__":
    sys.exit(main())
