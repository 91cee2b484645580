"""`python -m tests.bench [NAME ...]`: run benchmarks and print what they measured."""

import argparse
import importlib
import sys

NAMES = ("encode", "idle", "latency", "chain", "fanout", "slow", "resume", "keys", "journal")
"""Modules of this package, in the order in which they run; each has a docstring and `main()`."""


def main() -> int:
    """Run the benchmarks named on the command line, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; default: all")
    names = parser.parse_args().names or NAMES
    if unknown := [name for name in names if name not in NAMES]:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are {', '.join(NAMES)}")
    for name in names:
        module = importlib.import_module(f"tests.bench.{name}")
        print(f"== {name}: {(module.__doc__ or '').splitlines()[0]}", flush=True)
        module.main()
        print(flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
