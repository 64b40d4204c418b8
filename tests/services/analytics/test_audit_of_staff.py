"""Every operation of the gateway that only staff may do is in the audit log."""

import re
from typing import Any

import orjson
import pytest

from tests.services.analytics.audit_scenario import (
    PRODUCT,
    QUEUE,
    create_delayed_job,
    create_failed_job,
    create_product,
    create_sent_notification,
    create_undeliverable_address,
    create_user,
    find_failure,
    make_traced_headers,
    prepare_nothing,
)
from tests.support.scenario import ShopScenario
from tests.support.shop import wait_until

CAMPAIGN = {"name": "Spring", "subject": "Tea", "text": "Only today.", "segment": {}, "cron": "0 9 1 1 *"}


async def wait_for_audit_entries(scenario: ShopScenario, trace: str, *results: str) -> list[dict[str, Any]]:
    """What the audit log has of a trace, the first first, once it has as many records as there are results."""

    async def found() -> list[dict[str, Any]]:
        answer = await scenario.program.client.get(
            "/v1/audit", params={"limit": 100}, headers=await scenario.program.authorize_operator()
        )
        of_trace = [item for item in reversed(answer.json()["items"]) if item["trace_id"] == trace]
        assert len(of_trace) >= len(results), of_trace
        return of_trace

    return await wait_until(found, seconds=30)


async def create_campaign(scenario: ShopScenario) -> str:
    made = await scenario.program.client.post(
        "/v1/campaigns", json=CAMPAIGN, headers=await scenario.program.authorize_operator()
    )
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


async def create_stopped_campaign(scenario: ShopScenario) -> str:
    made = await create_campaign(scenario)
    (
        await scenario.program.client.post(
            f"/v1/campaigns/{made}/stop", headers=await scenario.program.authorize_operator()
        )
    ).raise_for_status()
    return made


BESIDE = ["begun", "done"]
"""An action in no database: noted before and after."""


AUDITED_REQUESTS: dict[str, tuple[Any, Any, list[str], list[str]]] = {
    "PATCH /v1/users/{user_id}": (
        create_user,
        {"role": "staff", "disabled": True},
        ["role.changed", "user.disabled"],
        ["done"],
    ),
    "POST /v1/users/invitations": (
        prepare_nothing,
        {"email": "GIVEN@example.com", "name": "Grace Hopper"},
        ["user.invited"],
        ["done"],
    ),
    "POST /v1/products": (prepare_nothing, {**PRODUCT, "sku": "GIVEN"}, ["product.made"], ["done"]),
    "PUT /v1/products": (prepare_nothing, {"products": [{**PRODUCT, "sku": "GIVEN"}]}, ["product.made"], ["done"]),
    "PATCH /v1/products/{sku}": (
        create_product,
        {"name": "Another", "price": {"amount": 1, "currency": "GBP"}, "active": False},
        ["price.changed", "product.withdrawn", "product.changed"],
        ["done"],
    ),
    "DELETE /v1/products/{sku}": (create_product, None, ["product.withdrawn"], ["done"]),
    "PUT /v1/categories/{name}": (prepare_nothing, {"attributes": {}, "free": True}, ["category.declared"], ["done"]),
    "POST /v1/stock/{sku}/movements": (
        create_product,
        {"kind": "receive", "quantity": 1, "reason": "found"},
        ["stock.adjusted"],
        ["done"],
    ),
    "POST /v1/stock/movements": (
        create_product,
        {"movements": [{"sku": "GIVEN", "kind": "receive", "quantity": 1, "reason": "found"}]},
        ["stock.adjusted"],
        ["done"],
    ),
    "POST /v1/campaigns": (prepare_nothing, CAMPAIGN, ["campaign.created"], ["done"]),
    "POST /v1/campaigns/{campaign_id}/stop": (create_campaign, None, ["campaign.stopped"], ["done"]),
    "POST /v1/campaigns/{campaign_id}/resume": (create_stopped_campaign, None, ["campaign.resumed"], ["done"]),
    "POST /v1/notifications/{notification_id}/resend": (
        create_sent_notification,
        None,
        ["notification.resent"],
        ["done"],
    ),
    "DELETE /v1/notifications/undeliverable-addresses/{address}": (
        create_undeliverable_address,
        None,
        ["address.cleared"],
        ["done"],
    ),
    "POST /v1/failures/redrive": (find_failure, {"ids": ["GIVEN"]}, ["failures.redrive"], BESIDE),
    "POST /v1/failures/discard": (find_failure, {"ids": ["GIVEN"], "reason": "nonsense"}, ["failures.discard"], BESIDE),
    "POST /v1/jobs/queues/{queue}/pause": (lambda _: at_once(QUEUE), None, ["queue.paused"], BESIDE),
    "POST /v1/jobs/queues/{queue}/resume": (lambda _: at_once(QUEUE), None, ["queue.resumed"], BESIDE),
    "POST /v1/jobs/clean": (prepare_nothing, {"queue": QUEUE, "state": "completed"}, ["queue.cleaned"], BESIDE),
    "POST /v1/jobs/{job_id}/retry": (create_failed_job, None, ["job.retried"], BESIDE),
    "POST /v1/jobs/{job_id}/promote": (create_delayed_job, None, ["job.promoted"], BESIDE),
    "DELETE /v1/jobs/{job_id}": (create_delayed_job, None, ["job.removed"], BESIDE),
    "POST /v1/reconciliation/runs": (prepare_nothing, {}, ["reconciliation.run"], ["done"]),
}

