"""Mails that come back: they are failed and can be sent again, and their addresses get no more promotions."""

import time
from typing import Any
from uuid import UUID

import orjson
import pytest
from httpx2 import Response

from caravan.clock import new_id, utc_now
from services.notifications.messages import CRITICAL_NOTIFICATIONS, SendNotification
from services.notifications.model import build_provider_key
from services.notifications.providers.protocol import SENT, SendResult
from services.notifications.signatures import REPORT_SECONDS, is_signed_report, sign_report
from services.notifications.store.recipients import Recipient, upsert_recipients
from services.processing.messages import ORDER_PROCESSED
from tests.services.notifications.campaigns import count_readers, create_campaign, wait_for_end
from tests.services.notifications.conftest import (
    BOUNCE_SECRET,
    Carrier,
    ask,
    back_in_stock,
    order_processed,
    row,
)
from tests.services.notifications.test_sending import reached
from tests.support.shop import Shop, wait_until

BOUNCES = "/v1/notifications/bounces"
ADDRESSES = "/v1/notifications/undeliverable-addresses"


async def report(shop: Shop, *events: dict[str, Any], secret: str = BOUNCE_SECRET, age: int = 0) -> Response:
    body = orjson.dumps({"events": events})
    headers = {
        "content-type": "application/json",
        "bounce-signature": sign_report(secret, body, int(time.time()) - age),
    }
    return await shop.client.post(BOUNCES, content=body, headers=headers)


def bounce(address: str, **changes: Any) -> dict[str, Any]:
    return {"type": "bounce", "recipient": address, "reason": "550 5.1.1 no such user"} | changes


async def create_customer(shop: Shop, address: str, version: int = 0, user_id: UUID | None = None) -> UUID:
    recipient = Recipient(user_id or new_id(), address, "Ada", True, version, utc_now())
    async with shop.get_database("notifications").unit_of_work() as uow:
        await upsert_recipients(uow, [recipient])
    return recipient.user_id


async def send_confirmation(shop: Shop, user: UUID, address: str) -> Any:
    order = new_id()
    event = order_processed(order, user).model_copy(update={"email": address})
    await shop.send_message("notifications", ORDER_PROCESSED, event, key=order)
    return await reached(shop, str(order), state="sent")


async def test_a_mail_that_came_back_is_failed_and_staff_sends_it_again_to_the_new_address(
    shop: Shop, carrier: Carrier
) -> None:
    old, new = f"{new_id()}@example.com", f"{new_id()}@example.com"
    user = await create_customer(shop, old)
    mail = await send_confirmation(shop, user, old)
    key = build_provider_key(mail["about"], "order_confirmed")
    for _ in range(2):
        answer = await report(shop, bounce(old.upper(), message_id=f"<{key}@caravan.local>", is_permanent=True))
        assert answer.status_code == 200, answer.text
    assert answer.json() == {"undeliverable": 1, "failed": 0}, "it was failed by the first report"
    failed = await reached(shop, mail["about"], state="failed")
    assert failed["reason"] == "came back: 550 5.1.1 no such user"

    staff, path = shop.issue_headers("staff"), f"/v1/notifications/{mail['id']}/resend"
    await create_customer(shop, new, version=1, user_id=user)
    answer = await shop.client.post(path, headers=staff)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["state"], answer.json()["recipient"], answer.json()["reason"]) == ("pending", new, None)
    assert (await reached(shop, mail["about"], state="sent"))["recipient"] == new
    first, second = [message for message in carrier.messages if message.dedup_key == mail["about"]]
    assert (first.recipient, second.recipient, second.text) == (old, new, first.text)
    assert first.key != second.key, "with the old key it would count as the same mail"


async def test_an_address_that_takes_no_mail_gets_no_alerts_and_promotions_until_it_is_changed_or_cleared(
    shop: Shop, carrier: Carrier, nobody: None
) -> None:
    lost, good = f"{new_id()}@example.com", f"{new_id()}@example.com"
    user, other = await create_customer(shop, lost), await create_customer(shop, good)
    await report(shop, bounce(lost, is_permanent=True), bounce(good))
    (run,) = (await wait_for_end(shop, await create_campaign(shop)))["runs"]
    assert (run["recipients"], run["sent"], run["suppressed"]) == (2, 1, 1)
    assert list(count_readers(carrier)) == [str(other)]
    alert = back_in_stock(user).model_copy(update={"email": lost})
    await ask(shop, alert)
    await reached(shop, alert.about, state="suppressed")
    await send_confirmation(shop, user, lost)

    await create_customer(shop, f"{new_id()}@example.com", version=1, user_id=user)
    (run,) = (await wait_for_end(shop, await create_campaign(shop)))["runs"]
    assert (run["sent"], run["suppressed"]) == (2, 0), "another address is another chance"

    await create_customer(shop, lost, version=2, user_id=user)
    staff = shop.issue_headers("staff")
    listed = (await shop.client.get(ADDRESSES, params={"limit": 100}, headers=staff)).json()["items"]
    assert [(item["cause"], item["reason"]) for item in listed if item["address"] == lost] == [
        ("bounce", "550 5.1.1 no such user")
    ]
    assert (await shop.client.delete(f"{ADDRESSES}/{lost}", headers=staff)).status_code == 204
    assert (await shop.client.delete(f"{ADDRESSES}/{lost}", headers=staff)).status_code == 404
    (run,) = (await wait_for_end(shop, await create_campaign(shop)))["runs"]
    assert (run["sent"], run["suppressed"]) == (2, 0)


