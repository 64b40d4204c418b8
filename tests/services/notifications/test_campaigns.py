"""Campaigns: to whom, when, once; stopped and resumed without doubles."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from caravan.clock import new_id, utc_now
from caravan.jobs import Job, admin
from services.notifications.store.recipients import Recipient, upsert_recipients
from services.notifications.use_cases.campaigns import runs, schedule
from tests.services.notifications.campaigns import BODY, count_readers, create_campaign, create_customers, wait_for_end
from tests.services.notifications.conftest import Carrier, MovedClock
from tests.support.shop import Shop, wait_until


async def test_a_campaign_reaches_every_customer_once_and_none_that_opted_out(
    shop: Shop, carrier: Carrier, nobody: None
) -> None:
    users = await create_customers(shop, 1203)
    for user in users[:3]:
        await shop.client.patch(
            "/v1/users/me/preferences", json={"opt_out": ["promotions"]}, headers=shop.issue_headers(user_id=user)
        )
    found = await wait_for_end(shop, await create_campaign(shop))
    (run,) = found["runs"]
    assert (run["recipients"], run["written"], run["sent"], run["suppressed"], run["pending"]) == (
        1203,
        1203,
        1200,
        3,
        0,
    )
    assert count_readers(carrier) == Counter(str(user) for user in users[3:])
    message = carrier.messages[0]
    assert message.subject == "Tea at half price"
    assert "Only today." in message.text
    assert "Hello User" in message.text
    (_, link), (_, click) = message.headers
    assert click == "List-Unsubscribe=One-Click"
    recipient = message.dedup_key.rpartition(":")[2]
    assert (await shop.client.post(link.strip("<>").removeprefix("https://shop.example"))).status_code == 204
    opted = await shop.client.get("/v1/users/me/preferences", headers=shop.issue_headers(user_id=UUID(recipient)))
    assert opted.json()["opt_out"] == ["promotions"]


async def test_a_recipient_who_can_not_be_written_to_holds_up_no_other(
    shop: Shop, carrier: Carrier, nobody: None
) -> None:
    users = await create_customers(shop, 2)
    async with shop.get_database("notifications").unit_of_work() as uow:
        await upsert_recipients(uow, [Recipient(new_id(), "no address", "Nobody", True, 0, utc_now())])
    (run,) = (await wait_for_end(shop, await create_campaign(shop)))["runs"]
    assert (run["recipients"], run["written"], run["sent"]) == (3, 3, 2)
    assert count_readers(carrier) == Counter(map(str, users))


async def test_a_stopped_campaign_goes_on_where_it_was_without_doubles(
    shop: Shop, nobody: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(Carrier):
        async def send(self, messages: list[Any]) -> list[Any]:
            await asyncio.sleep(0.05)
            return await super().send(messages)

    carrier = Slow()
    monkeypatch.setitem(shop.get_context("notifications").resources.providers, "email", carrier)
    users = await create_customers(shop, 3000)
    made = await create_campaign(shop)

    async def under_way() -> bool:
        return bool(count_readers(carrier))

    await wait_until(under_way)
    stopped = await shop.client.post(f"/v1/campaigns/{made['id']}/stop", headers=shop.issue_headers("staff"))
    assert stopped.status_code == 200
    assert stopped.json()["status"] == "stopped"

    async def quiet() -> bool:
        seen = len(carrier.messages)
        await asyncio.sleep(0.3)
        return len(carrier.messages) == seen

    await wait_until(quiet)
    assert 0 < len(count_readers(carrier)) < 3000
    assert (
        await shop.client.post(f"/v1/campaigns/{made['id']}/resume", headers=shop.issue_headers("staff"))
    ).status_code == 200
    found = await wait_for_end(shop, made, seconds=30)
    assert found["runs"][0]["sent"] == 3000
    assert count_readers(carrier) == Counter(map(str, users))
    for verb in ("stop", "resume"):
        refused = await shop.client.post(f"/v1/campaigns/{made['id']}/{verb}", headers=shop.issue_headers("staff"))
        assert refused.status_code == 409, verb


async def test_ten_replicas_at_once_and_a_crash_between_chunks_send_one_to_each(
    shop: Shop, carrier: Carrier, nobody: None
) -> None:
    context = shop.get_context("notifications")
    users = await create_customers(shop, 1700)
    await admin.set_queue_paused(shop.process.jobs, schedule.CAMPAIGN_JOB, paused=True)
    try:
        made = await create_campaign(shop)

        async def report(done: int, total: int | None = None) -> None:
            if done == 500:
                raise RuntimeError("killed between two chunks")

        job = Job("any", schedule.CAMPAIGN_JOB, {"campaign_id": made["id"]}, 1, None, report, lambda: False)
        outcomes = await asyncio.gather(*(runs.run_campaign(context, job) for _ in range(10)), return_exceptions=True)
        assert any(isinstance(outcome, RuntimeError) for outcome in outcomes)
    finally:
        await admin.set_queue_paused(shop.process.jobs, schedule.CAMPAIGN_JOB, paused=False)
    found = await wait_for_end(shop, made)
    assert found["runs"][0]["sent"] == 1700
    assert count_readers(carrier) == Counter(map(str, users))


async def test_what_a_campaign_can_not_be_is_refused_by_field(shop: Shop) -> None:
    for changes, field in (
        ({"cron": "every day"}, "cron"),
        ({"cron": "* * * * *"}, "cron"),
        ({"cron": "0 9 * * *", "time_zone": "Mars/Olympus"}, "time_zone"),
        ({"subject": "two\nlines"}, "subject"),
        ({"segment": {"age": 3}}, "segment.age"),
        ({"send_at": "2026-01-01T10:00:00"}, "send_at"),
        ({"text": ""}, "text"),
    ):
        answer = await shop.client.post("/v1/campaigns", json={**BODY, **changes}, headers=shop.issue_headers("staff"))
        assert answer.status_code == 422 and answer.json()["errors"][0]["field"] == field, (changes, answer.text)
    both = {**BODY, "cron": "0 9 * * *", "send_at": "2030-01-01T10:00:00Z"}
    assert (await shop.client.post("/v1/campaigns", json=both, headers=shop.issue_headers("staff"))).status_code == 422


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"send_at": timedelta(seconds=-1)}, "send_at"),
        ({"send_at": timedelta(days=-400)}, "send_at"),
        (
            {"segment": {"registered_after": timedelta(days=-1), "registered_before": timedelta(days=-2)}},
            "segment.registered_after",
        ),
        (
            {"segment": {"registered_after": timedelta(days=-1), "registered_before": timedelta(days=-1)}},
            "segment.registered_after",
        ),
        ({"segment": {"registered_after": timedelta(days=1)}}, "segment.registered_after"),
        (
            {"send_at": timedelta(days=1), "segment": {"registered_after": timedelta(days=2)}},
            "segment.registered_after",
        ),
        ({"segment": {"ordered_within_days": 7, "not_ordered_within_days": 30}}, "segment.ordered_within_days"),
        ({"segment": {"ordered_within_days": 30, "not_ordered_within_days": 30}}, "segment.ordered_within_days"),
    ],
)
async def test_a_time_that_has_passed_and_a_segment_that_nobody_can_be_in_are_refused(
    shop: Shop, clock: MovedClock, nobody: None, change: dict[str, Any], field: str
) -> None:
    with clock.stopped():

        def written(value: Any) -> Any:
            if isinstance(value, dict):
                return {name: written(part) for name, part in value.items()}
            return (clock() + value).isoformat() if isinstance(value, timedelta) else value

        answer = await shop.client.post(
            "/v1/campaigns", json={**BODY, **written(change)}, headers=shop.issue_headers("staff")
        )
    assert answer.status_code == 422 and [error["field"] for error in answer.json()["errors"]] == [field], answer.text


async def test_the_same_key_makes_one_campaign(shop: Shop, nobody: None) -> None:
    headers = {**shop.issue_headers("staff", new_id()), "Idempotency-Key": str(new_id())}
    first, second = [await shop.client.post("/v1/campaigns", json=BODY, headers=headers) for _ in range(2)]
    assert first.status_code == second.status_code == 201
    assert first.json() == second.json()


@pytest.mark.slow
async def test_fifty_thousand_get_it_once_while_a_critical_message_overtakes_them(
    shop: Shop, carrier: Carrier, nobody: None
) -> None:
    from services.notifications.messages import CRITICAL_NOTIFICATIONS, SendNotification
    from tests.services.notifications.conftest import ask, row

    users = [user for _ in range(50) for user in await create_customers(shop, 1000)]
    started = asyncio.get_running_loop().time()
    made = await create_campaign(shop)

    async def under_way() -> bool:
        return count_readers(carrier).total() > 1000

    await wait_until(under_way, seconds=60)
    alarm = SendNotification(
        about=f"password:{new_id()}", kind="password_changed", user_id=None, email="ada@example.com"
    )
    asked = asyncio.get_running_loop().time()
    await ask(shop, alarm, queue=CRITICAL_NOTIFICATIONS)

    async def is_sent() -> bool:
        found = await row(shop, alarm.about)
        return bool(found and found["state"] == "sent")

    await wait_until(is_sent)
    overtook = asyncio.get_running_loop().time() - asked
    found = await wait_for_end(shop, made, seconds=300)
    took = asyncio.get_running_loop().time() - started
    print(f"\n50,000 recipients in {took:.1f} s; a critical message among them after {overtook:.2f} s")
    assert found["runs"][0]["sent"] == 50_000
    assert count_readers(carrier) == Counter(map(str, users))
    assert overtook < 2
