"""Each action that must be accounted for, done through the gateway of the whole shop: it is in the audit log with who
did it and the trace it was done in.
"""

import asyncio
import re
import secrets
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from caravan import telemetry
from caravan.clock import new_id
from caravan.jobs import JobRequest
from caravan.runtime import Backends
from cli import app
from tests.services.gateway.stand_ins import listening
from tests.support.scenario import ShopScenario, run_whole_shop
from tests.support.shop import wait_until

PASSWORD = "a long enough password"


@pytest.fixture(scope="module")
async def scenario(backends: Backends, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ShopScenario]:
    folder: Path = tmp_path_factory.mktemp("audited")
    async with run_whole_shop(backends, folder) as scenario:
        yield scenario


def traced(headers: dict[str, str] | None = None) -> tuple[str, dict[str, str]]:
    """A trace of the caller's own, and headers that carry it."""
    trace = secrets.token_hex(16)
    return trace, {**(headers or {}), "traceparent": f"00-{trace}-{secrets.token_hex(8)}-01"}


async def wait_for_record(scenario: ShopScenario, target: str, action: str, trace: str) -> dict[str, Any]:
    """The one action of this kind on this target; done in this trace."""

    async def found() -> dict[str, Any] | None:
        answer = await scenario.program.client.get(
            "/v1/audit",
            params={"target": target, "action": action},
            headers=await scenario.program.authorize_operator(),
        )
        assert answer.status_code == 200, answer.text
        of_trace = [item for item in answer.json()["items"] if item["trace_id"] == trace]
        assert len(of_trace) <= 1, of_trace
        return of_trace[0] if of_trace else None

    entry = await wait_until(found, seconds=30)
    assert entry is not None
    return entry


