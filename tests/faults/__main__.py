"""Plants every fault of the table, one at a time, and tells which are found: `python -m tests.faults [names]`."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.faults.plant import FAILED, copy_repository, look, plant
from tests.faults.table import FAULTS, Fault


def check_detectors(copy: Path, faults: Sequence[Fault]) -> bool:
    """Return whether no detector finds anything where nothing is planted."""
    well = True
    for detector in dict.fromkeys(fault.detector for fault in faults):
        found = look(copy, detector)
        print(
            f"{found.seconds:6.1f} s  {'quiet' if found.code == 0 else 'cries wolf'}: {' '.join(detector)}", flush=True
        )
        if found.code != 0:
            well = False
            print(found.output[-3000:])
    return well


def main() -> int:
    """Return 0 if every fault is found."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of the names of the faults to plant; default: all")
    parser.add_argument("--unchecked", action="store_true", help="leave out the look at what is as it should be")
    options = parser.parse_args()
    faults = [f for f in FAULTS if not options.names or any(name in f.name for name in options.names)]
    with tempfile.TemporaryDirectory(prefix="faults") as folder:
        copy = copy_repository(Path(folder))
        if not options.unchecked and not check_detectors(copy, faults):
            return 2
        overlooked = []
        print("\n| fault | found | seconds | by | it says |\n|---|---|---|---|---|", flush=True)
        for fault in faults:
            found = plant(copy, fault)
            seen = found.code in (FAILED, None)
            if not seen:
                overlooked.append(fault.name)
            verdict = "yes" if seen else "NO" if found.code == 0 else f"NO: the detector ended with {found.code}"
            by = "interleavings" if fault.detector[0] == "-m" else fault.detector[0].partition("::")[0]
            print(f"| {fault.name} | {verdict} | {found.seconds:.0f} | {by} | {found.sentence} |", flush=True)
    print(
        f"\n{len(faults) - len(overlooked)} of {len(faults)} found"
        + (f"; not: {', '.join(overlooked)}" if overlooked else "")
    )
    return 1 if overlooked else 0


if __name__ == "__main__":
    sys.exit(main())
