"""Step 4: the mailer takes one mail after the other from the queue. Mails wait for it, not customers.

python docs/journey/step4_rabbitmq/mailer.py
"""

import asyncio
import smtplib

from docs.journey.step1_monolith.shop import confirmation
from docs.journey.step4_rabbitmq.mail_queue import Mail, connect, declare
from docs.journey.third_parties import send_mail

AGAIN_SECONDS = 1


async def deliver(mail: Mail) -> None:
    """Wait for the server as long as it takes.

    Raises SMTPResponseException and SMTPRecipientsRefused: the server answers and refuses this mail.
    """
    while True:
        try:
            return await asyncio.to_thread(send_mail, mail.email, *confirmation(mail.order))
        except (smtplib.SMTPResponseException, smtplib.SMTPRecipientsRefused):
            raise
        except (OSError, smtplib.SMTPException) as error:
            print(f"the mail server is unavailable, again in {AGAIN_SECONDS} s: {error}", flush=True)
            await asyncio.sleep(AGAIN_SECONDS)


async def main() -> None:
    async with await connect() as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=1)
        queue = await declare(channel)
        print("the mailer is running", flush=True)
        async with queue.iterator() as messages:
            async for message in messages:
                mail = Mail.model_validate_json(message.body)
                try:
                    await deliver(mail)
                except smtplib.SMTPException as error:
                    print(f"order {mail.order.id}: {error}", flush=True)
                    await message.nack(requeue=True)  # at once again; the queue counts, and gives up
                else:
                    await message.ack()


if __name__ == "__main__":
    asyncio.run(main())
