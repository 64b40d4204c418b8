"""Step 4: the mailer takes one letter after the other from the queue. Letters wait for it, not customers.

python docs/journey/step4_rabbitmq/mailer.py
"""

import asyncio
import smtplib

from docs.journey.step1_monolith.shop import confirmation
from docs.journey.step4_rabbitmq.letters import Letter, connect, declare
from docs.journey.third_parties import send_mail

AGAIN_SECONDS = 1


async def deliver(letter: Letter) -> None:
    """Wait for the server as long as it takes. Raises SMTPResponseException and SMTPRecipientsRefused: it is there, and
    doesn't want this letter.
    """
    while True:
        try:
            return await asyncio.to_thread(send_mail, letter.email, *confirmation(letter.order))
        except (smtplib.SMTPResponseException, smtplib.SMTPRecipientsRefused):
            raise
        except (OSError, smtplib.SMTPException) as error:
            print(f"the mail server is away, again in {AGAIN_SECONDS} s: {error}", flush=True)
            await asyncio.sleep(AGAIN_SECONDS)


async def main() -> None:
    async with await connect() as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=1)
        queue = await declare(channel)
        print("the mailer is running", flush=True)
        async with queue.iterator() as messages:
            async for message in messages:
                letter = Letter.model_validate_json(message.body)
                try:
                    await deliver(letter)
                except smtplib.SMTPException as error:
                    print(f"order {letter.order.id}: {error}", flush=True)
                    await message.nack(requeue=True)  # at once again; the queue counts, and gives up
                else:
                    await message.ack()


if __name__ == "__main__":
    asyncio.run(main())
