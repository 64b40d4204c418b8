"""Plants each bug of this folder in a copy of the tree, and runs the test that must see it: `make mutants`.

First all these tests must be green without a bug. A mutant fails the run when its test stays green, when it is red
for another reason than an assertion, or when the mutant does not apply to the code any more.
"""

import argparse
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.mutants.mutant import ROOT, Mutant, MutantError, load_mutants
from tests.mutants.outcomes import Outcome, find_fault, find_survival, read_outcomes

TEST_SECONDS = 120
"""Longest time of one test: a bug may make it wait."""


class Row(NamedTuple):
    mutant: Mutant
    fault: str
    """Why it counts as not caught; empty where it is."""
    seconds: float


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0 when every mutant is caught, 1 when one is not, 2 when they can't be tried."""
    parser = argparse.ArgumentParser(
        prog="make mutants", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these (make mutants ONLY=name); default: all")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="how many at a time (JOBS=N); default: 2")
    parser.add_argument("--list", action="store_true", help="say which there are, and run nothing")
    options = parser.parse_args(arguments)
    try:
        mutants = choose_mutants(load_mutants(), options.names)
        for mutant in mutants:
            mutant.apply()
            mutant.check_test()
    except MutantError as error:
        print(error, file=sys.stderr)
        return 2
    if options.list:
        for mutant in mutants:
            print(f"{mutant.name}: {mutant.bug}\n    {mutant.file}, seen by {mutant.test}")
        return 0
    return run_mutants(mutants, max(1, min(options.jobs, len(mutants))))


def choose_mutants(mutants: list[Mutant], names: Sequence[str]) -> list[Mutant]:
    """Those of these names, or all. MutantError for a name that nobody has."""
    known = {mutant.name: mutant for mutant in mutants}
    if unknown := [name for name in names if name not in known]:
        raise MutantError(f"no mutant is called {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in names] if names else mutants


def run_mutants(mutants: list[Mutant], jobs: int) -> int:
    started_at = time.monotonic()
    with copy_tree(jobs) as copies, ThreadPoolExecutor(jobs) as pool:
        tests = sorted({mutant.test for mutant in mutants})
        print(f"{len(tests)} tests without a bug, then {len(mutants)} mutants, {jobs} at a time", flush=True)
        free: queue.Queue[Path] = queue.Queue()
        for copy in copies:
            free.put(copy)
        shares = [tests[number::jobs] for number in range(jobs)]
        clean = [outcome for found in pool.map(lambda share: _run_in(free, share), shares) for outcome in found]
        if red := {test: fault for test in tests if (fault := find_fault(clean, test))}:
            for test, fault in red.items():
                print(f"red without a bug: {test}: {fault}", file=sys.stderr)
            return 1
        print(f"green without a bug ({time.monotonic() - started_at:.0f} s)", flush=True)
        rows = []
        for row in pool.map(lambda mutant: try_mutant(mutant, free), mutants):
            rows.append(row)
            print(
                f"{len(rows)}/{len(mutants)} {row.mutant.name}: {row.fault or 'caught'} ({row.seconds:.0f} s)",
                flush=True,
            )
    print("\n" + format_table(rows))
    missed = [row.mutant.name for row in rows if row.fault]
    print(f"\n{len(rows) - len(missed)} of {len(rows)} caught in {time.monotonic() - started_at:.0f} s")
    if missed:
        print(f"not caught: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


def try_mutant(mutant: Mutant, free: "queue.Queue[Path]") -> Row:
    """Plant it in a copy that nobody uses, run its test, and take it out again."""
    started_at = time.monotonic()
    copy = free.get()
    path = copy / mutant.file
    kept = path.with_name(f"{path.name}.kept")
    try:
        changed = mutant.apply(copy)
        path.rename(kept)
        path.write_text(changed)
        fault = find_survival(run_tests(copy, [mutant.test]), mutant.test)
    finally:
        if kept.exists():
            kept.replace(path)  # with its time, by which Python knows that what it has compiled is of it
        free.put(copy)
    return Row(mutant, fault, time.monotonic() - started_at)


def _run_in(free: "queue.Queue[Path]", tests: Sequence[str]) -> list[Outcome]:
    copy = free.get()
    try:
        return run_tests(copy, tests) if tests else []
    finally:
        free.put(copy)


def run_tests(copy: Path, tests: Sequence[str]) -> list[Outcome]:
    """How these tests of a copy of the tree ended."""
    outcomes = copy / "mutant-outcomes.jsonl"
    outcomes.unlink(missing_ok=True)
    environment = {
        **os.environ,
        "MUTANT_OUTCOMES": str(outcomes),
        "PYTHONPATH": os.pathsep.join([str(copy), str(copy / "operator")]),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "tests.mutants.outcomes", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-m", "", "--timeout", str(TEST_SECONDS), *tests],
        cwd=copy,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    found = read_outcomes(outcomes)
    if not found:
        last = done.stdout.strip().splitlines()[-1:] or ["nothing was said"]
        found = [Outcome("", "collect", "failed", reason=f"pytest ended with {done.returncode}: {last[0]}")]
    return found


@contextmanager
def copy_tree(count: int) -> Iterator[list[Path]]:
    """Copies of what Git knows or would take, with the byte code that is there: a bug is never in the tree itself."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    files = [name for name in listed if name and (ROOT / name).is_file()]
    folders = {str(Path(name).parent) for name in files if name.endswith(".py")}
    files += [str(path.relative_to(ROOT)) for folder in folders for path in (ROOT / folder).glob("__pycache__/*.pyc")]
    with tempfile.TemporaryDirectory(prefix="caravan-mutants-") as folder:
        copies = [Path(folder) / str(number) for number in range(count)]
        for copy in copies:
            for name in files:
                target = copy / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, target)
        yield copies


def format_table(rows: list[Row]) -> str:
    """mutant x test x seconds, as text."""
    cells = [("mutant", "test", "seconds", "")]
    cells += [(row.mutant.name, row.mutant.test, f"{row.seconds:.1f}", row.fault or "caught") for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(3)]
    return "\n".join(
        f"{name:<{widths[0]}}  {test:<{widths[1]}}  {seconds:>{widths[2]}}  {verdict}".rstrip()
        for name, test, seconds, verdict in cells
    )


if __name__ == "__main__":
    sys.exit(main())