async def registered(scenario: ShopScenario) -> tuple[str, str]:
    """Id and address of a new customer."""
    email = f"{new_id()}@example.com"
    answer = await scenario.program.client.post(
        "/v1/users", json={"email": email, "password": PASSWORD, "name": "Ada Lovelace"}
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"]), email


async def login(scenario: ShopScenario, email: str, password: str, headers: dict[str, str]) -> Any:
    form = {"grant_type": "password", "username": email, "password": password}
    return await scenario.program.client.post("/v1/auth/token", data=form, headers=headers)


async def test_a_login(scenario: ShopScenario) -> None:
    user, email = await registered(scenario)
    trace, headers = traced()
    assert (await login(scenario, email, PASSWORD, headers)).status_code == 200
    entry = await wait_for_record(scenario, f"user:{user}", "login.succeeded", trace)
    assert (entry["actor"], entry["result"]) == (f"customer:{user}", "done")


async def test_a_failed_login(scenario: ShopScenario) -> None:
    user, email = await registered(scenario)
    trace, headers = traced()
    assert (await login(scenario, email, "a wrong password", headers)).status_code in (400, 401)
    entry = await wait_for_record(scenario, f"user:{user}", "login.failed", trace)
    assert (entry["actor"], entry["result"], entry["details"]["reason"]) == ("anonymous", "refused", "wrong password")
    assert "a wrong password" not in str(entry)


async def test_a_failed_login_of_nobody(scenario: ShopScenario) -> None:
    trace, headers = traced()
    assert (await login(scenario, f"{new_id()}@example.com", "a wrong password", headers)).status_code in (400, 401)
    entry = await wait_for_record(scenario, "user:unknown", "login.failed", trace)
    assert (entry["actor"], entry["details"]["reason"]) == ("anonymous", "unknown user")


async def test_a_change_of_role(scenario: ShopScenario) -> None:
    user, _ = await registered(scenario)
    trace, headers = traced(await scenario.program.authorize_operator())
    changed = await scenario.program.client.patch(f"/v1/users/{user}", json={"role": "staff"}, headers=headers)
    assert changed.status_code == 200, changed.text
    entry = await wait_for_record(scenario, f"user:{user}", "role.changed", trace)
    assert entry["actor"].endswith(":cli")
    assert entry["details"] == {"before": "customer", "to": "staff"}


async def test_a_change_of_price(scenario: ShopScenario) -> None:
    sku = await scenario.program.create_product(stock=0, price=1250)
    trace, headers = traced(await scenario.program.authorize_operator())
    price = {"amount": 990, "currency": "GBP"}
    changed = await scenario.program.client.patch(f"/v1/products/{sku}", json={"price": price}, headers=headers)
    assert changed.status_code == 200, changed.text
    entry = await wait_for_record(scenario, f"product:{sku}", "price.changed", trace)
    assert entry["actor"].endswith(":cli")
    assert entry["details"] == {"before": {"amount": 1250, "currency": "GBP"}, "after": price}


async def test_an_adjustment_of_stock(scenario: ShopScenario) -> None:
    sku = await scenario.program.create_product(stock=5)
    trace, headers = traced(await scenario.program.authorize_operator())
    movement = {"kind": "adjust", "quantity": -2, "reason": "broken"}
    moved = await scenario.program.client.post(f"/v1/stock/{sku}/movements", json=movement, headers=headers)
    assert moved.status_code == 201, moved.text
    entry = await wait_for_record(scenario, f"stock:{sku}", "stock.adjusted", trace)
    assert entry["actor"].endswith(":cli")
    assert entry["details"] == {"kind": "adjust", "quantity": -2, "on_hand": 3, "reason": "broken"}


async def test_a_refund_names_who_cancelled_and_stands_in_the_trace_of_the_cancellation(scenario: ShopScenario) -> None:
    user, email = await registered(scenario)
    token = (await login(scenario, email, PASSWORD, {})).json()["access_token"]
    who = {"authorization": f"Bearer {token}"}
    sku = await scenario.program.create_product(stock=5)
    order_id = (await scenario.program.place_order(who, sku)).json()["id"]
    await scenario.program.wait_for_status(who, order_id, "paid")
    trace, headers = traced(who)
    cancelled = await scenario.program.client.post(f"/v1/orders/{order_id}/cancel", headers=headers)
    assert cancelled.status_code == 202, cancelled.text
    await scenario.program.wait_for_status(who, order_id, "refunded")
    entry = await wait_for_record(scenario, f"order:{order_id}", "payment.refunded", trace)
    assert entry["actor"] == f"customer:{user}"
    assert entry["details"]["amount"] == {"amount": 1250, "currency": "GBP"}


QUEUE = "payments.capture-retry"
CAMPAIGN = {"name": "Spring", "subject": "Tea", "text": "Only today.", "segment": {}, "cron": "0 9 1 1 *"}
PRODUCT = {
    "name": "Thing",
    "description": "",
    "category": "audited",
    "price": {"amount": 100, "currency": "GBP"},
    "attributes": {},
}


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


async def failed_job(scenario: ShopScenario) -> str:
    """Its id; all its attempts are used up, each as soon as it can be."""
    (job,) = await scenario.shop.get_context("payments").jobs.enqueue(QUEUE, JobRequest({"nonsense": True}))
    path, operator = f"/v1/jobs/{QUEUE}:{job}", await scenario.program.authorize_operator()

    async def failed() -> bool:
        state = (await scenario.program.client.get(path, headers=operator)).json()["state"]
        if state == "delayed":
            await scenario.program.client.post(f"{path}/promote", headers=operator)
        return bool(state == "failed")

    await wait_until(failed, seconds=30)
    return f"{QUEUE}:{job}"


async def delayed_job(scenario: ShopScenario) -> str:
    (job,) = await scenario.shop.get_context("payments").jobs.enqueue(
        QUEUE, JobRequest({"nonsense": True}, delay=timedelta(hours=1))
    )
    return f"{QUEUE}:{job}"


async def failure(scenario: ShopScenario) -> str:
    """The id that a failed job has in the list of dead letters."""
    job = await failed_job(scenario)
    listed = (
        await scenario.program.client.get(
            "/v1/failures", params={"limit": 100}, headers=await scenario.program.authorize_operator()
        )
    ).json()
    return str(next(item["id"] for item in listed["items"] if item["message_id"] == job))


async def campaign(scenario: ShopScenario) -> str:
    made = await scenario.program.client.post(
        "/v1/campaigns", json=CAMPAIGN, headers=await scenario.program.authorize_operator()
    )
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


async def stopped_campaign(scenario: ShopScenario) -> str:
    made = await campaign(scenario)
    (
        await scenario.program.client.post(
            f"/v1/campaigns/{made}/stop", headers=await scenario.program.authorize_operator()
        )
    ).raise_for_status()
    return made


async def product(scenario: ShopScenario) -> str:
    return await scenario.program.create_product(stock=5)


async def user(scenario: ShopScenario) -> str:
    return (await registered(scenario))[0]


async def nothing(_: ShopScenario) -> str:
    return str(new_id())


BESIDE = ["begun", "done"]
"""An action in no database: noted before and after."""
AUDITED_REQUESTS: dict[str, tuple[Any, Any, list[str], list[str]]] = {
    "PATCH /v1/users/{user_id}": (
        user,
        {"role": "staff", "disabled": True},
        ["role.changed", "user.disabled"],
        ["done"],
    ),
    "POST /v1/users/invitations": (
        nothing,
        {"email": "GIVEN@example.com", "name": "Grace Hopper"},
        ["user.invited"],
        ["done"],
    ),
    "POST /v1/products": (nothing, {**PRODUCT, "sku": "GIVEN"}, ["product.made"], ["done"]),
    "PUT /v1/products": (nothing, {"products": [{**PRODUCT, "sku": "GIVEN"}]}, ["product.made"], ["done"]),
    "PATCH /v1/products/{sku}": (
        product,
        {"name": "Another", "price": {"amount": 1, "currency": "GBP"}, "active": False},
        ["price.changed", "product.withdrawn", "product.changed"],
        ["done"],
    ),
    "DELETE /v1/products/{sku}": (product, None, ["product.withdrawn"], ["done"]),
    "PUT /v1/categories/{name}": (nothing, {"attributes": {}, "free": True}, ["category.declared"], ["done"]),
    "POST /v1/stock/{sku}/movements": (
        product,
        {"kind": "receive", "quantity": 1, "reason": "found"},
        ["stock.adjusted"],
        ["done"],
    ),
    "POST /v1/stock/movements": (
        product,
        {"movements": [{"sku": "GIVEN", "kind": "receive", "quantity": 1, "reason": "found"}]},
        ["stock.adjusted"],
        ["done"],
    ),
    "POST /v1/campaigns": (nothing, CAMPAIGN, ["campaign.created"], ["done"]),
    "POST /v1/campaigns/{campaign_id}/stop": (campaign, None, ["campaign.stopped"], ["done"]),
    "POST /v1/campaigns/{campaign_id}/resume": (stopped_campaign, None, ["campaign.resumed"], ["done"]),
    "POST /v1/failures/redrive": (failure, {"ids": ["GIVEN"]}, ["failures.redrive"], BESIDE),
    "POST /v1/failures/discard": (failure, {"ids": ["GIVEN"], "reason": "nonsense"}, ["failures.discard"], BESIDE),
    "POST /v1/jobs/queues/{queue}/pause": (lambda _: at_once(QUEUE), None, ["queue.paused"], BESIDE),
    "POST /v1/jobs/queues/{queue}/resume": (lambda _: at_once(QUEUE), None, ["queue.resumed"], BESIDE),
    "POST /v1/jobs/clean": (nothing, {"queue": QUEUE, "state": "completed"}, ["queue.cleaned"], BESIDE),
    "POST /v1/jobs/{job_id}/retry": (failed_job, None, ["job.retried"], BESIDE),
    "POST /v1/jobs/{job_id}/promote": (delayed_job, None, ["job.promoted"], BESIDE),
    "DELETE /v1/jobs/{job_id}": (delayed_job, None, ["job.removed"], BESIDE),
}


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
    assert for_staff == set(AUDITED_REQUESTS)


@pytest.mark.parametrize("operation", AUDITED_REQUESTS)
async def test_each_action_of_staff_is_in_the_audit_log(scenario: ShopScenario, operation: str) -> None:
    prepare, body, actions, results = AUDITED_REQUESTS[operation]
    method, path = operation.split()
    given = await prepare(scenario)
    trace, headers = traced(await scenario.program.authorize_operator())
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
    job = await delayed_job(scenario)
    trace, headers = traced(await scenario.program.authorize_operator())
    assert (await scenario.program.client.post(f"/v1/jobs/{job}/retry", headers=headers)).status_code == 409
    begun, refused = await wait_for_audit_entries(scenario, trace, "begun", "refused")
    assert (begun["target"], begun["result"]) == (f"job:{job}", "begun")
    assert refused["result"] == "refused"
    assert "only a failed job" in refused["details"]["reason"]


async def test_an_order_that_is_cancelled_for_a_customer(scenario: ShopScenario) -> None:
    _, email = await registered(scenario)
    who = {"authorization": f"Bearer {(await login(scenario, email, PASSWORD, {})).json()['access_token']}"}
    sku = await product(scenario)
    admin, address = await registered(scenario)
    raised = await scenario.program.client.patch(
        f"/v1/users/{admin}", json={"role": "admin"}, headers=await scenario.program.authorize_operator()
    )
    assert raised.status_code == 200, raised.text
    trace, headers = traced(
        {"authorization": f"Bearer {(await login(scenario, address, PASSWORD, {})).json()['access_token']}"}
    )
    order_id = (await scenario.program.place_order(who, sku)).json()["id"]
    answer = await scenario.program.client.post(
        f"/v1/orders/{order_id}/cancel", json={"reason": "by telephone"}, headers=headers
    )
    assert answer.status_code == 202, answer.text
    entry = await wait_for_record(scenario, f"order:{order_id}", "order.cancel_requested", trace)
    assert entry["actor"] == f"admin:{admin}"
    assert entry["details"] == {"reason": "by telephone"}


@pytest.mark.parametrize(
    ("command", "prepare", "action"),
    [
        ("jobs retry GIVEN", failed_job, "job.retried"),
        ("jobs promote GIVEN", delayed_job, "job.promoted"),
        ("jobs remove GIVEN", delayed_job, "job.removed"),
        (f"jobs clean {QUEUE} --state completed --older-than 5", nothing, "queue.cleaned"),
        (f"jobs pause {QUEUE}", nothing, "queue.paused"),
        (f"jobs resume {QUEUE}", nothing, "queue.resumed"),
        ("failures redrive GIVEN", failure, "failures.redrive"),
        ("failures discard GIVEN --reason nonsense", failure, "failures.discard"),
    ],
)
async def test_what_is_done_on_the_command_line_is_in_the_audit_log(
    scenario: ShopScenario, command: str, prepare: Any, action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = await scenario.program.authorize_operator()
    given = await prepare(scenario)
    monkeypatch.setenv("CARAVAN_SECRET", scenario.shop.process.backends.secret)
    monkeypatch.setattr(
        telemetry, "configure_logs", lambda *_: None
    )  # the runner closes its streams, the log would write to them

    async def list_records() -> list[dict[str, Any]]:
        answer = await scenario.program.client.get(
            "/v1/audit", params={"action": action, "limit": 100}, headers=operator
        )
        found: list[dict[str, Any]] = answer.json()["items"]
        return found

    before = len(await list_records())
    async with listening(scenario.shop.process.app) as url:
        arguments = [*command.replace("GIVEN", given).split(), "--url", url]
        result = await asyncio.to_thread(CliRunner().invoke, app, arguments)
    assert result.exit_code == 0, result.output

    async def both() -> bool:
        return len(await list_records()) == before + 2

    await wait_until(both, seconds=30)
    done, begun = (await list_records())[:2]
    assert (begun["result"], done["result"]) == ("begun", "done")
    assert begun["trace_id"] == done["trace_id"]
    assert done["actor"].endswith(":cli")


@pytest.mark.parametrize(
    ("command", "target", "action"),
    [
        (["projections", "rebuild", "order_summary"], "projection:order_summary", "projection.rebuilt"),
        (["migrate"], "databases", "databases.migrated"),
    ],
)
async def test_what_is_done_to_the_backends_from_a_shell(
    scenario: ShopScenario, command: list[str], target: str, action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = scenario.shop.process.backends
    for name, value in (
        ("DATABASE_URL", servers.database_url),
        ("REDIS_URL", servers.redis_url),
        ("SECRET", servers.secret),
    ):
        monkeypatch.setenv(f"CARAVAN_{name}", value)
    monkeypatch.setattr(telemetry, "configure_logs", lambda *_: None)
    result = await asyncio.to_thread(CliRunner().invoke, app, command)
    assert result.exit_code in (0, 1), result.output

    async def is_recorded() -> list[dict[str, Any]]:
        answer = await scenario.program.client.get(
            "/v1/audit", params={"target": target}, headers=await scenario.program.authorize_operator()
        )
        found: list[dict[str, Any]] = answer.json()["items"]
        return found

    (wait_for_record,) = await wait_until(is_recorded, seconds=30)
    assert (wait_for_record["actor"], wait_for_record["action"], wait_for_record["result"]) == (
        "operator",
        action,
        "done",
    )
