"""Step 4: orders as in step 3, but a confirmation is a message in a queue, not a call of the mail server.

python docs/journey/step4_rabbitmq/orders.py
"""

import asyncio

import aio_pika
import anyio.from_thread
from aio_pika.exceptions import AMQPError, ChannelInvalidStateError
from fastapi import HTTPException

from docs.journey.step1_monolith.shop import Order, serve
from docs.journey.step2_extracted.orders import charge_card, create_app, create_clients
from docs.journey.step3_gateway.inside import HEADER, read_credential, require_credential
from docs.journey.step4_rabbitmq.mail_queue import QUEUE, Mail, connect, declare_queues

BROKER_SECONDS = 5


async def main() -> None:
    async with await connect() as connection:
        # with publisher confirms: `publish` returns when the broker has the mail on disk
        channel = await connection.channel()
        await declare_queues(channel)

        async def publish(mail: Mail) -> None:
            message = aio_pika.Message(mail.model_dump_json().encode(), delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await channel.default_exchange.publish(message, QUEUE, timeout=BROKER_SECONDS)

        def confirm(email: str, order: Order) -> None:
            try:
                anyio.from_thread.run(publish, Mail(email=email, order=order))
            except (OSError, AMQPError, ChannelInvalidStateError) as error:
                raise HTTPException(503, "the order could not be placed: the mail queue can't be reached") from error

        await serve(
            require_credential(create_app(*create_clients({HEADER: read_credential()}), charge_card, confirm)), 8083
        )


if __name__ == "__main__":
    asyncio.run(main())