TRIED_WITH_CASES = {
    "POST /v1/reconciliation/cases/{case_id}/repair",
    "POST /v1/reconciliation/cases/{case_id}/approve",
    "POST /v1/reconciliation/cases/{case_id}/dismiss",
    "POST /v1/reconciliation/repairs",
}
"""By tests/services/reconciliation/test_cases.py, where the books can be made to differ."""


async def at_once(value: str) -> str:
    return value


async def test_there_is_no_action_of_staff_that_is_not_tried_here(scenario: ShopScenario) -> None:
    document = (await scenario.program.client.get("/openapi.json")).json()
    for_staff = {
        f"{method.upper()} {path}"
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in ("post", "put", "patch", "delete")
        and {"staff", "admin"}
        & {scope for scheme in operation.get("security", []) for scopes in scheme.values() for scope in scopes}
    }
    assert for_staff == set(AUDITED_REQUESTS) | TRIED_WITH_CASES


@pytest.mark.parametrize("operation", AUDITED_REQUESTS)
async def test_each_action_of_staff_is_in_the_audit_log(scenario: ShopScenario, operation: str) -> None:
    prepare, body, actions, results = AUDITED_REQUESTS[operation]
    method, path = operation.split()
    given = await prepare(scenario)
    trace, headers = make_traced_headers(await scenario.program.authorize_operator())
    written = None if body is None else orjson.loads(orjson.dumps(body).decode().replace("GIVEN", given))
    answer = await scenario.program.client.request(
        method, re.sub(r"\{\w+\}", given, path), headers=headers, json=written
    )
    assert answer.is_success, answer.text
    entries = await wait_for_audit_entries(scenario, trace, *(results if len(results) > 1 else actions))
    assert {entry["actor"].rpartition(":")[2] for entry in entries} == {"cli"}
    assert sorted({entry["action"] for entry in entries}) == sorted(actions)
    assert [entry["result"] for entry in entries] == (results if len(results) > 1 else results * len(actions))


async def test_what_was_refused_is_in_the_audit_log_as_that(scenario: ShopScenario) -> None:
    job = await create_delayed_job(scenario)
    trace, headers = make_traced_headers(await scenario.program.authorize_operator())
    assert (await scenario.program.client.post(f"/v1/jobs/{job}/retry", headers=headers)).status_code == 409
    begun, refused = await wait_for_audit_entries(scenario, trace, "begun", "refused")
    assert (begun["target"], begun["result"]) == (f"job:{job}", "begun")
    assert refused["result"] == "refused"
    assert "only a failed job" in refused["details"]["reason"]
