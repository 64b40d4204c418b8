"""A service that has nothing but jobs, for the tests of the kernel; as a program it is what gets killed."""

import asyncio
import sys
from typing import Any

from caravan import telemetry
from caravan.errors import MessageRejected
from caravan.jobs import Interval, Job, Jobs, admin
from caravan.runtime import Backends
from caravan.service import Service, ServiceContext
from tests.support.shop import Shop, run_services, wait_until

NOTE, GATE, LEASH, FEW, TICK = "demo.note-take", "demo.gate-pass", "demo.leash-hold", "demo.few-keep", "demo.clock-tick"
jobs = Jobs("demo")
handled_data: list[Any] = []
"""What the handlers of this process were given, in their order."""
GATES: dict[str, asyncio.Event] = {}


@jobs.job("demo.note-take", attempts=3, backoff_seconds=0.1)
async def take_note(_: Any, job: Job) -> Any:
    handled_data.append(job.data)
    match job.data:
        case {"fails": int(times)} if job.attempt <= times:
            raise ValueError(f"attempt {job.attempt} of order 0198c5a1-0000-7000-8000-000000000000")
        case {"rejects": True}:
            raise MessageRejected("this can't work")
        case {"away": True} if handled_data.count(job.data) == 1:
            raise ConnectionRefusedError("no database")
        case {"traced": True}:
            return {"trace": telemetry.get_trace_id(), "request": telemetry.request_id.get()}
    return {"noted": job.data}


@jobs.job("demo.gate-pass", debounce_seconds=0.05)
async def pass_gate(_: Any, job: Job) -> Any:
    handled_data.append(job.data)
    await job.report_progress(1, 2)
    await GATES.setdefault(job.data, asyncio.Event()).wait()
    return "through"


@jobs.job("demo.leash-hold", lease_seconds=0.5)
async def hold_leash(_: Any, job: Job) -> Any:
    """In the program it never ends; in the test it does."""
    print(f"holding {job.data}", flush=True)
    handled_data.append(job.data)
    await asyncio.sleep(3600 if __name__ == "__main__" else 0)


@jobs.job("demo.few-keep", keep_completed=5, keep_failed=3, attempts=1)
async def keep_few(_: Any, job: Job) -> None:
    if job.data == "fail":
        raise ValueError("as told")


@jobs.job("demo.clock-tick", schedule=Interval(0.2), keep_completed=10)
async def record_tick(_: Any, job: Job) -> None:
    handled_data.append(("tick", job.scheduled_at))


service = Service("demo", jobs=jobs)


def run_demo(backends: Backends) -> Any:
    return run_services(backends, extra_services=(service,))


def get_context(shop: Shop) -> ServiceContext[Any, Any]:
    return shop.get_context("demo")


async def get_job_status(shop: Shop, queue: str, job_id: str) -> admin.JobStatus:
    return await admin.get_job(shop.process.jobs, f"{queue}:{job_id}")


async def wait_for_state(shop: Shop, queue: str, job_id: str, state: str) -> admin.JobStatus:
    async def fetch_if_reached() -> admin.JobStatus | None:
        found = await get_job_status(shop, queue, job_id)
        return found if found.state == state else None

    found = await wait_until(fetch_if_reached)
    assert found is not None
    return found


async def wait_until_completed(shop: Shop, queue: str, job_id: str) -> admin.JobStatus:
    return await wait_for_state(shop, queue, job_id, "completed")


async def main(redis_url: str) -> None:
    """Work on the leashes only, until killed."""
    from caravan.jobs import JobStore, Workers

    store = JobStore(redis_url)

    class JobContext:
        service = "demo"

    workers = Workers(store, [(jobs.job_types["demo.leash-hold"], JobContext())])
    await asyncio.gather(*(run() for _, run in workers.list_background_tasks()))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
