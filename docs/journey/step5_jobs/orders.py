"""Step 5: orders as in step 3, but mail and invoice are jobs, and a card provider that is away doesn't refuse the order: a job asks it again.

python docs/journey/step5_jobs/orders.py
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import anyio.from_thread
from bullmq import Queue
from fastapi import HTTPException
from redis.exceptions import RedisError

from docs.journey.step1_monolith.shop import Order, serve
from docs.journey.step2_extracted.orders import create_app, neighbours
from docs.journey.step3_gateway.inside import HEADER, credential, only_from_inside
from docs.journey.step5_jobs.jobs import BACKOFF_MS, CONNECTION, NAME, add, add_desk
from docs.journey.third_parties import CardProvider, ProviderAway

PENDING = "payment pending"


async def after_payment(queue: Queue, email: str, order: Order) -> None:
    for kind in ("mail", "invoice"):
        await add(queue, kind, order.id, {"email": email, "order": order.model_dump()})


async def main() -> None:
    queue, cards = Queue(NAME, CONNECTION), CardProvider()

    async def charge_later(order: Order, card: str) -> None:
        await add(queue, "charge", order.id, {"order": order.model_dump(), "card": card}, delay_ms=BACKOFF_MS)

    def write_down(adding: Callable[..., Coroutine[Any, Any, None]], *about: object) -> None:
        try:
            anyio.from_thread.run(adding, *about)
        except (OSError, RedisError) as error:
            raise HTTPException(503, "the order could not be placed: the jobs can't be reached") from error

    def pay(order: Order, card: str) -> None:
        try:
            cards.charge(order.id, order.total, card)
        except ProviderAway:
            order.status = PENDING
            write_down(charge_later, order, card)

    def confirm(email: str, order: Order) -> None:
        if order.status != PENDING:
            write_down(after_payment, queue, email, order)

    app = create_app(*neighbours({HEADER: credential()}), pay, confirm)
    add_desk(app, queue)
    await serve(only_from_inside(app), 8083)
    await queue.close()


if __name__ == "__main__":
    asyncio.run(main())
