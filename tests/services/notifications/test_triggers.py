"""Which event makes which message, once."""

from typing import Any

import pytest

from caravan.clock import new_id
from caravan.money import Money
from caravan.runtime import list_subscriptions
from services.identity.messages import USER_REGISTERED, USER_UPDATED, UserRegistered, UserUpdated
from services.notifications.consumers import KIND_BY_OUTCOME
from services.notifications.messages import CRITICAL_NOTIFICATIONS, EMAILS_BY_OUTCOME, SendNotification
from services.notifications.model import KINDS
from services.orders.messages import ORDERS, OrderCancellationRefused, OrderCancelled
from services.processing.messages import ORDER_PROCESSED
from services.shipping.messages import ORDER_SHIPPED, OrderShipped, Parcel
from tests.services.notifications.conftest import (
    Mailbox,
    ask,
    back_in_stock,
    order_created,
    order_processed,
    row,
    text_of,
)
from tests.support.shop import Shop, wait_until


async def settled(shop: Shop, about: object, *kinds: str) -> Any:
    """The rows about something, when exactly these kinds are sent."""

    async def sent() -> Any:
        rows = await shop.get_database("notifications").fetch(
            "SELECT kind, state, channel, user_id FROM notification WHERE about = $1", str(about)
        )
        done = sorted((r["kind"], r["state"]) for r in rows) == sorted((kind, "sent") for kind in kinds)
        return {r["kind"]: r for r in rows} if done else None

    return await wait_until(sent)


async def test_a_shipped_order_gets_two_mails_and_a_log_message_however_often_the_events_come(
    shop: Shop, mailbox: Mailbox
) -> None:
    order, user = new_id(), new_id()
    shipped = OrderShipped(
        order_id=order,
        email="ada@example.com",
        carrier="DHL",
        tracking_number="T-1",
        parcels=[Parcel(sku="MUG", quantity=2)],
    )
    for channel, event in (
        (ORDERS, order_created(order, user)),
        (ORDER_PROCESSED, order_processed(order, user)),
        (ORDER_SHIPPED, shipped),
    ):
        same = new_id()
        for identifier in (same, same, same, new_id(), new_id()):
            await shop.send_message("notifications", channel, event, key=order, message_id=identifier)
    rows = await settled(shop, order, "order_received", "order_confirmed", "order_shipped")
    assert rows["order_received"]["channel"] == "log"
    confirmed, shipment = sorted(mailbox.mails(order), key=lambda mail: str(mail["subject"]))
    assert confirmed["subject"] == "Your order is confirmed: 1,234.56 GBP"
    assert "DHL T-1" in shipment["subject"]
    assert "2 x MUG" in text_of(shipment)
    assert "2 × MUG" in text_of(shipment, "html")
    assert not (await shop.process.bus.list_dead_letters(list_subscriptions(shop.process.services)))


async def test_a_shipment_belongs_to_the_orders_owner_even_when_it_is_heard_of_first(shop: Shop) -> None:
    order, user = new_id(), new_id()
    shipped = OrderShipped(order_id=order, email="ada@example.com", carrier="DHL", tracking_number="T-1", parcels=[])
    await shop.send_message("notifications", ORDER_SHIPPED, shipped, key=order)
    await settled(shop, order, "order_shipped")
    await shop.send_message("notifications", ORDER_PROCESSED, order_processed(order, user), key=order)
    await settled(shop, order, "order_shipped", "order_confirmed")
    shop.get_context("notifications").wake("measure-waiting")
    await wait_until(lambda: owner_of(shop, order, "order_shipped", user))


async def owner_of(shop: Shop, about: object, kind: str, user: object) -> bool:
    found = await row(shop, about, kind)
    return bool(found and found["user_id"] == user)


REASONS = (
    ("rejected", "not enough\r\nstock of MUG", "Reason: not enough stock of MUG"),
    ("payment_failed", "card_declined", "Reason: your bank declined the card"),
    ("payment_failed", "invalid_token", "Reason: the means of payment is not valid"),
    ("payment_failed", "try_again_later", "Reason: the payment was not accepted"),
)


@pytest.mark.parametrize(("outcome", "reason", "says"), REASONS)
async def test_an_order_that_fails_gets_one_mail_with_the_reason_in_words(
    shop: Shop, mailbox: Mailbox, outcome: str, reason: str, says: str
) -> None:
    order = new_id()
    await shop.send_message(
        "notifications", ORDER_PROCESSED, order_processed(order, new_id(), outcome, reason), key=order
    )
    await settled(shop, order, *EMAILS_BY_OUTCOME[outcome])
    (mail,) = mailbox.mails(order)
    for kind in ("plain", "html"):
        assert says in text_of(mail, kind)
        assert "_" not in text_of(mail, kind).partition("Reason:")[2].partition("\n")[0]


async def test_a_mail_of_a_cancellation_carries_nobodys_own_text(shop: Shop, mailbox: Mailbox) -> None:
    """Anybody may have registered the address: the shop's mail must not say what they want."""
    order, user = new_id(), new_id()
    spam = "You won 500 GBP http://prize.example"
    cancelled = OrderCancelled(order_id=order, user_id=user, email="ada@example.com", reason=spam, refunded=None)
    await shop.send_message("notifications", ORDERS, cancelled, key=order)
    await settled(shop, order, *EMAILS_BY_OUTCOME["cancelled"])
    (mail,) = mailbox.mails(order)
    assert "prize" not in text_of(mail) + text_of(mail, "html")


