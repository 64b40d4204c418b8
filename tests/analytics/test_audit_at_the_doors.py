"""Each deed that must be accounted for, done at the public door of the whole shop: it is in the audit log with who did it and the trace it was done in."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from caravan.clock import new_id
from caravan.runtime import Backends
from tests.shop import until
from tests.story import Story, whole_shop

PASSWORD = "a long enough password"


@pytest.fixture(scope="module")
async def story(backends: Backends, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Story]:
    folder: Path = tmp_path_factory.mktemp("audited")
    async with whole_shop(backends, folder) as story:
        yield story


def traced(headers: dict[str, str] | None = None) -> tuple[str, dict[str, str]]:
    """A trace of the caller's own, and headers that carry it."""
    trace = secrets.token_hex(16)
    return trace, {**(headers or {}), "traceparent": f"00-{trace}-{secrets.token_hex(8)}-01"}


async def record(story: Story, target: str, action: str, trace: str) -> dict[str, Any]:
    """The one deed of this kind on this target; done in this trace."""

    async def found() -> dict[str, Any] | None:
        answer = await story.program.client.get(
            "/v1/audit", params={"target": target, "action": action}, headers=await story.program.operator()
        )
        assert answer.status_code == 200, answer.text
        of_trace = [item for item in answer.json()["items"] if item["trace_id"] == trace]
        assert len(of_trace) <= 1, of_trace
        return of_trace[0] if of_trace else None

    entry = await until(found, seconds=30)
    assert entry is not None
    return entry


async def registered(story: Story) -> tuple[str, str]:
    """Id and address of a new customer."""
    email = f"{new_id()}@example.com"
    answer = await story.program.client.post("/v1/users", json={"email": email, "password": PASSWORD, "name": "Ada Lovelace"})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"]), email


async def login(story: Story, email: str, password: str, headers: dict[str, str]) -> Any:
    form = {"grant_type": "password", "username": email, "password": password}
    return await story.program.client.post("/v1/auth/token", data=form, headers=headers)


async def test_a_login(story: Story) -> None:
    user, email = await registered(story)
    trace, headers = traced()
    assert (await login(story, email, PASSWORD, headers)).status_code == 200
    entry = await record(story, f"user:{user}", "login.succeeded", trace)
    assert (entry["actor"], entry["result"]) == (f"customer:{user}", "done")


async def test_a_failed_login(story: Story) -> None:
    user, email = await registered(story)
    trace, headers = traced()
    assert (await login(story, email, "a wrong password", headers)).status_code in (400, 401)
    entry = await record(story, f"user:{user}", "login.failed", trace)
    assert (entry["actor"], entry["result"], entry["details"]["reason"]) == ("anonymous", "refused", "wrong password")
    assert "a wrong password" not in str(entry)


async def test_a_failed_login_of_nobody(story: Story) -> None:
    trace, headers = traced()
    assert (await login(story, f"{new_id()}@example.com", "a wrong password", headers)).status_code in (400, 401)
    entry = await record(story, "user:unknown", "login.failed", trace)
    assert (entry["actor"], entry["details"]["reason"]) == ("anonymous", "unknown user")


async def test_a_change_of_role(story: Story) -> None:
    user, _ = await registered(story)
    trace, headers = traced(await story.program.operator())
    changed = await story.program.client.patch(f"/v1/users/{user}", json={"role": "staff"}, headers=headers)
    assert changed.status_code == 200, changed.text
    entry = await record(story, f"user:{user}", "role.changed", trace)
    assert entry["actor"].endswith(":cli")
    assert entry["details"] == {"before": "customer", "to": "staff"}


async def test_a_change_of_price(story: Story) -> None:
    sku = await story.program.product(stock=0, price=1250)
    trace, headers = traced(await story.program.operator())
    price = {"amount": 990, "currency": "GBP"}
    changed = await story.program.client.patch(f"/v1/products/{sku}", json={"price": price}, headers=headers)
    assert changed.status_code == 200, changed.text
    entry = await record(story, f"product:{sku}", "price.changed", trace)
    assert entry["actor"].endswith(":cli")
    assert entry["details"] == {"before": {"amount": 1250, "currency": "GBP"}, "after": price}


async def test_an_adjustment_of_stock(story: Story) -> None:
    sku = await story.program.product(stock=5)
    trace, headers = traced(await story.program.operator())
    movement = {"kind": "adjust", "quantity": -2, "reason": "broken"}
    moved = await story.program.client.post(f"/v1/stock/{sku}/movements", json=movement, headers=headers)
    assert moved.status_code == 201, moved.text
    entry = await record(story, f"stock:{sku}", "stock.adjusted", trace)
    assert entry["actor"].endswith(":cli")
    assert entry["details"] == {"kind": "adjust", "quantity": -2, "on_hand": 3, "reason": "broken"}


async def test_a_refund_names_who_cancelled_and_stands_in_the_trace_of_the_cancellation(story: Story) -> None:
    user, email = await registered(story)
    token = (await login(story, email, PASSWORD, {})).json()["access_token"]
    who = {"authorization": f"Bearer {token}"}
    sku = await story.program.product(stock=5)
    order_id = (await story.program.place(who, sku)).json()["id"]
    await story.program.ends(who, order_id, "paid")
    trace, headers = traced(who)
    cancelled = await story.program.client.post(f"/v1/orders/{order_id}/cancel", headers=headers)
    assert cancelled.status_code == 202, cancelled.text
    await story.program.ends(who, order_id, "refunded")
    entry = await record(story, f"order:{order_id}", "payment.refunded", trace)
    assert entry["actor"] == f"customer:{user}"
    assert entry["details"]["amount"] == {"amount": 1250, "currency": "GBP"}
