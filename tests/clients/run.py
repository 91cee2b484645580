"""Builds the clients in docs/clients, runs each against real processes, and judges what it prints."""

import argparse
import sys
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path

from tests.clients.checks import CHECKS, Bench
from tests.clients.programs import PROGRAMS, BuildError, Program
from tests.clients.world import World, running

BUILDS = 2
"""How many folders are built at one time."""


def timed_build(program: Program) -> tuple[Path, float]:
    """Build a program; return the folder to run it in, and how long it took, seconds."""
    began = time.monotonic()
    return program.prepare(), time.monotonic() - began


def check(program: Program, folder: Path, world: World) -> list[str]:
    """Run every check; return the names of those that failed."""
    failed = []
    for one in CHECKS:
        try:
            one(Bench(program, folder, world))
        except AssertionError:
            traceback.print_exc()
            failed.append(one.__name__)
    return failed


def report(program: Program, build: Future[tuple[Path, float]], world: World) -> bool:
    """Check a program once it is built; say what came of it, and return whether all is well."""
    try:
        folder, build_seconds = build.result()
    except BuildError as error:
        print(f"FAILED  {program.name}: {error}", flush=True)
        return False
    began = time.monotonic()
    failed = check(program, folder, world)
    seconds = time.monotonic() - began
    outcome = f"FAILED  {program.name}: {', '.join(failed)}" if failed else f"passed  {program.name}"
    print(f"{outcome} (built in {build_seconds:.1f} s, {len(CHECKS)} checks in {seconds:.1f} s)", flush=True)
    return not failed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code: 0 if no client failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.clients", description=__doc__)
    names = [program.name for program in PROGRAMS]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"clients to test, default all: {', '.join(names)}")
    asked = parser.parse_args(arguments).names
    if unknown := set(asked) - set(names):
        parser.error(f"there is no client {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    programs = [program for program in PROGRAMS if not asked or program.name in asked]
    ready = [program for program in programs if not program.missing]
    for program in programs:
        if program.missing:
            print(f"skipped {program.name}: not on this machine: {', '.join(program.missing)}", flush=True)
    with running() as world, ThreadPoolExecutor(BUILDS) as pool:
        builds = {pool.submit(timed_build, program): program for program in ready}
        good = [report(builds[build], build, world) for build in as_completed(builds)]
    print(f"{sum(good)} passed, {len(good) - sum(good)} failed, {len(programs) - len(ready)} skipped", file=sys.stderr)
    return 0 if all(good) else 1
