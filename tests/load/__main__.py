"""`python -m tests.load burst`: ten times the orders that the shop sustains, for a minute. It has to shed what is too
much with 429 and Retry-After, and to end what it has accepted.
"""

import asyncio
import sys
from argparse import ArgumentParser
from pathlib import Path

import orjson

from caravan import telemetry
from tests.load.burst import BurstPlan, describe_result, run_burst
from tests.support.program import ROOT


def main() -> int:
    parser = ArgumentParser(prog="python -m tests.load", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    burst = commands.add_parser("burst")
    burst.add_argument("--seconds", type=float, default=60.0)
    burst.add_argument("--factor", type=float, default=10.0)
    burst.add_argument("--connections", type=int, default=1000)
    burst.add_argument("--size", choices=("apart", "laptop"), default="apart")
    burst.add_argument("--file", type=Path, default=ROOT / "build" / "burst.json")
    options = parser.parse_args()
    telemetry.configure_logs("critical", "text")
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


if __name__ == "__main__":
    sys.exit(main())
