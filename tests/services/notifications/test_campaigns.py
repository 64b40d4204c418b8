"""Campaigns: to whom, when, once; stopped and resumed without doubles."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from caravan.clock import new_id, utc_now
from caravan.jobs import Cron, Job, admin
from services.identity.messages import USER_REGISTERED, USER_UPDATED, UserRegistered, UserUpdated
from services.notifications import store
from services.notifications.store.campaigns import Recipient
from services.notifications.use_cases.campaigns import runs, schedule
from services.orders.messages import ORDERS
from tests.services.notifications.conftest import Carrier, MovedClock, order_created
from tests.support.shop import Shop, wait_until

BODY = {"name": "Spring", "subject": "Tea at half price", "text": "Only today.\n\nCome and see."}


@pytest.fixture
async def carrier(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Carrier:
    carrier = Carrier()
    parts = shop.get_context("notifications").resources
    monkeypatch.setitem(parts.providers, "email", carrier)
    parts.backoffs.clear()
    return carrier


@pytest.fixture
async def nobody(shop: Shop) -> AsyncIterator[None]:
    """No customers but those that the test makes."""
    await shop.get_database("notifications").fetch("DELETE FROM recipient")
    yield
    await shop.get_database("notifications").fetch("UPDATE campaign SET stopped = true")


async def customers(shop: Shop, number: int, registered: datetime | None = None) -> list[UUID]:
    made = [
        Recipient(new_id(), f"user{place}@example.com", f"User {place}", True, 0, registered or utc_now())
        for place in range(number)
    ]
    async with shop.get_database("notifications").unit_of_work() as uow:
        await store.campaigns.upsert_recipients(uow, made)
    return [recipient.user_id for recipient in made]


async def post(shop: Shop, **changes: Any) -> Any:
    answer = await shop.client.post("/v1/campaigns", json={**BODY, **changes}, headers=shop.issue_headers("staff"))
    assert answer.status_code == 201, answer.text
    return answer.json()


async def get(shop: Shop, campaign: dict[str, Any]) -> Any:
    answer = await shop.client.get(f"/v1/campaigns/{campaign['id']}", headers=shop.issue_headers("staff"))
    assert answer.status_code == 200, answer.text
    return answer.json()


async def ended(shop: Shop, campaign: dict[str, Any], status: str = "done", seconds: float = 20) -> dict[str, Any]:
    async def there() -> dict[str, Any] | None:
        found = await get(shop, campaign)
        return (
            found
            if found["status"] == status and found["runs"] and found["runs"][0]["status"] not in ("writing", "sending")
            else None
        )

    found = await wait_until(there, seconds=seconds)
    assert found is not None
    return found


def readers(carrier: Carrier) -> Counter[str]:
    return Counter(message.dedup_key.rpartition(":")[2] for message in carrier.messages if message.kind == "campaign")


async def test_a_campaign_reaches_every_customer_once_and_none_that_opted_out(
    shop: Shop, carrier: Carrier, nobody: None
) -> None:
    users = await customers(shop, 1203)
    for user in users[:3]:
        await shop.client.patch(
            "/v1/users/me/preferences", json={"opt_out": ["promotions"]}, headers=shop.issue_headers(user_id=user)
        )
    found = await ended(shop, await post(shop))
    (run,) = found["runs"]
    assert (run["recipients"], run["written"], run["sent"], run["suppressed"], run["pending"]) == (
        1203,
        1203,
        1200,
        3,
        0,
    )
    assert readers(carrier) == Counter(str(user) for user in users[3:])
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
    users = await customers(shop, 2)
    async with shop.get_database("notifications").unit_of_work() as uow:
        await store.campaigns.upsert_recipients(uow, [Recipient(new_id(), "no address", "Nobody", True, 0, utc_now())])
    (run,) = (await ended(shop, await post(shop)))["runs"]
    assert (run["recipients"], run["written"], run["sent"]) == (3, 3, 2)
    assert readers(carrier) == Counter(map(str, users))


async def test_users_are_known_by_their_events_in_any_order(shop: Shop, carrier: Carrier, nobody: None) -> None:
    user, staff, gone = new_id(), new_id(), new_id()
    late = UserUpdated(
        user_id=user, email="new@example.com", name="Ada B", role="customer", disabled=False, account_version=3
    )
    await shop.send_message("notifications", USER_UPDATED, late, key=user)
    early = UserRegistered(user_id=user, email="old@example.com", name="Ada", role="customer", invited=True)
    await shop.send_message("notifications", USER_REGISTERED, early, key=user)
    await shop.send_message(
        "notifications",
        USER_REGISTERED,
        UserRegistered(user_id=staff, email="s@example.com", name="S", role="staff", invited=True),
        key=staff,
    )
    await shop.send_message(
        "notifications",
        USER_REGISTERED,
        UserRegistered(user_id=gone, email="g@example.com", name="G", role="customer", invited=True),
        key=gone,
    )
    off = UserUpdated(user_id=gone, email="g@example.com", name="G", role="customer", disabled=True, account_version=2)
    await shop.send_message("notifications", USER_UPDATED, off, key=gone)

    async def known() -> bool:
        rows = await shop.get_database("notifications").fetch("SELECT version FROM recipient ORDER BY version")
        return [row[0] for row in rows] == [0, 2, 3]

    await wait_until(known)
    await ended(shop, await post(shop))
    assert [
        (message.recipient, message.text.split("\n")[0]) for message in carrier.messages if message.kind == "campaign"
    ] == [("new@example.com", "Hello Ada B,")]


async def test_a_segment_is_by_registration_and_by_orders(shop: Shop, carrier: Carrier, nobody: None) -> None:
    now = utc_now()
    old, new = (
        (await customers(shop, 1, now - timedelta(days=100)))[0],
        (await customers(shop, 1, now - timedelta(days=1)))[0],
    )
    order = new_id()
    await shop.send_message("notifications", ORDERS, order_created(order, old), key=order)

    async def ordered() -> bool:
        return bool(
            await shop.get_database("notifications").fetchval(
                "SELECT count(*) FROM notification WHERE order_id = $1", order
            )
        )

    await wait_until(ordered)
    for segment, whom in (
        ({"registered_before": (now - timedelta(days=50)).isoformat()}, [old]),
        ({"registered_after": (now - timedelta(days=50)).isoformat()}, [new]),
        ({"ordered_within_days": 7}, [old]),
        ({"not_ordered_within_days": 7}, [new]),
        ({"ordered_within_days": 7, "registered_after": (now - timedelta(days=50)).isoformat()}, []),
    ):
        carrier.messages.clear()
        await ended(shop, await post(shop, segment=segment))
        assert sorted(readers(carrier)) == sorted(map(str, whom)), segment


async def test_a_stopped_campaign_goes_on_where_it_was_without_doubles(
    shop: Shop, nobody: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(Carrier):
        async def send(self, messages: list[Any]) -> list[Any]:
            await asyncio.sleep(0.05)
            return await super().send(messages)

    carrier = Slow()
    monkeypatch.setitem(shop.get_context("notifications").resources.providers, "email", carrier)
    users = await customers(shop, 3000)
    made = await post(shop)

    async def under_way() -> bool:
        return bool(readers(carrier))

    await wait_until(under_way)
    stopped = await shop.client.post(f"/v1/campaigns/{made['id']}/stop", headers=shop.issue_headers("staff"))
    assert stopped.status_code == 200
    assert stopped.json()["status"] == "stopped"

    async def quiet() -> bool:
        seen = len(carrier.messages)
        await asyncio.sleep(0.3)
        return len(carrier.messages) == seen

    await wait_until(quiet)
    assert 0 < len(readers(carrier)) < 3000
    assert (
        await shop.client.post(f"/v1/campaigns/{made['id']}/resume", headers=shop.issue_headers("staff"))
    ).status_code == 200
    found = await ended(shop, made, seconds=30)
    assert found["runs"][0]["sent"] == 3000
    assert readers(carrier) == Counter(map(str, users))
    for verb in ("stop", "resume"):
        refused = await shop.client.post(f"/v1/campaigns/{made['id']}/{verb}", headers=shop.issue_headers("staff"))
        assert refused.status_code == 409, verb


async def test_ten_replicas_at_once_and_a_crash_between_chunks_send_one_to_each(
    shop: Shop, carrier: Carrier, nobody: None
) -> None:
    context = shop.get_context("notifications")
    users = await customers(shop, 1700)
    await admin.set_queue_paused(shop.process.jobs, schedule.CAMPAIGN_JOB, paused=True)
    try:
        made = await post(shop)

        async def report(done: int, total: int | None = None) -> None:
            if done == 500:
                raise RuntimeError("killed between two chunks")

        job = Job("any", schedule.CAMPAIGN_JOB, {"campaign_id": made["id"]}, 1, None, report, lambda: False)
        outcomes = await asyncio.gather(*(runs.run_campaign(context, job) for _ in range(10)), return_exceptions=True)
        assert any(isinstance(outcome, RuntimeError) for outcome in outcomes)
    finally:
        await admin.set_queue_paused(shop.process.jobs, schedule.CAMPAIGN_JOB, paused=False)
    found = await ended(shop, made)
    assert found["runs"][0]["sent"] == 1700
    assert readers(carrier) == Counter(map(str, users))


async def test_a_run_comes_at_its_time_and_its_job_comes_back_when_redis_has_forgotten_it(
    shop: Shop, carrier: Carrier, nobody: None, clock: MovedClock
) -> None:
    await customers(shop, 2)
    context = shop.get_context("notifications")
    made = await post(shop, send_at=(utc_now() + timedelta(hours=2)).isoformat())
    assert (await get(shop, made))["status"] == "scheduled"

    async def job_of() -> admin.JobStatus | None:
        entries, _ = await admin.list_jobs(shop.process.jobs, state="delayed", queue=schedule.CAMPAIGN_JOB, limit=100)
        return next((entry for entry in entries if entry.payload["campaign_id"] == made["id"]), None)

    assert await wait_until(job_of)
    await context.redis.flushall()
    await shop.process.workers.announce_queues()
    assert await job_of() is None
    await schedule.enqueue_missing_jobs(context)
    assert await wait_until(job_of)
    before = clock.ahead
    clock.ahead += timedelta(hours=2)
    try:
        await schedule.enqueue_missing_jobs(
            context
        )  # by the clock of the service it is due; the delayed job is there, and promoted
        job = await job_of()
        if job:
            await admin.promote_job(shop.process.jobs, job.id)
        await ended(shop, made)
    finally:
        clock.ahead = before
    assert readers(carrier).total() == 2


async def test_a_cron_campaign_runs_again_in_its_zone_and_reports_what_it_missed(
    shop: Shop, carrier: Carrier, nobody: None, clock: MovedClock
) -> None:
    await customers(shop, 1)
    context = shop.get_context("notifications")
    made = await post(shop, cron="30 9 * * *", time_zone="Europe/London")
    first = datetime.fromisoformat(made["next_run_at"])
    assert Cron("30 9 * * *", "Europe/London").compute_next_time(utc_now()) == first

    async def report(done: int, total: int | None = None) -> None: ...

    job = Job("any", schedule.CAMPAIGN_JOB, {"campaign_id": made["id"]}, 1, None, report, lambda: False)
    before = clock.ahead
    try:
        clock.ahead = first + timedelta(days=3, minutes=5) - utc_now()  # three days asleep
        await runs.run_campaign(context, job)
        found = await ended(shop, made, "scheduled")
    finally:
        clock.ahead = before
    assert [run["status"] for run in found["runs"]] == ["done", "missed", "missed", "missed"]
    assert datetime.fromisoformat(found["next_run_at"]) == first + timedelta(days=4)
    assert readers(carrier).total() == 1


def test_of_several_runs_that_are_due_only_the_last_is_not_too_late() -> None:
    daily, first = Cron("0 9 * * *"), datetime(2026, 3, 1, 9, tzinfo=UTC)
    assert schedule.compute_occurrences(first, daily, first) == ([(first, False)], first + timedelta(days=1))
    asleep, following = schedule.compute_occurrences(first, daily, first + timedelta(days=2, hours=3))
    assert [missed for _, missed in asleep] == [True, True, True]
    assert following == first + timedelta(days=3)
    assert schedule.compute_occurrences(first, None, first + timedelta(hours=3)) == ([(first, True)], None)


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


async def test_who_ordered_longer_ago_than_notifications_are_kept_is_still_known(
    shop: Shop, carrier: Carrier, clock: MovedClock, nobody: None
) -> None:
    """The history keeps 400 days, a segment may ask for ten years."""
    users = ordered, twice, never = await customers(shop, 3)
    async with shop.get_database("notifications").unit_of_work() as uow:
        for user, days in ((ordered, 650), (twice, 650), (twice, 410)):
            notification_id = UUID(
                int=(int((clock() - timedelta(days=days)).timestamp() * 1000) << 80) + new_id().int % 2**64
            )
            row = store.NotificationRow(
                notification_id,
                str(new_id()),
                "order_received",
                user,
                new_id(),
                "log",
                "ada@example.com",
                "standard",
                "sent",
                None,
            )
            await store.insert_notifications(uow, [row], clock())
    await shop.get_context("notifications").jobs.enqueue("notifications.history-prune")

    async def pruned() -> bool:
        return not await shop.get_database("notifications").fetch(
            "SELECT FROM notification WHERE user_id = ANY($1)", users
        )

    await wait_until(pruned)
    for segment, expected in (
        ({"ordered_within_days": 700}, [ordered, twice]),
        ({"ordered_within_days": 500}, [twice]),
        ({"not_ordered_within_days": 500}, [ordered, never]),
        ({"ordered_within_days": 3650, "not_ordered_within_days": 405}, [ordered, twice]),
        ({"not_ordered_within_days": 700}, [never]),
    ):
        carrier.messages.clear()
        await ended(shop, await post(shop, segment=segment))
        assert sorted(readers(carrier)) == sorted(map(str, expected)), segment


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


async def test_a_segment_that_somebody_can_be_in_is_taken(shop: Shop, carrier: Carrier, nobody: None) -> None:
    later, latest = ((utc_now() + timedelta(days=days)).isoformat() for days in (1, 2))
    await post(shop, segment={"ordered_within_days": 90, "not_ordered_within_days": 30}, send_at=later)
    await post(shop, segment={"registered_after": later, "registered_before": latest}, cron="0 9 * * *")
    await post(shop, segment={"registered_after": later}, send_at=latest)


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

    users = [user for _ in range(50) for user in await customers(shop, 1000)]
    started = asyncio.get_running_loop().time()
    made = await post(shop)

    async def under_way() -> bool:
        return readers(carrier).total() > 1000

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
    found = await ended(shop, made, seconds=300)
    took = asyncio.get_running_loop().time() - started
    print(f"\n50,000 recipients in {took:.1f} s; a critical message among them after {overtook:.2f} s")
    assert found["runs"][0]["sent"] == 50_000
    assert readers(carrier) == Counter(map(str, users))
    assert overtook < 2
