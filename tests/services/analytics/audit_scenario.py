"""Requests of customers and staff in the whole shop, each in a trace of its own, and their entries in the audit log."""

import secrets
from datetime import timedelta
from typing import Any

import orjson

from caravan.clock import new_id, utc_now
from caravan.jobs import JobRequest
from services.notifications.store.addresses import UndeliverableAddress, note_undeliverable
from services.notifications.store.notifications import NotificationRow, insert_notifications
from tests.support.scenario import ShopScenario
from tests.support.shop import wait_until

PASSWORD = "a long enough password"


def make_traced_headers(headers: dict[str, str] | None = None) -> tuple[str, dict[str, str]]:
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


async def register_user(scenario: ShopScenario) -> tuple[str, str]:
    """Id and address of a new customer."""
    email = f"{new_id()}@example.com"
    answer = await scenario.program.client.post(
        "/v1/users", json={"email": email, "password": PASSWORD, "name": "Ada Lovelace"}
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"]), email


async def log_in(scenario: ShopScenario, email: str, password: str, headers: dict[str, str]) -> Any:
    form = {"grant_type": "password", "username": email, "password": password}
    return await scenario.program.client.post("/v1/auth/token", data=form, headers=headers)


PRODUCT = {
    "name": "Thing",
    "description": "",
    "category": "audited",
    "price": {"amount": 100, "currency": "GBP"},
    "attributes": {},
}


async def create_product(scenario: ShopScenario) -> str:
    return await scenario.program.create_product(stock=5)


QUEUE = "payments.capture-retry"


async def create_failed_job(scenario: ShopScenario) -> str:
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


async def create_delayed_job(scenario: ShopScenario) -> str:
    (job,) = await scenario.shop.get_context("payments").jobs.enqueue(
        QUEUE, JobRequest({"nonsense": True}, delay=timedelta(hours=1))
    )
    return f"{QUEUE}:{job}"


async def find_failure(scenario: ShopScenario) -> str:
    """The id that a failed job has in the list of dead letters."""
    job = await create_failed_job(scenario)
    listed = (
        await scenario.program.client.get(
            "/v1/failures", params={"limit": 100}, headers=await scenario.program.authorize_operator()
        )
    ).json()
    return str(next(item["id"] for item in listed["items"] if item["message_id"] == job))


async def create_sent_notification(scenario: ShopScenario) -> str:
    values = orjson.dumps({"sku": "MUG"}).decode()
    row = NotificationRow(
        new_id(), str(new_id()), "back_in_stock", None, None, "log", "a@example.com", "standard", "sent", values
    )
    async with scenario.shop.get_database("notifications").unit_of_work() as uow:
        await insert_notifications(uow, [row], utc_now())
    return str(row.id)


async def create_undeliverable_address(scenario: ShopScenario) -> str:
    address = f"{new_id()}@example.com"
    async with scenario.shop.get_database("notifications").unit_of_work() as uow:
        await note_undeliverable(uow, [UndeliverableAddress(address, "bounce", "550 no such user")], utc_now())
    return address


async def create_user(scenario: ShopScenario) -> str:
    return (await register_user(scenario))[0]


async def prepare_nothing(_: ShopScenario) -> str:
    return str(new_id())
