"""`python -m tests.bench [NAME ...]`: run benchmarks and print what they measured; `plots` draws what there is."""

import argparse
import ast
import importlib
import signal
import sys
from pathlib import Path

NAMES = (
    "encode", "fanout", "deflate", "mixed", "growth", "latency", "memory", "idle", "ingest", "storm", "chain", "slow",
    "resume", "keys", "journal",
)  # fmt: skip
"""Modules of this package, in the order in which they run; each has a docstring and `main()`."""

PLOTS = "plots"


def main() -> int:
    """Run the benchmarks named on the command line, or all."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="Measure; results go to build/bench as JSON. ROUNDS and SECONDS in the environment say how often, "
        "and for how long each time.",
        epilog="what there is:\n" + "\n".join(f"  {name:9} {title(name)}" for name in (*NAMES, PLOTS)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="of those below; default: all that measure")
    names = parser.parse_args().names or NAMES
    if unknown := [name for name in names if name not in (*NAMES, PLOTS)]:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are {', '.join((*NAMES, PLOTS))}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what it has started ends with it
    for name in names:
        print(f"== {name}: {title(name)}", flush=True)
        importlib.import_module(f"tests.bench.{name}").main()
        print(flush=True)
    return 0


def title(name: str) -> str:
    """Return what a benchmark measures, in a line."""
    source = Path(__file__).with_name(f"{name}.py").read_text()
    return (ast.get_docstring(ast.parse(source)) or "").splitlines()[0]


if __name__ == "__main__":
    sys.exit(main())
