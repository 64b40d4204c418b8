"""What `make alerts` rehearses: each fault is known, each runbook has commands that end it, and the programs run with
the shipped intervals, rules and routes.
"""

import json
import re
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from caravan import fault_flags
from observability.rehearsal.load import SKUS
from observability.rehearsal.monitoring import OBSERVABILITY, MissingProgram, Monitoring, find_program
from observability.rehearsal.outside import OUTSIDE_FAULTS
from observability.rehearsal.plan import Rehearsal, list_commands, list_rehearsals, parse_seconds
from observability.rehearsal.receiver import AlertReceiver
from observability.rehearsal.report import replace_measured
from tests.observability.test_alerts import ALERTS, NAMES, run_promtool

REHEARSALS = list_rehearsals()
SIDES = ("source_matchers", "target_matchers")


def test_most_alerts_are_rehearsed_and_those_that_need_hours_or_machines_are_not() -> None:
    assert len(REHEARSALS) >= 30
    assert max(each.within for each in REHEARSALS) <= 15 * 60


@pytest.mark.parametrize("rehearsal", REHEARSALS, ids=lambda rehearsal: rehearsal.alert)
def test_a_rehearsal_names_a_fault_that_there_is_and_alerts_that_there_are(rehearsal: Rehearsal) -> None:
    if match := re.fullmatch(r"caravan faults on ([a-z-]+)(:[a-z.-]+)?", rehearsal.fault):
        assert match[1] in fault_flags.FAULTS
        assert f"caravan faults off {match[1]}" in list_commands(rehearsal.alert, "Mitigation")
    else:
        assert rehearsal.fault in OUTSIDE_FAULTS or rehearsal.fault.startswith("caravan jobs pause ")
    assert rehearsal.companions <= {*NAMES}


def test_faults_of_one_round_are_ended_apart() -> None:
    """`caravan faults off NAME` of a runbook ends it for all targets: of one round each name has one target."""
    for number in {each.round for each in REHEARSALS}:
        faults = {each.fault for each in REHEARSALS if each.round == number}
        names = [fault.partition(":")[0] for fault in faults if fault.startswith("caravan faults on ")]
        assert len(names) == len(set(names)), f"round {number}"


@pytest.mark.parametrize("name", NAMES)
def test_variables_of_a_runbook_are_labels_of_its_alert(name: str) -> None:
    given = {"POSTGRES_URL", "REDIS_URL", "POD"}
    text = "\n".join(str(rule["expr"]) + str(rule["labels"]) for rule in ALERTS if rule["alert"] == name)
    for command in list_commands(name, "Mitigation"):
        for variable in set(re.findall(r"\$(\w+)", command)) - given:
            assert variable in text, f"{command}: the alert has no label {variable}"


def test_commands_are_read_from_the_blocks_of_a_section() -> None:
    assert list_commands("OutboxRefused", "Mitigation") == [
        "caravan faults off message-refused",
        'caravan failures redrive --subscription "$service.outbox"',
    ]
    assert "caravan status" in list_commands("OutboxBlocked", "Diagnosis")
    assert all(
        "caravan_outbox" in query or "check_up" in query
        for query in list_commands("OutboxBlocked", "Diagnosis", "promql")
    )


def test_durations_are_read() -> None:
    assert [parse_seconds(text) for text in ("30s", "3m", "1m30s", "1h")] == [30, 180, 90, 3600]


def test_what_is_measured_takes_the_place_of_what_was() -> None:
    text = 'A: {within: 3m, fault: "x", round: 1}\nAB: {within: 3m, fault: "x", labels: {a: b}, measured: 5}\n'
    once = replace_measured(replace_measured(text, "A", 161), "AB", 7)
    assert once == text.replace("round: 1}", "round: 1, measured: 161}").replace("measured: 5", "measured: 7")
    assert yaml.safe_load(once)["A"]["measured"] == 161


