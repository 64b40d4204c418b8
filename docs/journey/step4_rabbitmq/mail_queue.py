"""Step 4: the mail queue. Orders writes to it, the mailer reads from it.

Neither has to run while the other does.
"""

import os

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractQueue, AbstractRobustConnection
from pydantic import BaseModel

from docs.journey.step1_monolith.shop import Order

QUEUE = os.environ.get("MAIL_QUEUE", "journey.mail")
DEAD = f"{QUEUE}.dead"
ATTEMPTS = 5


class Mail(BaseModel):
    email: str
    order: Order


async def connect() -> AbstractRobustConnection:
    return await aio_pika.connect_robust(os.environ.get("RABBITMQ_URL", "amqp://guest:guest@127.0.0.1/"), timeout=10)


async def declare_queues(channel: AbstractChannel) -> AbstractQueue:
    """A quorum queue: on disk, and it counts deliveries.

    A mail that was refused ATTEMPTS times goes to the dead-letter queue.
    """
    await channel.declare_queue(DEAD, durable=True, arguments={"x-queue-type": "quorum"})
    dead_lettering = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": DEAD}
    return await channel.declare_queue(
        QUEUE, durable=True, arguments={"x-queue-type": "quorum", "x-delivery-limit": ATTEMPTS - 1, **dead_lettering}
    )
