"""Every rule of every CRD on a real API server: one object that it accepts and one that it refuses, with the rule's own
message.
"""

import pytest
from caravan_operator.backends.kubernetes import ApiError
from caravan_operator.resources import KINDS

from tests.operator.cluster.apiserver import Namespace
from tests.operator.cluster.rule_cases import VALID, Case
from tests.operator.cluster.rule_cases_kafka import KAFKA_CASES
from tests.operator.cluster.rule_cases_rabbitmq import RABBITMQ_CASES
from tests.operator.cluster.rule_cases_routes import ROUTE_CASES
from tests.operator.schemas import walk_schemas

CASES = [*KAFKA_CASES, *RABBITMQ_CASES, *ROUTE_CASES]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}: {case.message}")
async def test_a_rule_accepts_and_refuses(namespace: Namespace, case: Case) -> None:
    name = "rule"
    if case.before is None:
        await namespace.create_object(case.kind, name, {**VALID[case.kind], **case.good}, dry_run=True)
        with pytest.raises(ApiError) as refused:
            await namespace.create_object(case.kind, case.bad_name, {**VALID[case.kind], **case.bad}, dry_run=True)
    else:
        await namespace.create_object(case.kind, name, {**VALID[case.kind], **case.before})
        try:
            await namespace.change_spec(case.kind, name, case.good, dry_run=True)
            with pytest.raises(ApiError) as refused:
                await namespace.change_spec(case.kind, name, case.bad, dry_run=True)
        finally:
            await namespace.delete_object(case.kind, name)
    assert refused.value.status == 422
    assert case.message in str(refused.value)


def test_every_rule_has_a_case() -> None:
    proven = {(case.kind, case.message) for case in CASES}
    for kind in KINDS.values():
        for path, schema in walk_schemas(
            kind.build_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"], kind.name
        ):
            for rule in schema.get("x-kubernetes-validations", ()):
                assert any(name == kind.name and rule["message"].startswith(message) for name, message in proven), (
                    f"{path}: {rule['message']}"
                )


@pytest.mark.parametrize("kind", VALID)
async def test_a_minimal_object_is_accepted_and_null_settings_are_kept(namespace: Namespace, kind: str) -> None:
    extra = (
        {"config": {"retention": None, "cleanupPolicy": None}, "extraConfig": {"flush.ms": None}}
        if kind == "KafkaTopic"
        else {}
    )
    found = await namespace.create_object(kind, "minimal", {**VALID[kind], **extra}, dry_run=True)
    assert extra.items() <= found["spec"].items()