async def test_a_reader_who_complains_gets_no_more_of_a_campaign_that_is_under_way(
    shop: Shop, carrier: Carrier, nobody: None
) -> None:
    address = f"{new_id()}@example.com"
    user = await create_customer(shop, address)
    carrier.verdict = SendResult("again", "451 try later")
    made = await create_campaign(shop)
    await reached_campaign(shop, user, "pending")
    answer = await report(shop, {"type": "complaint", "recipient": address, "reason": "abuse"})
    assert answer.json() == {"undeliverable": 1, "failed": 0}
    await reached_campaign(shop, user, "suppressed")
    (run,) = (await wait_for_end(shop, made))["runs"]
    assert (run["sent"], run["suppressed"]) == (0, 1)


async def reached_campaign(shop: Shop, user: UUID, state: str) -> None:
    async def check() -> Any:
        return await shop.get_database("notifications").fetch(
            "SELECT FROM notification WHERE user_id = $1 AND kind = 'campaign' AND state = $2"
            " AND (state <> 'pending' OR attempts = 1 AND due_at > now())",
            user,
            state,
        )

    await wait_until(check)


async def test_an_address_that_the_mail_server_refuses_is_noted_at_once(shop: Shop, carrier: Carrier) -> None:
    address = f"{new_id()}@example.com"
    user = await create_customer(shop, address)
    carrier.verdict = SendResult("refused", "550 no such user", is_bad_address=True)
    order = new_id()
    event = order_processed(order, user).model_copy(update={"email": address})
    await shop.send_message("notifications", ORDER_PROCESSED, event, key=order)
    await reached(shop, str(order), state="failed")
    carrier.verdict = SENT
    alert = back_in_stock(user).model_copy(update={"email": address})
    await ask(shop, alert)
    await reached(shop, alert.about, state="suppressed")


async def test_what_can_not_be_sent_again_says_why(shop: Shop, carrier: Carrier) -> None:
    staff, user = shop.issue_headers("staff"), new_id()

    async def resend(about: str) -> Response:
        found = await row(shop, about)
        return await shop.client.post(f"/v1/notifications/{found['id']}/resend", headers=staff)

    link = SendNotification(
        about=f"reset:{new_id()}",
        kind="password_reset",
        user_id=user,
        email="ada@example.com",
        values={"link": "https://shop.example/x"},
    )
    await ask(shop, link, queue=CRITICAL_NOTIFICATIONS)
    await reached(shop, link.about, state="sent")
    answer = await resend(link.about)
    assert (answer.status_code, "its user can ask for a new one" in answer.text) == (409, True)

    alert = back_in_stock(user)
    await ask(shop, alert)
    await reached(shop, alert.about, state="sent")
    assert (await resend(alert.about)).status_code == 200, "one that was lost"
    await reached(shop, alert.about, state="sent", resends=1)
    preferences = {"opt_out": ["alerts"]}
    await shop.client.patch("/v1/users/me/preferences", json=preferences, headers=shop.issue_headers(user_id=user))
    assert "opted out" in (await resend(alert.about)).text
    later = back_in_stock(user)
    await ask(shop, later)
    await reached(shop, later.about, state="suppressed")
    assert (await resend(later.about)).status_code == 409
    carrier.verdict = SendResult("again", "451")
    waits = back_in_stock()
    await ask(shop, waits)
    await reached(shop, waits.about, state="pending", attempts=1)
    assert "still waits" in (await resend(waits.about)).text
    assert (await shop.client.post(f"/v1/notifications/{new_id()}/resend", headers=staff)).status_code == 404


async def test_a_report_that_is_not_signed_just_now_by_the_provider_changes_nothing(shop: Shop) -> None:
    address = f"{new_id()}@example.com"
    event = bounce(address, is_permanent=True)
    for answer in (
        await report(shop, event, secret="another secret of thirty-two letters"),
        await report(shop, event, age=REPORT_SECONDS + 5),
        await report(shop, event, age=-REPORT_SECONDS - 5),
        await shop.client.post(BOUNCES, json={"events": [event]}),
        await shop.client.post(BOUNCES, json={"events": [event]}, headers={"bounce-signature": "t=1e9,v1=x"}),
    ):
        assert (answer.status_code, "Bounce-Signature" in answer.text) == (400, True), answer.text
    listed = await shop.client.get(ADDRESSES, params={"limit": 100}, headers=shop.issue_headers("staff"))
    assert address not in listed.text
    assert (await report(shop)).status_code == 422
    assert (await report(shop, event | {"user": "x"})).status_code == 422


def test_a_signature_is_for_one_body_and_one_secret() -> None:
    now = utc_now()
    header = sign_report("secret", b"body", int(now.timestamp()))
    assert is_signed_report("secret", header, b"body", now)
    assert not is_signed_report("secret", header, b"Body", now)
    assert not is_signed_report("Secret", header, b"body", now)
    assert not is_signed_report("secret", header + "0", b"body", now)


@pytest.mark.parametrize("secret", ["short", ""])
def test_a_secret_that_can_be_guessed_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    from services.notifications.settings import Settings

    monkeypatch.setenv("NOTIFICATIONS_BOUNCE_SECRET", secret)
    with pytest.raises(ValueError, match="bounce_secret"):
        Settings()
