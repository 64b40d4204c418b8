"""What was sent to me, and how I want to be reached: for the owner, and for staff."""

import re
from typing import Any

import pytest

from caravan.clock import new_id
from services.notifications.messages import CRITICAL_NOTIFICATIONS, SendNotification
from services.processing.messages import ORDER_PROCESSED
from tests.services.notifications.conftest import Mailbox, ask, back_in_stock, order_processed, row, text_of
from tests.support.shop import Shop, wait_until

ME = "/v1/users/me/preferences"


async def sent(shop: Shop, about: object, state: str = "sent") -> Any:
    async def check() -> Any:
        found = await row(shop, about)
        return found if found and found["state"] == state else None

    return await wait_until(check)


async def test_preferences_have_defaults_and_change_by_field(shop: Shop) -> None:
    who = shop.issue_headers()
    assert (await shop.client.get(ME, headers=who)).json() == {
        "channel": "email",
        "phone": None,
        "opt_out": [],
        "time_zone": None,
    }
    changed = await shop.client.patch(ME, json={"phone": "+442079460000", "opt_out": ["alerts"]}, headers=who)
    assert changed.json() == {"channel": "email", "phone": "+442079460000", "opt_out": ["alerts"], "time_zone": None}
    again = await shop.client.patch(ME, json={"channel": "sms"}, headers=who | {"if-match": changed.headers["etag"]})
    assert again.json() == changed.json() | {"channel": "sms"}
    stale = await shop.client.patch(ME, json={"channel": "log"}, headers=who | {"if-match": changed.headers["etag"]})
    assert stale.status_code == 412
    assert (await shop.client.get(ME, headers=who)).json() == again.json()


@pytest.mark.parametrize(
    "body",
    [
        {"channel": "sms"},
        {"channel": "pigeon"},
        {"channel": None},
        {"phone": "020 7946"},
        {"phone": "+4420\u0000"},
        {"opt_out": ["security"]},
        {"opt_out": ["alerts"] * 4},
        {"version": 3},
        {"time_zone": "Mars/Olympus"},
        {"time_zone": ""},
    ],
)
async def test_preferences_that_make_no_sense_are_refused(shop: Shop, body: dict[str, object]) -> None:
    answer = await shop.client.patch(ME, json=body, headers=shop.issue_headers())
    assert answer.status_code == 422
    assert answer.json()["errors"]


async def test_who_opted_out_gets_no_such_message_but_security_mail_still(shop: Shop, mailbox: Mailbox) -> None:
    user = new_id()
    await shop.client.patch(
        ME, json={"channel": "log", "opt_out": ["alerts", "transactional"]}, headers=shop.issue_headers(user_id=user)
    )
    alert, alarm = (
        back_in_stock(user),
        SendNotification(about=f"p:{user}", kind="password_changed", user_id=user, email="ada@example.com"),
    )
    await ask(shop, alert)
    await ask(shop, alarm, queue=CRITICAL_NOTIFICATIONS)
    assert (await sent(shop, alert.about, "suppressed"))["values"] is None
    assert (await sent(shop, alarm.about))["channel"] == "email"


async def test_the_unsubscribe_header_of_an_alert_ends_alerts_without_a_login(shop: Shop, mailbox: Mailbox) -> None:
    user = new_id()
    command = back_in_stock(user)
    await ask(shop, command)
    await sent(shop, command.about)
    mail = next(mail for mail in mailbox.mails() if mail["list-unsubscribe"])
    assert mail["list-unsubscribe-post"] == "List-Unsubscribe=One-Click"
    path = re.sub(r"^<https://shop\.example(.*)>$", r"\1", mail["list-unsubscribe"])
    for _ in range(2):
        assert (await shop.client.post(path, data={"List-Unsubscribe": "One-Click"})).status_code == 204
    assert (await shop.client.get(ME, headers=shop.issue_headers(user_id=user))).json()["opt_out"] == ["alerts"]
    assert (await shop.client.post(path[:-4] + "AAAA")).status_code == 404


