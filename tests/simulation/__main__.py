"""`python -m tests.simulation --count 10000`: schedules in parallel processes, with their progress; or one of them with
all that happened in it.
"""

import asyncio
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from caravan import embedded, telemetry
from caravan.runtime import Backends
from tests.simulation.driver import GROUP
from tests.simulation.report import BRANCHES, ScheduleResult, print_reached, run_schedules

PARTS = 5
"""Of each process."""
MAX_SHOWN = 2
SECRET = "a secret of the simulation, nowhere else used"


async def run_on_servers_of_its_own(seeds: Sequence[int], keep_logs: bool) -> tuple[list[ScheduleResult], Counter[str]]:
    telemetry.configure_logs("critical", "text")
    with tempfile.TemporaryDirectory(prefix="caravan-simulation-") as folder:
        async with embedded.start(Path(folder), secret=SECRET, announce=lambda _: None) as started:
            backends = Backends(started.database_url, started.redis_url, SECRET)
            return await run_schedules(backends, seeds, keep_logs=keep_logs)


def run_all(first: int, count: int, processes: int) -> int:
    """In parts of a few groups, so that the progress is seen; each part has servers of its own."""
    began = time.monotonic()
    size = max(GROUP, -(-count // (processes * PARTS)) // GROUP * GROUP)
    parts = [range(start, min(start + size, first + count)) for start in range(first, first + count, size)]
    done, results = 0, []
    reached: Counter[str] = Counter()
    with ProcessPoolExecutor(processes) as pool:
        for part in as_completed([pool.submit(run_part, seeds) for seeds in parts]):
            number, found, counts = part.result()
            done += number
            results += found
            reached += counts
            for result in found[:MAX_SHOWN]:
                print(result.describe())
            seconds = time.monotonic() - began
            print(f"{done} of {count} schedules, {len(results)} with violations, {seconds:.0f} s", flush=True)
    print_reached(reached)
    unreached = [branch for branch in BRANCHES if not reached[branch]]
    if unreached:
        print("never reached: " + ", ".join(unreached))
    if results:
        print("again, step by step: python -m tests.simulation --seed " + str(results[0].seed))
    return bool(results or (unreached and count >= GROUP * 4))


def run_part(seeds: Sequence[int]) -> tuple[int, list[ScheduleResult], Counter[str]]:
    results, reached = asyncio.run(run_on_servers_of_its_own(seeds, False))
    return len(seeds), results, reached


def main() -> int:
    parser = ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="how many schedules")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="run this one alone and print its steps")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    if options.seed is not None:
        results, _ = asyncio.run(run_on_servers_of_its_own([options.seed], True))
        print("\n".join(line for result in results for line in (*result.log, *result.violations)))
        return any(result.violations for result in results)
    return run_all(options.first, options.count, options.processes)


if __name__ == "__main__":
    sys.exit(main())
