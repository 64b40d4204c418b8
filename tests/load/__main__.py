"""`python -m tests.load burst`: ten times the orders that the shop sustains, for a minute. It has to shed what is too
much with 429 and Retry-After, and to end what it has accepted.

`python -m tests.load soak`: light load for hours. Neither memory nor handles may grow, and no table from which old rows
are removed. A soak that was stopped goes on when the same one is asked for again.
"""

import asyncio
import shutil
import sys
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path

import orjson

from caravan import telemetry
from tests.load.burst import BurstPlan, describe_result, run_burst
from tests.load.soak import Soak, SoakPlan, list_bounded_tables, list_kept_jobs
from tests.load.trends import Assessment, Bounds, assess_samples
from tests.support.program import ROOT

WARM_UP_MINUTES = 15.0


def main() -> int:
    parser = ArgumentParser(prog="python -m tests.load", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    burst = commands.add_parser("burst")
    burst.add_argument("--seconds", type=float, default=60.0)
    burst.add_argument("--factor", type=float, default=10.0)
    burst.add_argument("--connections", type=int, default=1000)
    burst.add_argument("--size", choices=("apart", "laptop"), default="apart")
    burst.add_argument("--file", type=Path, default=ROOT / "build" / "burst.json")
    soak = commands.add_parser("soak")
    soak.add_argument("--minutes", type=float, default=120.0)
    soak.add_argument("--rate", type=float, default=1.0, help="orders a second")
    soak.add_argument("--folder", type=Path, default=ROOT / "build" / "soak")
    options = parser.parse_args()
    telemetry.configure_logs("critical", "text")
    return _measure_burst(options) if options.command == "burst" else _run_soak(options)


def _measure_burst(options: Namespace) -> int:
    plan = BurstPlan(
        burst_seconds=options.seconds,
        factor=options.factor,
        connections=options.connections,
        apart=options.size == "apart",
    )
    result = asyncio.run(run_burst(plan))
    options.file.parent.mkdir(parents=True, exist_ok=True)
    options.file.write_bytes(orjson.dumps(describe_result(plan, result), option=orjson.OPT_INDENT_2))
    print(options.file.read_text())
    return bool(result.violations)


def _run_soak(options: Namespace) -> int:
    folder = options.folder / f"{options.minutes:g}-minutes"
    if (folder / "assessment.json").exists():
        shutil.rmtree(folder)  # that soak has ended: this is a new one
    soak = Soak(SoakPlan(options.minutes, options.rate), folder)
    if soak.samples:
        print(f"going on after {soak.hours * 60:.0f} minutes", flush=True)
    violations = asyncio.run(soak.run())
    warm_up = min(WARM_UP_MINUTES, options.minutes / 4) / 60
    bounds = Bounds(warm_up_hours=warm_up, most_rows=list_kept_jobs())
    assessment = assess_samples(soak.samples, list_bounded_tables(), bounds)
    violations += assessment.list_violations()
    print_assessment(assessment)
    result = {**asdict(assessment), "orders": len(soak.orders), "violations": violations}
    (folder / "assessment.json").write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2))
    print(f"{len(soak.orders)} orders, {assessment.hours:.2f} h after the warm-ups", *violations, sep="\n")
    return bool(violations)


def print_assessment(assessment: Assessment) -> None:
    print(f"{'':44}{'mean':>10}{'an hour':>10}{'in all':>10}{'at most':>10}")
    for trend in assessment.trends:
        bound = "" if trend.bound is None else f"{trend.bound:.1f}"
        name = f"{trend.subject} {trend.what}"
        print(f"{name:44}{trend.mean:10.1f}{trend.slope:10.1f}{trend.growth:10.1f}{bound:>10}")


if __name__ == "__main__":
    sys.exit(main())