async def test_the_link_in_a_mail_leads_a_person_to_a_page_that_asks_and_then_unsubscribes(
    shop: Shop, mailbox: Mailbox
) -> None:
    user = new_id()
    command = back_in_stock(user)
    await ask(shop, command)
    await sent(shop, command.about)
    links = [
        re.findall(r"https://shop\.example(/v1/notifications/unsubscribe/[\w-]+)", text_of(mail))
        for mail in mailbox.mails()
    ]
    bodies = [re.findall(r"/v1/notifications/unsubscribe/[\w-]+", text_of(mail, "html")) for mail in mailbox.mails()]
    assert links[-1]
    assert links[-1] == bodies[-1]
    path = links[-1][0]
    for _ in range(2):
        page = await shop.client.get(path)
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        assert "Stop mails about" in page.text
        assert "script" not in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
    assert (await shop.client.get(ME, headers=shop.issue_headers(user_id=user))).json()["opt_out"] == [], (
        "looking changes nothing"
    )
    form = dict(re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', page.text))
    done = await shop.client.post(path, data=form)
    assert done.status_code == 200
    assert "<h1>Done</h1>" in done.text
    assert (await shop.client.get(ME, headers=shop.issue_headers(user_id=user))).json()["opt_out"] == ["alerts"]
    for answer in (await shop.client.get(path[:-4] + "AAAA"), await shop.client.post(path[:-4] + "AAAA", data=form)):
        assert answer.status_code == 404
        assert answer.headers["content-type"].startswith("text/html")


async def test_the_preferences_link_of_an_orders_mail_leads_to_a_page_that_changes_them_without_a_login(
    shop: Shop, mailbox: Mailbox
) -> None:
    user, order = new_id(), new_id()
    who = shop.issue_headers(user_id=user)
    await shop.client.patch(ME, json={"opt_out": ["promotions"]}, headers=who)
    await shop.send_message("notifications", ORDER_PROCESSED, order_processed(order, user), key=order)
    await sent(shop, order)
    (mail,) = mailbox.mails(order)
    assert "list-unsubscribe" not in mail, "mails about orders are no mailing list"
    (path,) = re.findall(r"https://shop\.example(/v1/notifications/preferences/[\w-]+)", text_of(mail))
    assert path in text_of(mail, "html")
    page = await shop.client.get(path)
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["referrer-policy"] == "no-referrer"
    assert "<script" not in page.text
    ticked = re.findall(r'name="(\w+)" value="yes" checked', page.text)
    assert ticked == ["transactional", "alerts"]
    assert (await shop.client.get(ME, headers=who)).json()["opt_out"] == ["promotions"], "looking changes nothing"
    saved = await shop.client.post(path, data={"alerts": "yes", "promotions": "yes"})
    assert (saved.status_code, re.findall(r'name="(\w+)" value="yes" checked', saved.text)) == (
        200,
        ["alerts", "promotions"],
    )
    assert (await shop.client.get(ME, headers=who)).json()["opt_out"] == ["transactional"]
    assert (await shop.client.post(path, data={"alerts": "maybe"})).status_code == 422
    zone = {"transactional": "yes", "time_zone": "Asia/Tokyo"}
    assert "<option selected>Asia/Tokyo</option>" in (await shop.client.post(path, data=zone)).text
    assert (await shop.client.get(ME, headers=who)).json()["time_zone"] == "Asia/Tokyo"
    assert (await shop.client.post(path, data={"time_zone": "Mars/Olympus"})).status_code == 422
    assert (await shop.client.post(path)).status_code == 200, "nothing is ticked"
    assert (await shop.client.get(ME, headers=who)).json()["opt_out"] == ["alerts", "promotions", "transactional"]
    other = path.replace("/preferences/", "/unsubscribe/")
    for answer in (await shop.client.get(path[:-4] + "AAAA"), await shop.client.post(path[:-4] + "AAAA")):
        assert answer.status_code == 404
    assert (await shop.client.post(other)).status_code == 404, "a link does what it is for, and nothing else"


async def test_a_user_sees_their_own_messages_page_by_page_and_nobody_elses(shop: Shop) -> None:
    user, order = new_id(), new_id()
    await ask(shop, *(back_in_stock(user) for _ in range(4)))
    await shop.send_message("notifications", ORDER_PROCESSED, order_processed(order, user), key=order)
    await sent(shop, order)
    seen, cursor = [], None
    while True:
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (
            await shop.client.get("/v1/notifications", params=query, headers=shop.issue_headers(user_id=user))
        ).json()
        seen += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert len(seen) == 5
    assert len({item["id"] for item in seen}) == 5
    assert [item["id"] for item in seen] == sorted((item["id"] for item in seen), reverse=True)
    assert {item["kind"] for item in seen} == {"back_in_stock", "order_confirmed"}
    stranger = shop.issue_headers()
    assert (await shop.client.get("/v1/notifications", headers=stranger)).json()["items"] == []
    assert (await shop.client.get(f"/v1/notifications?order_id={order}", headers=stranger)).json()["items"] == []
    assert (await shop.client.get(f"/v1/notifications?user_id={user}", headers=stranger)).status_code == 404
    assert (await shop.client.get("/v1/notifications?state=failed", headers=stranger)).json()["items"] == []
    staff = shop.issue_headers("staff")
    assert len((await shop.client.get(f"/v1/notifications?user_id={user}", headers=staff)).json()["items"]) == 5
    (confirmed,) = (await shop.client.get(f"/v1/notifications?order_id={order}", headers=staff)).json()["items"]
    assert (confirmed["kind"], confirmed["channel"], confirmed["state"], confirmed["subject"]) == (
        "order_confirmed",
        "email",
        "sent",
        "Your order is confirmed: 1,234.56 GBP",
    )
    assert (await shop.client.get("/v1/notifications", headers=staff)).json()["items"] == []


@pytest.mark.parametrize(("method", "path"), [("GET", ME), ("PATCH", ME), ("GET", "/v1/notifications")])
async def test_an_anonymous_caller_is_refused(shop: Shop, method: str, path: str) -> None:
    assert (await shop.client.request(method, path, json={} if method == "PATCH" else None)).status_code == 401


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "user_id=x", "state=lost", "cursor=%00"])
async def test_a_query_out_of_bounds_is_refused(shop: Shop, query: str) -> None:
    assert (await shop.client.get(f"/v1/notifications?{query}", headers=shop.issue_headers())).status_code in (400, 422)
