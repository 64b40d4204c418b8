"""Step 4: the mailer takes one mail after the other from the queue. Mails wait for it, not customers.

python docs/journey/step4_rabbitmq/mailer.py
"""

import asyncio
import smtplib

from docs.journey.step1_monolith.shop import render_confirmation
from docs.journey.step4_rabbitmq.mail_queue import Mail, connect, declare_queues
from docs.journey.third_parties import send_mail

RETRY_SECONDS = 1


async def deliver_mail(mail: Mail) -> None:
    """Wait for the server as long as it takes.

    Raises SMTPResponseException and SMTPRecipientsRefused: the server answers and refuses this mail.
    """
    while True:
        try:
            return await asyncio.to_thread(send_mail, mail.email, *render_confirmation(mail.order))
        except (smtplib.SMTPResponseException, smtplib.SMTPRecipientsRefused):
            raise
        except (OSError, smtplib.SMTPException) as error:
            print(f"the mail server is unavailable, again in {RETRY_SECONDS} s: {error}", flush=True)
            await asyncio.sleep(RETRY_SECONDS)


async def main() -> None:
    async with await connect() as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=1)
        queue = await declare_queues(channel)
        print("the mailer is running", flush=True)
        async with queue.iterator() as messages:
            async for message in messages:
                mail = Mail.model_validate_json(message.body)
                try:
                    await deliver_mail(mail)
                except smtplib.SMTPException as error:
                    print(f"order {mail.order.id}: {error}", flush=True)
                    await message.nack(requeue=True)  # at once again; the queue counts, and gives up
                else:
                    await message.ack()


if __name__ == "__main__":
    asyncio.run(main())
