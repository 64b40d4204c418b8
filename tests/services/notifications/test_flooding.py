"""An address that is not known to be its user's gets a limited number of mails, whoever counts them."""

import asyncio

from caravan.clock import new_id
from services.identity.messages import USER_REGISTERED, UserRegistered
from services.notifications.messages import CRITICAL_NOTIFICATIONS, SendNotification
from services.notifications.model import KINDS, NotificationRequest
from services.notifications.use_cases.accept import accept_requests
from services.processing.messages import ORDER_PROCESSED
from tests.services.notifications.conftest import ask, order_processed
from tests.services.notifications.test_triggers import settled
from tests.support.shop import Shop, wait_until


async def test_whoever_registers_somebody_elses_address_can_not_have_it_flooded(shop: Shop) -> None:
    stranger, known = new_id(), new_id()
    for user, invited in ((stranger, False), (known, True)):
        registered = UserRegistered(user_id=user, email="v@example.com", name="V", role="customer", invited=invited)
        await shop.send_message("notifications", USER_REGISTERED, registered, key=user)
    await wait_until(
        lambda: shop.get_database("notifications").fetch("SELECT FROM recipient WHERE user_id = $1", known)
    )
    limit = shop.get_context("notifications").settings.unverified_mails_per_day
    for user in (stranger, known):
        for _ in range(limit + 5):
            order = new_id()
            await shop.send_message(
                "notifications",
                ORDER_PROCESSED,
                order_processed(order, user, "payment_failed", "card_declined"),
                key=order,
            )
        changed = SendNotification(
            about=f"password:{new_id()}", kind="password_changed", user_id=user, email="v@example.com"
        )
        await ask(shop, changed, queue=CRITICAL_NOTIFICATIONS)

    async def states(user: object) -> dict[str, int]:
        rows = await shop.get_database("notifications").fetch(
            "SELECT state, count(*) FROM notification WHERE user_id = $1 AND kind = ANY($2) GROUP BY 1",
            user,
            ["payment_failed", "password_changed"],
        )
        found = {row[0]: row[1] for row in rows}
        assert sum(found.values()) == limit + 6
        assert "pending" not in found
        return found

    assert await wait_until(lambda: states(known), seconds=30) == {"sent": limit + 6}
    assert await wait_until(lambda: states(stranger), seconds=30) == {"sent": limit, "suppressed": 6}
    bought = new_id()
    await shop.send_message("notifications", ORDER_PROCESSED, order_processed(bought, stranger), key=bought)
    await settled(shop, bought, "order_confirmed")


async def test_of_two_that_count_at_once_only_one_finds_the_last_mail_free(shop: Shop) -> None:
    context, database, user = shop.get_context("notifications"), shop.get_database("notifications"), new_id()
    registered = UserRegistered(user_id=user, email="w@example.com", name="W", role="customer", invited=False)
    await shop.send_message("notifications", USER_REGISTERED, registered, key=user)
    await wait_until(lambda: database.fetch("SELECT FROM recipient WHERE user_id = $1", user))

    async def accept(number: int) -> None:
        requests = [
            NotificationRequest(f"password:{new_id()}", KINDS["password_changed"], user, "w@example.com")
            for _ in range(number)
        ]
        async with database.unit_of_work() as uow:
            await accept_requests(context, uow, requests)
            has_counted.set()
            await may_commit.wait()

    has_counted, may_commit = asyncio.Event(), asyncio.Event()
    may_commit.set()
    await accept(context.settings.unverified_mails_per_day - 1)
    has_counted.clear()
    may_commit.clear()
    first = asyncio.create_task(accept(1))
    await has_counted.wait()
    second = asyncio.create_task(accept(1))
    await wait_until(
        lambda: database.fetch(
            "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%recipient%'"
        )
    )
    may_commit.set()
    await asyncio.gather(first, second)
    rows = await database.fetch("SELECT FROM notification WHERE user_id = $1 AND state <> 'suppressed'", user)
    assert len(rows) == context.settings.unverified_mails_per_day
