"""Which customers a campaign is for."""

from datetime import timedelta
from uuid import UUID

from caravan.clock import new_id, utc_now
from services.identity.messages import USER_REGISTERED, USER_UPDATED, UserRegistered, UserUpdated
from services.notifications.store import notifications
from services.orders.messages import ORDERS
from tests.services.notifications.campaigns import count_readers, create_campaign, create_customers, wait_for_end
from tests.services.notifications.conftest import Carrier, MovedClock, order_created
from tests.support.shop import Shop, wait_until


async def test_users_are_known_by_their_events_in_any_order(shop: Shop, carrier: Carrier, nobody: None) -> None:
    user, staff, gone = new_id(), new_id(), new_id()
    late = UserUpdated(
        user_id=user, email="new@example.com", name="Ada B", role="customer", disabled=False, account_version=3
    )
    await shop.send_message("notifications", USER_UPDATED, late, key=user)
    early = UserRegistered(user_id=user, email="old@example.com", name="Ada", role="customer", invited=True)
    await shop.send_message("notifications", USER_REGISTERED, early, key=user)
    await shop.send_message(
        "notifications",
        USER_REGISTERED,
        UserRegistered(user_id=staff, email="s@example.com", name="S", role="staff", invited=True),
        key=staff,
    )
    await shop.send_message(
        "notifications",
        USER_REGISTERED,
        UserRegistered(user_id=gone, email="g@example.com", name="G", role="customer", invited=True),
        key=gone,
    )
    off = UserUpdated(user_id=gone, email="g@example.com", name="G", role="customer", disabled=True, account_version=2)
    await shop.send_message("notifications", USER_UPDATED, off, key=gone)

    async def known() -> bool:
        rows = await shop.get_database("notifications").fetch("SELECT version FROM recipient ORDER BY version")
        return [row[0] for row in rows] == [0, 2, 3]

    await wait_until(known)
    await wait_for_end(shop, await create_campaign(shop))
    assert [
        (message.recipient, message.text.split("\n")[0]) for message in carrier.messages if message.kind == "campaign"
    ] == [("new@example.com", "Hello Ada B,")]


async def test_a_segment_is_by_registration_and_by_orders(shop: Shop, carrier: Carrier, nobody: None) -> None:
    now = utc_now()
    old, new = (
        (await create_customers(shop, 1, now - timedelta(days=100)))[0],
        (await create_customers(shop, 1, now - timedelta(days=1)))[0],
    )
    order = new_id()
    await shop.send_message("notifications", ORDERS, order_created(order, old), key=order)

    async def ordered() -> bool:
        return bool(
            await shop.get_database("notifications").fetchval(
                "SELECT count(*) FROM notification WHERE order_id = $1", order
            )
        )

    await wait_until(ordered)
    for segment, whom in (
        ({"registered_before": (now - timedelta(days=50)).isoformat()}, [old]),
        ({"registered_after": (now - timedelta(days=50)).isoformat()}, [new]),
        ({"ordered_within_days": 7}, [old]),
        ({"not_ordered_within_days": 7}, [new]),
        ({"ordered_within_days": 7, "registered_after": (now - timedelta(days=50)).isoformat()}, []),
    ):
        carrier.messages.clear()
        await wait_for_end(shop, await create_campaign(shop, segment=segment))
        assert sorted(count_readers(carrier)) == sorted(map(str, whom)), segment


async def test_who_ordered_longer_ago_than_notifications_are_kept_is_still_known(
    shop: Shop, carrier: Carrier, clock: MovedClock, nobody: None
) -> None:
    """The history keeps 400 days, a segment may ask for ten years."""
    users = ordered, twice, never = await create_customers(shop, 3)
    async with shop.get_database("notifications").unit_of_work() as uow:
        for user, days in ((ordered, 650), (twice, 650), (twice, 410)):
            notification_id = UUID(
                int=(int((clock() - timedelta(days=days)).timestamp() * 1000) << 80) + new_id().int % 2**64
            )
            row = notifications.NotificationRow(
                notification_id,
                str(new_id()),
                "order_received",
                user,
                new_id(),
                "log",
                "ada@example.com",
                "standard",
                "sent",
                None,
            )
            await notifications.insert_notifications(uow, [row], clock())
    await shop.get_context("notifications").jobs.enqueue("notifications.history-prune")

    async def pruned() -> bool:
        return not await shop.get_database("notifications").fetch(
            "SELECT FROM notification WHERE user_id = ANY($1)", users
        )

    await wait_until(pruned)
    for segment, expected in (
        ({"ordered_within_days": 700}, [ordered, twice]),
        ({"ordered_within_days": 500}, [twice]),
        ({"not_ordered_within_days": 500}, [ordered, never]),
        ({"ordered_within_days": 3650, "not_ordered_within_days": 405}, [ordered, twice]),
        ({"not_ordered_within_days": 700}, [never]),
    ):
        carrier.messages.clear()
        await wait_for_end(shop, await create_campaign(shop, segment=segment))
        assert sorted(count_readers(carrier)) == sorted(map(str, expected)), segment


async def test_a_segment_that_somebody_can_be_in_is_taken(shop: Shop, carrier: Carrier, nobody: None) -> None:
    later, latest = ((utc_now() + timedelta(days=days)).isoformat() for days in (1, 2))
    await create_campaign(shop, segment={"ordered_within_days": 90, "not_ordered_within_days": 30}, send_at=later)
    await create_campaign(shop, segment={"registered_after": later, "registered_before": latest}, cron="0 9 * * *")
    await create_campaign(shop, segment={"registered_after": later}, send_at=latest)
