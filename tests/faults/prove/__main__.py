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
from tests.faults.prove.brokers import require_brokers
from tests.faults.prove.kinds import BROKERS, LAPTOP, explain_left_out
from tests.faults.prove.report import build_report
from tests.faults.prove.run import Proof
from tests.support.backends import Unavailable
from tests.support.program import ROOT

NOT_HERE = 75
"""EX_TEMPFAIL: what it needs is not on this machine."""


def main() -> int:
    parser = ArgumentParser(prog="python -m tests.faults.prove", description=__doc__)
    parser.add_argument("--orders", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size", choices=(LAPTOP, BROKERS), default=LAPTOP)
    parser.add_argument("--kinds", default="", help="these alone, with commas between them")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "prove")
    options = parser.parse_args()
    telemetry.configure_logs("critical", "text")
    try:
        if options.size == BROKERS:
            require_brokers()
    except Unavailable as missing:
        print(f"no proof on brokers here: {missing}", file=sys.stderr)
        return NOT_HERE
    for kind, reason in explain_left_out(options.size).items():
        print(f"left out: {kind}, {reason}")
    kinds = [kind.strip() for kind in options.kinds.split(",") if kind.strip()]
    name = "-".join((options.size, str(options.orders), str(options.seed), *kinds)).replace(" ", "-")
    folder = options.folder / name
    if (folder / "report.html").exists():
        shutil.rmtree(folder)  # that proof has ended: this is a new one
    proof = Proof(options.seed, options.orders, options.size, folder, kinds)
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
