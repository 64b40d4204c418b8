"""Each alert has a runbook, a line in rehearsals.yaml, and for each severity two promtool tests: one in which it fires
within its time, one in which it stays silent. Its expression names only metrics and labels that somebody declares.
"""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from observability.slo import BURNS, SLOS
from tests.observability.promql import find_labels, find_metrics, list_known_metrics
from tools.observability_pages import RULES, list_rules, load_rehearsals, load_yaml

OBSERVABILITY = RULES.parents[1]
TESTS = RULES.parent / "tests"
RUNBOOKS = OBSERVABILITY / "runbooks"
SECTIONS = ["Meaning", "Impact", "Diagnosis", "Mitigation"]

FILES = {path.name: list_rules(path.read_text()) for path in sorted(RULES.glob("*.yaml"))}
ALL_RULES = [rule for rules in FILES.values() for rule in rules]
ALERTS = [rule for rule in ALL_RULES if "alert" in rule]
NAMES = sorted({rule["alert"] for rule in ALERTS})
CASES: list[dict[str, Any]] = [
    case for path in sorted(TESTS.glob("*.yaml")) for case in load_yaml(path.read_text())["tests"]
]


def to_minutes(text: str) -> float:
    units = {"s": 1 / 60, "m": 1.0, "h": 60.0, "d": 1440.0}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"(\d+)([smhd])", text))


def run_promtool(*arguments: str | Path) -> None:
    if not shutil.which("promtool"):
        pytest.skip("promtool is not on the PATH: install Prometheus, whose package has it")
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_alerts_for_every_kind_of_failure() -> None:
    assert len(NAMES) >= 25


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_an_alert_says_what_it_is_whose_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("page", "ticket", "none")
    assert rule["labels"]["owner"] in ("shop", "messaging", "platform", "observability")
    annotations = rule["annotations"]
    assert len(annotations["summary"]) <= 120 and len(annotations["description"].split()) >= 8
    assert annotations["runbook_url"] == f"observability/runbooks/{rule['alert']}.md"


@pytest.mark.parametrize("name", NAMES)
def test_an_alert_has_a_runbook_with_commands(name: str) -> None:
    text = (RUNBOOKS / f"{name}.md").read_text()
    assert text.startswith(f"# {name}\n")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    assert re.search(r"^```(bash|promql)$", text, re.MULTILINE), "commands to find out what is wrong"


def test_there_is_no_runbook_nor_rehearsal_of_an_alert_that_is_gone() -> None:
    assert sorted(path.stem for path in RUNBOOKS.glob("*.md")) == NAMES
    assert sorted(load_rehearsals()) == NAMES


