"""Further attempts are jobs that can be seen; their rows stay the truth."""

import asyncio
from typing import Any

from caravan.clock import utc_now
from caravan.jobs import Job, admin
from services.payments.providers.protocol import CaptureDecline
from services.payments.use_cases import RETRY_JOB, charge
from tests.services.payments.conftest import Around, Till
from tests.support.shop import wait_until


class Soft(Around):
    """Fails softly as often as it is told."""

    left = 1000

    async def capture(self, *arguments: Any) -> Any:
        if self.left:
            self.left -= 1
            return CaptureDecline("try later", hard=False)
        return await self.real.capture(*arguments)


async def wait_for_job(till: Till, job_id: str, state: str) -> admin.JobStatus:
    async def there() -> admin.JobStatus | None:
        jobs = till.shop.process.jobs
        entries, _ = await admin.list_jobs(jobs, state=state, queue=RETRY_JOB, limit=100)  # type: ignore[arg-type]
        return next((entry for entry in entries if entry.id == f"{RETRY_JOB}:{job_id}"), None)

    found = await wait_until(there)
    assert found is not None
    return found


async def test_a_further_attempt_is_a_delayed_job_with_its_number_and_time(
    till: Till, provider: Any, patient: Any
) -> None:
    flaky = provider(Soft)
    order = till.order()
    await till.capture(order)
    job = await wait_for_job(till, f"{order.order_id}-2", "delayed")
    payment = await till.payment(order.order_id)
    assert job.payload == {"order_id": str(order.order_id), "attempt": 2}
    assert job.trace_id
    assert job.due_at is not None
    assert abs((job.due_at - utc_now()).total_seconds() - 3600) < 5
    assert payment["status"] == "retrying"
    assert payment["attempt"] == 1

    await patient.redis.flushall()  # what Redis forgets, the row tells again
    await till.shop.process.workers.announce_queues()
    await charge.enqueue_missing_retries(patient)
    assert (await wait_for_job(till, f"{order.order_id}-2", "delayed")).due_at is not None

    flaky.left = 0
    await admin.promote_job(till.shop.process.jobs, job.id)
    await till.wait_for(order.order_id, "payment-completed")
    assert await till.ledger(order.order_id) == [("2", "captured")]


async def test_the_same_job_twice_and_late_charges_once(till: Till, provider: Any, patient: Any) -> None:
    flaky = provider(Soft)
    order = till.order()
    await till.capture(order)
    await wait_for_job(till, f"{order.order_id}-2", "delayed")
    flaky.left = 0

    async def report(done: int, total: int | None = None) -> None: ...

    job = Job("any", RETRY_JOB, {"order_id": str(order.order_id), "attempt": 2}, 1, None, report, lambda: False)
    answers = await asyncio.gather(*(charge.retry_capture(patient, job) for _ in range(5)))
    assert sorted(answer["attempt"] for answer in answers) == ["made", *["not wanted any more"] * 4]
    assert await charge.retry_capture(patient, job) == {"attempt": "not wanted any more"}
    assert await till.ledger(order.order_id) == [("2", "captured")]
    completed = await wait_until(lambda: till.shop.read_topic("payment-completed", order.order_id))
    assert len(completed) == 1


async def test_without_its_job_an_attempt_is_made_by_the_sweeper(till: Till, provider: Any) -> None:
    flaky = provider(Soft)
    flaky.left = 1
    await admin.set_queue_paused(till.shop.process.jobs, RETRY_JOB, paused=True)
    try:
        order = till.order()
        await till.capture(order)
        await till.wait_for(order.order_id, "payment-completed")
    finally:
        await admin.set_queue_paused(till.shop.process.jobs, RETRY_JOB, paused=False)
    assert await till.ledger(order.order_id) == [("2", "captured")]
