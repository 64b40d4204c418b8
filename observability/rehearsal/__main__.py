"""`python -m observability.rehearsal run [ALERT ...]`: rehearse these alerts, or all whose fault one node can have.
`python -m observability.rehearsal calm --minutes 60`: light load and no fault; nothing may fire.
"""

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from observability.rehearsal.load import Load
from observability.rehearsal.plan import list_rehearsals
from observability.rehearsal.post_server import PostServer
from observability.rehearsal.receiver import AlertReceiver
from observability.rehearsal.rehearse import ALWAYS_FIRING, Outcome, Rehearsing, describe
from observability.rehearsal.report import write_measured
from observability.rehearsal.shop import RehearsedShop

REPORT_SECONDS = 300


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m observability.rehearsal", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="rehearse alerts")
    run.add_argument("alerts", nargs="*", help="which ones; all when left out")
    run.add_argument("--rounds", type=int, nargs="*", default=[], help="only these rounds")
    run.add_argument("--keep", type=Path, help="keep logs and series in this folder")
    calm = commands.add_parser("calm", help="see that nothing fires")
    calm.add_argument("--minutes", type=float, default=60)
    calm.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # and all that was started with it
    with open_stage(arguments.keep) as rehearsing:
        if arguments.command == "calm":
            return watch_calm(rehearsing, arguments.minutes)
        return rehearse(rehearsing, arguments.alerts, arguments.rounds)


@contextmanager
def open_stage(keep: Path | None) -> Iterator[Rehearsing]:
    folder = (keep or Path(tempfile.mkdtemp(prefix="caravan-rehearsal-"))).resolve()
    try:
        with (
            AlertReceiver() as receiver,
            PostServer() as sink,
            RehearsedShop(folder, {"CARAVAN_OTLP_ENDPOINT": sink.url}) as shop,
            Load(shop.url, shop.secret) as load,
        ):
            yield Rehearsing(folder, shop, receiver, load, sink, report)
            report(f"load: {dict(load.answers)}")
    finally:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)


def rehearse(rehearsing: Rehearsing, names: list[str], rounds: list[int]) -> int:
    rehearsals = [each for each in list_rehearsals(names) if not rounds or each.round in rounds]
    if missing := sorted(set(names) - {each.alert for each in rehearsals}):
        sys.exit(
            f"no rehearsal of {', '.join(missing)}: `fault` of rehearsals.yaml is series, or there is no such alert"
        )
    outcomes: list[Outcome] = []
    unexpected: list[str] = []
    for number in sorted({each.round for each in rehearsals}):
        report(f"round {number}")
        done, others = rehearsing.run_round(number, [each for each in rehearsals if each.round == number])
        outcomes += done
        unexpected += others
        write_measured(done)
        for line in others:
            report(f"round {number}: nobody expected {line}")
    problems = [f"{each.rehearsal.alert}: {problem}" for each in outcomes for problem in each.problems]
    for line in problems:
        report(line)
    cleared = [each for each in outcomes if each.notified is not None and not each.problems]
    report(f"{len(cleared)} of {len(outcomes)} alerts fired in their time, were told and cleared")
    return 1 if problems or unexpected else 0


def watch_calm(rehearsing: Rehearsing, minutes: float) -> int:
    began_at = time.monotonic()
    reported_at = began_at
    with rehearsing.open_monitoring("calm"):
        while time.monotonic() < began_at + 60 * minutes:
            time.sleep(5)
            if time.monotonic() > reported_at + REPORT_SECONDS:
                reported_at = time.monotonic()
                report(f"{(reported_at - began_at) / 60:.0f} minutes, load: {dict(rehearsing.load.answers)}")
    notified = [each for each in rehearsing.receiver.list_since(began_at) if each.alert != ALWAYS_FIRING]
    for each in notified:
        report(f"after {each.received_at - began_at:.0f} s: {each.alert} {describe(each.labels)}")
    beats = len(rehearsing.receiver.list_since(began_at, ALWAYS_FIRING))
    report(
        f"{minutes:.0f} minutes of load: {len({each.alert for each in notified})} alerts fired, {beats} heartbeats came"
    )
    return 1 if notified or not beats else 0


def report(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