def list_cases(rule: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    name = f"{rule['alert']} {rule['labels']['severity']} {kind}"
    return [case for case in CASES if case["name"] == name]


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_an_alert_is_tested_firing_and_silent(rule: dict[str, Any]) -> None:
    firing = list_cases(rule, "fires")
    assert len(firing) == 1
    expected = firing[0]["promql_expr_test"][-1]["exp_samples"]
    assert any(
        f'alertname="{rule["alert"]}"' in sample["labels"] and rule["labels"]["severity"] in sample["labels"]
        for sample in expected
    )
    if rule["labels"]["severity"] != "none":
        silent = list_cases(rule, "silent")
        assert len(silent) == 1
        assert not any(
            f'alertname="{rule["alert"]}", severity="{rule["labels"]["severity"]}"' in sample["labels"]
            for test in silent[0]["promql_expr_test"]
            for sample in test["exp_samples"]
        )


@pytest.mark.parametrize("path", sorted(RULES.glob("*.yaml")), ids=lambda path: path.name)
def test_promtool_takes_the_rules(path: Path) -> None:
    run_promtool("check", "rules", path)


@pytest.mark.parametrize("path", sorted(TESTS.glob("*.yaml")), ids=lambda path: path.name)
def test_promtool_sees_them_fire_and_stay_silent(path: Path, tmp_path: Path) -> None:
    """Each case with those of its file's rules that its series reach, which leaves nothing out that could fire, and no
    more often than its series have a value.
    """
    run_promtool("test", "rules", *write_cases(path, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(TESTS.glob("*.yaml")), ids=lambda path: path.name)
def test_promtool_sees_them_fire_and_stay_silent_among_all_rules(path: Path) -> None:
    run_promtool("test", "rules", path)


def write_cases(path: Path, folder: Path) -> list[Path]:
    """A file of its own for each case, beside its rules."""
    document = load_yaml(path.read_text())
    files = [file for pattern in document["rule_files"] for file in sorted(RULES.glob(Path(pattern).name))]
    groups = [group for file in files for group in load_yaml(file.read_text())["groups"]]
    written = []
    for number, case in enumerate(document["tests"]):
        rules, interval = f"rules-{number}.yaml", document["evaluation_interval"]
        (folder / rules).write_text(yaml.safe_dump({"groups": select_groups(groups, case)}))
        if to_minutes(case["interval"]) > to_minutes(interval):
            interval = case["interval"]
        alone = {**document, "evaluation_interval": interval, "rule_files": [rules], "tests": [case]}
        written.append(folder / f"case-{number}.yaml")
        written[-1].write_text(yaml.safe_dump(alone))
    return written


def select_groups(groups: list[dict[str, Any]], case: dict[str, Any]) -> list[dict[str, Any]]:
    """With the rules that read a metric of the case or of such a rule, and those that read none."""
    reached = {re.split(r"[{ ]", series["series"])[0] for series in case["input_series"]} | {"ALERTS"}
    while True:
        known = len(reached)
        selected = []
        for group in groups:
            rules = [rule for rule in group["rules"] if is_reached(rule["expr"], reached)]
            reached |= {rule["record"] for rule in rules if "record" in rule}
            selected += [{**group, "rules": rules}] if rules else []
        if len(reached) == known:
            return selected


def is_reached(query: str, metrics: set[str]) -> bool:
    read = {metric for metric, _ in find_metrics(query)}
    return not read or not read.isdisjoint(metrics) or "absent" in query


def test_rules_name_metrics_and_labels_that_exist() -> None:
    known = list_known_metrics(ALL_RULES)
    found = []
    for rule in ALL_RULES:
        for metric, labels in find_metrics(rule["expr"]):
            declared = known[metric]
            unknown = [label for label in labels if declared is not None and label not in declared]
            if metric not in known or unknown:
                found.append(f"{rule.get('alert') or rule['record']}: {metric} {unknown}")
    assert found == []


@pytest.mark.parametrize("name", NAMES)
def test_queries_of_runbooks_name_metrics_that_exist(name: str, tmp_path: Path) -> None:
    known = list_known_metrics(ALL_RULES)
    queries = [
        line
        for block in re.findall(
            r"^```promql\n(.*?)^```", (RUNBOOKS / f"{name}.md").read_text(), re.DOTALL | re.MULTILINE
        )
        for line in block.splitlines()
    ]
    unknown = [metric for query in queries for metric, _ in find_metrics(query) if metric not in known]
    assert unknown == []
    rules = [{"record": f"runbook:query:{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": name, "rules": rules}]}))
    run_promtool("check", "rules", tmp_path / "rules.yaml")


def test_labels_are_read_from_expressions() -> None:
    query = 'sum by (a, b) (rate(x_total{c="1", d!~"x{y}"}[5m])) / on (e) group_left () up > 3'
    assert find_metrics(query) == [("x_total", ["c", "d"]), ("up", [])]
    assert find_labels('c="1", d!~"x,y"') == ["c", "d"]


@pytest.mark.parametrize("slo", SLOS, ids=lambda slo: slo.name)
def test_an_slo_burns_by_its_windows_and_a_least_number_of_requests(slo: Any) -> None:
    rules = {rule["labels"]["severity"]: rule["expr"] for rule in ALERTS if rule["alert"] == slo.alert}
    for burn in BURNS:
        for window in (burn.long, burn.short):
            assert f'ratio_rate{window}{{slo="{slo.name}"}}) > {burn.factor * slo.budget:g}' in rules[burn.severity]
    assert rules["page"].count(f"> {slo.least_requests} / ") == 2


def test_bounds_of_slow_requests_are_buckets_of_their_histograms() -> None:
    from caravan.telemetry import metrics

    for slo in SLOS:
        for metric, bound in re.findall(r'(\w+)_bucket\{.*?le="([\d.]+)"', slo.bad):
            if metric == "http_server_request_duration_seconds":
                assert float(bound) in metrics.BUCKETS, slo.name


def test_what_a_firing_test_waits_is_the_stated_time() -> None:
    """From the beginning of the series, or of the trouble in it, `within` of rehearsals.yaml is enough."""
    rehearsals = load_rehearsals()
    for rule in ALERTS:
        if rule["labels"]["severity"] != "none" and "for" in rule:
            assert to_minutes(rule["for"]) <= to_minutes(str(rehearsals[rule["alert"]]["within"])), rule["alert"]
