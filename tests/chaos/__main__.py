"""Command line of chaos: `python -m tests.chaos --help`."""

import argparse
import asyncio
import sys

from tests.chaos.run import run, table
from tests.chaos.world import Options


def main() -> int:
    """Run chaos and return 0 if everything is as it must be."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--faults", type=int, default=100, help="how many faults; default 100")
    parser.add_argument("--rate", type=float, default=1000, help="publications a second; default 1000")
    parser.add_argument("--clients", type=int, default=50, help="how many clients; default 50")
    parser.add_argument("--sidecars", type=int, default=3, help="how many sidecars; default 3")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is left to chance; default 0")
    parser.add_argument("--seconds", type=float, default=0, help="how long faults go on; default: a second a fault")
    parser.add_argument(
        "--journal-sync",
        choices=("batch", "always", "off", ""),
        default="batch",
        help="of the journal; empty: no journal",
    )
    options = Options(**vars(parser.parse_args()))
    result = asyncio.run(run(options, lambda line: print(line, flush=True)))
    print("\n".join(table(result)))
    return 0 if result.ok else 1


if __name__ == "__main__":
    sys.exit(main())
