"""A service that has nothing but jobs, for the tests of the kernel; as a program it is what gets killed."""

import asyncio
import sys
from typing import Any

from caravan import telemetry
from caravan.errors import Reject
from caravan.jobs import Every, Job, Jobs
from caravan.runtime import Backends
from caravan.service import Context, Service
from tests.shop import Shop, running

jobs = Jobs("demo")
ran: list[Any] = []
"""What the handlers of this process were given, in their order."""
GATES: dict[str, asyncio.Event] = {}


@jobs.job("demo.note-take", attempts=3, backoff_seconds=0.1)
async def take_note(_: Any, job: Job) -> Any:
    ran.append(job.data)
    match job.data:
        case {"fails": int(times)} if job.attempt <= times:
            raise ValueError(f"attempt {job.attempt} of order 0198c5a1-0000-7000-8000-000000000000")
        case {"rejects": True}:
            raise Reject("this can't work")
        case {"away": True} if ran.count(job.data) == 1:
            raise ConnectionRefusedError("no database")
        case {"traced": True}:
            return {"trace": telemetry.trace_id(), "request": telemetry.request_id.get()}
    return {"noted": job.data}


@jobs.job("demo.gate-pass", gather_seconds=0.05)
async def pass_gate(_: Any, job: Job) -> Any:
    ran.append(job.data)
    await job.report(1, 2)
    await GATES.setdefault(job.data, asyncio.Event()).wait()
    return "through"


@jobs.job("demo.leash-hold", lease_seconds=0.5)
async def hold_leash(_: Any, job: Job) -> Any:
    """In the program it never ends; in the test it does."""
    print(f"holding {job.data}", flush=True)
    ran.append(job.data)
    await asyncio.sleep(3600 if __name__ == "__main__" else 0)


@jobs.job("demo.few-keep", keep_completed=5, keep_failed=3, attempts=1)
async def keep_few(_: Any, job: Job) -> None:
    if job.data == "fail":
        raise ValueError("as told")


@jobs.job("demo.clock-tick", schedule=Every(0.2), keep_completed=10)
async def tick(_: Any, job: Job) -> None:
    ran.append(("tick", job.due))


service = Service("demo", jobs=jobs)


def demo(backends: Backends) -> Any:
    return running(backends, extra=(service,))


def context(shop: Shop) -> Context[Any, Any]:
    return shop.context("demo")


async def main(redis_url: str) -> None:
    """Work on the leashes only, until killed."""
    from caravan.jobs import JobStore, Workers

    store = JobStore(redis_url)

    class Here:
        service = "demo"

    workers = Workers(store, [(jobs.declared["demo.leash-hold"], Here())])
    await asyncio.gather(*(work() for _, work in workers.tasks()))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
