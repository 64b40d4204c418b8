"""`python -m tests.faults.prove --orders 500 --seed 1`: orders under every kind of fault that this size of a shop can
have, and what holds afterwards. A proof that was interrupted goes on when the same one is asked for again.
"""

import asyncio
import shutil
import sys
from argparse import ArgumentParser
from pathlib import Path

import orjson

from caravan import telemetry
from tests.faults.prove.kinds import RUNNABLE
from tests.faults.prove.report import build_report
from tests.faults.prove.run import Proof
from tests.support.program import ROOT


def main() -> int:
    parser = ArgumentParser(prog="python -m tests.faults.prove", description=__doc__)
    parser.add_argument("--orders", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size", choices=sorted(RUNNABLE), default="laptop")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "prove")
    options = parser.parse_args()
    telemetry.configure_logs("critical", "text")
    folder = options.folder / f"{options.size}-{options.orders}-{options.seed}"
    if (folder / "report.html").exists():
        shutil.rmtree(folder)  # that proof has ended: this is a new one
    proof = Proof(options.seed, options.orders, options.size, folder)
    if proof.struck:
        print(f"going on after {len(proof.intents.accepted)} orders and {len(proof.struck)} faults", flush=True)
    asyncio.run(proof.run())
    (folder / "summary.json").write_bytes(orjson.dumps(proof.summarize(), option=orjson.OPT_INDENT_2))
    (folder / "report.html").write_text(build_report(proof))
    print((folder / "summary.json").read_text())
    print(f"the report: {folder / 'report.html'}")
    return bool(proof.violations or proof.list_unseen())


if __name__ == "__main__":
    sys.exit(main())