def test_an_alert_of_another_target_is_not_expected() -> None:
    rehearsal = Rehearsal("OutboxBlocked", "x", 1, 180, frozenset({"SagaStuck"}), {"service": "identity"})
    assert rehearsal.is_expected({"alertname": "OutboxBlocked", "service": "identity"})
    assert rehearsal.is_expected({"alertname": "SagaStuck"})
    assert not rehearsal.is_expected({"alertname": "OutboxBlocked", "service": "orders"})
    assert not rehearsal.is_expected({"alertname": "JobsLate"})


def post(url: str, body: Any) -> int:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            status: int = answer.status
            return status
    except urllib.error.HTTPError as error:
        return error.code


def test_the_receiver_keeps_what_it_is_told_and_refuses_when_it_is_asked_to() -> None:
    alerts = [
        {"status": "firing", "labels": {"alertname": "JobsLate", "queue": "a"}},
        {"status": "resolved", "labels": {"alertname": "TargetDown"}},
    ]
    with AlertReceiver() as receiver:
        assert post(f"{receiver.url}/ticket", {"alerts": alerts}) == 200
        receiver.refused.add("page")
        assert post(f"{receiver.url}/page", {"alerts": alerts}) == 500
        assert [(each.receiver, each.alert) for each in receiver.list_since(0)] == [("ticket", "JobsLate")]
        assert [each.alert for each in receiver.list_since(0, status="resolved")] == ["TargetDown"]
        assert receiver.list_since(receiver.notifications[0].received_at) == []


def test_both_programs_are_given_what_is_shipped(tmp_path: Path) -> None:
    monitoring = Monitoring(tmp_path, {"shop": ["127.0.0.1:1"]}, "http://127.0.0.1:2")
    shipped = yaml.safe_load((OBSERVABILITY / "prometheus" / "prometheus.yaml").read_text())
    built = monitoring.build_prometheus((3, 4))
    assert built["global"] == shipped["global"]
    routes = yaml.safe_load((OBSERVABILITY / "alertmanager" / "config.yaml").read_text())
    alertmanager = monitoring.build_alertmanager()
    assert alertmanager["route"] == routes["route"]
    assert alertmanager.get("inhibit_rules") == routes.get("inhibit_rules")
    assert {receiver["webhook_configs"][0]["url"] for receiver in alertmanager["receivers"]} == {
        f"http://127.0.0.1:2/{name}" for name in ("page", "ticket", "heartbeat")
    }
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(built | {"rule_files": []}))
    run_promtool("check", "config", tmp_path / "prometheus.yaml")


def test_whoever_is_told_less_of_one_cause_hears_of_alerts_that_there_are() -> None:
    """A rule names alerts and labels that exist; one without `equal` names the target's own labels."""
    rules = yaml.safe_load((OBSERVABILITY / "alertmanager" / "config.yaml").read_text())["inhibit_rules"]
    for rule in rules:
        matchers = {side: dict(re.findall(r'(\w+)=~?"([^"]+)"', " ".join(rule[side]))) for side in SIDES}
        named = {name for side in SIDES for name in matchers[side].get("alertname", "").split("|") if name}
        assert named <= {*NAMES}
        for label in rule.get("equal", ()):
            assert any(label in str(each["expr"]) + str(each["labels"]) or label == "alertname" for each in ALERTS)
        assert rule.get("equal") or "provider" in matchers["target_matchers"]


def test_alertmanager_takes_the_shipped_routes(tmp_path: Path) -> None:
    try:
        program = find_program("amtool")
    except MissingProgram:
        pytest.skip("amtool is not on the PATH: install Alertmanager, whose package has it")
    config = Monitoring(tmp_path, {}, "http://127.0.0.1:2").build_alertmanager()
    (tmp_path / "alertmanager.yaml").write_text(yaml.safe_dump(config))
    for severity, receiver in (("page", "page"), ("ticket", "ticket")):
        done = subprocess.run(
            [
                program,
                "config",
                "routes",
                "test",
                f"--config.file={tmp_path / 'alertmanager.yaml'}",
                f"severity={severity}",
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stdout.strip() == receiver, done.stderr


def test_the_load_orders_what_the_demo_catalogue_has() -> None:
    from cli.seed import PRODUCTS

    assert {*SKUS} <= {product[0] for product in PRODUCTS}
