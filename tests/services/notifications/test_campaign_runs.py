"""When a campaign runs: at a time, by a schedule, and which runs come too late."""

from datetime import UTC, datetime, timedelta

from caravan.clock import utc_now
from caravan.jobs import Cron, Job, admin
from services.notifications.use_cases.campaigns import runs, schedule
from tests.services.notifications.campaigns import (
    count_readers,
    create_campaign,
    create_customers,
    get_campaign,
    wait_for_end,
)
from tests.services.notifications.conftest import Carrier, MovedClock
from tests.support.shop import Shop, wait_until


async def test_a_run_comes_at_its_time_and_its_job_comes_back_when_redis_has_forgotten_it(
    shop: Shop, carrier: Carrier, nobody: None, clock: MovedClock
) -> None:
    await create_customers(shop, 2)
    context = shop.get_context("notifications")
    made = await create_campaign(shop, send_at=(utc_now() + timedelta(hours=2)).isoformat())
    assert (await get_campaign(shop, made))["status"] == "scheduled"

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
        await wait_for_end(shop, made)
    finally:
        clock.ahead = before
    assert count_readers(carrier).total() == 2


async def test_a_cron_campaign_runs_again_in_its_zone_and_reports_what_it_missed(
    shop: Shop, carrier: Carrier, nobody: None, clock: MovedClock
) -> None:
    await create_customers(shop, 1)
    context = shop.get_context("notifications")
    made = await create_campaign(shop, cron="30 9 * * *", time_zone="Europe/London")
    first = datetime.fromisoformat(made["next_run_at"])
    assert Cron("30 9 * * *", "Europe/London").compute_next_time(utc_now()) == first

    async def report(done: int, total: int | None = None) -> None: ...

    job = Job("any", schedule.CAMPAIGN_JOB, {"campaign_id": made["id"]}, 1, None, report, lambda: False)
    before = clock.ahead
    try:
        clock.ahead = first + timedelta(days=3, minutes=5) - utc_now()  # three days asleep
        await runs.run_campaign(context, job)
        found = await wait_for_end(shop, made, "scheduled")
    finally:
        clock.ahead = before
    assert [run["status"] for run in found["runs"]] == ["done", "missed", "missed", "missed"]
    assert datetime.fromisoformat(found["next_run_at"]) == first + timedelta(days=4)
    assert count_readers(carrier).total() == 1


def test_of_several_runs_that_are_due_only_the_last_is_not_too_late() -> None:
    daily, first = Cron("0 9 * * *"), datetime(2026, 3, 1, 9, tzinfo=UTC)
    assert schedule.compute_occurrences(first, daily, first) == ([(first, False)], first + timedelta(days=1))
    asleep, following = schedule.compute_occurrences(first, daily, first + timedelta(days=2, hours=3))
    assert [missed for _, missed in asleep] == [True, True, True]
    assert following == first + timedelta(days=3)
    assert schedule.compute_occurrences(first, None, first + timedelta(hours=3)) == ([(first, True)], None)
