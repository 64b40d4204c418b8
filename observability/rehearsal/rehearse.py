"""A rehearsal from its fault until its alert has cleared; alerts of one fault together, and a round of faults at once
that don't disturb each other.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from observability.rehearsal.load import Load
from observability.rehearsal.monitoring import Monitoring
from observability.rehearsal.outside import OUTSIDE_FAULTS, Stage
from observability.rehearsal.plan import Rehearsal, list_commands
from observability.rehearsal.post_server import PostServer
from observability.rehearsal.receiver import AlertReceiver
from observability.rehearsal.shop import RehearsedShop

POLL_SECONDS = 1.0
NOTIFY_SECONDS = 60.0
"""How long Alertmanager may take to tell of what fires: its group_wait, and an earlier group of the same name."""
CLEAR_SECONDS = 1200.0
QUIET_SECONDS = 900.0
SETTLE_SECONDS = 45.0
ALWAYS_FIRING = "Heartbeat"
RECEIVERS = {"page": "page", "ticket": "ticket", "none": "heartbeat"}
TARGETS = "count(up{job=~'shop|recommendations'} == 1) == 2"


@dataclass
class Outcome:
    """Seconds since the fault began, `cleared` since the runbook was followed; None where it did not come to that."""

    rehearsal: Rehearsal
    fired: float | None = None
    notified: float | None = None
    cleared: float | None = None
    problems: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    """Of the alert, as its receiver got them."""

    @property
    def is_pending(self) -> bool:
        return self.notified is None and not self.problems


@dataclass
class Rehearsing:
    """What a rehearsal works with."""

    folder: Path
    shop: RehearsedShop
    receiver: AlertReceiver
    load: Load
    sink: PostServer
    report: Callable[[str], None]
    monitoring: Monitoring = field(init=False)

    @contextmanager
    def open_monitoring(self, name: str) -> Iterator[None]:
        """Prometheus and Alertmanager without a past."""
        with Monitoring(self.folder / name, self.shop.targets, self.receiver.url) as self.monitoring:
            yield

    @property
    def stage(self) -> Stage:
        return Stage(self.shop, self.monitoring, self.receiver, self.load, self.sink)

    def run_round(self, number: int, rehearsals: Sequence[Rehearsal]) -> tuple[list[Outcome], list[str]]:
        """All faults at once; what came of each, and the alerts that nobody expected. Objectives of the shop are not
        among these: their windows are of hours, and of a Prometheus that is minutes old they are minutes.
        """
        with self.open_monitoring(f"round-{number}"):
            return self._run_faults(rehearsals)

    def _run_faults(self, rehearsals: Sequence[Rehearsal]) -> tuple[list[Outcome], list[str]]:
        self.wait_until_quiet()
        began_at = time.monotonic()
        by_fault: dict[str, list[Outcome]] = {}
        for rehearsal in rehearsals:
            by_fault.setdefault(rehearsal.fault, []).append(Outcome(rehearsal))
        with ThreadPoolExecutor(len(by_fault)) as pool:
            list(pool.map(self._rehearse, by_fault, by_fault.values()))
        unexpected = [
            f"{each.alert} {describe(each.labels)} after {each.received_at - began_at:.0f} s"
            for each in self.receiver.list_since(began_at)
            if is_unexpected(each.labels, rehearsals)
        ]
        return [outcome for outcomes in by_fault.values() for outcome in outcomes], list(dict.fromkeys(unexpected))

    def wait_until_quiet(self) -> None:
        """Nothing fires, and each process has been read."""
        end = time.monotonic() + QUIET_SECONDS
        quiet_since: float | None = None
        while time.monotonic() < end:
            firing = [describe(each) for each in self.monitoring.list_firing() if is_unexpected(each, ())]
            if firing or not self.monitoring.query(TARGETS):
                quiet_since = None
            elif quiet_since is None:
                quiet_since = time.monotonic()
            elif time.monotonic() - quiet_since > SETTLE_SECONDS:
                return
            time.sleep(POLL_SECONDS)
        raise SystemExit(f"the shop does not become quiet: {firing}")

    def _rehearse(self, fault: str, outcomes: list[Outcome]) -> None:
        try:
            self._make_fault(fault)
            began_at = time.monotonic()
            self.report(f"fault: {fault}")
            while any(outcome.is_pending for outcome in outcomes):
                for outcome in outcomes:
                    if outcome.is_pending:
                        self._observe(outcome, began_at)
                time.sleep(POLL_SECONDS / 4)
            mended_at = time.monotonic()
            for outcome in outcomes:
                if outcome.notified is not None:
                    self._follow_runbook(outcome)
            self._end_fault(fault)
            for outcome in outcomes:
                if outcome.notified is not None and outcome.rehearsal.alert != ALWAYS_FIRING:
                    self._wait_until_cleared(outcome, mended_at)
        except Exception as error:  # the others of the round go on
            for outcome in outcomes:
                outcome.problems.append(repr(error))
        finally:
            self._end_fault(fault)

    def _make_fault(self, fault: str) -> None:
        if fault in OUTSIDE_FAULTS:
            OUTSIDE_FAULTS[fault].begin(self.stage)
            return
        code, text = self.shop.run_command(fault)
        if code:
            raise RuntimeError(f"{fault}: {text}")

    def _end_fault(self, fault: str) -> None:
        """What no runbook can end, and what is still on where it was not followed."""
        if fault in OUTSIDE_FAULTS:
            OUTSIDE_FAULTS[fault].end(self.stage)
        elif fault.startswith("caravan faults on "):
            self.shop.run_command(fault.replace(" on ", " off ", 1))

    def _observe(self, outcome: Outcome, began_at: float) -> None:
        """Note when it fires and when its receiver is notified."""
        rehearsal = outcome.rehearsal
        seconds = time.monotonic() - began_at
        if outcome.fired is None and self._is_firing(rehearsal):
            outcome.fired = seconds
            if seconds > rehearsal.within:
                outcome.problems.append(f"fired after {seconds:.0f} s, {rehearsal.within:.0f} s are stated")
        notified = [n for n in self.receiver.list_since(began_at, rehearsal.alert) if rehearsal.is_expected(n.labels)]
        if outcome.fired is not None and notified:
            outcome.notified, outcome.labels = notified[0].received_at - began_at, notified[0].labels
            if notified[0].receiver != RECEIVERS[notified[0].labels["severity"]]:
                outcome.problems.append(f"a {notified[0].labels['severity']} went to {notified[0].receiver}")
            self.report(f"{rehearsal.alert}: fires after {outcome.fired:.0f} s, told after {outcome.notified:.0f} s")
        elif seconds > rehearsal.within + 2 * NOTIFY_SECONDS:
            outcome.problems.append(
                f"does not fire within {seconds:.0f} s" if outcome.fired is None else "fires, and nobody is told"
            )
            self.report(f"{rehearsal.alert}: {outcome.problems[-1]}")

    def _follow_runbook(self, outcome: Outcome) -> None:
        """What it says to look at, as far as this machine has it, then what it says to do. The labels of the alert are
        variables of the shell.
        """
        alert = outcome.rehearsal.alert
        for section in ("Diagnosis", "Mitigation"):
            for command in list_commands(alert, section):
                if section == "Diagnosis" and not command.startswith("caravan "):
                    continue
                code, text = self.shop.run_command(command, outcome.labels)
                is_warning = section == "Diagnosis" and code == 1 and "Traceback" not in text  # what it looks at is bad
                if code and not is_warning:
                    outcome.problems.append(f"`{command}` of the runbook ends with {code}: {text.strip()[-300:]}")
        for query in list_commands(alert, "Diagnosis", "promql"):
            self.monitoring.query(query)

    def _wait_until_cleared(self, outcome: Outcome, mended_at: float) -> None:
        while (seconds := time.monotonic() - mended_at) < CLEAR_SECONDS:
            if not self._is_firing(outcome.rehearsal):
                outcome.cleared = seconds
                self.report(f"{outcome.rehearsal.alert}: cleared {seconds:.0f} s after the runbook")
                return
            time.sleep(POLL_SECONDS)
        outcome.problems.append(f"still fires {seconds:.0f} s after its runbook was followed")

    def _is_firing(self, rehearsal: Rehearsal) -> bool:
        return any(
            labels["alertname"] == rehearsal.alert and rehearsal.is_expected(labels)
            for labels in self.monitoring.list_firing()
        )


def is_unexpected(labels: dict[str, str], rehearsals: Sequence[Rehearsal]) -> bool:
    return (
        labels["alertname"] != ALWAYS_FIRING
        and "slo" not in labels
        and not any(rehearsal.is_expected(labels) for rehearsal in rehearsals)
    )


def describe(labels: dict[str, str]) -> str:
    shown = {name: value for name, value in labels.items() if name not in ("owner", "instance")}
    return " ".join(f"{name}={value}" for name, value in sorted(shown.items()))
