"""Step 5: orders as in step 3, but mail and invoice are jobs, and an unavailable card provider doesn't refuse the
order: a job charges it later.

python docs/journey/step5_jobs/orders.py
"""

import asyncio

import anyio.from_thread
from bullmq import Queue
from fastapi import HTTPException
from redis.exceptions import RedisError

from docs.journey.step1_monolith.shop import Order, serve
from docs.journey.step2_extracted.orders import create_app, create_clients
from docs.journey.step3_gateway.inside import HEADER, read_credential, require_credential
from docs.journey.step5_jobs.jobs import BACKOFF_MS, CONNECTION, NAME, add_job, add_job_routes
from docs.journey.third_parties import CardProvider, ProviderUnavailable

PENDING = "payment pending"
BROKER_SECONDS = 5


async def add_jobs_after_payment(queue: Queue, email: str, order: Order) -> None:
    for kind in ("mail", "invoice"):
        await add_job(queue, kind, order.id, {"email": email, "order": order.model_dump()})


async def main() -> None:
    queue, cards = Queue(NAME, CONNECTION), CardProvider()

    def pay(order: Order, card: str) -> None:
        try:
            cards.charge(order.id, order.total, card)
        except ProviderUnavailable:
            order.status = PENDING

    def confirm(email: str, order: Order) -> None:
        try:
            anyio.from_thread.run(add_jobs, email, order)
        except (OSError, RedisError) as error:
            raise HTTPException(503, "the order could not be placed: the jobs can't be reached") from error

    async def add_jobs(email: str, order: Order) -> None:
        async with asyncio.timeout(BROKER_SECONDS):
            if order.status == PENDING:
                await add_job(queue, "charge", order.id, {"order": order.model_dump()}, delay_ms=BACKOFF_MS)
            else:
                await add_jobs_after_payment(queue, email, order)

    app = create_app(*create_clients({HEADER: read_credential()}), pay, confirm)
    add_job_routes(app, queue)
    await serve(require_credential(app), 8083)
    await queue.close()


if __name__ == "__main__":
    asyncio.run(main())
