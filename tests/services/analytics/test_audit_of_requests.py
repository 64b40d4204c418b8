"""Each action that must be accounted for, done through the gateway of the whole shop: it is in the audit log with who
did it and the trace it was done in.
"""

import asyncio
from typing import Any

import pytest
from typer.testing import CliRunner

from caravan import telemetry
from caravan.clock import new_id
from cli import app
from tests.services.analytics.audit_scenario import (
    PASSWORD,
    QUEUE,
    create_delayed_job,
    create_failed_job,
    create_product,
    find_failure,
    log_in,
    make_traced_headers,
    prepare_nothing,
    register_user,
    wait_for_record,
)
from tests.services.gateway.stand_ins import listening
from tests.support.scenario import ShopScenario
from tests.support.shop import wait_until


async def test_a_login(scenario: ShopScenario) -> None:
    user_id, email = await register_user(scenario)
    trace, headers = make_traced_headers()
    assert (await log_in(scenario, email, PASSWORD, headers)).status_code == 200
    entry = await wait_for_record(scenario, f"user:{user_id}", "login.succeeded", trace)
    assert (entry["actor"], entry["result"]) == (f"customer:{user_id}", "done")


async def test_a_failed_login(scenario: ShopScenario) -> None:
    user_id, email = await register_user(scenario)
    trace, headers = make_traced_headers()
    assert (await log_in(scenario, email, "a wrong password", headers)).status_code in (400, 401)
    entry = await wait_for_record(scenario, f"user:{user_id}", "login.failed", trace)
    assert (entry["actor"], entry["result"], entry["details"]["reason"]) == ("anonymous", "refused", "wrong password")
    assert "a wrong password" not in str(entry)


async def test_a_failed_login_of_nobody(scenario: ShopScenario) -> None:
    trace, headers = make_traced_headers()
    assert (await log_in(scenario, f"{new_id()}@example.com", "a wrong password", headers)).status_code in (400, 401)
    entry = await wait_for_record(scenario, "user:unknown", "login.failed", trace)
    assert (entry["actor"], entry["details"]["reason"]) == ("anonymous", "unknown user")


async def test_a_change_of_role(scenario: ShopScenario) -> None:
    user_id, _ = await register_user(scenario)
    trace, headers = make_traced_headers(await scenario.program.authorize_operator())
    changed = await scenario.program.client.patch(f"/v1/users/{user_id}", json={"role": "staff"}, headers=headers)
    assert changed.status_code == 200, changed.text
    entry = await wait_for_record(scenario, f"user:{user_id}", "role.changed", trace)
    assert entry["actor"].endswith(":cli")
    assert entry["details"] == {"before": "customer", "to": "staff"}


async def test_a_change_of_price(scenario: ShopScenario) -> None:
    sku = await scenario.program.create_product(stock=0, price=1250)
    trace, headers = make_traced_headers(await scenario.program.authorize_operator())
    price = {"amount": 990, "currency": "GBP"}
    changed = await scenario.program.client.patch(f"/v1/products/{sku}", json={"price": price}, headers=headers)
    assert changed.status_code == 200, changed.text
    entry = await wait_for_record(scenario, f"product:{sku}", "price.changed", trace)
    assert entry["actor"].endswith(":cli")
    assert entry["details"] == {"before": {"amount": 1250, "currency": "GBP"}, "after": price}


async def test_an_adjustment_of_stock(scenario: ShopScenario) -> None:
    sku = await scenario.program.create_product(stock=5)
    trace, headers = make_traced_headers(await scenario.program.authorize_operator())
    movement = {"kind": "adjust", "quantity": -2, "reason": "broken"}
    moved = await scenario.program.client.post(f"/v1/stock/{sku}/movements", json=movement, headers=headers)
    assert moved.status_code == 201, moved.text
    entry = await wait_for_record(scenario, f"stock:{sku}", "stock.adjusted", trace)
    assert entry["actor"].endswith(":cli")
    assert entry["details"] == {"kind": "adjust", "quantity": -2, "on_hand": 3, "reason": "broken"}


async def test_a_refund_names_who_cancelled_and_stands_in_the_trace_of_the_cancellation(scenario: ShopScenario) -> None:
    user_id, email = await register_user(scenario)
    token = (await log_in(scenario, email, PASSWORD, {})).json()["access_token"]
    who = {"authorization": f"Bearer {token}"}
    sku = await scenario.program.create_product(stock=5)
    order_id = (await scenario.program.place_order(who, sku)).json()["id"]
    await scenario.program.wait_for_status(who, order_id, "paid")
    trace, headers = make_traced_headers(who)
    cancelled = await scenario.program.client.post(f"/v1/orders/{order_id}/cancel", headers=headers)
    assert cancelled.status_code == 202, cancelled.text
    await scenario.program.wait_for_status(who, order_id, "refunded")
    entry = await wait_for_record(scenario, f"order:{order_id}", "payment.refunded", trace)
    assert entry["actor"] == f"customer:{user_id}"
    assert entry["details"]["amount"] == {"amount": 1250, "currency": "GBP"}


async def test_an_order_that_is_cancelled_for_a_customer(scenario: ShopScenario) -> None:
    _, email = await register_user(scenario)
    who = {"authorization": f"Bearer {(await log_in(scenario, email, PASSWORD, {})).json()['access_token']}"}
    sku = await create_product(scenario)
    admin, address = await register_user(scenario)
    raised = await scenario.program.client.patch(
        f"/v1/users/{admin}", json={"role": "admin"}, headers=await scenario.program.authorize_operator()
    )
    assert raised.status_code == 200, raised.text
    trace, headers = make_traced_headers(
        {"authorization": f"Bearer {(await log_in(scenario, address, PASSWORD, {})).json()['access_token']}"}
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
        ("jobs retry GIVEN", create_failed_job, "job.retried"),
        ("jobs promote GIVEN", create_delayed_job, "job.promoted"),
        ("jobs remove GIVEN", create_delayed_job, "job.removed"),
        (f"jobs clean {QUEUE} --state completed --older-than 5", prepare_nothing, "queue.cleaned"),
        (f"jobs pause {QUEUE}", prepare_nothing, "queue.paused"),
        (f"jobs resume {QUEUE}", prepare_nothing, "queue.resumed"),
        ("failures redrive GIVEN", find_failure, "failures.redrive"),
        ("failures discard GIVEN --reason nonsense", find_failure, "failures.discard"),
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