async def test_a_customer_is_told_that_a_cancellation_came_too_late(shop: Shop, mailbox: Mailbox) -> None:
    order, user = new_id(), new_id()
    refused = OrderCancellationRefused(
        order_id=order, user_id=user, email="ada@example.com", reason="the parcel has left already"
    )
    for _ in range(2):
        await shop.send_message("notifications", ORDERS, refused, key=order)
    await settled(shop, order, "cancellation_refused")
    (mail,) = mailbox.mails(order)
    assert mail["subject"] == "Your order could not be cancelled"
    assert "the parcel has left already" in text_of(mail, "html")


@pytest.mark.parametrize(
    ("refunded", "says"), [(Money(amount=500, currency="JPY"), "500 JPY"), (None, "You have not been charged")]
)
async def test_a_cancelled_order_gets_one_mail_that_names_the_refund(
    shop: Shop, mailbox: Mailbox, refunded: Money | None, says: str
) -> None:
    order, user = new_id(), new_id()
    await shop.send_message("notifications", ORDER_PROCESSED, order_processed(order, user, "cancelled"), key=order)
    await shop.send_message(
        "notifications",
        ORDERS,
        OrderCancelled(order_id=order, user_id=user, email="ada@example.com", reason="asked", refunded=refunded),
        key=order,
    )
    await settled(shop, order, *EMAILS_BY_OUTCOME["cancelled"])
    (mail,) = mailbox.mails(order)
    assert says in text_of(mail)
    assert says in text_of(mail, "html")


async def test_who_registers_gets_no_mail_that_holds_the_name(shop: Shop, mailbox: Mailbox) -> None:
    """The address may be anybody's until its owner has verified it; identity asks for the welcome then."""
    new = new_id()
    registered = UserRegistered(user_id=new, email="z@example.com", name="Zoë", role="customer")
    await shop.send_message("notifications", USER_REGISTERED, registered, key=new)
    await wait_until(
        lambda: shop.get_database("notifications").fetch("SELECT FROM recipient WHERE user_id = $1 AND NOT active", new)
    )
    alert = back_in_stock(new)
    await ask(shop, alert)
    await wait_until(lambda: suppressed(shop, alert.about))
    assert await row(shop, new) is None

    verified = UserUpdated(
        user_id=new,
        email="z@example.com",
        name="Zoë",
        role="customer",
        disabled=False,
        account_version=2,
        verified=True,
    )
    await shop.send_message("notifications", USER_UPDATED, verified, key=new)
    await wait_until(
        lambda: shop.get_database("notifications").fetch("SELECT FROM recipient WHERE user_id = $1 AND active", new)
    )
    again = back_in_stock(new)
    await ask(
        shop,
        again,
        SendNotification(about=str(new), kind="welcome", user_id=new, email="z@example.com", values={"name": "Zoë"}),
    )
    await settled(shop, again.about, "back_in_stock")
    await settled(shop, new, "welcome")
    assert [mail["to"] for mail in mailbox.mails("Your account is ready")] == ["z@example.com"]


async def suppressed(shop: Shop, about: object) -> bool:
    found = await row(shop, about)
    return bool(found and found["state"] == "suppressed")


async def test_a_command_makes_one_mail_per_about_and_kind(shop: Shop, mailbox: Mailbox) -> None:
    command = SendNotification(
        about=f"password:{new_id()}",
        kind="password_reset",
        user_id=new_id(),
        email="ada@example.com",
        values={"link": "https://shop.example/r?t=1&u=2", "minutes": 30},
    )
    await ask(shop, *[command] * 5, queue=CRITICAL_NOTIFICATIONS)
    await settled(shop, command.about, "password_reset")
    (mail,) = mailbox.mails("https://shop.example/r?t=1&u=2")
    assert 'href="https://shop.example/r?t=1&amp;u=2"' in text_of(mail, "html")
    assert "30 minutes" in text_of(mail)
    assert (await row(shop, command.about))["values"] is None  # the link is a secret: it goes when it is sent


@pytest.mark.parametrize(
    ("kind", "about", "email", "reason"),
    [
        ("nonsense", None, "a@example.com", "no kind 'nonsense'"),
        ("order_confirmed", None, "a@example.com", "no kind 'order_confirmed'"),
        ("password_reset", None, "a@example.com", "lacks link"),
        ("price_drop", None, "a@example.com", "price is not an amount"),
        ("password_changed", None, "a@example.com\r\nBcc: b@example.com", "not an e-mail address"),
        ("password_changed", "a\nb", "a@example.com", "`about` must be"),
    ],
)
async def test_a_command_that_cannot_be_sent_is_a_dead_letter_and_its_neighbours_go_on(
    shop: Shop, kind: str, about: str | None, email: str, reason: str
) -> None:
    good = back_in_stock()
    values = {"sku": "MUG", "price": {"amount": 1.5, "currency": "GBP"}}
    await ask(
        shop, SendNotification(about=about or str(new_id()), kind=kind, user_id=None, email=email, values=values), good
    )
    await settled(shop, good.about, "back_in_stock")
    dead_letters = await wait_until(
        lambda: shop.process.bus.list_dead_letters(list_subscriptions(shop.process.services))
    )
    assert reason in dead_letters[-1].reason


def test_what_the_face_says_of_mails_is_what_the_triggers_make() -> None:
    assert {outcome: (kind,) for outcome, kind in KIND_BY_OUTCOME.items()} == {
        outcome: EMAILS_BY_OUTCOME[outcome] for outcome in KIND_BY_OUTCOME
    }
    counted = {kind for kinds in EMAILS_BY_OUTCOME.values() for kind in kinds}
    from_events = {kind.name for kind in KINDS.values() if not kind.is_commandable}
    assert counted == from_events - {"order_received", "cancellation_refused", "campaign"}
    assert KINDS["order_received"].channel == "log"
