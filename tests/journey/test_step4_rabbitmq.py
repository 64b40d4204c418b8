"""Step 4 of the journey: a mail server or a mailer that is down doesn't cost an order."""

from collections.abc import AsyncIterator

import aio_pika
import pytest

from caravan.clock import new_id
from tests.journey.early_shop import EarlyShop, SameApi, early_shop, start_behind_gateway
from tests.support.backends import Broker
from tests.support.shop import wait_until


@pytest.fixture(scope="module")
async def shop(rabbitmq: Broker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EarlyShop]:
    queue = f"journey.{new_id()}"
    async with early_shop(tmp_path_factory.mktemp("step4"), RABBITMQ_URL=rabbitmq.url, MAIL_QUEUE=queue) as shop:
        await start_behind_gateway(shop, "step4_rabbitmq/orders.py")
        await shop.start("step4_rabbitmq/mailer.py")
        yield shop
    async with await aio_pika.connect(rabbitmq.url) as connection:
        channel = await connection.channel()
        for name in (queue, f"{queue}.dead"):
            await channel.queue_delete(name)


async def waiting(broker: Broker, queue: str) -> int:
    async with await aio_pika.connect(broker.url) as connection:
        channel = await connection.channel()
        return (await channel.declare_queue(queue, passive=True)).declaration_result.message_count or 0


class TestMailInAQueue(SameApi):
    async def test_the_mail_server_is_down_and_the_order_is_accepted_and_the_mail_comes_later(
        self, shop: EarlyShop
    ) -> None:
        customer = await shop.customer()
        shop.mail.stop()
        try:
            answer = await shop.place(customer)
            assert answer.status_code == 201
            assert (await shop.orders())[answer.json()["id"]] == "confirmed"
            assert customer["email"] not in shop.mail.sent_to
        finally:
            shop.mail.start()
        await shop.got_mail(customer)
        assert shop.mail.sent_to.count(customer["email"]) == 1

    async def test_the_mailer_is_killed_and_what_it_held_is_sent_by_the_next_one(self, shop: EarlyShop) -> None:
        first, second = await shop.customer(), await shop.customer()
        shop.mail.stop()
        assert (await shop.place(first)).status_code == 201  # the mailer takes this mail, and can't send it
        await shop.kill("mailer")
        shop.mail.start()
        assert (await shop.place(second)).status_code == 201
        await shop.start("step4_rabbitmq/mailer.py")
        await shop.got_mail(first)
        await shop.got_mail(second)

    async def test_a_mail_that_fails_again_and_again_ends_where_nobody_tries_it(
        self, shop: EarlyShop, rabbitmq: Broker
    ) -> None:
        customer = await shop.customer()
        shop.mail.refused.add(customer["email"])
        assert (await shop.place(customer)).status_code == 201
        dead = shop.settings["MAIL_QUEUE"] + ".dead"

        async def given_up() -> bool:
            return await waiting(rabbitmq, dead) == 1

        await wait_until(given_up, seconds=30)
        assert shop.mail.attempts.count(customer["email"]) == 5, "five tries in a row, without a pause between them"
        shop.mail.refused.clear()
        assert (await shop.place(await shop.customer())).status_code == 201
        assert await waiting(rabbitmq, dead) == 1, "the mailbox has room again, and the mail stays where it is"
        assert customer["email"] not in shop.mail.sent_to
