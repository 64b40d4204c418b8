"""What is rehearsed: the lines of rehearsals.yaml, and the commands of each alert's runbook."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

OBSERVABILITY = Path(__file__).parent.parent
SERIES = "series"
CLUSTER = "cluster: "
"""Begins a fault that tests/e2e/test_cluster_alerts.py makes."""
_SECONDS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """`fault`: a command of `caravan`, or the name of a fault of `outside.py`. `companions`: alerts that this fault
    raises as well. `within`: seconds until it fires.
    """

    alert: str
    fault: str
    round: int
    within: float
    companions: frozenset[str]
    labels: dict[str, str]
    """Labels of the alert that this fault raises: the same alert for another service is not expected."""

    def is_expected(self, labels: dict[str, str]) -> bool:
        return labels["alertname"] in self.companions or (
            labels["alertname"] == self.alert and all(labels.get(name) == value for name, value in self.labels.items())
        )


def parse_seconds(text: str) -> float:
    """A duration of Prometheus, such as 1m30s."""
    return float(sum(int(number) * _SECONDS[unit] for number, unit in re.findall(r"(\d+)([smh])", text)))


def list_rehearsals(names: Collection[str] = (), *, on_cluster: bool = False) -> list[Rehearsal]:
    """Of these alerts; of all whose fault one machine can have when none is named, or one cluster."""
    lines: dict[str, dict[str, Any]] = yaml.safe_load((OBSERVABILITY / "rehearsals.yaml").read_text())
    return [
        Rehearsal(
            alert,
            line["fault"],
            line.get("round", 0),
            parse_seconds(str(line["within"])),
            frozenset(line.get("companions", ())),
            line.get("labels", {}),
        )
        for alert, line in lines.items()
        if line["fault"] != SERIES and line["fault"].startswith(CLUSTER) == on_cluster and (not names or alert in names)
    ]


def list_commands(alert: str, section: str, language: str = "bash") -> list[str]:
    """The lines of the blocks of code in a section of an alert's runbook."""
    text = (OBSERVABILITY / "runbooks" / f"{alert}.md").read_text()
    match = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert match, f"the runbook of {alert} has no section {section}"
    return list(_find_lines(match[1], language))


def _find_lines(text: str, language: str) -> Iterator[str]:
    for block in re.findall(rf"^ *```{language}\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE):
        yield from (line.strip() for line in block.splitlines() if line.strip())
