"""From an order to its mail by way of a job; and what becomes of it when Redis forgets or is away."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial

import pytest

from caravan.clock import new_id
from caravan.jobs import admin
from services.notifications.messages import CRITICAL_NOTIFICATIONS, SendNotification
from services.notifications.providers.protocol import SendResult
from services.notifications.rendering import RenderedMessage
from services.orders.messages import ORDERS
from services.processing.messages import ORDER_PROCESSED
from tests.services.notifications.conftest import Carrier, ask, back_in_stock, order_created, order_processed, row
from tests.support.shop import Shop, wait_until

STANDARD_SEND = "notifications.standard-send"


@dataclass
class Held(Carrier):
    """A mail server that takes its time until the test lets go."""

    free: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, messages: list[RenderedMessage]) -> list[SendResult]:
        await self.free.wait()
        return await super().send(messages)


@pytest.fixture
async def held(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Held]:
    held = Held()
    parts = shop.get_context("notifications").resources
    monkeypatch.setitem(parts.providers, "email", held)
    yield held
    held.free.set()
    await admin.set_queue_paused(shop.process.jobs, STANDARD_SEND, paused=False)


async def jobs_in(shop: Shop, state: str, queue: str = STANDARD_SEND) -> list[admin.JobStatus]:
    return (await admin.list_jobs(shop.process.jobs, state=state, queue=queue, limit=100))[0]  # type: ignore[arg-type]


async def sent(shop: Shop, about: object, kind: str | None = None) -> bool:
    found = await row(shop, about, kind)
    return bool(found and found["state"] == "sent")


async def test_an_orders_mail_is_seen_waiting_active_and_completed_as_a_job_and_arrives_once(
    shop: Shop, held: Held
) -> None:
    await admin.set_queue_paused(shop.process.jobs, STANDARD_SEND, paused=True)
    order, user = new_id(), new_id()
    await shop.send_message("notifications", ORDERS, order_created(order, user), key=order)
    await shop.send_message("notifications", ORDER_PROCESSED, order_processed(order, user), key=order)
    await wait_until(lambda: jobs_in(shop, "waiting"))
    assert not held.messages
    await admin.set_queue_paused(shop.process.jobs, STANDARD_SEND, paused=False)
    await wait_until(lambda: jobs_in(shop, "active"))
    held.free.set()
    await wait_until(lambda: sent(shop, order, "order_confirmed"))

    async def completed() -> bool:
        return any(job.result["handed_over"] for job in await jobs_in(shop, "completed")) and not await jobs_in(
            shop, "active"
        )

    await wait_until(completed)
    assert [message.kind for message in held.messages if message.dedup_key == str(order)] == ["order_confirmed"]


async def test_two_thousand_orders_are_a_handful_of_jobs(shop: Shop, held: Held) -> None:
    held.free.set()
    before = len(await jobs_in(shop, "completed"))
    commands = [back_in_stock() for _ in range(2000)]
    await ask(shop, *commands)
    await wait_until(lambda: sent(shop, commands[-1].about), seconds=30)
    assert len(await jobs_in(shop, "completed")) - before < 100
    assert len(held.messages) == len({message.key for message in held.messages})


async def test_with_the_standard_queue_paused_critical_messages_go_out(shop: Shop, held: Held) -> None:
    held.free.set()
    await admin.set_queue_paused(shop.process.jobs, STANDARD_SEND, paused=True)
    waits = back_in_stock()
    await ask(shop, waits)
    alarm = SendNotification(
        about=f"password:{new_id()}", kind="password_changed", user_id=None, email="ada@example.com"
    )
    await ask(shop, alarm, queue=CRITICAL_NOTIFICATIONS)
    await wait_until(lambda: sent(shop, alarm.about))
    assert not await sent(shop, waits.about)
    await admin.set_queue_paused(shop.process.jobs, STANDARD_SEND, paused=False)
    await wait_until(lambda: sent(shop, waits.about))


async def test_after_a_flush_every_mail_that_waits_gets_its_job_again(shop: Shop, held: Held) -> None:
    held.free.set()
    await admin.set_queue_paused(shop.process.jobs, STANDARD_SEND, paused=True)
    commands = [back_in_stock() for _ in range(50)]
    await ask(shop, *commands)
    await wait_until(lambda: jobs_in(shop, "waiting"))
    await shop.get_context("notifications").redis.flushall()  # the pause, too
    await shop.process.workers.announce_queues()
    for command in commands:
        await wait_until(partial(sent, shop, command.about))
    assert len({message.key for message in held.messages}) == len(held.messages)
